"""The month end through Dagster's own job: the worked example, and running a month again."""

import datetime as dt

import dagster as dg
import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof import controls
from arcadia_pipelines.storage import acts, database, streams
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.world import World, check_alone, failed_checks, failures, materialize, uid

WRITTEN = """
    select 'usage', ctid::text, xmin::text from billing.metered_usage
    union all select 'month', ctid::text, xmin::text from billing.billing_months
    union all select 'quote', ctid::text, xmin::text from billing.deployment_quote_lines
    union all select 'unbilled', ctid::text, xmin::text from billing.unbilled_usage
    union all select 'fault', ctid::text, xmin::text from billing.quote_faults
    union all select 'invoice', ctid::text, xmin::text from billing.tenant_invoices
    union all select 'line', ctid::text, xmin::text from billing.tenant_invoice_lines
    union all select 'event', ctid::text, xmin::text from billing.invoice_events
    order by 1, 2
"""


def test_the_pilot_owes_70_dollars_64_for_april(world: World) -> None:
    """50.00 + 7.50 + 672 h x 1 c = 64.22; GST 6.422 -> 6.42; total 70.64."""
    world.pilot()
    result = world.month_end("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.lines("pilot", "2026-04") == [
        ("Plan: studio", 5000),
        ("Addon: storage_50gb", 750),
        ("Overage: droplet_hours", 672),
        ("GST 10%", 642),
    ]
    assert failed_checks(result) == {}


@pytest.mark.usefixtures("pilots_april")
def test_an_overage_line_explains_itself(world: World) -> None:
    """Used 2160, included 1488, at the rate of January: 672 h at 1 c."""
    [line] = world.query(
        "select qty::text, unit, unit_price_cents::text, meta from billing.tenant_invoice_lines where kind = 'overage'"
    )
    assert line == (
        "672.000000",
        "hour",
        "1.00000000",
        {"used": "2160.000000", "included": "1488.000000", "effective_from": "2026-01-01"},
    )


def test_a_rerun_of_an_unchanged_month_writes_no_row(sample: World) -> None:
    """Not only equal values: the very same row versions, in every table of ours."""
    sample.publish("2026-04")
    before = sample.query(WRITTEN)
    assert len(before) > 200
    result = sample.month_end("2026-04")
    assert sample.query(WRITTEN) == before
    metadata = result.asset_materializations_for_node("publish_invoices")[-1].metadata
    assert (metadata["invoices_keep"].value, metadata["invoices_add"].value) == (15, 0)


@pytest.mark.usefixtures("pilots_april")
def test_late_usage_revises_the_invoice_in_place_and_keeps_the_old_one_whole(world: World) -> None:
    """100 h more at 1 c: 64.22 -> 65.22, GST 6.52, total 71.74; the same id, number and issue date."""
    identity = "select id, invoice_number, issued_at from billing.tenant_invoices"
    before = world.query(identity)
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    assert world.query(identity) == before
    assert world.invoices("2026-04") == {"pilot": ("issued", 2, 6522, 652, 7174)}
    assert world.lines("pilot", "2026-04")[2] == ("Overage: droplet_hours", 772)
    events = world.query("select event, revision, total_cents, snapshot from billing.invoice_events order by id")
    assert [event[:3] for event in events] == [("issued", 1, 7064), ("reissued", 2, 7174)]
    old = events[1][3]
    assert (old["invoice"]["revision"], old["invoice"]["total_cents"]) == (1, 7064)
    assert [line["amount_cents"] for line in old["lines"]] == [5000, 750, 672, 642]


def test_only_the_tenant_that_changed_is_rewritten(sample: World) -> None:
    """An hour more for the pilot; the other fourteen invoices and their lines keep their row versions."""
    sample.publish("2026-04")
    others = (
        "select i.id, i.xmin::text, l.id, l.xmin::text from billing.tenant_invoices i"
        " join billing.tenant_invoice_lines l on l.invoice_id = i.id where tenant_id <> 'pilot' order by 3"
    )
    before = sample.query(others)
    sample.use("pilot-web", "droplet_hours", 1)
    sample.publish("2026-04")
    assert sample.query(others) == before
    assert sample.invoices("2026-04")["pilot"] == ("issued", 2, 6423, 642, 7065)


