"""That invoices, their hashes, their history and their numbers are as they were written."""

from arcadia_pipelines.proof.audits.kinds import REWRITTEN, TAMPERED, audit
from arcadia_pipelines.proof.audits.standing import STANDING
from arcadia_pipelines.storage import chain
from arcadia_pipelines.storage.kinds import SUPPLY
from arcadia_pipelines.storage.ledger import LINES_SHA256

# The hash of each key of `to_hash`, which has one row per line. As billing/invoice.py has it: a line's fields between
# 0x1f, a null as 0x00, at the end price_per where it is not 1; the lines sorted by their bytes, head and lines between
# 0x1e.
_FIELDS = (
    "deployment_id::text",
    "kind",
    "resource_kind",
    "description",
    "trunc(qty * 1000000)::text",
    "unit",
    "trunc(unit_price_cents * 100000000)::text",
    "amount_cents::text",
    "meta::text",
)
_PRICE_PER = r"coalesce('\x1f'::bytea || convert_to(trunc(nullif(price_per, 1) * 1000000)::text, 'UTF8'), ''::bytea)"
_CONTENT = (
    r" || '\x1f'::bytea || ".join(rf"coalesce(convert_to({field}, 'UTF8'), '\x00'::bytea)" for field in _FIELDS)
    + f" || {_PRICE_PER}"
)
_HASHES = rf"""
    select key, encode(sha256(convert_to(concat_ws(chr(31), tenant_id, %(month)s::date::text, 'AUD',
                                                   coalesce(gst_free_reason, '')), 'UTF8')
                              || string_agg('\x1e'::bytea || content, ''::bytea order by content)), 'hex') as sha256
    from (select key, tenant_id, gst_free_reason, {_CONTENT} as content from to_hash) c
    group by key, tenant_id, gst_free_reason
"""


