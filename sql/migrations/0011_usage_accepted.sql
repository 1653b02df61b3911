-- Usage that is billed though its stamp is still to come, and usage that nobody is billed for and an operator has
-- accepted.

create table billing.usage_ahead (
    period_start date not null,
    record_id    uuid not null,
    received_at  timestamptz not null,
    primary key (period_start, record_id)
);
comment on table billing.usage_ahead is
    'One row per usage record that was stamped ahead of the clock (its ingested_at was still to come) when its month was '
    'frozen: it counts as received at the month''s cut-off, whatever the time is now.';
comment on column billing.usage_ahead.period_start is 'First day of the billing month, UTC.';
comment on column billing.usage_ahead.record_id is 'The record''s id in cloud.usage_records.';
comment on column billing.usage_ahead.received_at is 'The cut-off at which it counts as received.';

create table billing.unbilled_acceptances (
    id              bigint generated always as identity primary key,
    period_start    date not null,
    deployment_id   uuid not null,
    resource_kind   text not null,
    subscription_id uuid,
    cause           text not null check (cause in ('no_subscription', 'no_rate')),
    quantity        numeric(38, 6) not null check (quantity <> 'NaN'),
    at_stake_cents  numeric(38, 0),
    operator        text not null,
    reason          text not null,
    run_id          text not null,
    accepted_at     timestamptz not null default now()
);
create index on billing.unbilled_acceptances (period_start);
create trigger unbilled_acceptances_are_append_only before update or delete or truncate on billing.unbilled_acceptances
    for each statement execute function billing.refuse_change();
comment on table billing.unbilled_acceptances is
    'One row per row of unbilled_usage that an operator has accepted: nobody pays for it. Holds for that quantity only. '
    'Never changed or deleted.';
comment on column billing.unbilled_acceptances.id is 'Order.';
comment on column billing.unbilled_acceptances.period_start is 'First day of the billing month, UTC.';
comment on column billing.unbilled_acceptances.deployment_id is 'The deployment that was metered.';
comment on column billing.unbilled_acceptances.resource_kind is 'What was metered.';
comment on column billing.unbilled_acceptances.subscription_id is
    'The subscription that was active at recorded_at; null if none.';
comment on column billing.unbilled_acceptances.cause is 'Why it is unbilled: the reason in unbilled_usage.';
comment on column billing.unbilled_acceptances.quantity is 'How much is accepted.';
comment on column billing.unbilled_acceptances.at_stake_cents is
    'What it would have cost, cents AUD ex GST; null if there was no rate to tell by.';
comment on column billing.unbilled_acceptances.operator is 'Who accepted it.';
comment on column billing.unbilled_acceptances.reason is 'Why.';
comment on column billing.unbilled_acceptances.run_id is 'The Dagster run that did it.';
comment on column billing.unbilled_acceptances.accepted_at is 'When.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.usage_ahead',          'select, insert'),
    ('arcadia_pipeline', 'billing.unbilled_acceptances', 'select, insert');
select billing.admit_roles();
