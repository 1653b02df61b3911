"""The audits: clean books are clean, and each audit fires when somebody corrupts the rows that it watches."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof import audit, replay
from arcadia_pipelines.proof.controls import find
from arcadia_pipelines.storage import database, ledger
from arcadia_pipelines.storage.database import StorageError
from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.world import World, uid


def fill(world: World) -> None:
    """March to May 2026 of seven tenants: April has a revision, a void, a plan change and a tenant held back."""
    world.pilot()
    world.tenant("acme")
    world.plan("small", 1000, {"droplet_hours": (0, "0.744"), "egress_gb": ("1.5", "0.5")})
    world.plan("large", 3000, {"droplet_hours": (5, 2)})
    world.deployment("acme", "acme-api", "small", ["storage_50gb"])
    world.deployment("acme", "acme-web")
    world.subscribe("acme-before", "acme", "acme-web", "small", end="2026-04-16", status="cancelled")
    world.subscribe("acme-after", "acme", "acme-web", "large", start="2026-04-16")
    world.use("acme-web", "droplet_hours", 10, "2026-04-15 23:59+00")  # 10 x 0.744 = 7.44 -> 7
    world.use("acme-web", "droplet_hours", 20, "2026-04-16 00:00+00")  # (20 - 5) x 2 = 30
    world.use("acme-api", "egress_gb", "2.5")  # (2.5 - 1.5) x 0.5 = 0.5 -> 1
    world.use("acme-api", "gold_grams", 3)  # no rate: unbilled
    world.tenant("export", gst_free_reason="Exported services, GST Act s 38-190")
    world.deployment("export", "export-web", "small")
    world.tenant("florist")
    world.plan("community", 0)
    world.deployment("florist", "florist-blog", "community")
    world.query("update cloud.cloud_deployments set name = %s where tenant_id = 'florist'", "blog\x1fof \U0001f338\n")
    world.tenant("gone")
    world.deployment("gone", "gone-web", "small", start="2026-04-01")
    world.tenant("twin")  # two subscriptions of one plan, one after the other: two equal lines
    world.deployment("twin", "twin-web")
    world.subscribe("twin-one", "twin", "twin-web", "small", end="2026-04-10")
    world.subscribe("twin-two", "twin", "twin-web", "small", start="2026-04-10")
    world.tenant("late")
    world.plan("bespoke")
    world.deployment("late", "late-web", "bespoke", start="2026-04-01")
    for month in ("2026-03", "2026-04"):
        world.publish(month)
    world.use("web", "droplet_hours", 100)  # the pilot's second revision: 772 h, 65.22 + 6.52 = 71.74
    world.query("update cloud.subscriptions set status = 'pending' where tenant_id = 'gone'")
    world.publish("2026-04")
    world.publish("2026-05")


@pytest.fixture(scope="module")
def filled(server_url: str, migrated: str) -> Iterator[str]:
    """The name of a database with these books."""
    with copy_of(server_url, migrated) as url:
        with World(url).connected() as world:
            fill(world)
        yield url.rpartition("/")[2]


@pytest.fixture
def books(server_url: str, filled: str) -> Iterator[World]:
    """A copy of them, to be corrupted."""
    with copy_of(server_url, filled) as url, World(url).connected() as world:
        yield world


def found(world: World, name: str, month: str = "2026-04") -> list[dict[str, Any]]:
    """What one audit finds."""
    [control] = [proved.control for proved in audit.AUDITS if proved.control.name == name]
    with database.snapshot(database.engine(world.url)) as connection:
        return find(connection, control, BillingMonth.parse(month)).offenders


def run(on: Engine, month: str) -> audit.Report:
    """All audits of a month."""
    with database.snapshot(on) as connection:
        return audit.run(connection, BillingMonth.parse(month))


def differences(report: audit.Report) -> dict[str, list[dict[str, object]]]:
    """The rows found, by audit."""
    return {proof.audit.control.name: proof.finding.offenders for proof in report.proofs if proof.finding.count}


# Clean books.


def test_the_sample_months_are_proved_both_ways(sample_year: World, engine: Engine) -> None:
    """January to October: every audit finds nothing, and every invoice is rebuilt byte for byte."""
    with database.snapshot(engine) as connection:
        months = ledger.invoiced_months(connection)
    assert [str(month) for month in months] == [f"2026-{number:02}" for number in range(1, 11)]
    for month in months:
        assert differences(run(engine, str(month))) == {}
        with database.snapshot(engine) as connection:
            rebuilt = replay.replay(connection, month)
        assert (rebuilt.identical, rebuilt.differing, rebuilt.first) == (len(sample_year.invoices(str(month))), 0, None)


def test_a_revision_a_void_a_plan_change_and_a_tenant_held_back_are_clean(books: World) -> None:
    """April counted by hand; of its 20 lines, the void invoice's two and the tax lines are not compared with today."""
    engine = database.engine(books.url)
    for month in ("2026-03", "2026-05"):
        assert differences(run(engine, month)) == {}
    report = run(engine, "2026-04")
    assert differences(report) == {}
    looked_at = {proof.audit.control.name: (proof.looked_at, proof.audit.of) for proof in report.proofs}
    assert books.invoices("2026-04")["pilot"] == ("issued", 2, 6522, 652, 7174)
    assert books.invoices("2026-04")["gone"][:2] == ("void", 1)
    assert looked_at == {
        "nothing_is_missing": (17, "tables"),
        "usage_equals_raw_records": (95, "usage_records"),  # the pilot's 91, and 4
        "usage_is_conserved": (5, "usage_rows"),
        "quotes_are_invoiced": (14, "quote_lines"),  # pilot 3, acme 4 + 3, export 1, florist 1, twin 2
        "lines_follow_from_usage_and_prices": (14, "supply_lines"),
        "frozen_sums_and_corrections_agree": (0, "sums"),
        "lines_multiply_out": (20, "lines"),  # with gone's plan, and 5 tax lines: not export's
        "lines_are_numbered_in_order": (20, "lines"),
        "subscriptions_are_billed_once": (6, "invoices"),
        "totals_equal_lines": (6, "invoices"),
        "gst_recomputed_a_second_way": (6, "invoices"),
        "tax_lines_fit_the_gst_status": (6, "invoices"),
        "content_hash_is_of_the_lines": (6, "hashes"),
        "lines_hash_is_of_the_lines": (6, "line_hashes"),
        "newest_event_is_the_invoice": (6, "invoices"),
        "every_revision_is_kept": (8, "events"),  # six issued, one reissued, one voided
        "events_are_chained": (8, "events"),
        "invoices_are_as_their_events_left_them": (6, "invoices"),
        "numbers_have_no_gap": (6, "numbers"),
        "corrections_have_a_tenant": (0, "corrections"),
        "corrections_are_carried_once": (0, "corrections"),
        "manual_lines_are_billed_once": (0, "entered"),
        "promotional_credit_is_within_its_grants": (0, "entered"),
        "documents_are_as_they_left": (0, "documents"),  # nothing was delivered
    }
    assert report.left_out == {"void": 1, "held_back": 0, "frozen": 0, "deployment_deleted": 0}


