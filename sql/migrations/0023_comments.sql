-- What each table and column of schema cloud means: the contract that a platform implements with tables or views of its
-- own. Only what 0001 made is commented; a platform's own objects are left alone.

do $$
declare
    made record;
begin
    if to_regnamespace('cloud') is null or obj_description(to_regnamespace('cloud'), 'pg_namespace') is distinct from
            'The platform''s operational tables; billing reads them and never writes.' then
        return;
    end if;
    for made in
        select case when said.attribute is null then format('comment on table cloud.%I is %L', said.relation, meaning)
                    else format('comment on column cloud.%I.%I is %L', said.relation, said.attribute, meaning)
               end as statement
        from (values
            ('tenants', null, 'One row per tenant: who pays.'),
            ('tenants', 'id', 'A name that stays, like pilot. It is on every invoice.'),
            ('tenants', 'name', 'As it stands on the tax invoice.'),
            ('tenants', 'abn', 'Australian Business Number; null if the tenant has none.'),
            ('tenants', 'gst_free_reason', 'Why no GST is charged, in words for the invoice; null or blank: GST is charged.'),

            ('cloud_deployments', null, 'One row per deployment: what a tenant runs.'),
            ('cloud_deployments', 'id', 'Its id.'),
            ('cloud_deployments', 'tenant_id', 'Whose it is. Who pays for it is in subscriptions.'),
            ('cloud_deployments', 'name', 'As it stands on quotes and invoices, whose lines are ordered by it.'),

            ('plans', null, 'One row per plan that is, or was, for sale.'),
            ('plans', 'id', 'Its id.'),
            ('plans', 'code', 'Its name in quotes and on invoice lines, like studio.'),
            ('plans', 'name', 'Its name for people.'),

            ('plan_prices', null, 'One row per plan and first day of a month on which its base price changed. The price of a '
                'month is the newest one not after its first day.'),
            ('plan_prices', 'plan_id', 'The plan.'),
            ('plan_prices', 'effective_from', 'First day of the first month at this price, UTC.'),
            ('plan_prices', 'base_price_cents', 'A month of the plan, whole cents AUD ex GST.'),

            ('plan_rates', null, 'One row per plan, resource kind and first day of a month on which the rate changed. The rate of '
                'a month is the newest one not after its first day.'),
            ('plan_rates', 'plan_id', 'The plan.'),
            ('plan_rates', 'resource_kind', 'What is metered, like droplet_hours.'),
            ('plan_rates', 'effective_from', 'First day of the first month at this rate, UTC.'),
            ('plan_rates', 'included_quantity', 'The allowance of each subscription and month, in units.'),
            ('plan_rates', 'unit', 'What one of it is called, in the singular, like hour.'),
            ('plan_rates', 'unit_price_cents', 'A unit beyond the allowance, cents AUD ex GST, to 8 decimals.'),

            ('addons', null, 'One row per addon that is, or was, for sale beside plans.'),
            ('addons', 'id', 'Its id.'),
            ('addons', 'code', 'Its name in quotes and on invoice lines, like storage_50gb.'),
            ('addons', 'name', 'Its name for people.'),

            ('addon_prices', null, 'One row per addon and first day of a month on which its price changed. The price of a month '
                'is the newest one not after its first day.'),
            ('addon_prices', 'addon_id', 'The addon.'),
            ('addon_prices', 'effective_from', 'First day of the first month at this price, UTC.'),
            ('addon_prices', 'price_cents', 'A month of one of it, whole cents AUD ex GST.'),

            ('subscriptions', null, 'One row per deployment, plan and time. A month bills each that was active at some instant '
                'of it, as a whole month. A deployment has one at a time.'),
            ('subscriptions', 'id', 'Its id, which stays when the status changes.'),
            ('subscriptions', 'tenant_id', 'Who pays.'),
            ('subscriptions', 'deployment_id', 'What runs.'),
            ('subscriptions', 'plan_id', 'What it is billed by.'),
            ('subscriptions', 'status', 'pending, active, suspended or cancelled. Only pending matters: it is not billed.'),
            ('subscriptions', 'started_at', 'The first instant that is billed.'),
            ('subscriptions', 'ended_at', 'The first instant that is not billed any more; null: it goes on.'),

            ('subscription_addons', null, 'One row per subscription, addon and time. A month bills each that was active at some '
                'instant of it while its subscription was, as a whole month.'),
            ('subscription_addons', 'id', 'Its id.'),
            ('subscription_addons', 'subscription_id', 'Whose addon it is.'),
            ('subscription_addons', 'addon_id', 'Which addon.'),
            ('subscription_addons', 'quantity', 'How many; 0 makes no line.'),
            ('subscription_addons', 'started_at', 'The first instant that is billed.'),
            ('subscription_addons', 'ended_at', 'The first instant that is not billed any more; null: it goes on.'),

            ('usage_records', null, 'One row per reading of a meter. Rows may be added late; a row that has been billed is not '
                'changed or removed.'),
            ('usage_records', 'id', 'Its id. Two records with one id hold their tenant back.'),
            ('usage_records', 'deployment_id', 'What was metered. It may be gone from cloud_deployments.'),
            ('usage_records', 'resource_kind', 'What was metered of it, like droplet_hours.'),
            ('usage_records', 'quantity', 'How much, in the unit of plan_rates. Below 0 takes back.'),
            ('usage_records', 'recorded_at', 'When it was used: this instant decides the month and the subscription.'),
            ('usage_records', 'ingested_at', 'When the record arrived, by the database''s clock. After a month''s cut-off it is late.')
        ) as said (relation, attribute, meaning)
        join pg_class c on c.oid = to_regclass(format('cloud.%I', said.relation))
            and c.relkind in ('r', 'p') and pg_has_role(c.relowner, 'usage')
        left join pg_attribute a on a.attrelid = c.oid and a.attname = said.attribute and not a.attisdropped
        where case when said.attribute is null then obj_description(c.oid, 'pg_class')
                   when a.attnum is not null then col_description(c.oid, a.attnum) else '' end is null
    loop
        execute made.statement;
    end loop;
end $$;

comment on table billing.schema_migrations is 'One row per migration that was applied.';
comment on column billing.schema_migrations.name is 'Its file in sql/migrations.';
comment on column billing.schema_migrations.sha256 is 'The hash of the file as it was applied: an edited one is refused.';
comment on column billing.schema_migrations.applied_at is 'When.';