OTHER_CONTENT = f"""
    with {STANDING},
    to_hash as (
        select s.id as key, s.tenant_id, s.meta ->> 'gst_free_reason' as gst_free_reason, l.deployment_id,
               l.kind, l.resource_kind, l.description, l.qty, l.unit, l.unit_price_cents, l.price_per,
               l.amount_cents, l.meta
        from billing.tenant_invoice_lines l join standing s on s.id = l.invoice_id
        where l.period_start = %(month)s
    ),
    hashes as ({_HASHES})
    select s.invoice_number, s.tenant_id, s.status, s.content_sha256, h.sha256 as lines_sha256
    from standing s left join hashes h on h.key = s.id
    where not s.is_orphaned and h.sha256 is distinct from s.content_sha256
    order by s.tenant_id
"""
"""The month's invoices whose content_sha256 is not of their lines. Takes what catalogue.bounds() gives."""
AUDITS = [
    audit(
        "hashes",
        "content_hash_is_of_the_lines",
        "content_sha256, worked out again from tenant, month, GST status and lines, byte for byte; not of invoices "
        "whose deployment is deleted, which their lines do not name any more.",
        TAMPERED,
        OTHER_CONTENT,
    ),
    audit(
        "line_hashes",
        "lines_hash_is_of_the_lines",
        "lines_sha256, worked out again from the lines whole, as a reader sees them, with their order and their "
        "deployments' names; also of invoices whose deployment is deleted.",
        TAMPERED,
        f"""
            select i.invoice_number, i.tenant_id, i.status, i.lines_sha256, l.sha256 as sha256_of_the_lines
            from billing.tenant_invoices i
            left join (select invoice_id, {LINES_SHA256} as sha256 from billing.tenant_invoice_lines l
                       where period_start = %(month)s group by 1) l on l.invoice_id = i.id
            where i.period_start = %(month)s and i.lines_sha256 is not null
              and i.lines_sha256 is distinct from l.sha256
            order by i.tenant_id
        """,
    ),
    audit(
        "invoices",
        "newest_event_is_the_invoice",
        "Each invoice's newest event says its revision, total, hash, number and status; each event has its invoice.",
        "An invoice was changed, paid or deleted by another program, without an event: compare it with invoice_events.",
        """
            with newest as (
                select distinct on (invoice_id) invoice_id, tenant_id, invoice_number, revision, total_cents,
                       content_sha256, event,
                       case event when 'issued' then 'issued' when 'reissued' then 'issued' when 'drafted' then 'draft'
                                  when 'redrafted' then 'draft' when 'reopened' then 'draft' when 'voided' then 'void'
                                  when 'paid' then 'paid' end as status
                from billing.invoice_events
                where period_start = %(month)s and event not in ('rebuilt', 'withdrawn', 'delivered')
                order by invoice_id, id desc
            )
            select coalesce(i.invoice_number, e.invoice_number) as invoice_number,
                   coalesce(i.tenant_id, e.tenant_id) as tenant_id, i.status, e.event as newest_event, i.revision,
                   e.revision as event_revision, i.total_cents, e.total_cents as event_total_cents, i.content_sha256,
                   e.content_sha256 as event_sha256
            from (select * from billing.tenant_invoices where period_start = %(month)s) i
            full join newest e on e.invoice_id = i.id
            where (i.tenant_id, i.invoice_number, i.status, i.revision, i.total_cents, i.content_sha256)
                  is distinct from
                  (e.tenant_id, e.invoice_number, e.status, e.revision, e.total_cents, e.content_sha256)
            order by i.id is not null and e.invoice_id is not null,
                     abs(coalesce(i.total_cents, 0)::numeric - coalesce(e.total_cents, 0)) desc, 2
        """,
    ),
    audit(
        "events",
        "every_revision_is_kept",
        "An invoice begins with revision 1, drafted or issued; each later one has its event, which keeps the revision "
        "before it whole, with the hash that the event before says and the hashes that its lines have. Other events "
        "change no content.",
        REWRITTEN,
        f"""
            with told as (
                select *, snapshot -> 'invoice' ->> 'revision' as kept_revision,
                       snapshot -> 'invoice' ->> 'content_sha256' as kept_sha256,
                       snapshot -> 'invoice' ->> 'lines_sha256' as kept_lines_sha256,
                       lag(revision) over of_invoice as revision_before,
                       lag(content_sha256) over of_invoice as sha256_before
                from billing.invoice_events where period_start = %(month)s
                window of_invoice as (partition by invoice_id order by id)
            ),
            kept as (
                select t.id as key, {LINES_SHA256} as sha256
                from told t
                cross join jsonb_populate_recordset(null::billing.tenant_invoice_lines, t.snapshot -> 'lines') l
                group by 1
            ),
            to_hash as (
                select t.id as key, t.tenant_id, l.deployment_id, l.kind, l.resource_kind, l.description, l.qty, l.unit,
                       l.unit_price_cents, l.price_per, l.amount_cents, l.meta,
                       t.snapshot -> 'invoice' -> 'meta' ->> 'gst_free_reason' as gst_free_reason
                from told t
                cross join jsonb_populate_recordset(null::billing.tenant_invoice_lines, t.snapshot -> 'lines') l
            ),
            hashes as ({_HASHES})
            select t.invoice_number, t.tenant_id, t.id as event_id, t.event, t.revision, t.revision_before,
                   t.kept_revision, t.content_sha256, t.sha256_before, t.kept_sha256, h.sha256 as sha256_of_kept_lines,
                   t.kept_lines_sha256
            from told t left join hashes h on h.key = t.id left join kept k on k.key = t.id
            where case when t.revision_before is null then t.event not in ('drafted', 'issued') or t.revision <> 1
                       when t.event in ('redrafted', 'reissued')
                           then t.revision <> t.revision_before + 1
                                or t.kept_revision is distinct from t.revision_before::text
                                or t.kept_sha256 is distinct from t.sha256_before
                                or k.sha256 is distinct from coalesce(t.kept_lines_sha256, k.sha256)
                                or h.sha256 is distinct from t.sha256_before
                                   and t.id not in (select key from to_hash where deployment_id is null
                                                    and kind in {SUPPLY})
                       else (t.revision, t.content_sha256) is distinct from (t.revision_before, t.sha256_before)
                  end
            order by t.id
        """,
    ),
    audit(
        "events",
        "events_are_chained",
        "Each hash of the chains of the month and of held tenants follows on the one before it, from the event and the "
        "invoice as the event left it; each event has its place, without a gap, and the newest hash is the head.",
        REWRITTEN,
        chain.EVENTS_ARE_CHAINED,
    ),
    audit(
        "invoices",
        "invoices_are_as_their_events_left_them",
        "Each invoice is, to the last column, as its newest event left it: dates, buyer, amounts, hashes; but finance "
        "may have got it since.",
        "An invoice was changed by another program, without an event: compare it with invoice_events.",
        chain.INVOICES_AS_LEFT,
    ),
    audit(
        "numbers",
        "numbers_have_no_gap",
        "The numbers that the month's invoices were given are INV-YYYYMM-00001 and so on, or with the database's own "
        "prefix: no gap but where another system has taken the number, and none without its invoice. Other systems' "
        "numbers are left alone.",
        "An invoice was deleted or renumbered outside the pipeline: invoice_events says which it was.",
        """
            with series as (
                select billing.number_prefix() || '-' || to_char(%(month)s::date, 'YYYYMM') || '-' as name
            ),
            numbers as (
                select invoice_number, max(tenant_id) as tenant_id, bool_or(stands) as stands, bool_or(given) as given
                from (
                    select invoice_number, tenant_id, true as stands, false as given from billing.tenant_invoices
                    where invoice_number is not null
                      and (period_start = %(month)s
                           or invoice_number between (select name from series) || '00000'
                                                 and (select name from series) || '999999999')
                    union all
                    select distinct invoice_number, tenant_id, false, event = 'issued' from billing.invoice_events
                    where period_start = %(month)s and invoice_number is not null
                ) n group by 1
            ),
            counted as (
                select *, case when invoice_number ~ ('^' || (select name from series) || '([0-9]{5}|[1-9][0-9]{5,8})$')
                               then split_part(invoice_number, '-', 3)::integer end as place
                from numbers
            )
            select invoice_number, tenant_id, stands, number_before
            from (select *, lag(invoice_number) over (order by place) as number_before,
                         lag(place, 1, 0) over (order by place) as place_before from counted) c
            where not stands or given and place <> place_before + 1
            order by place
        """,
    ),
]
