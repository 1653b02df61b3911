"""What a month end refuses, however it is asked for: a month that is not over, and a part of the platform's tables."""

import datetime as dt
import uuid
from collections.abc import Iterator

import dagster as dg
import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import month as month_costs
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.pipeline.sensors import alert_on_late_usage, alert_on_missing_invoices
from arcadia_pipelines.proof import audit
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.world import World, failures, run, uid

RUNNING = BillingMonth(dt.datetime.now(dt.UTC).date().replace(day=1))
NEXT = BillingMonth(RUNNING.end)


def by_tag(world: World, job: str, partition: str) -> list[str]:
    """Launch a job as `dagster job execute --tags` or GraphQL does, which ask no partition; why its steps failed."""
    result = run(world, job, tags={"dagster/partition": partition})
    assert not result.success
    return failures(result)


@pytest.mark.parametrize("job", ["month_end", "month_costs"])
@pytest.mark.parametrize("partition", [RUNNING.key, NEXT.key, "2025-12-01", "2026-04-15"])
def test_a_month_that_cannot_be_billed_is_refused_however_its_run_was_launched(
    world: World, job: str, partition: str
) -> None:
    """A tag can ask for the running month, the next one, one before the first, and for what is no month."""
    world.pilot()
    assert any(
        words in failures_of
        for failures_of in by_tag(world, job, partition)
        for words in ("cannot be", "is not a month")
    )
    assert world.query("select count(*) from billing.billing_months") == [(0,)]
    assert world.query("select count(*) from billing.tenant_invoices") == [(0,)]


def test_no_function_freezes_quotes_publishes_or_allocates_a_month_that_is_not_over(world: World) -> None:
    """Whoever calls them: the transaction that they need refuses, by the database's clock."""
    engine = database.engine(world.url)
    for publishes in (False, True):
        with pytest.raises(database.MonthNotOver, match=f"{RUNNING} is not over before {RUNNING.end} 00:00 UTC"):  # noqa: SIM117
            with database.month_at_an_instant(engine, RUNNING, publishes):
                pass
    with database.month_transaction(engine, NEXT) as connection, pytest.raises(database.MonthNotOver):
        month_costs.allocate(connection, NEXT)


def invoice_sixteen(world: World) -> None:
    """As `many` says."""
    world.plan("flat", 5000)
    for number in range(16):
        world.tenant(f"t{number:02d}")
        world.deployment(f"t{number:02d}", f"d{number:02d}", "flat")
    world.publish("2026-03")


@pytest.fixture
def many(world: World) -> World:
    """Sixteen tenants with 50.00 a month each, invoiced for March."""
    return world


BEGINNINGS = {"many": invoice_sixteen}


@pytest.fixture
def as_pipeline(many: World) -> Iterator[World]:
    """The same world, billed by a login that is of the role arcadia_pipeline."""
    name = f"month_end_{uuid.uuid4().hex}"
    many.query(f"create role {name} login password 'secret' in role arcadia_pipeline")
    many.query(f"alter role {name} set role arcadia_pipeline")
    address = many.url.partition("@")[2]
    yield World(f"postgresql://{name}:secret@{address}")
    many.query(f"drop role {name}")


def told(sensor: dg.SensorDefinition, world: World) -> str:
    """What a sensor tells that has told nothing before."""
    with dg.DagsterInstance.ephemeral() as instance:
        database = BillingDatabase(url=world.url)
        answer = sensor(dg.build_sensor_context(instance=instance, resources={"database": database}))
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)


ISSUED = ("issued", 1, 5000, 500, 5500)


@pytest.mark.parametrize("behind_a_view", [False, True])
def test_rows_that_are_hidden_by_row_level_security_stop_the_month(
    many: World, as_pipeline: World, behind_a_view: bool
) -> None:
    """Half of the subscriptions are hidden from the pipeline's role: it says so, and 16 invoices stand."""
    if behind_a_view:
        many.query("alter table cloud.subscriptions rename to of_the_platform")
        many.query("create view cloud.subscriptions with (security_invoker) as select * from cloud.of_the_platform")
        many.query("grant select on cloud.subscriptions, cloud.of_the_platform to arcadia_pipeline")
    table = "cloud.of_the_platform" if behind_a_view else "cloud.subscriptions"
    many.query(f"create policy half on {table} using (tenant_id < 't08')")
    many.query(f"alter table {table} enable row level security")
    for month in ("2026-03", "2026-04"):
        refusal = as_pipeline.stopped(month)
        assert "row-level security" in refusal
        assert "cannot be read whole" in refusal
    with database.snapshot(database.engine(as_pipeline.url)) as connection:  # noqa: SIM117
        with pytest.raises(database.PartialView, match="bypassrls"):
            audit.run(connection, BillingMonth.parse("2026-03"))
    for sensor in (alert_on_missing_invoices, alert_on_late_usage):
        assert "cannot be read whole" in told(sensor, as_pipeline)
    assert set(many.invoices("2026-03").values()) == {ISSUED}
    assert many.invoices("2026-04") == {}
    many.query(f"alter table {table} disable row level security")
    assert "cannot be read whole" not in told(alert_on_missing_invoices, as_pipeline)
    as_pipeline.publish("2026-04")
    assert list(many.invoices("2026-04").values()) == [ISSUED] * 16