def test_an_audit_writes_nothing(books: World) -> None:
    """PostgreSQL refuses it in that transaction."""
    with (
        pytest.raises(StorageError, match="read-only transaction"),
        database.snapshot(database.engine(books.url)) as connection,
    ):
        connection.exec_driver_sql("update billing.tenant_invoices set meta = '{}'")


# Each audit fires.

INVOICE_OF = "(select id from billing.tenant_invoices where tenant_id = '{}' and period_start = '2026-04-01')"
PILOT, ACME, EXPORT = (INVOICE_OF.format(tenant) for tenant in ("pilot", "acme", "export"))
LINES = "billing.tenant_invoice_lines"
COLUMNS = (
    "invoice_id, deployment_id, kind, resource_kind, description, qty, unit, unit_price_cents, amount_cents, meta,"
    " period_start, deployment_name"
)

ERASED = """
    drop table billing.metered_usage_2026_04, billing.deployment_quote_lines_2026_04,
        billing.tenant_invoice_lines_2026_04;
    do $$
    declare
        relation regclass;
    begin
        for relation in
            select c.oid from pg_class c join pg_attribute a on a.attrelid = c.oid
            where c.relnamespace = 'billing'::regnamespace and c.relkind = 'r' and not c.relispartition
              and a.attname = 'period_start' and c.relname <> '{0}'
        loop
            execute format('delete from %s where period_start = %L', relation, '2026-04-01');
        end loop;
    end $$
"""
"""April is erased, with its events, from all tables but one."""

