-- Which blocking controls have passed, and on what: the step that publishes does not look twice at what its own run has
-- just looked at.

alter table billing.billing_months add column version uuid not null default gen_random_uuid();
comment on column billing.billing_months.version is 'Another whenever the month''s frozen usage or its quotes are written.';

create table billing.passed_controls (
    period_start date not null check (extract(day from period_start) = 1),
    control      text not null,
    version      uuid not null,
    run_id       text not null,
    passed_at    timestamptz not null default now(),
    primary key (period_start, control)
);
comment on table billing.passed_controls is
    'One row per month and blocking control (a check of the release gate): when it last passed, and for what.';
comment on column billing.passed_controls.period_start is 'First day of the billing month, UTC.';
comment on column billing.passed_controls.control is 'The check''s name.';
comment on column billing.passed_controls.version is 'The version of the month (billing_months) that it passed for.';
comment on column billing.passed_controls.run_id is 'The Dagster run that it passed in; another run looks again.';
comment on column billing.passed_controls.passed_at is 'When.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.passed_controls', 'select, insert, update, delete');
select billing.admit_roles();