LOCKS = {
    "paid": "status = 'paid', paid_at = now()",
    "pushed": "finance_invoice_id = 'F-1', pushed_to_finance_at = now()",
    "void": "status = 'void'",
}


def test_a_locked_invoice_is_left_as_it_is_and_the_difference_reported(world: World) -> None:
    """100 h beside each tenant's 50.00 are 1.10 with GST; nothing is written, and the check says who and how much.

    A void invoice owes nothing: all of 51.00 + 5.10 would be billed now.
    """
    world.plan("studio", 5000, {"droplet_hours": (0, 1)})
    for tenant in LOCKS:
        world.tenant(tenant)
        world.deployment(tenant, tenant, "studio")
    world.publish("2026-04")
    for tenant, lock in LOCKS.items():
        world.query(f"update billing.tenant_invoices set {lock} where tenant_id = %s", tenant)
        world.use(tenant, "droplet_hours", 100)
    frozen = "select xmin::text, revision, total_cents from billing.tenant_invoices order by tenant_id"
    before = world.query(frozen)
    check = failed_checks(world.month_end("2026-04"))["frozen_invoices_agree"]
    assert world.query(frozen) == before
    differences = check.metadata["differences"]
    assert isinstance(differences, dg.TableMetadataValue)
    reported = {record.data["tenant_id"]: str(record.data["difference"]).strip() for record in differences.records}
    assert reported == {"paid": "1.10", "pushed": "1.10", "void": "56.10"}
    assert check.metadata["difference_cents"].value == 110 + 110 + 5610


def test_an_invoice_with_another_systems_id_is_revised_and_keeps_it(world: World) -> None:
    """Another system issued it, for 10.00; it bills 70.64, on four lines that are its own."""
    world.pilot()
    world.query(
        "insert into billing.tenant_invoices (id, tenant_id, period_start, period_end, subtotal_cents, tax_cents,"
        " total_cents, status, issued_at, invoice_number, content_sha256, usage_cutoff, run_id)"
        " values (%s, 'pilot', '2026-04-01', '2026-05-01', 1000, 0, 1000, 'issued', now(), 'INV-202604-00007',"
        " repeat('0', 64), now(), 'another')",
        uid("another"),
    )
    for _ in range(2):
        world.publish("2026-04")
        assert world.invoices("2026-04") == {"pilot": ("issued", 2, 6422, 642, 7064)}
        lines = world.query("select invoice_id, amount_cents from billing.tenant_invoice_lines")
        assert lines == [(uid("another"), cents) for cents in (5000, 750, 672, 642)]


def test_a_tenant_with_nothing_to_bill_any_more_is_voided_not_deleted(world: World) -> None:
    """The subscription turns out to be pending: the invoice is void, its lines stand, the history says so."""
    world.pilot()
    world.tenant("acme")
    world.deployment("acme", "api", "studio")
    world.publish("2026-04")
    world.query("update cloud.subscriptions set status = 'pending' where tenant_id = 'pilot'")
    world.publish("2026-04")
    assert world.invoices("2026-04")["pilot"] == ("void", 1, 6422, 642, 7064)
    assert len(world.lines("pilot", "2026-04")) == 4
    events = "select event from billing.invoice_events where tenant_id = 'pilot' order by id"
    assert world.query(events) == [("issued",), ("voided",)]
    assert world.query("select tenant_id from billing.revenue_by_deployment") == [("acme",)]


