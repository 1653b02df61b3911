-- The cost side: the provider's bill as received, to whom each of its items went, and what it comes to beside revenue.
-- Costs and revenue are never in one table; the views at the end set them side by side.
-- Items and allocations, of which a month may have hundreds of thousands, have no foreign keys: checking them one by one
-- would take as long as all the rest. The asset checks compare them as a whole.

create table billing.cloud_invoices (
    period_start   date primary key check (extract(day from period_start) = 1),
    provider       text not null default 'digitalocean' check (provider = 'digitalocean'),
    invoice_uuid   text,
    currency       text not null default 'USD' check (currency = 'USD'),
    total_cents    bigint not null,
    total_from     text not null check (total_from in ('bill', 'operator', 'sum')),
    item_count     integer not null check (item_count >= 0),
    revision       integer not null default 1 check (revision >= 1),
    content_sha256 text not null check (content_sha256 ~ '^[0-9a-f]{64}$'),
    run_id         text,
    received_at    timestamptz not null default now()
);
comment on table billing.cloud_invoices is 'One row per month: the provider''s bill as it stands.';
comment on column billing.cloud_invoices.period_start is 'First day of the month that is billed, UTC.';
comment on column billing.cloud_invoices.provider is 'digitalocean.';
comment on column billing.cloud_invoices.invoice_uuid is 'The provider''s id of the bill; null where it came as a CSV.';
comment on column billing.cloud_invoices.currency is 'USD.';
comment on column billing.cloud_invoices.total_cents is 'The bill''s total, cents USD, credits and taxes included.';
comment on column billing.cloud_invoices.total_from is
    'Who says what the total is: the bill itself; the operator who imported it; or nobody, then it is the sum of the '
    'items, and the month is not reconciled.';
comment on column billing.cloud_invoices.item_count is 'How many items.';
comment on column billing.cloud_invoices.revision is 'Counts up each time the provider restates the bill.';
comment on column billing.cloud_invoices.content_sha256 is 'Hash of the items and the total: equal hashes bill the same.';
comment on column billing.cloud_invoices.run_id is 'The Dagster run that fetched it; null where it was imported.';
comment on column billing.cloud_invoices.received_at is 'When this revision was received.';

create table billing.cloud_invoice_documents (
    period_start date not null,
    revision     integer not null,
    source       text not null,
    media_type   text not null check (media_type in ('text/csv', 'application/json')),
    document     bytea not null,
    total_cents  bigint not null,
    received_at  timestamptz not null default now(),
    primary key (period_start, revision)
);
create trigger cloud_invoice_documents_are_append_only
    before update or delete or truncate on billing.cloud_invoice_documents
    for each statement execute function billing.refuse_change();
comment on table billing.cloud_invoice_documents is
    'One row per month and revision: the provider''s bill byte for byte as it was received; never changed or deleted.';
comment on column billing.cloud_invoice_documents.period_start is 'First day of the month that is billed, UTC.';
comment on column billing.cloud_invoice_documents.revision is 'As in cloud_invoices; the highest is the one that stands.';
comment on column billing.cloud_invoice_documents.source is 'The file''s name, or the API''s address.';
comment on column billing.cloud_invoice_documents.media_type is 'text/csv, or application/json: the API''s answers, a list.';
comment on column billing.cloud_invoice_documents.document is 'The bytes.';
comment on column billing.cloud_invoice_documents.total_cents is 'The bill''s total then, cents USD.';
comment on column billing.cloud_invoice_documents.received_at is 'When.';

