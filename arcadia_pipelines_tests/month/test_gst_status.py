"""An invoice keeps the GST status that it was issued with, and what corrects it later has that status too."""

from typing import Any

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof import replay
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World, connect

STUDIO = ("Plan: studio", 5000)
ADJUSTED, CREDITED = (("Adjustment: 2026-01, INV-202601-00001", 1000), ("Credit: 2026-01, INV-202601-00001", -100))


def tenant(world: World, gst_free_reason: str | None = None) -> None:
    """Acme on studio: 50.00 with 100 hours included, then 1 c an hour; it uses 200 in January, so 51.00 then."""
    world.tenant("acme", gst_free_reason)
    world.plan("studio", 5000, {"droplet_hours": (100, 1)})
    world.deployment("acme", "web", "studio")
    world.use("web", "droplet_hours", 200, "2026-01-15")


def taxed_in_january(world: World) -> None:
    """As `taxed` says."""
    tenant(world)
    world.publish("2026-01")


def free_in_january(world: World) -> None:
    """As `free` says."""
    tenant(world, "Exports")
    world.publish("2026-01")


@pytest.fixture
def taxed(world: World) -> World:
    """Acme's January is invoiced with GST: 51.00 + 5.10."""
    return world


@pytest.fixture
def free(world: World) -> World:
    """Acme's January is invoiced without GST: 51.00, for its exports."""
    return world


BEGINNINGS = {"taxed": taxed_in_january, "free": free_in_january}


def becomes(world: World, gst_free_reason: str | None) -> None:
    """Acme's GST status from now on."""
    world.query("update cloud.tenants set gst_free_reason = %s where id = 'acme'", gst_free_reason)


def paid_january(world: World, hours: int, since: str | None) -> None:
    """January is paid; then the status changes, and January has so many hours more."""
    world.done("mark_invoice_paid", invoices=["INV-202601-00001"])
    becomes(world, since)
    world.use("web", "droplet_hours", hours, "2026-01-16")
    world.publish("2026-01")


def tax(world: World, month: str) -> list[tuple[int, Any]]:
    """Acme's tax line of the month, if there is one: its amount and meta."""
    return [
        (cents, meta)
        for cents, meta in world.query(
            "select l.amount_cents, l.meta from billing.tenant_invoice_lines l where l.kind = 'tax'"
            " and l.period_start = %s",
            f"{month}-01",
        )
    ]


def named(world: World, month: str) -> object:
    """How many invoices the check of the GST status names in a run of the month."""
    finding = world.findings(month).get("gst_status_of_frozen_invoices")
    return finding.count if finding else 0


@pytest.mark.long
@pytest.mark.usefixtures("taxed")
def test_a_credit_of_a_taxed_month_is_taxed_though_the_tenant_is_free_now(world: World, arcadia: Call) -> None:
    """January, taxed and paid: 51.00 + 5.10. 100 hours too many: -1.00, and with it -0.10 of GST on June's invoice.

    June: 50.00 - 1.00 = 49.00 without GST on the 50.00, GST -0.10, total 48.90. January stays 56.10.
    """
    paid_january(world, -100, "Exports")
    world.publish("2026-06")
    assert world.lines("acme", "2026-06") == [STUDIO, CREDITED, ("GST 10%", -10)]
    assert world.invoices("2026-06")["acme"] == ("issued", 1, 4900, -10, 4890)
    assert world.invoices("2026-01")["acme"] == ("paid", 1, 5100, 510, 5610)
    assert tax(world, "2026-06") == [(-10, {"rate": "0.10", "taxable_cents": -100})]
    [(reason,)] = world.query("select meta ->> 'gst_free_reason' from billing.tenant_invoices where tax_cents = -10")
    assert reason == "Exports"
    assert world.disproved() == []
    june = arcadia("show", "acme", "2026-06").out
    assert "GST 10% of -1.00" in june
    assert "GST-free but for what it corrects: Exports" in june
    told = arcadia("explain", "INV-202606-00001").out
    assert "-1.00 taxable x 10 % = -0.10" in told
    assert "with GST, as what it corrects" in told
    assert "There is no GST except on its corrections: Exports." in told
    assert told.endswith("Every sum agrees.\n")
    before = world.query("select xmin::text, revision from billing.tenant_invoices order by period_start")
    for month in ("2026-06", "2026-01", "2026-06"):
        world.publish(month)
    assert world.query("select xmin::text, revision from billing.tenant_invoices order by period_start") == before


