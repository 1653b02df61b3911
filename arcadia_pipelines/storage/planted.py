"""Planted code: objects in our schemas or attached to our tables that are not the owner's, and that others would run.

Belongs here: finding it, for `arcadia db migrate`. Since sql/migrations/0016_owned_by_one.sql only the owner can create
anything there; this finds what was created before, or with the owner's rights.
"""

from sqlalchemy.engine import Connection

from arcadia_pipelines.settings import DAGSTER_SCHEMA

_OURS = f"('billing', '{DAGSTER_SCHEMA}')"
_TRUSTED = """
    with trusted as (
        select oid as role from pg_roles where rolsuper
        union select relowner from pg_class where oid = to_regclass('billing.tenant_invoices')
        union select nspowner from pg_namespace where nspname = 'billing'
    )
"""
# Others keep objects of their own in cloud and public: there only those of the pipeline's role are reported.
_THINGS = f"""
    {_TRUSTED}, things as (
        select 'pg_proc'::regclass as kind, oid, pronamespace as namespace, proowner as owner from pg_proc
        union all
        select 'pg_operator'::regclass, oid, oprnamespace, oprowner from pg_operator
        union all
        select 'pg_collation'::regclass, oid, collnamespace, collowner from pg_collation
        union all
        select 'pg_type'::regclass, oid, typnamespace, typowner from pg_type where typrelid = 0 and typelem = 0
        union all
        select 'pg_class'::regclass, oid, relnamespace, relowner from pg_class where relkind not in ('i', 'I', 't')
    )
    select pg_describe_object(kind, t.oid, 0) || ' (of ' || pg_get_userbyid(owner) || ')'
    from things t join pg_namespace n on n.oid = t.namespace
    where owner not in (select role from trusted)
      and (nspname in {_OURS}
           or nspname in ('cloud', 'public')
              and coalesce(pg_has_role(owner, to_regrole('arcadia_pipeline')::oid, 'member'), false))
    order by 1
"""
# What a default, a check, an index or a policy calls runs as whoever writes or reads the table. Most functions of
# PostgreSQL's own are harmless there; those that execute SQL or write files are volatile, or make XML from a query.
_ATTACHED = f"""
    {_TRUSTED}, tables as (
        select c.* from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where nspname in {_OURS} and relkind in ('r', 'p')
    ),
    expressions as (
        select 'pg_attrdef'::regclass as kind, d.oid, pg_get_expr(adbin, adrelid) as text
        from pg_attrdef d join tables on tables.oid = adrelid
        union all
        select 'pg_constraint'::regclass, k.oid, pg_get_expr(conbin, conrelid)
        from pg_constraint k join tables on tables.oid = conrelid where conbin is not null
        union all
        select 'pg_class'::regclass, indexrelid, concat(pg_get_expr(indexprs, indrelid), pg_get_expr(indpred, indrelid))
        from pg_index join tables on tables.oid = indrelid
        union all
        select 'pg_policy'::regclass, p.oid, concat(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
        from pg_policy p join tables on tables.oid = polrelid
    ),
    attached as (
        select 'pg_trigger'::regclass as kind, t.oid
        from pg_trigger t join tables on tables.oid = tgrelid join pg_proc p on p.oid = tgfoid
        where not tgisinternal and proowner not in (select role from trusted)
        union
        select 'pg_rewrite'::regclass, r.oid from pg_rewrite r join tables on tables.oid = ev_class
        union
        select kind, e.oid
        from expressions e, regexp_matches(text, '([[:alnum:]_]+)"?\\(', 'g') as called
        join pg_proc p on p.proname = called[1]
        where pronamespace = 'pg_catalog'::regnamespace and (provolatile = 'v' or proname ~ '_to_xml')
          and proname not in ('gen_random_uuid', 'nextval')
        union
        select kind, e.oid
        from expressions e join pg_depend d on d.classid = kind and d.objid = e.oid
        left join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
        left join pg_operator o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
        where coalesce(proowner, oprowner) not in (select role from trusted)
    )
    select pg_describe_object(kind, oid, 0) from attached order by 1
"""
_ANYBODY_MAY_CREATE = """
    select has_schema_privilege(to_regrole('arcadia_pipeline')::oid, 'public', 'create')
    where to_regnamespace('public') is not null
"""


def things(connection: Connection) -> list[str]:
    """Objects that somebody else than the owner made in our schemas, or the pipeline's role in `cloud` and `public`."""
    found = list(connection.exec_driver_sql(_THINGS).scalars())
    if connection.exec_driver_sql(_ANYBODY_MAY_CREATE).scalar():
        found.append("whatever anybody makes in schema public (revoke create on schema public from public)")
    return found


def attached(connection: Connection) -> list[str]:
    """What is attached to our tables and runs others' code: triggers, rules, defaults, checks, indexes and policies."""
    return list(connection.exec_driver_sql(_ATTACHED).scalars())