create table billing.cloud_invoice_items (
    period_start      date not null,
    line_no           integer not null check (line_no >= 1),
    kind              text not null check (kind in ('usage', 'credit', 'tax')),
    product           text not null,
    category          text,
    resource_id       text,
    resource_uuid     text,
    group_description text,
    description       text not null,
    duration          numeric(18, 6) check (duration <> 'NaN'),
    duration_unit     text,
    started_at        timestamptz not null,
    ended_at          timestamptz not null,
    project_name      text,
    amount_cents      bigint not null,
    primary key (period_start, line_no)
);
comment on table billing.cloud_invoice_items is 'One row per item of the provider''s bill as it stands.';
comment on column billing.cloud_invoice_items.period_start is 'First day of the month that is billed, UTC.';
comment on column billing.cloud_invoice_items.line_no is 'Its place on the bill, from 1.';
comment on column billing.cloud_invoice_items.kind is 'usage, credit (and adjustments of either sign) or tax.';
comment on column billing.cloud_invoice_items.product is 'The provider''s product, e.g. Droplets; see product_kinds.';
comment on column billing.cloud_invoice_items.category is 'The provider''s category, e.g. iaas; null where it gives none.';
comment on column billing.cloud_invoice_items.resource_id is 'The provider''s id of what is billed; null where it gives none.';
comment on column billing.cloud_invoice_items.resource_uuid is 'The provider''s uuid of it; null where it gives none.';
comment on column billing.cloud_invoice_items.group_description is 'What it is part of, e.g. a cluster''s name; may be null.';
comment on column billing.cloud_invoice_items.description is 'The item as the provider words it.';
comment on column billing.cloud_invoice_items.duration is 'How long, in duration_unit; null where the provider does not say.';
comment on column billing.cloud_invoice_items.duration_unit is 'Hours, seconds, ...; null where the provider does not say.';
comment on column billing.cloud_invoice_items.started_at is 'From when; the month''s first instant where the bill does not say.';
comment on column billing.cloud_invoice_items.ended_at is 'Until when, exclusive; the month''s end where the bill does not say.';
comment on column billing.cloud_invoice_items.project_name is 'The provider''s project that it is in; null if none.';
comment on column billing.cloud_invoice_items.amount_cents is 'Cents USD; credits are negative.';

create table billing.deployment_resources (
    resource_id   text not null check (resource_id <> ''),
    deployment_id uuid not null,
    started_at    timestamptz not null,
    ended_at      timestamptz,
    share         integer not null default 1 check (share between 1 and 1000000),
    primary key (resource_id, deployment_id, started_at),
    check (ended_at > started_at)
);
create index on billing.deployment_resources (deployment_id);
comment on table billing.deployment_resources is
    'One row per resource of the provider''s, deployment it belonged to, and time. A resource of several deployments at '
    'once (a load balancer, a cluster) is shared.';
comment on column billing.deployment_resources.resource_id is 'The provider''s resource_uuid or resource_id.';
comment on column billing.deployment_resources.deployment_id is 'Whose it was.';
comment on column billing.deployment_resources.started_at is 'Since when.';
comment on column billing.deployment_resources.ended_at is 'Until when, exclusive; null: still.';
comment on column billing.deployment_resources.share is
    'Where it is shared: its weight, each second. 1 and 1 are halves, 3 and 1 three quarters and one.';

create table billing.cost_split_keys (
    resource_id   text primary key,
    resource_kind text not null check (resource_kind <> '')
);
comment on table billing.cost_split_keys is
    'One row per shared resource that is split by metered usage and not by deployment_resources.share.';
comment on column billing.cost_split_keys.resource_id is 'As in deployment_resources.';
comment on column billing.cost_split_keys.resource_kind is
    'Split by the month''s metered usage of this kind of its deployments; by share where they have none.';

create table billing.product_kinds (
    product       text primary key,
    resource_kind text not null check (resource_kind not in ('', 'unallocated', 'unmapped'))
);
insert into billing.product_kinds values
    ('Droplets', 'droplet_hours'),
    ('Droplet Bandwidth', 'egress_gb'),
    ('Bandwidth', 'egress_gb'),
    ('Volumes', 'storage_gb_months'),
    ('Block Storage', 'storage_gb_months'),
    ('Volume Snapshots', 'backups'),
    ('Snapshots', 'backups'),
    ('Backups', 'backups'),
    ('Droplet Backups', 'backups'),
    ('Kubernetes', 'kubernetes'),
    ('Kubernetes Clusters', 'kubernetes'),
    ('Load Balancers', 'load_balancer'),
    ('Spaces', 'object_storage'),
    ('Spaces Subscription', 'object_storage'),
    ('Managed Databases', 'databases'),
    ('Databases', 'databases'),
    ('Reserved IPs', 'reserved_ip'),
    ('Floating IPs', 'reserved_ip');
comment on table billing.product_kinds is 'One row per product of the provider''s: which of our resource kinds it is.';
comment on column billing.product_kinds.product is 'As on the bill.';
comment on column billing.product_kinds.resource_kind is
    'As in plan_rates where we meter it; else a name of its own, e.g. load_balancer.';