@pytest.mark.long
@pytest.mark.usefixtures("free")
def test_an_adjustment_of_a_free_month_is_not_taxed_though_the_tenant_is_taxed_now(world: World, arcadia: Call) -> None:
    """January, free and paid: 51.00. 1,000 hours more: 10.00 on May's invoice, whose GST is on its 50.00 alone."""
    paid_january(world, 1000, None)
    world.publish("2026-05")
    assert world.lines("acme", "2026-05") == [STUDIO, ADJUSTED, ("GST 10%", 500)]
    assert world.invoices("2026-05")["acme"] == ("issued", 1, 6000, 500, 6500)
    assert tax(world, "2026-05") == [(500, {"rate": "0.10", "taxable_cents": 5000})]
    assert world.disproved() == []
    assert "GST 10% of 50.00" in arcadia("show", "acme", "2026-05").out
    world.use("web", "droplet_hours", -1000, "2026-01-17")  # which were not used after all: the GST stays
    for month in ("2026-01", "2026-05"):
        world.publish(month)
    assert world.invoices("2026-05")["acme"] == ("issued", 2, 5000, 500, 5500)
    changes = arcadia("diff", "acme", "2026-05", "--json").json()["changes"]
    assert [(change["kind"], change["cause"]) for change in changes] == [("adjustment", "correction")]
    assert world.disproved() == []


@pytest.mark.long
@pytest.mark.usefixtures("free")
def test_corrections_of_months_of_either_status_are_on_one_invoice(world: World) -> None:
    """January free, February taxed, both paid: January 10.00 more, February 1.00 back; since March the tenant is free.

    March: 50.00 + 10.00 - 1.00 = 59.00, GST on -1.00 alone. Then March is paid, and January's 10.00 turn out wrong:
    April takes them back without GST.
    """
    becomes(world, None)
    world.use("web", "droplet_hours", 200, "2026-02-15")
    world.publish("2026-02")
    world.done("mark_invoice_paid", invoices=["INV-202601-00001", "INV-202602-00001"])
    becomes(world, "Exports")
    world.use("web", "droplet_hours", 1000, "2026-01-16")
    world.use("web", "droplet_hours", -100, "2026-02-16")
    for month in ("2026-01", "2026-02", "2026-03"):
        world.publish(month)
    assert world.lines("acme", "2026-03") == [
        STUDIO,
        ADJUSTED,
        ("Credit: 2026-02, INV-202602-00001", -100),
        ("GST 10%", -10),
    ]
    assert world.disproved() == []
    world.done("mark_invoice_paid", invoices=["INV-202603-00001"])
    becomes(world, None)
    world.use("web", "droplet_hours", -1000, "2026-01-17")
    for month in ("2026-01", "2026-04"):
        world.publish(month)
    assert world.lines("acme", "2026-04") == [STUDIO, ("Credit: 2026-01, INV-202601-00001", -1000), ("GST 10%", 500)]
    assert world.disproved() == []


