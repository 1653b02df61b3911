-- What lets a month be run again without doing everything again: which rows the release gate's controls have passed, and
-- from what each tenant was quoted and invoiced. A table or a column of it may be emptied as a whole: then everything is
-- done again.
--
-- The hashes are sums of hash_record_extended over rows, 64 bits a row: they tell that nothing has changed, and secure
-- nothing.

create table billing.passed_controls (
    period_start date not null,
    control      text not null,
    rows_passed  text not null,
    run_id       text not null,
    passed_at    timestamptz not null default now(),
    primary key (period_start, control)
);
comment on table billing.passed_controls is
    'One row per month and control of the release gate: the rows in which it last found nothing. While they stand, the '
    'step that publishes does not look again at what the checks of its own run have passed.';
comment on column billing.passed_controls.period_start is 'First day of the billing month, UTC.';
comment on column billing.passed_controls.control is 'The control''s name, which is that of its asset check.';
comment on column billing.passed_controls.rows_passed is
    'Of each table that it reads of the month, how many rows and a hash of where they are and who wrote them.';
comment on column billing.passed_controls.run_id is 'The Dagster run in which it first passed these rows.';
comment on column billing.passed_controls.passed_at is 'When that was.';

create table billing.quoted_tenants (
    period_start date not null,
    tenant_id    text not null,
    made_from    numeric,
    primary key (period_start, tenant_id)
);
comment on table billing.quoted_tenants is
    'One row per month and tenant: from what it was quoted. A tenant for which that is the same is not quoted again.';
comment on column billing.quoted_tenants.period_start is 'First day of the billing month, UTC.';
comment on column billing.quoted_tenants.tenant_id is 'Who pays; empty for the usage that nobody pays for.';
comment on column billing.quoted_tenants.made_from is
    'Hash of its subscriptions and addons, of all rates, and of the engine''s own text. Null once it has other usage than was '
    'quoted.';

alter table billing.billing_months add column frozen_rows text, add column quoted_rows text;
comment on column billing.billing_months.frozen_rows is
    'How many rows of metered_usage the last freezing left, and a hash of where they are and who wrote them: who changes '
    'one by hand has all tenants quoted again.';
comment on column billing.billing_months.quoted_rows is
    'The same of the quote lines, the unbilled usage and the faults that the last quoting left.';

alter table billing.tenant_invoices add column made_from numeric;
comment on column billing.tenant_invoices.made_from is
    'Hash of the quote lines, the tenant and the engine''s own text that the content was computed from, and of '
    'content_sha256: while it is the same, it is not computed again. Null where that is not known, or it carries corrections.';

-- The same as '^[0-9a-f]{64}$', of which PostgreSQL takes ten times as long to find out.
alter table billing.tenant_invoices
    drop constraint tenant_invoices_content_sha256_check,
    add constraint tenant_invoices_content_sha256_check
        check (length(content_sha256) = 64 and content_sha256 !~ '[^0-9a-f]');

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.passed_controls', 'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.quoted_tenants',  'select, insert, update, delete');
select billing.admit_roles();

-- So that the pipeline can analyze the invoices of a new month, which it does not own. Before PostgreSQL 17 nobody but
-- their owner can: autovacuum does it, a minute later.
do $$
begin
    if current_setting('server_version_num')::integer >= 170000 and to_regrole('arcadia_pipeline') is not null then
        grant maintain on billing.tenant_invoices to arcadia_pipeline;
    end if;
end $$;