create table billing.fx_rates (
    period_start date primary key check (extract(day from period_start) = 1),
    currency     text not null default 'USD' check (currency = 'USD'),
    usd_per_aud  numeric(12, 6) not null check (usd_per_aud >= 0.01 and usd_per_aud < 100),
    published_on date,
    source       text not null check (source <> ''),
    entered_at   timestamptz not null default now()
);
comment on table billing.fx_rates is 'One row per month: what an Australian dollar was worth.';
comment on column billing.fx_rates.period_start is 'First day of the month whose bill it converts, UTC.';
comment on column billing.fx_rates.currency is 'USD.';
comment on column billing.fx_rates.usd_per_aud is 'US dollars for one Australian dollar, as the Reserve Bank quotes it.';
comment on column billing.fx_rates.published_on is 'The day it is of: the month''s last in a file; null if entered by hand.';
comment on column billing.fx_rates.source is 'The file and series, or what the operator says.';
comment on column billing.fx_rates.entered_at is 'When it was entered.';

create table billing.month_costs (
    period_start   date primary key references billing.cloud_invoices,
    usd_cents      bigint not null,
    usd_per_aud    numeric(12, 6),
    fx_source      text,
    aud_cents      bigint,
    rounding_cents bigint,
    allocated_at   timestamptz not null default now(),
    check (num_nulls(usd_per_aud, fx_source, aud_cents, rounding_cents) in (0, 4))
);
comment on table billing.month_costs is 'One row per month whose bill is allocated: what it came to, and at which rate.';
comment on column billing.month_costs.period_start is 'First day of the month, UTC.';
comment on column billing.month_costs.usd_cents is 'The bill that was allocated, cents USD.';
comment on column billing.month_costs.usd_per_aud is 'The rate that it was converted at; null without one.';
comment on column billing.month_costs.fx_source is 'Where the rate is from.';
comment on column billing.month_costs.aud_cents is
    'usd_cents / usd_per_aud, rounded once, half up: the month''s cost, cents AUD. Its allocations sum to it.';
comment on column billing.month_costs.rounding_cents is
    'aud_cents less its allocations rounded one by one, half up: what largest remainders moved.';
comment on column billing.month_costs.allocated_at is 'When it was allocated as it stands.';

create table billing.cost_allocations (
    period_start  date not null,
    line_no       integer not null,
    part          integer not null check (part >= 1),
    deployment_id uuid,
    tenant_id     text,
    allocated_by  text not null check (allocated_by in ('resource', 'project', 'nobody')),
    split_by      text,
    weight        numeric(38, 0) not null check (weight > 0),
    of_weight     numeric(38, 0) not null check (of_weight >= weight),
    usd_cents     bigint not null,
    aud_cents     bigint,
    primary key (period_start, line_no, part),
    check ((deployment_id is null) = (allocated_by = 'nobody'))
);
create index on billing.cost_allocations (deployment_id);
comment on table billing.cost_allocations is
    'One row per item of the bill and deployment that it goes to; what belongs to nobody has no deployment. The rows of '
    'an item sum to it.';
comment on column billing.cost_allocations.period_start is 'First day of the month, UTC.';
comment on column billing.cost_allocations.line_no is 'The item: as in cloud_invoice_items.';
comment on column billing.cost_allocations.part is 'Which part of it, from 1.';
comment on column billing.cost_allocations.deployment_id is 'Whose cost it is; null: unallocated.';
comment on column billing.cost_allocations.tenant_id is
    'Who pays for the deployment in that month, the last if there were two, or owns it where nobody pays; null: '
    'unallocated, or the deployment is deleted.';
comment on column billing.cost_allocations.allocated_by is
    'resource: by deployment_resources; project: by the project, which is named as the deployment; nobody.';
comment on column billing.cost_allocations.split_by is
    'What splits the item: time (it had one owner after another), share, or a metered kind; null if it is not split.';
comment on column billing.cost_allocations.weight is 'Its part of of_weight.';
comment on column billing.cost_allocations.of_weight is 'What the weights of the item sum to.';
comment on column billing.cost_allocations.usd_cents is 'Its part of the item, cents USD, by largest remainders.';
comment on column billing.cost_allocations.aud_cents is 'The same in cents AUD; null while the month has no rate.';