@pytest.mark.long
@pytest.mark.usefixtures("taxed")
def test_an_issued_invoice_keeps_its_gst_status_until_it_is_reopened(world: World) -> None:
    """51.00 + 5.10. Free since; 100 hours come late: 52.00 + 5.20, taxed as it was issued, and the check names it.

    Void and reopened, it is issued anew without GST, and nothing is named any more.
    """
    becomes(world, "Exports")
    world.publish("2026-01")
    assert world.invoices("2026-01")["acme"] == ("issued", 1, 5100, 510, 5610)
    assert world.disproved() == []
    world.use("web", "droplet_hours", 100, "2026-01-16")
    assert named(world, "2026-01") == 1
    assert world.invoices("2026-01")["acme"] == ("issued", 2, 5200, 520, 5720)
    assert world.disproved() == []
    for operation in ("void_invoice", "reopen_invoice"):
        world.done(operation, invoices=["INV-202601-00001"])
    assert "had another GST status: run 2026-01 again" in world.refused("issue_drafts", month="2026-01")
    assert named(world, "2026-01") == 0
    assert world.invoices("2026-01")["acme"] == ("issued", 3, 5200, 0, 5200)
    assert tax(world, "2026-01") == []
    assert world.disproved() == []


@pytest.mark.usefixtures("free")
def test_an_invoice_that_was_issued_free_stays_free_and_a_reworded_reason_changes_nothing(world: World) -> None:
    """It says why it has no GST as it did; then its tenant is taxed, which the check names."""
    becomes(world, "Exported services")
    world.publish("2026-01")
    becomes(world, None)
    world.use("web", "droplet_hours", 100, "2026-01-16")
    assert named(world, "2026-01") == 1
    assert world.invoices("2026-01")["acme"] == ("issued", 2, 5200, 0, 5200)
    assert world.query("select meta ->> 'gst_free_reason' from billing.tenant_invoices") == [("Exports",)]
    assert world.disproved() == []


@pytest.mark.usefixtures("taxed")
def test_a_paid_invoice_whose_tenants_status_changed_is_named_and_does_not_differ(world: World) -> None:
    """GST of 5.10 was paid: people have to settle that; the invoice is what would be billed now."""
    world.done("mark_invoice_paid", invoices=["INV-202601-00001"])
    becomes(world, "Charity")
    [(check, finding)] = world.findings("2026-01").items()
    assert (check, finding.count) == ("gst_status_of_frozen_invoices", 1)
    assert world.disproved() == []


@pytest.mark.long
def test_a_draft_gets_the_status_of_the_day_on_which_it_is_issued(world: World) -> None:
    """On hold while it is taxed, released when it is free: as it is it cannot be issued, run again it is."""
    tenant(world)
    world.done("hold_tenant", tenants=["acme"])
    world.publish("2026-01")
    assert world.invoices("2026-01")["acme"] == ("draft", 1, 5100, 510, 5610)
    becomes(world, "Charity")
    world.done("release_tenant", tenants=["acme"])
    assert "had another GST status" in world.refused("issue_drafts", month="2026-01")
    world.publish("2026-01")
    assert world.invoices("2026-01")["acme"] == ("issued", 2, 5100, 0, 5100)
    assert world.disproved() == []


@pytest.mark.long
@pytest.mark.usefixtures("taxed")
def test_what_was_taxed_is_taken_back_with_its_gst_though_its_month_is_free_since(world: World) -> None:
    """January taxed and with finance, 1.00 too high: February carries -1.00 and is paid, all of it taxed.

    January is withdrawn and issued anew as free, as it should have been, with 50.00: February's -1.00 was for nothing,
    and March takes it back with its GST, though the tenant and January are free now.
    """
    world.query("update billing.tenant_invoices set finance_invoice_id = 'F-1'")
    world.use("web", "droplet_hours", -100, "2026-01-16")
    for month in ("2026-01", "2026-02"):
        world.publish(month)
    assert world.lines("acme", "2026-02") == [STUDIO, CREDITED, ("GST 10%", 490)]
    world.done("mark_invoice_paid", invoices=["INV-202602-00001"])
    world.done("void_invoice", invoices=["INV-202601-00001"])
    world.done("withdraw_from_finance", invoices=["INV-202601-00001"])
    world.done("reopen_invoice", invoices=["INV-202601-00001"])
    becomes(world, "Exports")
    for month in ("2026-01", "2026-03"):
        world.publish(month)
    assert world.invoices("2026-01")["acme"] == ("issued", 2, 5000, 0, 5000)
    assert world.lines("acme", "2026-03") == [STUDIO, ("Adjustment: 2026-01, INV-202601-00001", 100), ("GST 10%", 10)]
    assert world.disproved() == []


