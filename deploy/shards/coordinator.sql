-- Revenue of all shards in one view, on a database of its own. Run it with psql, once: the other shards' passwords and
-- addresses are psql's variables. A shard's login needs no more than select on the two views.
create extension if not exists postgres_fdw;
create schema shards;

create server sydney foreign data wrapper postgres_fdw
    options (host :'sydney_host', port :'sydney_port', dbname :'sydney_database', fetch_size '10000');
create user mapping for current_user server sydney options (user :'sydney_user', password :'sydney_password');
create schema sydney;
import foreign schema billing limit to (cost_vs_revenue_by_month, cost_vs_revenue_by_tenant) from server sydney into sydney;

create server melbourne foreign data wrapper postgres_fdw
    options (host :'melbourne_host', port :'melbourne_port', dbname :'melbourne_database', fetch_size '10000');
create user mapping for current_user server melbourne options (user :'melbourne_user', password :'melbourne_password');
create schema melbourne;
import foreign schema billing limit to (cost_vs_revenue_by_month, cost_vs_revenue_by_tenant) from server melbourne into melbourne;

-- Which tenant is where: the platform fills it, and creates a tenant in that shard alone.
create table shards.tenants (tenant_id text primary key, shard text not null check (shard in ('sydney', 'melbourne')));

create view shards.revenue as
    select 'sydney' as shard, period_start, revenue_cents from sydney.cost_vs_revenue_by_month
    union all
    select 'melbourne', period_start, revenue_cents from melbourne.cost_vs_revenue_by_month;

-- A tenant that a shard invoices, and that is another's or nobody's.
create view shards.misplaced as
    select i.shard, i.tenant_id, t.shard as belongs_to
    from (
        select 'sydney' as shard, tenant_id from sydney.cost_vs_revenue_by_tenant
        union
        select 'melbourne', tenant_id from melbourne.cost_vs_revenue_by_tenant
    ) i
    left join shards.tenants t using (tenant_id)
    where t.shard is distinct from i.shard;
