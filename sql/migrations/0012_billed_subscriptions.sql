-- Which subscriptions a month's invoices bill: a subscription that is another tenant's by now, or stands under another id,
-- must not be billed for the same month again. And what GST may be on.

create table billing.billed_subscriptions (
    period_start    date not null,
    subscription_id uuid not null,
    tenant_id       text not null,
    deployment_id   uuid not null,
    primary key (period_start, subscription_id, tenant_id)
);
create index on billing.billed_subscriptions (period_start, tenant_id);
comment on table billing.billed_subscriptions is
    'One row per month and subscription that the tenant''s invoice of the month, or a correction of it, bills. While that '
    'invoice is issued or paid, the month of the subscription is billed to nobody else.';
comment on column billing.billed_subscriptions.period_start is 'First day of the billing month, UTC.';
comment on column billing.billed_subscriptions.subscription_id is 'The subscription; it need not exist any more.';
comment on column billing.billed_subscriptions.tenant_id is 'Who was invoiced for it.';
comment on column billing.billed_subscriptions.deployment_id is 'The deployment that it was for.';

insert into billing.billed_subscriptions
select q.period_start, q.subscription_id, q.tenant_id, q.deployment_id
from billing.deployment_quote_lines q
join billing.tenant_invoices i on i.tenant_id = q.tenant_id and i.period_start = q.period_start
where q.line_no = 1
order by 1, 2;

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.billed_subscriptions', 'select, insert, delete');
select billing.admit_roles();

comment on column billing.tenant_invoices.meta is
    'tenant_name and tenant_abn as of the run; gst_free_reason where there is no GST, but on what it corrects.';
comment on column billing.tenant_invoice_lines.meta is
    'Why: effective_from of the price; used and included for overage; rate and taxable_cents for tax; corrects and '
    'invoice_number for a correction, and taxable where it has GST and the rest of its invoice has none, or the other way '
    'round.';
