-- From what a tenant was invoiced, beside from what it was quoted: a table of its own, so that it can be brought up to date
-- while the invoice stays as it is.

create table billing.invoiced_tenants (
    period_start date not null,
    tenant_id    text not null,
    made_from    numeric not null,
    primary key (period_start, tenant_id)
);
comment on table billing.invoiced_tenants is
    'One row per month and tenant whose invoice is issued or paid as it would be made now: from what. While that is the '
    'same, the invoice is not computed again. There is none for one that carries corrections. It may be emptied as a whole.';
comment on column billing.invoiced_tenants.period_start is 'First day of the billing month, UTC.';
comment on column billing.invoiced_tenants.tenant_id is 'Who pays.';
comment on column billing.invoiced_tenants.made_from is
    'Hash of its quote lines, of the tenant, of the engine''s own text and of the invoice''s content_sha256.';

insert into billing.invoiced_tenants
select period_start, tenant_id, made_from from billing.tenant_invoices where made_from is not null;
do $$
declare
    users text;
begin
    alter table billing.tenant_invoices drop column made_from;
exception when dependent_objects_still_exist then
    get stacked diagnostics users = pg_exception_detail;
    raise exception 'the column made_from of billing.tenant_invoices goes, and is used: %. Drop that, migrate, and make it '
                    'again without the column', users;
end $$;

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.invoiced_tenants', 'select, insert, update, delete');
select billing.admit_roles();