@pytest.mark.usefixtures("pilots_april")
def test_a_month_in_which_nobody_has_anything_to_bill_any_more_voids_nothing(world: World) -> None:
    """The subscriptions are gone for a moment: the run fails and says so, and the invoices stand."""
    world.query("update cloud.subscriptions set status = 'pending'")
    refusal = world.stopped("2026-04")
    assert "no tenant has anything to bill in 2026-04, and 1 invoice would be void, or credited:" in refusal
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    world.query("update cloud.subscriptions set status = 'active'")
    world.publish("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}


@pytest.mark.usefixtures("pilots_april")
def test_usage_that_was_frozen_and_has_vanished_stops_the_rerun_until_it_is_accepted(world: World) -> None:
    """Three of 90 records are purged: nothing is written. Accepted, 3 x 24 h less: 64.22 - 0.72 = 63.50, GST 6.35."""
    before = world.query(WRITTEN)
    world.query("delete from cloud.usage_records where recorded_at < '2026-04-02'")
    stopped = world.stopped("2026-04")
    assert f"droplet_hours of deployment {uid('web')} (tenant pilot), which had 90 records and has 87" in stopped
    assert world.query(WRITTEN) == before
    world.query("delete from billing.metered_usage where period_start = '2026-04-01'")
    world.publish("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 2, 6350, 635, 6985)}


@pytest.mark.long
@pytest.mark.usefixtures("pilots_april")
def test_usage_that_comes_after_its_month_was_frozen_is_named_by_the_next_month(world: World) -> None:
    """One late record of April: May's run warns, April's re-run bills it, and then May's is content."""
    world.use("web", "droplet_hours", 100, "2026-04-20", ingested_at="2026-04-20")
    check = failed_checks(world.month_end("2026-05"))["no_late_usage_in_the_month_before"]
    assert (check.metadata["offenders"].value, check.severity) == (1, dg.AssetCheckSeverity.WARN)
    world.publish("2026-04")
    assert world.invoices("2026-04")["pilot"] == ("issued", 2, 6522, 652, 7174)
    assert world.findings("2026-05") == {}


@pytest.mark.usefixtures("pilots_april")
def test_a_number_that_was_issued_is_never_issued_again(world: World) -> None:
    """Somebody deletes the pilot's invoice: May notices, and April's re-run goes on with 00002."""
    world.tamper("with l as (delete from billing.tenant_invoice_lines) delete from billing.tenant_invoices")
    assert world.findings("2026-05")["earlier_months_are_unchanged"].count == 1
    world.publish("2026-04")
    assert world.query("select invoice_number from billing.tenant_invoices where period_start = '2026-04-01'") == [
        ("INV-202604-00002",)
    ]


@pytest.mark.usefixtures("pilots_april")
def test_a_new_tenant_of_a_published_month_gets_the_next_number(world: World) -> None:
    """`aardvark` sorts first and comes second: the pilot keeps 00001."""
    world.tenant("aardvark")
    world.deployment("aardvark", "burrow", "studio")
    world.publish("2026-04")
    assert world.query("select tenant_id, invoice_number from billing.tenant_invoices order by 2") == [
        ("pilot", "INV-202604-00001"),
        ("aardvark", "INV-202604-00002"),
    ]


def ahead(result: dg.ExecuteInProcessResult) -> list[tuple[str, ...]]:
    """The run's check of usage that is stamped ahead of the clock: tenant, money at stake, records, up to when."""
    check = failed_checks(result)["no_usage_is_stamped_ahead_of_the_clock"]
    assert check.severity == dg.AssetCheckSeverity.WARN
    [shown] = [value for value in check.metadata.values() if isinstance(value, dg.TableMetadataValue)]
    columns = ("tenant_id", "at_stake", "records", "ingested_until")
    return [tuple(str(record.data[name]).strip() for name in columns) for record in shown.records]


@pytest.mark.long
def test_usage_that_is_stamped_ahead_of_the_clock_is_billed_and_named(world: World) -> None:
    """The pilot's 100 h more, of 2999, are 1.00 and GST 0.10; acme's 1500 h, for ever, 12 h beyond 1488: 0.12 and 0.01.

    It counts as received at the cut-off: run again nothing is written, and the proofs agree, also when its time comes.
    """
    world.pilot()
    world.tenant("acme")
    world.deployment("acme", "api", "studio")
    world.use("web", "droplet_hours", 60, ingested_at="2999-01-01")
    world.use("web", "droplet_hours", 40, ingested_at="2999-01-02")
    world.use("api", "droplet_hours", 1500, ingested_at="infinity")
    named = ahead(world.month_end("2026-04"))
    billed = {"acme": ("issued", 1, 5012, 501, 5513), "pilot": ("issued", 1, 6522, 652, 7174)}
    assert world.invoices("2026-04") == billed
    assert named == [("pilot", "1.10", "2", "2999-01-02 00:00:00+00"), ("acme", "0.13", "1", "infinity")]
    before = world.query(WRITTEN)
    assert world.findings("2026-04")["no_usage_is_stamped_ahead_of_the_clock"].count == 2
    assert world.query(WRITTEN) == before
    assert world.disproved() == []
    world.query("update cloud.usage_records set ingested_at = now() where ingested_at > now()")
    assert world.disproved() == []
    assert world.findings("2026-04") == {}
    assert world.query(WRITTEN) == before
    assert world.findings("2026-05") == {}


@pytest.mark.long
@pytest.mark.usefixtures("pilots_april")
def test_usage_ahead_of_the_clock_that_comes_late_is_told_and_billed_by_a_rerun(world: World) -> None:
    """1.00 and GST 0.10 of 2999 after April was frozen, then 0.50 that is late and no more; then the first is lost."""
    world.use("web", "droplet_hours", 100, ingested_at="2999-01-01")
    assert set(world.findings("2026-05")) == {"no_late_usage_in_the_month_before"}
    assert ahead(world.month_end("2026-04")) == [("pilot", "1.10", "1", "2999-01-01 00:00:00+00")]
    world.use("web", "droplet_hours", 50, ingested_at="now")
    assert world.disproved() == []
    assert set(world.findings("2026-05")) == {"no_late_usage_in_the_month_before"}
    assert world.findings("2026-04")["no_usage_is_stamped_ahead_of_the_clock"].count == 1
    assert world.invoices("2026-04")["pilot"] == ("issued", 3, 6572, 657, 7229)
    assert world.findings("2026-05") == {}
    world.query("delete from cloud.usage_records where quantity = 100")
    assert "which had 92 records and has 91" in world.stopped("2026-04")


@pytest.mark.long
def test_a_clock_that_is_set_back_loses_no_usage_and_accepts_none(world: World) -> None:
    """April is frozen by a clock five years ahead, and run again by one that is right.

    The pilot's 6.72 for 672 h become 7.22 with 50 h that came late, as other usage does: told, billed once, proved. An
    acceptance of lost usage covers no other, as no cut-off comes twice. What was issued tomorrow is not paid today.
    """
    world.pilot()
    materialize(world, "2026-04", "metered_usage")
    world.query("update billing.billing_months set usage_cutoff = usage_cutoff + interval '5 years'")
    [(ahead,)] = world.query("select usage_cutoff from billing.billing_months")
    cutoffs = """
        select i.usage_cutoff - %s, m.usage_cutoff - %s
        from billing.tenant_invoices i join billing.billing_months m using (period_start)
        where period_start = '2026-04-01'
    """
    world.publish("2026-04")
    assert world.query(cutoffs, ahead, ahead) == [(dt.timedelta(0),) * 2]
    world.use("web", "droplet_hours", 30, ingested_at="now")
    lost = world.use("web", "droplet_hours", 20, ingested_at="2999-01-01")
    assert set(world.findings("2026-05")) == {"no_late_usage_in_the_month_before"}
    assert set(world.findings("2026-04")) == {"no_usage_is_stamped_ahead_of_the_clock"}
    assert world.invoices("2026-04") == {"pilot": ("issued", 2, 6472, 647, 7119)}
    assert world.query(cutoffs, ahead, ahead) == [(dt.timedelta(microseconds=1),) * 2]
    assert world.disproved() == []
    before = world.query(WRITTEN)
    world.publish("2026-04")
    assert world.query(WRITTEN) == before

    world.query("delete from cloud.usage_records where id = %s", lost)
    world.done("accept_vanished_usage", month="2026-04", records=1)
    world.publish("2026-04")
    another = world.use("web", "droplet_hours", 1, ingested_at="now")
    world.publish("2026-04")
    world.query("delete from cloud.usage_records where id = %s", another)
    assert "which had 92 records and has 91" in world.stopped("2026-04")

    put_in(world, "acme", "MAN-7", issued_at="tomorrow")
    world.done("mark_invoice_paid", invoices=["MAN-7"])
    paid = "select paid_at = issued_at from billing.tenant_invoices where invoice_number = 'MAN-7'"
    assert world.query(paid) == [(True,)]


def put_in(
    world: World, tenant: str, number: str, month: str = "2026-04-01", status: str = "issued", issued_at: str = "now"
) -> None:
    """Another system puts an invoice of 10.00 in."""
    world.query(
        "insert into billing.tenant_invoices (id, tenant_id, period_start, period_end, subtotal_cents, tax_cents,"
        " total_cents, status, issued_at, invoice_number, content_sha256, usage_cutoff, run_id)"
        " values (gen_random_uuid(), %s, %s::date, (%s::date + interval '1 month')::date, 1000, 0, 1000, %s, %s, %s,"
        " repeat('0', 64), now(), 'another')",
        tenant,
        month,
        month,
        status,
        issued_at,
        number,
    )


FOREIGN = (
    "MAN-7",
    "",
    "7",
    "INV-202604",
    "INV-202604-",
    "INV-202604-x",
    "INV-202604-7",
    "INV-202604-0000007",
    "INV-202604-00009-A",
    "INV-202604-9999999999",
    "INV-202604-99999999999999999999999",
    "inv-202604-00009",
    "INV-202603-00009",
    "INV-202604-00007",
    "INV-202604-999999999",
    "A-B-2147483648",
)


@pytest.mark.long
def test_numbers_of_other_systems_are_left_alone_and_never_given_again(world: World) -> None:
    """Whatever their form; and 00002 is taken by one of May, 00004 and 00005 by two of April, so these are passed over.

    Five tenants of ours: three when the month is published, one added later, and a draft that an operator issues.
    """
    world.pilot()
    for place, number in enumerate((*FOREIGN, "INV-202604-00004", "INV-202604-00005")):
        put_in(world, f"other-{place:02}", number, status="paid")
    put_in(world, "other-00", "INV-202604-00002", "2026-05-01", "paid")
    others = "select tenant_id, invoice_number from billing.tenant_invoices where tenant_id like 'other%' order by 1, 2"
    before = world.query(others)
    for tenant in ("acme", "bulk", "zoo"):
        world.tenant(tenant)
        world.deployment(tenant, tenant, "studio", start="2026-05-01" if tenant == "zoo" else "2026-01-01")
    world.done("hold_tenant", tenants=["bulk"])
    assert set(world.findings("2026-04")) <= {"frozen_invoices_agree", "totals_equal_lines"}
    world.query("update cloud.subscriptions set started_at = '2026-04-30' where id = %s", uid("zoo"))
    world.publish("2026-04")
    world.done("release_tenant", tenants=["bulk"])
    assert world.done("issue_drafts", month="2026-04").startswith("1 invoice issued now")
    ours = "select tenant_id, invoice_number from billing.tenant_invoices where tenant_id not like 'other%' order by 1"
    assert world.query(ours) == [
        ("acme", "INV-202604-00001"),
        ("bulk", "INV-202604-00008"),
        ("pilot", "INV-202604-00003"),
        ("zoo", "INV-202604-00006"),
    ]
    assert world.query(others) == before
    assert not world.finds("numbers_have_no_gap", "2026-04")


@pytest.mark.parametrize(
    ("count", "last", "taken"),
    [(0, 2, (3, 4, 7)), (1, 5, (7,)), (2, 6, (7,)), (3, 8, ())],
)
def test_the_next_chunk_goes_on_after_the_last_number_that_was_given(
    count: int, last: int, taken: tuple[int, ...]
) -> None:
    """00002 is the last, others have 3, 4 and 7: 5, 6 and 8 are given."""
    assert acts.Numbers(2, (3, 4, 7)).after(count) == acts.Numbers(last, taken)


@pytest.mark.usefixtures("pilots_april")
def test_april_stays_as_it_was_after_a_price_rise_in_june(world: World) -> None:
    """June's prices: 60.00 + 7.50 + nothing used; April is computed again at January's."""
    world.plan("studio", 6000, {"droplet_hours": (1488, 2)}, since="2026-06-01")
    world.publish("2026-04")
    world.publish("2026-06")
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.invoices("2026-06") == {"pilot": ("issued", 1, 6750, 675, 7425)}


@pytest.mark.usefixtures("pilots_april")
def test_a_renamed_deployment_revises_no_invoice(world: World) -> None:
    """A tax invoice is not changed for a name; the next month carries the new one."""
    world.query("update cloud.cloud_deployments set name = 'shop'")
    world.publish("2026-04")
    world.publish("2026-05")
    assert world.invoices("2026-04")["pilot"][1] == 1
    names = "select distinct period_start::text, deployment_name from billing.tenant_invoice_lines where kind <> 'tax'"
    assert sorted(world.query(names)) == [("2026-04-01", "web"), ("2026-05-01", "shop")]


def test_usage_goes_to_the_subscription_that_was_active_when_it_was_recorded(world: World) -> None:
    """Plan change on 16 April: 10 h before at 1 c, 20 h from the very instant on at 2 c; both plans a whole month."""
    world.tenant("acme")
    world.plan("small", 1000, {"droplet_hours": (0, 1)})
    world.plan("large", 3000, {"droplet_hours": (0, 2)})
    world.deployment("acme", "web")
    world.subscribe("first", "acme", "web", "small", end="2026-04-16 00:00+00", status="cancelled")
    world.subscribe("second", "acme", "web", "large", start="2026-04-16 00:00+00")
    world.use("web", "droplet_hours", 10, "2026-04-15 23:59:59.999999+00")
    world.use("web", "droplet_hours", 20, "2026-04-16 00:00+00")
    assert world.findings("2026-04") == {}
    assert sorted(world.lines("acme", "2026-04")) == [
        ("GST 10%", 405),
        ("Overage: droplet_hours", 10),
        ("Overage: droplet_hours", 40),
        ("Plan: large", 3000),
        ("Plan: small", 1000),
    ]


def test_an_addon_is_billed_only_while_its_subscription_is(world: World) -> None:
    """Of a subscription from the 5th to the 10th: 50.00 + 2.00 + 8.00 + 4.00 = 64.00; not what only meets its ends."""
    world.tenant("acme")
    world.plan("studio", 5000)
    spans = {
        "before": (100, "2026-04-01", "2026-04-05"),
        "across the start": (200, "2026-04-01", "2026-04-05 00:00:01+00"),
        "within": (400, "2026-04-06", "2026-04-07"),
        "always": (800, "2025-07-01", None),
        "after": (1600, "2026-04-10", None),
        "long after": (3200, "2026-04-20", "2026-04-30"),
        "of no time": (6400, "2026-04-06", "2026-04-06"),
    }
    for addon, (cents, _, _) in spans.items():
        world.addon(addon, cents)
    world.deployment("acme", "web", "studio", list(spans), start="2026-04-05", end="2026-04-10")
    for addon, (_, start, end) in spans.items():
        change = "update cloud.subscription_addons set started_at = %s, ended_at = %s where id = %s"
        world.query(change, start, end, uid(f"web/{addon}"))
    world.publish("2026-04")
    assert world.lines("acme", "2026-04")[:-1] == [
        ("Plan: studio", 5000),
        ("Addon: across the start", 200),
        ("Addon: always", 800),
        ("Addon: within", 400),
    ]
    assert world.disproved() == []


def test_a_month_is_half_open_in_utc(world: World) -> None:
    """The first instant of April counts in April, the first instant of May does not."""
    world.tenant("acme")
    world.plan("small", 0, {"droplet_hours": (0, 100)})
    world.deployment("acme", "web", "small")
    world.use("web", "droplet_hours", 1, "2026-04-01 00:00+00")
    world.use("web", "droplet_hours", 2, "2026-05-01 09:59:59+10")  # still April in UTC
    world.use("web", "droplet_hours", 4, "2026-05-01 00:00+00")
    world.publish("2026-04")
    assert world.lines("acme", "2026-04")[1] == ("Overage: droplet_hours", 300)


def test_a_gst_free_tenant_has_no_tax_line_and_the_reason_on_the_invoice(world: World) -> None:
    """50.00 and no GST."""
    world.plan("studio", 5000)
    world.tenant("exports", gst_free_reason="Exported services, GST Act s 38-190")
    world.deployment("exports", "web", "studio")
    world.publish("2026-04")
    assert world.invoices("2026-04") == {"exports": ("issued", 1, 5000, 0, 5000)}
    assert world.lines("exports", "2026-04") == [("Plan: studio", 5000)]
    [(meta,)] = world.query("select meta from billing.tenant_invoices")
    assert meta["gst_free_reason"] == "Exported services, GST Act s 38-190"


def test_a_free_plan_still_makes_an_invoice_of_nothing_with_its_tax_line(world: World) -> None:
    """0.00 + GST 0.00."""
    world.plan("free", 0)
    world.tenant("acme")
    world.deployment("acme", "web", "free")
    world.publish("2026-04")
    assert world.lines("acme", "2026-04") == [("Plan: free", 0), ("GST 10%", 0)]
    assert world.invoices("2026-04") == {"acme": ("issued", 1, 0, 0, 0)}


def test_invoices_alone_are_not_published_past_a_closed_gate(world: World) -> None:
    """Somebody tampers with the quotes and materialises the invoices: refused, with what to do."""
    world.pilot()
    materialize(world, "2026-04", "metered_usage", "deployment_quotes")
    world.query("update billing.deployment_quote_lines set qty = qty - 1 where kind = 'overage'")
    result = materialize(world, "2026-04", "tenant_invoice_lines", "tenant_invoices")
    assert not result.success
    assert "usage_is_conserved found 1" in failures(result)[0]
    assert world.invoices("2026-04") == {}


def test_a_failed_blocking_check_stops_the_run_before_the_invoices(world: World) -> None:
    """A record that comes with an old ingestion time between two assets: the second count differs, nothing is issued.

    The trigger adds it while the month is being frozen, as a transaction that was still open then would.
    """
    world.pilot()
    world.query(f"""
        create function billing.late() returns trigger language plpgsql as $$ begin
            insert into cloud.usage_records values (gen_random_uuid(), '{uid("web")}', 'droplet_hours', 1,
                                                    '2026-04-10', '2026-04-10');
            return null;
        end $$
    """)
    world.query("create trigger late after insert on billing.billing_months execute function billing.late()")
    result = world.month_end("2026-04", succeed=False)
    assert set(failed_checks(result)) == {"usage_equals_raw_records"}
    assert world.invoices("2026-04") == {}
    world.query("drop trigger late on billing.billing_months")
    world.publish("2026-04")
    assert world.invoices("2026-04")["pilot"] == ("issued", 1, 6423, 642, 7065)


def test_a_tenant_that_is_gone_since_it_was_quoted_stops_the_invoices_and_voids_none(world: World) -> None:
    """Another is invoiced beside it, and nothing of the month changes until it is quoted again."""
    world.pilot()
    world.tenant("acme")
    world.deployment("acme", "api", "studio")
    world.publish("2026-04")
    world.tamper("delete from cloud.tenants where id = 'acme'")
    result = materialize(world, "2026-04", "tenant_invoice_lines", "tenant_invoices")
    assert "tenant acme was quoted and is not in tenants: quote the month again" in failures(result)[0]
    assert world.invoices("2026-04")["acme"] == ("issued", 1, 5000, 500, 5500)


def test_a_month_that_is_not_quoted_cannot_be_invoiced(world: World) -> None:
    """The message says what to materialise first."""
    result = materialize(world, "2026-04", "tenant_invoice_lines", "tenant_invoices")
    assert not result.success
    assert "materialise metered_usage and deployment_quotes of 2026-04 first" in failures(result)[0]


@pytest.mark.usefixtures("pilots_april")
@pytest.mark.parametrize(
    ("control", "corruption"),
    [
        (
            "totals_equal_lines",
            "update billing.tenant_invoice_lines set amount_cents = amount_cents + 1 where line_no = 1",
        ),
        (
            "gst_recomputed_a_second_way",
            "with t as (update billing.tenant_invoice_lines set amount_cents = 641 where kind = 'tax')"
            " update billing.tenant_invoices set tax_cents = 641, total_cents = 7063",
        ),
        ("every_billable_tenant_is_invoiced", "delete from billing.tenant_invoices"),
        (
            "usage_equals_raw_records",
            "update billing.metered_usage set quantity = quantity + 0.000001",
        ),
        ("usage_is_conserved", "delete from billing.deployment_quote_lines where kind = 'overage'"),
    ],
)
def test_each_check_fires_when_the_data_is_corrupted(world: World, control: str, corruption: str) -> None:
    """The check alone, on a month somebody has tampered with: it fails and names the offender."""
    world.tamper(corruption)
    [asset] = [known.asset for known in controls.CONTROLS if known.name == control]
    check = check_alone(world, asset, control, "2026-04")
    assert not check.passed
    assert check.metadata["offenders"].value == 1
    assert check.metadata["what_to_do"].value


@pytest.mark.usefixtures("pilots_april")
def test_a_tampered_earlier_month_is_noticed_by_the_next(world: World) -> None:
    """April's total is raised by hand, with lines to match: May's run says so, and is not stopped."""
    world.query("update billing.tenant_invoice_lines set amount_cents = 5001 where line_no = 1")
    world.tamper("update billing.tenant_invoices set subtotal_cents = 6423, total_cents = 7065")
    assert world.findings("2026-05")["earlier_months_are_unchanged"].count == 1


@pytest.mark.long
@pytest.mark.parametrize("other", ["anna", "zoe"])
def test_a_subscription_that_has_gone_to_another_tenant_is_on_its_invoice_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """The month is run again in chunks of one tenant: it leaves an earlier chunk for a later one, or the other way."""
    monkeypatch.setattr(streams, "CHUNK_ROWS", 0)
    world.plan("small", 1000)
    for tenant in ("mia", other):
        world.tenant(tenant)
        world.deployment(tenant, f"{tenant}-web", "small")
    world.deployment("mia", "moving", "small")
    world.publish("2026-04")
    [(mias,)] = world.query("select invoice_number from billing.tenant_invoices where tenant_id = 'mia'")
    world.done("void_invoice", invoices=[mias])  # until then the subscription's April is billed to her
    for table in ("subscriptions", "cloud_deployments"):
        world.query(f"update cloud.{table} set tenant_id = %s where id = %s", other, uid("moving"))
    world.publish("2026-04")
    assert world.invoices("2026-04") == {"mia": ("void", 1, 2000, 200, 2200), other: ("issued", 2, 2000, 200, 2200)}
    assert world.disproved() == []


@pytest.mark.usefixtures("pilots_april")
def test_one_check_can_be_run_by_itself(world: World) -> None:
    """As from the button in the UI, although an asset's checks are one step."""
    assert check_alone(world, "tenant_invoices", "totals_equal_lines", "2026-04").passed


def offenders(world: World, name: str) -> int:
    """How many the control finds in April."""
    [control] = [control for control in controls.CONTROLS if control.name == name]
    with database.transaction(database.engine(world.url)) as connection:
        return controls.find(connection, control, BillingMonth.parse("2026-04")).count


def test_a_record_of_nothing_on_another_deployment_is_noticed(world: World) -> None:
    """The sums are the same, the meters are not: two have another number of records."""
    world.plan("small", 1000, {"droplet_hours": (0, 2)})
    world.tenant("a")
    for name in ("x", "y"):
        world.deployment("a", name, "small")
        world.use(name, "droplet_hours", 5)
    world.use("x", "droplet_hours", 0)
    world.publish("2026-04")
    assert offenders(world, "usage_equals_raw_records") == 0
    world.query("update cloud.usage_records set deployment_id = %s where quantity = 0", uid("y"))
    assert offenders(world, "usage_equals_raw_records") == 2


@pytest.mark.parametrize(
    "corruption",
    ["insert into billing.unbilled_usage select * from billing.unbilled_usage", "delete from billing.unbilled_usage"],
)
def test_unbilled_usage_that_is_there_twice_or_lost_is_noticed(world: World, corruption: str) -> None:
    """Seven units of a kind without a rate: billed to nobody, and accounted for once."""
    world.pilot()
    world.use("web", "bandwidth", 7)
    world.publish("2026-04")
    assert offenders(world, "usage_is_conserved") == 0
    world.tamper(corruption)
    assert offenders(world, "usage_is_conserved") == 1


def test_a_database_may_have_a_number_series_of_its_own(world: World, arcadia: Call) -> None:
    """Settled once, before the first number is given; the audit expects it then."""
    refused(arcadia("db", "series", "syd-1"), "'syd-1' is no prefix")
    assert arcadia("db", "series", "SYD2").out == "invoice numbers of this database begin with SYD2\n"
    world.pilot()
    world.publish("2026-04")
    assert world.query("select invoice_number from billing.tenant_invoices") == [("SYD2-202604-00001",)]
    assert not world.finds("numbers_have_no_gap", "2026-04")
    refused(arcadia("db", "series", "MEL"), "numbers begin with SYD2: that is settled once")