create view billing.cost_vs_revenue_by_month as
select period_start, coalesce(r.revenue_cents, 0)::bigint as revenue_cents, c.cost_cents,
       case when c.cost_cents is not null then coalesce(a.allocated_cents, 0)::bigint end as allocated_cents,
       case when c.cost_cents is not null then coalesce(a.unallocated_cents, 0)::bigint end as unallocated_cents,
       case when c.cost_cents is not null then coalesce(a.tax_cents, 0)::bigint end as tax_cents,
       (coalesce(r.revenue_cents, 0) - c.cost_cents)::bigint as margin_cents,
       round(100 * (r.revenue_cents - c.cost_cents) / nullif(greatest(r.revenue_cents, 0), 0), 2) as margin_percent,
       o.open_points = '' as reconciled, o.open_points,
       coalesce(r.invoices, 0)::integer as invoices, b.total_cents as bill_usd_cents, m.usd_per_aud
from (
    select period_start, sum(subtotal_cents) filter (where status in ('issued', 'paid')) as revenue_cents,
           count(*) filter (where status in ('issued', 'paid')) as invoices,
           count(*) filter (where status = 'draft') as drafts
    from billing.tenant_invoices group by period_start
) r
full join billing.cloud_invoices b using (period_start)
left join billing.month_costs m using (period_start)
left join billing.fx_rates f using (period_start)
cross join lateral (select case when f.period_start is not null then m.aud_cents end as cost_cents) c
left join lateral (
    select sum(usd_cents) as usd_cents, sum(aud_cents) as aud_cents,
           sum(aud_cents) filter (where a.deployment_id is not null) as allocated_cents,
           sum(aud_cents) filter (where a.deployment_id is null) as unallocated_cents,
           sum(aud_cents) filter (where i.kind = 'tax') as tax_cents
    from billing.cost_allocations a join billing.cloud_invoice_items i using (period_start, line_no)
    where a.period_start = b.period_start
) a on true
left join lateral (
    select coalesce(sum(amount_cents), 0) as usd_cents, count(*) as items
    from billing.cloud_invoice_items i where i.period_start = b.period_start
) i on true
left join lateral (
    select count(distinct tenant_id) as tenants from billing.quote_faults q
    where q.period_start = coalesce(r.period_start, b.period_start)
) q on true
cross join lateral (
    select concat_ws('; ',
        case when coalesce(r.invoices, 0) = 0 then 'no invoices' end,
        case when r.drafts > 0 then r.drafts || ' invoices are drafts' end,
        case when q.tenants > 0 then q.tenants || ' tenants are held back' end,
        case when b.period_start is null then 'no bill of the provider''s' end,
        case when b.total_from = 'sum' then 'the bill''s own total is not known' end,
        case when (i.usd_cents, i.items) <> (b.total_cents, b.item_count) then 'the items are not the bill' end,
        case when b.period_start is not null and m.period_start is null then 'the bill is not allocated' end,
        case when m.usd_cents <> b.total_cents or coalesce(a.usd_cents, 0) <> m.usd_cents
               or coalesce(a.aud_cents, 0) <> m.aud_cents then 'the allocations are not the bill' end,
        case when f.period_start is null then 'no rate of exchange' end,
        case when m.period_start is not null and f.period_start is not null
              and f.usd_per_aud is distinct from m.usd_per_aud then 'the rate of exchange has changed' end) as open_points
) o
-- Whoever is of the read API's role, and may not see the costs themselves, sees this as a platform admin only. So with
-- the three views below, which join it. The setting must be there before the statement begins.
where case when current_setting('arcadia.role', true) = 'platform_admin' then true
           when has_table_privilege('billing.month_costs', 'select') then true
           when to_regrole('arcadia_api') is null then true
           else not pg_has_role(to_regrole('arcadia_api')::oid, 'usage') end;
comment on view billing.cost_vs_revenue_by_month is
    'One row per month that has invoices or a bill: revenue, cost and what is left, cents AUD.';
comment on column billing.cost_vs_revenue_by_month.period_start is 'First day of the billing month, UTC.';
comment on column billing.cost_vs_revenue_by_month.revenue_cents is 'Issued and paid invoices, ex GST.';
comment on column billing.cost_vs_revenue_by_month.cost_cents is
    'The provider''s bill at the month''s rate, its credits and taxes included; null without a bill or a rate.';
