-- One day's records of every meter (month_end_data.sql), in the order in which they came in.
insert into cloud.usage_records
select md5(%(seed)s || kind || %(day)s || '/' || n)::uuid, deployment_id, kind,
       daily + mod(n * 7 + %(day)s * 13, 1000) * 0.000001,
       timestamptz '2026-04-01 12:00+00' + make_interval(days => %(day)s, secs => n * 3600.0 / %(deployments)s),
       timestamptz '2026-04-01 13:00+00' + make_interval(days => %(day)s, secs => n * 3600.0 / %(deployments)s)
from meters;
