-- Rates of exchange that cannot be, and bills that are taken for another month's.

-- Rates that stand outside the bounds already are kept, and shown as doubtful.
alter table billing.fx_rates
    add column is_final boolean not null default true,
    add column reason text check (btrim(reason) <> ''),
    add constraint rate_outside_0_3_to_1_5_needs_a_reason
        check (usd_per_aud between 0.3 and 1.5 or reason is not null) not valid;
comment on column billing.fx_rates.is_final is
    'False: the file that it is from ends before the month does, so it may not be the month''s last rate.';
comment on column billing.fx_rates.reason is
    'Why a rate that looks wrong is right, as the operator says (see rate_doubts); null where nobody had to.';

-- As billing/exchange.py says of rates that the command line is given; here, for those that come another way.
create view billing.rate_doubts as
select period_start, usd_per_aud, doubt
from (
    select *, lag(usd_per_aud) over (order by period_start) as before,
           to_char(lag(period_start) over (order by period_start), 'YYYY-MM') as month_before
    from billing.fx_rates
) f
cross join lateral (
    select concat_ws('; ',
        case when reason is not null then null
             when usd_per_aud not between 0.3 and 1.5 then trim_scale(usd_per_aud) || ' is not between 0.3 and 1.5'
             when abs(usd_per_aud - before) * 4 > before then
                 format('%s is more than 25 %% from %s, the rate of %s', trim_scale(usd_per_aud), trim_scale(before),
                        month_before) end,
        case when not is_final then
                 concat_ws(' ', 'it is of', to_char(published_on, 'YYYY-MM-DD'), 'and not of the month''s end') end
    ) as doubt
) d
where doubt <> '';
comment on view billing.rate_doubts is
    'One row per month whose rate of exchange looks wrong: outside 0.3 to 1.5, or more than 25 % from that of the month '
    'before (the last that has one), and nobody has said why; or not the month''s last.';
comment on column billing.rate_doubts.period_start is 'First day of the month, UTC.';
comment on column billing.rate_doubts.usd_per_aud is 'As in fx_rates.';
comment on column billing.rate_doubts.doubt is 'What is wrong with it.';

create or replace view billing.cost_vs_revenue_by_month as
select period_start, coalesce(r.revenue_cents, 0)::bigint as revenue_cents, c.cost_cents,
       case when c.cost_cents is not null then coalesce(a.allocated_cents, 0)::bigint end as allocated_cents,
       case when c.cost_cents is not null then coalesce(a.unallocated_cents, 0)::bigint end as unallocated_cents,
       case when c.cost_cents is not null then coalesce(a.tax_cents, 0)::bigint end as tax_cents,
       (coalesce(r.revenue_cents, 0) - c.cost_cents)::bigint as margin_cents,
       round(100 * (r.revenue_cents - c.cost_cents) / nullif(greatest(r.revenue_cents, 0), 0), 2) as margin_percent,
       o.open_points = '' as reconciled, o.open_points,
       coalesce(r.invoices, 0)::integer as invoices, b.total_cents as bill_usd_cents, m.usd_per_aud,
       f.reason as rate_reason
from (
    select period_start, sum(subtotal_cents) filter (where status in ('issued', 'paid')) as revenue_cents,
           count(*) filter (where status in ('issued', 'paid')) as invoices,
           count(*) filter (where status = 'draft') as drafts
    from billing.tenant_invoices group by period_start
) r
full join billing.cloud_invoices b using (period_start)
left join billing.month_costs m using (period_start)
left join billing.fx_rates f using (period_start)
left join billing.rate_doubts d using (period_start)
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
        case r.drafts when 0 then null when 1 then '1 invoice is a draft' else r.drafts || ' invoices are drafts' end,
        case q.tenants when 0 then null when 1 then '1 tenant is held back'
                       else q.tenants || ' tenants are held back' end,
        case when b.period_start is null then 'no bill of the provider''s' end,
        case when b.total_from = 'sum' then 'the bill''s own total is not known' end,
        case when (i.usd_cents, i.items) <> (b.total_cents, b.item_count) then 'the items are not the bill' end,
        case when b.period_start is not null and m.period_start is null then 'the bill is not allocated' end,
        case when m.usd_cents <> b.total_cents or coalesce(a.usd_cents, 0) <> m.usd_cents
               or coalesce(a.aud_cents, 0) <> m.aud_cents then 'the allocations are not the bill' end,
        case when f.period_start is null then 'no rate of exchange' end,
        case when m.period_start is not null and f.period_start is not null
              and f.usd_per_aud is distinct from m.usd_per_aud then 'the rate of exchange has changed' end,
        'the rate of exchange is in doubt: ' || d.doubt) as open_points
) o
-- Whoever is of the read API's role, and may not see the costs themselves, sees this as a platform admin only. So with
-- the three views below, which join it. The setting must be there before the statement begins.
where case when current_setting('arcadia.role', true) = 'platform_admin' then true
           when has_table_privilege('billing.month_costs', 'select') then true
           when to_regrole('arcadia_api') is null then true
           else not pg_has_role(to_regrole('arcadia_api')::oid, 'usage') end;
comment on column billing.cost_vs_revenue_by_month.rate_reason is
    'Why a rate of exchange that looks wrong is right; null where nobody had to say so.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.rate_doubts', 'select'),
    ('arcadia_analyst',  'billing.rate_doubts', 'select');
select billing.admit_roles();

alter table billing.cloud_invoices
    add column items_sha256 text unique check (items_sha256 ~ '^[0-9a-f]{64}$');
comment on column billing.cloud_invoices.items_sha256 is
    'Hash of a CSV''s items as they came, so that the same ones are not two months'' bill; null for the API''s, which '
    'names its month, and for what was imported before this was kept.';