comment on column billing.cost_vs_revenue_by_month.allocated_cents is 'What of it belongs to deployments.';
comment on column billing.cost_vs_revenue_by_month.unallocated_cents is 'What of it belongs to nobody.';
comment on column billing.cost_vs_revenue_by_month.tax_cents is 'What of it is the provider''s tax.';
comment on column billing.cost_vs_revenue_by_month.margin_cents is 'revenue_cents - cost_cents; null without a cost.';
comment on column billing.cost_vs_revenue_by_month.margin_percent is
    'Margin in percent of revenue; null without a cost, or a revenue above 0.';
comment on column billing.cost_vs_revenue_by_month.reconciled is
    'Whether both ends are there and meet: nothing is left in open_points.';
comment on column billing.cost_vs_revenue_by_month.open_points is 'What is missing or does not fit; empty if nothing.';
comment on column billing.cost_vs_revenue_by_month.invoices is 'How many issued and paid invoices.';
comment on column billing.cost_vs_revenue_by_month.bill_usd_cents is 'The provider''s bill, cents USD; null without one.';
comment on column billing.cost_vs_revenue_by_month.usd_per_aud is 'The rate of exchange; null without one.';

create view billing.cost_vs_revenue_by_deployment as
select s.period_start, s.tenant_id, s.deployment_id,
       case when s.is_unallocated then 'unallocated'
            when s.deployment_id is not null then coalesce(s.deployment_name, d.name, '(deleted)')
            else s.deployment_name end as deployment_name,
       s.revenue_cents, c.cost_cents, s.revenue_cents - c.cost_cents as margin_cents,
       round(100 * (s.revenue_cents - c.cost_cents)::numeric / nullif(greatest(s.revenue_cents, 0), 0), 2) as margin_percent,
       m.reconciled
from (
    select period_start, tenant_id, deployment_id, is_unallocated, max(deployment_name) as deployment_name,
           sum(revenue_cents)::bigint as revenue_cents, sum(aud_cents)::bigint as aud_cents
    from (
        select period_start, tenant_id, deployment_id, false as is_unallocated, deployment_name, revenue_cents,
               null::bigint as aud_cents
        from billing.revenue_by_deployment
        union all
        select period_start, tenant_id, deployment_id, deployment_id is null, null, 0, aud_cents
        from billing.cost_allocations
    ) e
    group by period_start, tenant_id, deployment_id, is_unallocated
) s
join billing.cost_vs_revenue_by_month m using (period_start)
cross join lateral (select case when m.cost_cents is not null then coalesce(s.aud_cents, 0) end as cost_cents) c
left join cloud.cloud_deployments d on d.id = s.deployment_id;
comment on view billing.cost_vs_revenue_by_deployment is
    'One row per month, tenant and deployment, and one of what is unallocated: revenue, cost and margin, cents AUD.';
comment on column billing.cost_vs_revenue_by_deployment.period_start is 'First day of the billing month, UTC.';
comment on column billing.cost_vs_revenue_by_deployment.tenant_id is 'Who pays; null for what is unallocated.';
comment on column billing.cost_vs_revenue_by_deployment.deployment_id is
    'Null for what is unallocated, for tenant-level credits and adjustments, and for revenue of deployments deleted since.';
comment on column billing.cost_vs_revenue_by_deployment.deployment_name is 'Its name when invoiced, else now; (deleted) if it has none any more; or unallocated.';
comment on column billing.cost_vs_revenue_by_deployment.revenue_cents is 'Issued and paid invoices, ex GST.';
comment on column billing.cost_vs_revenue_by_deployment.cost_cents is
    'Its part of the provider''s bill, cents AUD; null while the month has no bill or no rate.';
comment on column billing.cost_vs_revenue_by_deployment.margin_cents is 'revenue_cents - cost_cents; null without a cost.';
comment on column billing.cost_vs_revenue_by_deployment.margin_percent is
    'Margin in percent of revenue; null without a cost, or a revenue above 0.';
comment on column billing.cost_vs_revenue_by_deployment.reconciled is 'Of the month: see cost_vs_revenue_by_month.';