CORRUPTIONS: dict[str, list[tuple[str, dict[str, object]]]] = {
    "nothing_is_missing": [
        (
            f"drop table {LINES}_2026_04",
            {
                "missing": f"the invoice lines: there is no partition {LINES}_2026_04",
                "told_by": "9 rows of billed_subscriptions, 8 rows of invoice_events, 6 rows of invoiced_tenants, "
                "6 rows of tenant_invoices",
            },
        ),
        (
            f"alter table {LINES} detach partition {LINES}_2026_04",
            {"missing": f"the invoice lines: {LINES}_2026_04 exists, but is not attached to {LINES}"},
        ),
        (
            f"alter table {LINES} detach partition {LINES}_2026_04; alter table {LINES} attach partition"
            f" {LINES}_2026_04 for values from ('2026-04-01') to ('2026-04-20')",
            {
                "missing": f"the invoice lines: {LINES}_2026_04 has other bounds, FOR VALUES FROM ('2026-04-01') TO"
                " ('2026-04-20')"
            },
        ),
        (
            f"alter table {LINES} detach partition {LINES}_2026_04; alter table {LINES}_2026_04 rename to kept;"
            f" alter table {LINES} attach partition billing.kept default",
            {"missing": f"the invoice lines: there is no partition {LINES}_2026_04"},
        ),
        (
            "drop table billing.metered_usage_2026_04",
            {"missing": "the frozen usage: there is no partition billing.metered_usage_2026_04"},
        ),
        (
            "truncate billing.metered_usage_2026_04",
            {"missing": "5 rows of metered_usage", "told_by": "billing_months, by which there were 5"},
        ),
        (
            "alter table billing.deployment_quote_lines detach partition billing.deployment_quote_lines_2026_04",
            {
                "missing": "the quote lines: billing.deployment_quote_lines_2026_04 exists, but is not attached to"
                " billing.deployment_quote_lines"
            },
        ),
        (
            "delete from billing.deployment_quote_lines where period_start = '2026-04-01' and tenant_id = 'pilot'",
            {"missing": "3 rows of deployment_quote_lines", "told_by": "billing_months, by which there were 14"},
        ),
        (
            "delete from billing.unbilled_usage where period_start = '2026-04-01'",
            {"missing": "1 rows of unbilled_usage"},
        ),
        (
            "delete from billing.billing_months where period_start = '2026-04-01'",
            {"missing": "the usage cut-off: there is no row of billing_months"},
        ),
        (
            "delete from billing.tenant_invoices where tenant_id = 'export'; delete from billing.invoice_events where"
            f" tenant_id = 'export'; delete from {LINES} where invoice_id not in (select id from"
            " billing.tenant_invoices)",
            {
                "missing": "the invoice of tenant export",
                "told_by": "billed_subscriptions, invoiced_tenants",
            },
        ),
        (
            ERASED.format("tenant_invoices"),
            {"missing": "the frozen usage: there is no partition billing.metered_usage_2026_04"},
        ),
    ],
    "usage_equals_raw_records": [
        (
            "delete from cloud.usage_records where quantity = 100",
            {"raw_records": 90, "frozen_records": 91},
        ),
    ],
    "usage_is_conserved": [
        (
            f"update billing.metered_usage set quantity = quantity + 1 where deployment_id = '{uid('acme-api')}'"
            " and resource_kind = 'egress_gb' and period_start = '2026-04-01'",
            {"deployment_id": uid("acme-api"), "resource_kind": "egress_gb"},
        ),
    ],
    "quotes_are_invoiced": [
        (
            "delete from billing.deployment_quote_lines where kind = 'addon' and tenant_id = 'pilot'"
            " and period_start = '2026-04-01'",
            {"invoice_number": "INV-202604-00005", "found": "unexpected", "description": "Addon: storage_50gb"},
        ),
        (
            "update billing.deployment_quote_lines set qty = 773 where qty = 772",
            {"found": "different", "standing_qty": 772, "owed_qty": 773},
        ),
    ],
    "lines_follow_from_usage_and_prices": [
        (
            f"delete from {LINES} where kind = 'addon' and invoice_id = {PILOT}",
            {"found": "missing", "tenant_id": "pilot", "standing_amount_cents": None, "owed_amount_cents": 750},
        ),
        (
            f"insert into {LINES} ({COLUMNS}, line_no) select {COLUMNS}, 9 from {LINES} where kind = 'addon'"
            f" and invoice_id = {PILOT}",
            {"found": "unexpected", "tenant_id": "pilot", "standing_amount_cents": 750, "owed_amount_cents": None},
        ),
        (
            f"update {LINES} set qty = 773 where qty = 772",
            {
                "found": "different",
                "kind": "overage",
                "deployment_id": uid("web"),
                "standing_qty": 773,
                "owed_qty": 772,
            },
        ),
        (
            f"update {LINES} set amount_cents = 8 where description = 'Overage: droplet_hours' and amount_cents = 7",
            {"found": "different", "standing_amount_cents": 8, "owed_amount_cents": 7},  # 7.44 c
        ),
        (
            f"update {LINES} set amount_cents = 0 where amount_cents = 1",
            {"found": "different", "standing_amount_cents": 0, "owed_amount_cents": 1},  # 0.5 c
        ),
        (
            f"update {LINES} set unit_price_cents = 1.5 where qty = 772",
            {"found": "different", "standing_unit_price_cents": 1.5, "owed_unit_price_cents": 1},
        ),
        (
            f"update {LINES} set unit = 'day' where qty = 772",
            {"found": "different", "standing_unit": "day", "owed_unit": "hour"},
        ),
        (
            f"""update {LINES} set meta = meta || '{{"effective_from": "2026-02-01"}}' where qty = 772""",
            {"found": "different", "standing_effective_from": "2026-02-01", "owed_effective_from": "2026-01-01"},
        ),
        (
            f"update {LINES} set deployment_id = '{uid('acme-api')}' where qty = 772",
            {"found": "unexpected", "deployment_id": uid("acme-api"), "standing_amount_cents": 772},
        ),
        (
            f"delete from {LINES} where line_no = 2 and deployment_id = '{uid('twin-web')}' and kind = 'plan_base'",
            {"found": "missing", "tenant_id": "twin", "owed_amount_cents": 1000},
        ),
        (
            f"with l as (delete from {LINES} where invoice_id = {ACME}) delete from billing.tenant_invoices"
            f" where id = {ACME}",
            {"found": "missing", "tenant_id": "acme", "invoice_number": None, "owed_amount_cents": 3000},
        ),
        (
            f"update cloud.plan_prices set base_price_cents = 3001 where plan_id = '{uid('large')}'",
            {"found": "different", "standing_amount_cents": 3000, "owed_amount_cents": 3001},
        ),
        (
            f"update cloud.plan_rates set included_quantity = 6 where plan_id = '{uid('large')}'",
            {"found": "different", "standing_qty": 15, "owed_qty": 14},
        ),
        (
            f"insert into cloud.addon_prices values ('{uid('storage_50gb')}', '2026-04-01', 800)",
            {"found": "different", "standing_amount_cents": 750, "owed_amount_cents": 800},
        ),
        (
            f"update cloud.subscriptions set ended_at = '2026-04-01' where id = '{uid('export-web')}'",
            {"found": "unexpected", "tenant_id": "export", "standing_amount_cents": 1000},
        ),
        (
            "update billing.metered_usage set subscription_id = null where quantity = 20",
            {"found": "unexpected", "tenant_id": "acme", "standing_amount_cents": 30},
        ),
    ],
    "frozen_sums_and_corrections_agree": [
        (
            "with p as (update billing.tenant_invoices set status = 'paid' where tenant_id = 'acme')"
            f" update cloud.plan_prices set base_price_cents = 2990 where plan_id = '{uid('large')}'",
            {"tenant_id": "acme", "status": "paid", "billed_cents": 5788, "correction_cents": 0, "owed_cents": 5778},
        ),
        (
            "with p as (update billing.tenant_invoices set pushed_to_finance_at = now() where tenant_id = 'pilot')"
            " insert into billing.invoice_corrections values"
            " ('2026-04-01', 'pilot', 'INV-202604-00005', 6522, 6622, default, 'run')",
            {"tenant_id": "pilot", "billed_cents": 6522, "correction_cents": 100, "owed_cents": 6522},
        ),
    ],
    "lines_multiply_out": [
        (
            f"update {LINES} set amount_cents = 773 where qty = 772",
            {"line_no": 3, "qty": 772, "unit_price_cents": 1, "amount_cents": 773},
        ),
        (
            f"update {LINES} set qty = -2.5, amount_cents = -2, kind = 'addon', unit_price_cents = 1 where qty = 772",
            {"amount_cents": -2, "exact_cents": -2.5},  # half a cent goes away from zero: -3
        ),
        (
            f"""update {LINES} set meta = meta || '{{"used": "2261.000000"}}' where qty = 772""",
            {"line_no": 3, "qty": 772, "used_less_included": 773},
        ),
        (
            f"""update {LINES} set meta = meta || '{{"included": "1.2.3"}}' where qty = 772""",
            {"line_no": 3, "used_less_included": None},
        ),
    ],
    "lines_are_numbered_in_order": [
        (
            f"update {LINES} set line_no = 3 - line_no where line_no < 3 and invoice_id = {PILOT}",
            {"tenant_id": "pilot", "line_no": 2, "description": "Plan: studio"},
        ),
        (
            f"update {LINES} set line_no = 9 where kind = 'tax' and invoice_id = {PILOT}",
            {"tenant_id": "pilot", "line_no": 9, "place": 4, "description": "GST 10%"},
        ),
        (
            f"update {LINES} set line_no = 1 where line_no = 2 and invoice_id = {PILOT}",
            {"tenant_id": "pilot", "line_no": 1, "place": 2},
        ),
        (
            f"update {LINES} set deployment_name = 'zebra' where deployment_name = 'acme-api' and invoice_id = {ACME}",
            {"tenant_id": "acme", "deployment_name": "acme-web"},
        ),
        (
            f"update {LINES} set line_no = 5 - line_no where line_no in (1, 4) and invoice_id = {PILOT}",
            {"tenant_id": "pilot", "line_no": 2, "description": "Addon: storage_50gb"},  # after the tax
        ),
        (
            f"update {LINES} set invoice_id = '{uid('nobody')}' where invoice_id = {PILOT}",
            {"invoice_number": None, "invoice_id": uid("nobody")},
        ),
    ],
    "subscriptions_are_billed_once": [
        (
            "insert into billing.billed_subscriptions select period_start, subscription_id, 'acme', deployment_id"
            " from billing.billed_subscriptions where tenant_id = 'pilot'",
            {"tenant_id": "acme", "subscription_id": uid("web")},
        ),
        (
            "delete from billing.billed_subscriptions where tenant_id = 'pilot'",
            {"tenant_id": "pilot", "plan_lines": 1, "subscriptions": 0},
        ),
        (
            f"update {LINES} set deployment_id = '{uid('acme-api')}' where kind = 'plan_base' and invoice_id = {PILOT}",
            {"tenant_id": "pilot", "plan_lines": 1, "subscriptions": 0},
        ),
    ],
    "corrections_have_a_tenant": [
        (
            "insert into billing.invoice_corrections"
            " values ('2026-04-01', 'acme', 'INV-202604-00001', 1, 3, default, 'run');"
            " delete from cloud.tenants where id = 'acme'",
            {"tenant_id": "acme", "outstanding_cents": 2},
        ),
    ],
    "totals_equal_lines": [
        (
            "update billing.tenant_invoices set subtotal_cents = 6523, total_cents = 7175 where subtotal_cents = 6522",
            {"invoice_number": "INV-202604-00005", "subtotal_cents": 6523, "lines_subtotal_cents": 6522},
        ),
    ],
    "gst_recomputed_a_second_way": [
        (
            "update billing.tenant_invoices set tax_cents = 653, total_cents = 7175 where tax_cents = 652",
            {"invoice_number": "INV-202604-00005", "taxable_cents": 6522, "tax_cents": 653},
        ),
    ],
    "tax_lines_fit_the_gst_status": [
        (
            f"delete from {LINES} where kind = 'tax' and period_start = '2026-04-01' and amount_cents = 0",
            {"tenant_id": "florist", "tax_lines": 0},
        ),
        (
            f"""update {LINES} set meta = '{{"taxable_cents": 6521}}' where kind = 'tax' and invoice_id = {PILOT}""",
            {"tenant_id": "pilot", "subtotal_cents": 6522, "taxable_cents": "6521"},
        ),
        (
            "with t as (update cloud.tenants set gst_free_reason = '' where id = 'export')"
            " update billing.tenant_invoices set status = 'draft' where tenant_id = 'export'",
            {"tenant_id": "export", "status": "draft", "tenant_reason": ""},
        ),
    ],
    "content_hash_is_of_the_lines": [
        (f"update {LINES} set description = 'Overage: hours' where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set amount_cents = 771 where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set qty = 772.000001 where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set unit_price_cents = 1.00000001 where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set unit = null where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set resource_kind = null where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set kind = 'addon' where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set deployment_id = '{uid('acme-api')}' where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set meta = '{{}}' where qty = 772", {"tenant_id": "pilot"}),
        (f"update {LINES} set meta = '{{}}' where kind = 'tax' and invoice_id = {PILOT}", {"tenant_id": "pilot"}),
        (
            f"delete from {LINES} where qty = 772",
            {"tenant_id": "pilot"},
        ),
        (
            f"delete from {LINES} where invoice_id = {PILOT}",
            {"tenant_id": "pilot", "lines_sha256": None},
        ),
        (
            f"""update billing.tenant_invoices set meta = meta || '{{"gst_free_reason": "x"}}' where id = {EXPORT}""",
            {"tenant_id": "export"},
        ),
        (
            f"update billing.tenant_invoices set tenant_id = 'wombat' where id = {EXPORT}",
            {"tenant_id": "wombat"},
        ),
        (
            f"update billing.tenant_invoices set content_sha256 = repeat('0', 64) where id = {PILOT}",
            {"tenant_id": "pilot", "content_sha256": "0" * 64},
        ),
    ],
    "lines_hash_is_of_the_lines": [
        (f"update {LINES} set deployment_name = 'web 2' where qty = 772", {"tenant_id": "pilot"}),
        (
            f"update {LINES} set line_no = 3 - line_no where line_no < 3 and invoice_id = {PILOT}",
            {"tenant_id": "pilot"},
        ),
        (
            f"update {LINES} set unit = null, description = description || 'hour' where qty = 772",
            {"tenant_id": "pilot"},
        ),
        (f"update {LINES} set unit = '', deployment_name = 'hourweb' where qty = 772", {"tenant_id": "pilot"}),
        (  # of no deployment any more, where content_sha256 cannot be worked out
            f"update {LINES} set deployment_id = null, amount_cents = amount_cents + 1 where invoice_id = {PILOT}",
            {"tenant_id": "pilot"},
        ),
        (f"delete from {LINES} where invoice_id = {PILOT}", {"tenant_id": "pilot", "sha256_of_the_lines": None}),
    ],
    "newest_event_is_the_invoice": [
        (
            f"update billing.tenant_invoices set status = 'paid' where id = {PILOT}",
            {"tenant_id": "pilot", "status": "paid", "newest_event": "reissued"},
        ),
        (
            f"update billing.tenant_invoices set revision = 3 where id = {PILOT}",
            {"tenant_id": "pilot", "revision": 3, "event_revision": 2},
        ),
        (
            f"update billing.tenant_invoices set total_cents = 7175, tax_cents = 653 where id = {PILOT}",
            {"tenant_id": "pilot", "total_cents": 7175, "event_total_cents": 7174},
        ),
        (
            f"update billing.tenant_invoices set content_sha256 = repeat('0', 64) where id = {PILOT}",
            {"tenant_id": "pilot", "content_sha256": "0" * 64},
        ),
        (
            f"update billing.tenant_invoices set invoice_number = 'INV-202604-00009' where id = {PILOT}",
            {"tenant_id": "pilot", "invoice_number": "INV-202604-00009"},
        ),
        (
            f"delete from billing.tenant_invoices where id = {PILOT}",
            {"tenant_id": "pilot", "status": None, "newest_event": "reissued"},
        ),
        (
            f"delete from billing.invoice_events where invoice_id = {EXPORT}",
            {"tenant_id": "export", "status": "issued", "newest_event": None},
        ),
    ],
    "events_are_chained": [  # more of these in test_chain.py
        (
            "update billing.invoice_events set operator = 'bob' where event = 'voided'",
            {"chain": "2026-04", "tenant_id": "gone", "event": "voided"},
        ),
    ],
    "invoices_are_as_their_events_left_them": [
        (
            f"update billing.tenant_invoices set issued_at = issued_at - interval '1 day' where id = {PILOT}",
            {"tenant_id": "pilot", "newest_event": "reissued"},
        ),
    ],
    "every_revision_is_kept": [
        (
            "delete from billing.invoice_events where event = 'issued' and tenant_id = 'pilot'",
            {"tenant_id": "pilot", "event": "reissued", "revision_before": None},
        ),
        (
            "update billing.invoice_events set revision = 3 where event = 'reissued'",
            {"tenant_id": "pilot", "revision": 3, "revision_before": 1},
        ),
        (
            "update billing.invoice_events set snapshot = null where event = 'reissued'",
            {"tenant_id": "pilot", "kept_revision": None},
        ),
        (
            "update billing.invoice_events set snapshot = jsonb_set(snapshot, '{invoice,revision}', '2')",
            {"tenant_id": "pilot", "kept_revision": "2", "revision_before": 1},
        ),
        (
            "update billing.invoice_events set snapshot = jsonb_set(snapshot, '{invoice,content_sha256}', '\"0\"')",
            {"tenant_id": "pilot", "kept_sha256": "0"},
        ),
        (
            "update billing.invoice_events set snapshot = jsonb_set(snapshot, '{lines,2,amount_cents}', '671')",
            {"tenant_id": "pilot", "event": "reissued"},
        ),
        (
            "update billing.invoice_events set snapshot = snapshot #- '{lines,1}'",
            {"tenant_id": "pilot", "event": "reissued"},
        ),
        (
            "update billing.invoice_events set snapshot = jsonb_set(snapshot, '{lines,2,deployment_name}', '\"a\"')",
            {"tenant_id": "pilot", "event": "reissued"},
        ),
        (
            "update billing.invoice_events set content_sha256 = repeat('0', 64) where event = 'voided'",
            {"tenant_id": "gone", "event": "voided", "content_sha256": "0" * 64},
        ),
    ],
    "numbers_have_no_gap": [
        (
            "with e as (delete from billing.invoice_events where tenant_id = 'export')"
            " delete from billing.tenant_invoices where tenant_id = 'export'",
            {"invoice_number": "INV-202604-00003", "number_before": "INV-202604-00001"},
        ),
        (
            "delete from billing.tenant_invoices where tenant_id = 'twin'",
            {"invoice_number": "INV-202604-00006", "tenant_id": "twin", "stands": False},
        ),
        (
            f"update billing.tenant_invoices set invoice_number = 'INV-202605-00077' where id = {PILOT}",
            {"invoice_number": "INV-202604-00005", "stands": False},
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "sql", "expected"),
    [
        pytest.param(name, sql, expected, id=f"{name}-{number}")
        for name, corruptions in CORRUPTIONS.items()
        for number, (sql, expected) in enumerate(corruptions, start=1)
    ],
)
def test_an_audit_names_what_was_corrupted(books: World, name: str, sql: str, expected: dict[str, object]) -> None:
    """The worst offender is the row that was changed on purpose, with both sides."""
    books.tamper(sql)
    worst = found(books, name)[0]
    assert {column: worst[column] for column in expected} == expected


def test_every_audit_is_shown_to_fire() -> None:
    """By the corruptions above; corrections, and what operators enter, have tests of their own."""
    names = {proved.control.name for proved in audit.AUDITS if proved.of != "entered"}
    assert set(CORRUPTIONS) == names - {"corrections_are_carried_once"}


# What stays out of a comparison, and what stays in.


def test_a_paid_invoice_keeps_its_lines_and_its_difference_is_in_the_corrections(books: World) -> None:
    """Usage of 10 h more, found after it was paid: 65.22 billed + 0.10 corrected = 65.32 owed."""
    books.tamper("update billing.tenant_invoices set status = 'paid' where tenant_id = 'pilot'")
    books.tamper("update billing.metered_usage set quantity = quantity + 10 where quantity = 2260")
    assert found(books, "lines_follow_from_usage_and_prices") == []
    [difference] = found(books, "frozen_sums_and_corrections_agree")
    assert (difference["billed_cents"], difference["owed_cents"]) == (6522, 6532)
    books.tamper(
        "insert into billing.invoice_corrections values"
        " ('2026-04-01', 'pilot', 'INV-202604-00005', 6522, 6532, default, 'run')"
    )
    assert found(books, "frozen_sums_and_corrections_agree") == []


def test_a_tenant_that_is_held_back_is_not_compared(books: World) -> None:
    """Its standing invoice is left as it is, whatever its usage says."""
    books.tamper(
        "insert into billing.quote_faults values ('2026-04-01', 'pilot', null, null, null, 'duplicate_usage', '')"
    )
    books.tamper("update billing.metered_usage set quantity = 9999 where quantity = 2260")
    assert found(books, "lines_follow_from_usage_and_prices") == []
    assert run(database.engine(books.url), "2026-04").left_out["held_back"] == 1


def test_an_invoice_whose_deployment_is_deleted_is_compared_by_its_sum(books: World) -> None:
    """Its lines name no deployment any more, so that neither they nor their hash can be worked out again."""
    books.tamper(f"update {LINES} set deployment_id = null where invoice_id = {PILOT}")
    report = run(database.engine(books.url), "2026-04")
    assert differences(report) == {}
    assert report.left_out["deployment_deleted"] == 1
    books.tamper("update billing.metered_usage set quantity = quantity + 10 where quantity = 2260")
    [difference] = found(books, "frozen_sums_and_corrections_agree")
    assert (difference["billed_cents"], difference["owed_cents"]) == (6522, 6532)


def test_a_draft_is_audited_as_an_issued_invoice_is(books: World) -> None:
    """Reopened from void by an operator, with its event; its tenant has nothing to bill, which is found."""
    books.query("update billing.tenant_invoices set status = 'draft' where tenant_id = 'gone'")
    [event] = found(books, "newest_event_is_the_invoice")
    assert (event["status"], event["newest_event"]) == ("draft", "voided")
    books.query(
        "insert into billing.invoice_events (invoice_id, invoice_number, tenant_id, period_start, event, revision,"
        " total_cents, content_sha256, operator, reason, run_id) select id, invoice_number, tenant_id, period_start,"
        " 'reopened', revision, total_cents, content_sha256, 'ada', 'a mistake', 'run' from billing.tenant_invoices"
        " where tenant_id = 'gone'"
    )
    report = run(database.engine(books.url), "2026-04")
    assert list(differences(report)) == ["quotes_are_invoiced", "lines_follow_from_usage_and_prices"]
    [line] = differences(report)["lines_follow_from_usage_and_prices"]
    assert (line["tenant_id"], line["found"], line["description"]) == ("gone", "unexpected", "Plan: small")


def test_a_draft_without_a_number_leaves_no_gap(books: World) -> None:
    """Numbers are given when an invoice is first issued."""
    books.tamper("delete from billing.invoice_events where tenant_id = 'twin'")
    books.tamper(
        "update billing.tenant_invoices set status = 'draft', invoice_number = null, issued_at = null"
        " where tenant_id = 'twin'"
    )
    assert found(books, "numbers_have_no_gap") == []


# Corrections: 1.10 more is owed by the pilot for March, whose invoice is paid.

CORRECTIONS = "corrections_are_carried_once"


def owe(world: World, difference: int) -> None:
    """What the pilot's paid March invoice differs by, as found now; 0 takes it back."""
    world.query("delete from billing.invoice_corrections")
    if difference:
        world.query(
            "insert into billing.invoice_corrections values"
            " ('2026-03-01', 'pilot', 'INV-202603-00004', 5750, %s, default, 'run')",
            5750 + difference,
        )


def carry(world: World, month: str, cents: int, meta: str = '{"corrects": "2026-03-01"}') -> None:
    """A line on the pilot's invoice of a month that carries a correction."""
    world.query(
        f"insert into {LINES} (invoice_id, kind, description, qty, unit_price_cents, amount_cents, meta, period_start,"
        " line_no) select id, %s, 'Correction of March 2026', 1, %s, %s, %s, period_start, 90"
        " from billing.tenant_invoices where tenant_id = 'pilot' and period_start = %s",
        "credit" if cents < 0 else "adjustment",
        cents,
        cents,
        meta,
        f"{month}-01",
    )


def test_a_correction_is_clean_before_and_after_it_is_carried(books: World) -> None:
    """Nothing carried yet; 1.10 on April's; or 0.60 on April's and 0.50 on May's."""
    owe(books, 110)
    assert found(books, CORRECTIONS, "2026-04") == []
    carry(books, "2026-04", 60)
    carry(books, "2026-05", 50)
    assert found(books, CORRECTIONS, "2026-04") == found(books, CORRECTIONS, "2026-05") == []


def test_a_correction_that_is_carried_twice_is_found(books: World) -> None:
    """1.10 on April's invoice and again on May's: 2.20 of 1.10, named in both months."""
    owe(books, 110)
    carry(books, "2026-04", 110)
    carry(books, "2026-05", 110)
    for month in ("2026-04", "2026-05"):
        [line] = found(books, CORRECTIONS, month)
        assert (line["amount_cents"], line["carried_in_all_cents"], line["difference_cents"]) == (110, 220, 110)
    books.tamper("update billing.tenant_invoices set status = 'void' where period_start = '2026-05-01'")
    assert found(books, CORRECTIONS, "2026-04") == []


def test_a_correction_of_the_other_sign_is_found(books: World) -> None:
    """A credit, where more is owed."""
    owe(books, 110)
    carry(books, "2026-04", -110)
    [line] = found(books, CORRECTIONS)
    assert (line["carried_in_all_cents"], line["difference_cents"]) == (-110, 110)


def test_a_difference_that_shrinks_is_taken_back_by_the_next_invoice(books: World) -> None:
    """May carries 1.10, then only 0.40 is owed: that is for June's invoice to take back."""
    owe(books, 110)
    carry(books, "2026-05", 110)
    books.rewrite()
    owe(books, 40)
    assert found(books, CORRECTIONS, "2026-05") == []
    books.publish("2026-06")
    assert books.lines("pilot", "2026-06")[2] == ("Credit: 2026-03, INV-202603-00004", -70)
    assert found(books, CORRECTIONS, "2026-05") == found(books, CORRECTIONS, "2026-06") == []
    books.tamper("delete from billing.tenant_invoice_lines where kind = 'credit'")
    [line] = found(books, CORRECTIONS, "2026-05")
    assert (line["carried_in_all_cents"], line["difference_cents"]) == (110, 40)


def test_a_difference_that_is_gone_is_taken_back_by_the_next_invoice(books: World) -> None:
    """April's invoice carries 1.10 of which nothing is owed, and May's stands; May's own waits for June's."""
    carry(books, "2026-04", 110)
    [line] = found(books, CORRECTIONS, "2026-04")
    assert (line["carried_in_all_cents"], line["difference_cents"]) == (110, 0)
    carry(books, "2026-05", -110)
    assert found(books, CORRECTIONS, "2026-04") == found(books, CORRECTIONS, "2026-05") == []
    carry(books, "2026-05", 30)
    assert found(books, CORRECTIONS, "2026-05") == []


@pytest.mark.parametrize(
    "meta",
    ["{}", '{"corrects": "2026-04-01"}', '{"corrects": "2026-05-01"}', '{"corrects": "March"}', '{"corrects": null}'],
)
def test_a_correction_says_which_earlier_month_it_corrects(books: World, meta: str) -> None:
    """Not none, not its own, not a later one, not a word."""
    carry(books, "2026-04", 110, meta)
    assert [line["amount_cents"] for line in found(books, CORRECTIONS)] == [110]