@pytest.mark.parametrize(
    "table",
    ["plan_rate_tiers", "tenant_plan_prices", "tenant_addon_prices", "tenant_rates", "discounts", "commitments"],
)
def test_prices_and_terms_that_are_hidden_by_row_level_security_stop_the_month(
    as_pipeline: World, many: World, table: str
) -> None:
    """A tenant whose discount is hidden would be billed without it."""
    many.query(f"alter table cloud.{table} enable row level security")
    with pytest.raises(database.PartialView, match="cannot be read whole"):
        as_pipeline.publish("2026-04")


@pytest.mark.long
def test_a_month_that_would_leave_many_tenants_out_waits_until_somebody_accepts_it(many: World) -> None:
    """Seven of 16 are not shown any more, more than a fifth: nothing is published in March or April until then."""
    many.query("update cloud.subscriptions set status = 'pending' where tenant_id >= 't09'")
    for month in ("2026-03", "2026-04"):
        refusal = many.stopped(month)
        assert (
            f"7 of 16 tenants invoiced in {BillingMonth.parse(month).before} or {month} have nothing to bill" in refusal
        )
        assert "t09, t10, t11, t12, t13 and 2 more" in refusal
    assert set(many.invoices("2026-03").values()) == {ISSUED}
    assert many.invoices("2026-04") == {}
    said = many.would("accept_missing_tenants", month="2026-04")
    assert said == "dry run, nothing is written: 7 tenants would be accepted as gone"
    refusal = many.refused("accept_missing_tenants", month="2026-04", tenants=6)
    assert refusal.startswith("tenants says 6, but 7 tenants would be left out")
    assert many.done("accept_missing_tenants", month="2026-04", tenants=7) == "7 tenants accepted as gone"
    many.publish("2026-04")
    assert list(many.invoices("2026-04")) == [f"t{number:02d}" for number in range(9)]
    # March is another month. Who is accepted stays accepted; whoever goes missing besides is not.
    assert "7 of 16" in many.stopped("2026-03")
    assert many.done("accept_missing_tenants", month="2026-03", tenants=7) == "7 tenants accepted as gone"
    many.publish("2026-03")
    assert [tenant for tenant, row in many.invoices("2026-03").items() if row[0] == "void"] == [
        f"t{number:02d}" for number in range(9, 16)
    ]
    many.query("update cloud.subscriptions set status = 'pending' where tenant_id >= 't04'")
    assert "5 of 9 tenants" in many.stopped("2026-03")
    many.query("update cloud.subscriptions set status = 'active' where tenant_id < 't09'")
    many.publish("2026-03")
    assert many.disproved() == []


def test_who_was_accepted_as_gone_is_not_asked_for_again_when_the_invoice_was_paid(many: World) -> None:
    """Seven paid March, which turns out not to be theirs: accepted for March, they are gone in April as well."""
    numbers = [number for (number,) in many.query("select invoice_number from billing.tenant_invoices order by 1")]
    many.done("mark_invoice_paid", invoices=numbers)
    many.query("update cloud.subscriptions set status = 'pending' where tenant_id >= 't09'")
    many.stopped("2026-03")
    many.done("accept_missing_tenants", month="2026-03", tenants=7)
    many.publish("2026-03")
    many.publish("2026-04")
    bills = many.invoices("2026-04")
    assert bills["t00"] == ISSUED
    assert [bills[f"t{number:02d}"] for number in range(9, 16)] == [("issued", 1, -5000, -500, -5500)] * 7


def test_a_few_tenants_may_leave_without_a_word(many: World) -> None:
    """Four of 16 are more than a fifth and fewer than five; who is held back or on hold has not left."""
    many.query("update cloud.subscriptions set status = 'pending' where tenant_id >= 't12'")
    many.query("insert into cloud.plans values (%s, 'unpriced', 'Unpriced')", uid("unpriced"))
    many.query("update cloud.subscriptions set plan_id = %s where tenant_id < 't06'", uid("unpriced"))
    many.publish("2026-03")
    states = [row[0] for row in many.invoices("2026-03").values()]
    assert states == ["issued"] * 12 + ["void"] * 4
