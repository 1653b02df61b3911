-- The invoices of a platform in several databases have numbers of a series each.
create table billing.number_series (
    is_one boolean primary key default true check (is_one),
    prefix text not null check (prefix ~ '^[A-Z]{2,8}[0-9]{0,4}$'),
    set_at timestamptz not null default now()
);
create trigger number_series_stays before update or delete or truncate on billing.number_series
    for each statement execute function billing.refuse_change();
comment on table billing.number_series is
    'How the numbers of this database''s invoices begin, if not with INV: one row, or none. Set before the first number is given; never changed or deleted.';
comment on column billing.number_series.is_one is 'True: there is no second row.';
comment on column billing.number_series.prefix is 'Like SYD: numbers read SYD-202604-00001.';
comment on column billing.number_series.set_at is 'When.';

create function billing.number_prefix() returns text
language sql stable parallel safe
return coalesce((select prefix from billing.number_series), 'INV');
comment on function billing.number_prefix() is 'How the numbers of this database''s invoices begin.';

-- The month end gives invoices their numbers, and so reads how they begin; analysts see it as they see the numbers.
insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.number_series', 'select'),
    ('arcadia_analyst',  'billing.number_series', 'select');
select billing.admit_roles();