create view billing.cost_vs_revenue_by_tenant as
select s.period_start, s.tenant_id,
       case when s.is_unallocated then 'unallocated' else coalesce(t.name, s.tenant_id, '(deleted)') end as tenant_name,
       s.revenue_cents, c.cost_cents, s.revenue_cents - c.cost_cents as margin_cents,
       round(100 * (s.revenue_cents - c.cost_cents)::numeric / nullif(greatest(s.revenue_cents, 0), 0), 2)
           as margin_percent,
       m.reconciled
from (
    select period_start, tenant_id, is_unallocated, sum(revenue_cents)::bigint as revenue_cents,
           sum(aud_cents)::bigint as aud_cents
    from (
        select period_start, tenant_id, false as is_unallocated, subtotal_cents as revenue_cents,
               null::bigint as aud_cents
        from billing.tenant_invoices where status in ('issued', 'paid')
        union all
        select period_start, tenant_id, deployment_id is null, 0, aud_cents from billing.cost_allocations
    ) e
    group by period_start, tenant_id, is_unallocated
) s
join billing.cost_vs_revenue_by_month m using (period_start)
cross join lateral (select case when m.cost_cents is not null then coalesce(s.aud_cents, 0) end as cost_cents) c
left join cloud.tenants t on t.id = s.tenant_id;
comment on view billing.cost_vs_revenue_by_tenant is
    'One row per month and tenant, and one of what is unallocated: revenue, cost and margin, cents AUD.';
comment on column billing.cost_vs_revenue_by_tenant.period_start is 'First day of the billing month, UTC.';
comment on column billing.cost_vs_revenue_by_tenant.tenant_id is
    'Who pays; null for what is unallocated, and for the cost of deployments that are deleted.';
comment on column billing.cost_vs_revenue_by_tenant.tenant_name is 'Its name now; (deleted); or unallocated.';
comment on column billing.cost_vs_revenue_by_tenant.revenue_cents is 'Its issued or paid invoice, ex GST.';
comment on column billing.cost_vs_revenue_by_tenant.cost_cents is
    'Its deployments'' part of the provider''s bill, cents AUD; null while the month has no bill or no rate.';
comment on column billing.cost_vs_revenue_by_tenant.margin_cents is 'revenue_cents - cost_cents; null without a cost.';
comment on column billing.cost_vs_revenue_by_tenant.margin_percent is
    'Margin in percent of revenue; null without a cost, or a revenue above 0.';
comment on column billing.cost_vs_revenue_by_tenant.reconciled is 'Of the month: see cost_vs_revenue_by_month.';

create view billing.cost_vs_revenue_by_kind as
select s.period_start, s.resource_kind, s.revenue_cents, c.cost_cents, s.revenue_cents - c.cost_cents as margin_cents,
       round(100 * (s.revenue_cents - c.cost_cents)::numeric / nullif(greatest(s.revenue_cents, 0), 0), 2) as margin_percent,
       m.reconciled
from (
    select period_start, resource_kind, sum(revenue_cents)::bigint as revenue_cents, sum(aud_cents)::bigint as aud_cents
    from (
        select period_start, resource_kind, revenue_cents, null::bigint as aud_cents from billing.revenue_by_kind
        union all
        select a.period_start,
               case when a.deployment_id is null then 'unallocated'
                    when i.kind <> 'usage' then 'provider ' || i.kind
                    else coalesce(k.resource_kind, 'unmapped') end,
               0, a.aud_cents
        from billing.cost_allocations a
        join billing.cloud_invoice_items i using (period_start, line_no)
        left join billing.product_kinds k using (product)
    ) e
    group by period_start, resource_kind
) s
join billing.cost_vs_revenue_by_month m using (period_start)
cross join lateral (select case when m.cost_cents is not null then coalesce(s.aud_cents, 0) end as cost_cents) c;
comment on view billing.cost_vs_revenue_by_kind is
    'One row per month and resource kind, and one of what is unallocated: revenue, cost and margin, cents AUD.';
comment on column billing.cost_vs_revenue_by_kind.period_start is 'First day of the billing month, UTC.';
comment on column billing.cost_vs_revenue_by_kind.resource_kind is
    'Revenue: the metered kind of overage; plan_base, addon, credit or adjustment for what meters nothing. Cost: by '
    'product_kinds; unmapped; provider credit, provider tax; unallocated. What a plan includes earns under plan_base and '
    'costs under its kind.';