@pytest.mark.usefixtures("taxed")
@pytest.mark.parametrize("meta", ['{"rate": "0.10"}', "{}"])
def test_an_invoice_whose_tax_line_names_no_taxable_cents_is_on_its_subtotal(
    world: World, arcadia: Call, meta: str
) -> None:
    """As another program may have written it."""
    world.tamper(f"update billing.tenant_invoice_lines set meta = '{meta}' where kind = 'tax'")
    assert " of " not in arcadia("show", "acme", "2026-01").out.partition("GST 10%")[2]
    assert "51.00 taxable x 10 % = 5.10" in arcadia("explain", "INV-202601-00001").out
    hashes = ["content_hash_is_of_the_lines", "lines_hash_is_of_the_lines"]
    assert [name for _, name in world.disproved()] == [*hashes, "replay"]


@pytest.mark.usefixtures("free")
def test_an_invoice_that_another_program_has_put_in_without_gst_stays_without(world: World) -> None:
    """It says no reason, and has neither GST nor a tax line; the tenant is free: it is revised, and says why."""
    world.tamper("update billing.tenant_invoices set meta = '{}', content_sha256 = repeat('0', 64)")
    world.tamper("update billing.invoice_events set content_sha256 = repeat('0', 64)")
    world.publish("2026-01")
    assert world.invoices("2026-01")["acme"] == ("issued", 2, 5100, 0, 5100)


def is_anothers(world: World, tenant: str, number: str, tax_cents: int) -> None:
    """The tenant's April is an invoice of 40.00 that another program has put in, paid, and that says no reason."""
    of_tenant = f"(select id from billing.tenant_invoices where tenant_id = '{tenant}')"
    world.tamper(f"delete from billing.invoice_events where tenant_id = '{tenant}'")
    for kind, cents in (("tax", tax_cents), ("plan_base", 4000)):
        world.tamper(
            f"update billing.tenant_invoice_lines set amount_cents = {cents}, unit_price_cents = {cents}, meta = '{{}}'"
            f" where kind = '{kind}' and invoice_id in {of_tenant}"
        )
    with connect(world.url) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update billing.tenant_invoices set invoice_number = %s, meta = '{}', status = 'paid', paid_at = now(),"
            " lines_sha256 = null,"
            " subtotal_cents = 4000, tax_cents = %s, total_cents = 4000 + %s where tenant_id = %s",
            (number, tax_cents, tax_cents, tenant),
        )
    world.rewrite()