comment on column billing.cost_vs_revenue_by_kind.revenue_cents is 'Issued and paid invoices, ex GST.';
comment on column billing.cost_vs_revenue_by_kind.cost_cents is
    'Its part of the provider''s bill, cents AUD; null while the month has no bill or no rate.';
comment on column billing.cost_vs_revenue_by_kind.margin_cents is 'revenue_cents - cost_cents; null without a cost.';
comment on column billing.cost_vs_revenue_by_kind.margin_percent is
    'Margin in percent of revenue; null without a cost, or a revenue above 0.';
comment on column billing.cost_vs_revenue_by_kind.reconciled is 'Of the month: see cost_vs_revenue_by_month.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.cloud_invoices',                'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.cloud_invoice_documents',       'select, insert'),
    ('arcadia_pipeline', 'billing.cloud_invoice_items',           'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.deployment_resources',          'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.cost_split_keys',               'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.product_kinds',                 'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.fx_rates',                      'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.month_costs',                   'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.cost_allocations',              'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.revenue_by_deployment',         'select'),
    ('arcadia_pipeline', 'billing.cost_vs_revenue_by_month',      'select'),
    ('arcadia_pipeline', 'billing.cost_vs_revenue_by_deployment', 'select'),
    ('arcadia_pipeline', 'billing.cost_vs_revenue_by_tenant',     'select'),
    ('arcadia_pipeline', 'billing.cost_vs_revenue_by_kind',       'select'),
    ('arcadia_analyst',  'billing.cloud_invoices',                'select'),
    ('arcadia_analyst',  'billing.cloud_invoice_items',           'select'),
    ('arcadia_analyst',  'billing.deployment_resources',          'select'),
    ('arcadia_analyst',  'billing.cost_split_keys',               'select'),
    ('arcadia_analyst',  'billing.product_kinds',                 'select'),
    ('arcadia_analyst',  'billing.fx_rates',                      'select'),
    ('arcadia_analyst',  'billing.month_costs',                   'select'),
    ('arcadia_analyst',  'billing.cost_allocations',              'select'),
    ('arcadia_analyst',  'billing.cost_vs_revenue_by_month',      'select'),
    ('arcadia_analyst',  'billing.cost_vs_revenue_by_deployment', 'select'),
    ('arcadia_analyst',  'billing.cost_vs_revenue_by_tenant',     'select'),
    ('arcadia_analyst',  'billing.cost_vs_revenue_by_kind',       'select');
select billing.admit_roles();

-- The lines of an invoice for the read API. In a function the month is known when the query begins, and the other
-- months' partitions are not even looked at: with twenty-four of them, that is half of the time. It sees what who calls
-- it may see.
create function billing.invoice_lines(invoice uuid, period date) returns setof billing.tenant_invoice_lines
language plpgsql stable as $$
begin
    return query select * from billing.tenant_invoice_lines l where l.period_start = period and l.invoice_id = invoice;
end $$;
revoke execute on function billing.invoice_lines(uuid, date) from public;
comment on function billing.invoice_lines(uuid, date) is 'The lines of an invoice of a month, in no order.';

alter function billing.admit_api() rename to admit_api_to_invoices;
create function billing.admit_api() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform billing.admit_api_to_invoices();
    grant select on billing.cost_vs_revenue_by_month, billing.cost_vs_revenue_by_deployment,
        billing.cost_vs_revenue_by_tenant, billing.cost_vs_revenue_by_kind to arcadia_api;
    grant execute on function billing.invoice_lines(uuid, date) to arcadia_api;
end $$;
revoke execute on function billing.admit_api() from public;
comment on function billing.admit_api_to_invoices() is 'The first part of admit_api().';
comment on function billing.admit_api() is
    'Lets the role arcadia_api read invoices, their history, the price list and cost beside revenue, each as the '
    'transaction''s settings say. Run by the owner of the tables, once the role is there; safe to run again.';
do $$
begin
    if to_regrole('arcadia_api') is not null then  -- else 0004 has said what to do
        perform billing.admit_api();
    end if;
exception when insufficient_privilege then
    raise warning 'the read API cannot show costs: %', sqlerrm;
end $$;