@pytest.mark.long
def test_a_correction_of_another_programs_invoice_has_its_gst_status_whatever_its_number(world: World) -> None:
    """April of free acme, 40.00, and of taxed zulu, 40.00 + 4.00, are another program's; 50.00 are owed.

    May of acme: 50.00 + 10.00 without GST; of zulu 50.00 + 10.00 with 6.00. Acme is taxed from June, and April is as it
    was: nothing is corrected again.
    """
    odd = 'MAN"7\\, \x01\n'
    world.plan("studio", 5000)
    for name, reason in (("acme", "Exports"), ("zulu", None)):
        world.tenant(name, reason)
        world.deployment(name, name, "studio")
    world.publish("2026-04")
    is_anothers(world, "acme", "MAN-7", 0)
    is_anothers(world, "zulu", odd, 400)
    assert world.findings("2026-04").keys() == {"corrections_are_carried"}
    world.publish("2026-05")
    assert world.invoices("2026-05") == {
        "acme": ("issued", 1, 6000, 0, 6000),
        "zulu": ("issued", 1, 6000, 600, 6600),
    }
    assert world.lines("acme", "2026-05") == [STUDIO, ("Adjustment: 2026-04, MAN-7", 1000)]
    assert world.query(
        "select meta from billing.tenant_invoice_lines where kind = 'adjustment' order by description collate \"C\""
    ) == [({"corrects": "2026-04-01", "invoice_number": number},) for number in (odd, "MAN-7")]
    [(may,)] = world.query(
        "select invoice_number from billing.tenant_invoices where tenant_id = 'acme' and revision = 1"
        " and period_start = '2026-05-01'"
    )
    world.done("mark_invoice_paid", invoices=[may])
    becomes(world, None)
    for month in ("2026-04", "2026-05", "2026-06"):
        world.publish(month)
    assert world.invoices("2026-05")["acme"] == ("paid", 1, 6000, 0, 6000)
    assert world.lines("acme", "2026-06") == [STUDIO, ("GST 10%", 500)]
    assert {name for _, name in world.disproved()} == {"content_hash_is_of_the_lines", "newest_event_is_the_invoice"}


def without_gst_of_the_correction(world: World, month: str) -> None:
    """The month's invoice as an older engine made it, which taxed a correction by the status of its day: 49.00 free."""
    world.tamper(f"delete from billing.tenant_invoice_lines where kind = 'tax' and period_start = '{month}-01'")
    world.tamper("update billing.tenant_invoice_lines set meta = meta - 'taxable' where kind = 'credit'")
    for table, where in (("tenant_invoices", f"period_start = '{month}-01'"), ("invoice_events", "total_cents = 4890")):
        taxless = "tax_cents = 0, " if table == "tenant_invoices" else ""
        world.tamper(f"update billing.{table} set {taxless}total_cents = 4900 where {where}")
    # Of a paid invoice that differs by no cent replay tells no hash.
    invoice = f"update billing.tenant_invoices set %s where period_start = '{month}-01'"
    [(status,)] = world.query("select status from billing.tenant_invoices where period_start = %s", f"{month}-01")
    world.tamper(invoice % "status = 'issued'")
    with database.snapshot(database.engine(world.url)) as connection:
        first = replay.replay(connection, BillingMonth.parse(month)).first
    world.tamper(invoice % f"status = '{status}'")
    assert first
    for table in ("tenant_invoices", "invoice_events"):
        world.tamper(f"update billing.{table} set content_sha256 = '{first.rebuilt_sha256}' where total_cents = 4900")
    world.rewrite()


@pytest.mark.long
@pytest.mark.usefixtures("taxed")
@pytest.mark.parametrize(
    ("status", "table", "written"),
    [("paid", "tenant_invoice_lines", "inserted_at"), ("issued", "tenant_invoices", "issued_at")],
)
def test_a_correction_from_before_it_had_a_gst_status_stays_as_it_was(
    world: World, status: str, table: str, written: str
) -> None:
    """June, free, has January's -1.00 without the -0.10 of GST that January paid for it: people settled those.

    Paid, issued and the newest, or run again: it stays 49.00, nothing is reissued, and July has 50.00 alone.
    """
    paid_january(world, -100, "Exports")
    world.publish("2026-06")
    if status == "paid":
        world.done("mark_invoice_paid", invoices=["INV-202606-00001"])
    world.tamper(f"update billing.{table} set {written} = '2026-01-02' where period_start = '2026-06-01'")
    without_gst_of_the_correction(world, "2026-06")
    assert world.disproved() == []
    for month in ("2026-06", "2026-07", "2026-06", "2026-07"):
        world.publish(month)
    assert world.invoices("2026-06")["acme"] == (status, 1, 4900, 0, 4900)
    assert world.invoices("2026-07")["acme"] == ("issued", 1, 5000, 0, 5000)
    assert world.lines("acme", "2026-07") == [STUDIO]
    assert world.disproved() == []
