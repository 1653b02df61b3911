"""A month that is run again is computed where something has changed, and is as if computed for everybody."""

import random
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from sqlalchemy.engine import Connection

from arcadia_pipelines.again import scope
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import quote
from arcadia_pipelines.month import compute
from arcadia_pipelines.proof import controls
from arcadia_pipelines.proof.control import Control, Finding
from arcadia_pipelines.storage import usage_records
from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.trouble import Contents, materialize, seen, timeless
from arcadia_pipelines_tests.world import World, check_alone, uid

TENANTS = [f"tenant-{number}" for number in range(8)]
KNOWN = ("quoted_tenants", "invoiced_tenants")
"""What is known of earlier runs, which a run that forgets it has not."""
WRITTEN = ("tenant_invoices", "tenant_invoice_lines", "invoice_events")


def platform(world: World) -> None:
    """Eight tenants with two deployments each; of the last tenant one plan has no price."""
    world.plan("studio", 5000, {"droplet_hours": (100, 1), "egress_gb": (10, "0.5")})
    world.plan("small", 1000, {"droplet_hours": (10, 2)})
    world.plan("unpriced")
    world.addon("storage_50gb", 750)
    for tenant in TENANTS:
        world.tenant(tenant)
        world.deployment(tenant, f"{tenant}-a", "studio", ["storage_50gb"])
        world.deployment(tenant, f"{tenant}-b", "unpriced" if tenant == TENANTS[-1] else "small")
        for kind in ("droplet_hours", "egress_gb"):
            world.use(f"{tenant}-a", kind, 150)
            world.use(f"{tenant}-b", kind, 50)


def bill_platform(world: World) -> None:
    """As `billed` says."""
    platform(world)
    world.publish("2026-04")


@pytest.fixture
def billed(world: World) -> World:
    """The platform, invoiced for April."""
    return world


BEGINNINGS = {"billed": bill_platform}


def _now(world: World, deployment: str, kind: str, quantity: int | str) -> uuid.UUID:
    return world.use(deployment, kind, quantity, ingested_at="now")


def _operate(world: World, tenant: str, operation: str) -> dg.ExecuteInProcessResult:
    """An operator's act on the tenant's invoice, done or refused."""
    numbers = "select invoice_number from billing.tenant_invoices where invoice_number is not null and tenant_id = %s"
    return world.operate(operation, invoices=[number for (number,) in world.query(numbers, tenant)])


CHANGES: dict[str, Callable[[World, str], object]] = {
    "nothing": lambda world, tenant: None,
    "late usage": lambda world, tenant: _now(world, f"{tenant}-a", "droplet_hours", 7),
    "usage stamped ahead of the clock": lambda world, tenant: world.use(
        f"{tenant}-a", "droplet_hours", 11, ingested_at="2999-01-01"
    ),
    "usage stamped for ever": lambda world, tenant: world.use(f"{tenant}-b", "gpu_hours", 13, ingested_at="infinity"),
    "the stamps of all usage come to pass": lambda world, tenant: world.query(
        "update cloud.usage_records set ingested_at = now() where ingested_at > now()"
    ),
    "usage of a kind without a rate": lambda world, tenant: _now(world, f"{tenant}-b", "gpu_hours", 1),
    "usage of nobody": lambda world, tenant: _now(world, "nobody", "droplet_hours", 3),
    "usage that is no number": lambda world, tenant: _now(world, f"{tenant}-b", "droplet_hours", "NaN"),
    "a record in place": lambda world, tenant: world.query(
        "update cloud.usage_records set quantity = quantity + 1 where deployment_id = %s", uid(f"{tenant}-a")
    ),
    "a record that is ingested again": lambda world, tenant: world.query(
        "update cloud.usage_records set quantity = quantity + 1, ingested_at = now() where id = (select min(id::text)"
        "::uuid from cloud.usage_records where deployment_id = %s)",
        uid(f"{tenant}-a"),
    ),
    "a record replaced by another": lambda world, tenant: (
        world.query(
            "delete from cloud.usage_records where id = (select min(id::text)::uuid from cloud.usage_records"
            " where deployment_id = %s and resource_kind = 'egress_gb')",
            uid(f"{tenant}-a"),
        ),
        _now(world, f"{tenant}-a", "egress_gb", 145),
    ),
    "two records that change places": lambda world, tenant: world.query(
        "update cloud.usage_records u set deployment_id = o.deployment_id from cloud.usage_records o"
        " where u.resource_kind = 'egress_gb' and o.resource_kind = 'egress_gb' and u.id <> o.id"
        " and u.deployment_id in (select id from cloud.cloud_deployments where tenant_id = %s)"
        " and o.deployment_id in (select id from cloud.cloud_deployments where tenant_id = %s)",
        tenant,
        tenant,
    ),
    "a subscription that ends within the month": lambda world, tenant: world.query(
        "update cloud.subscriptions set ended_at = '2026-04-10' where id = %s", uid(f"{tenant}-b")
    ),
    "a subscription that goes to another tenant": lambda world, tenant: world.query(
        "update cloud.subscriptions set tenant_id = %s where id = %s", TENANTS[0], uid(f"{tenant}-b")
    ),
    "a subscription that overlaps": lambda world, tenant: world.query(
        "update cloud.subscriptions set deployment_id = %s where id = %s", uid(f"{TENANTS[1]}-a"), uid(f"{tenant}-b")
    ),
    "a tenant with nothing any more": lambda world, tenant: world.query(
        "update cloud.subscriptions set status = 'pending' where tenant_id = %s", tenant
    ),
    "everything active": lambda world, tenant: world.query("update cloud.subscriptions set status = 'active'"),
    "a plan": lambda world, tenant: world.query(
        "update cloud.subscriptions set plan_id = %s where id = %s", uid("studio"), uid(f"{tenant}-b")
    ),
    "a price": lambda world, tenant: world.query(
        "update cloud.plan_prices set base_price_cents = base_price_cents + 1 where plan_id = %s", uid("studio")
    ),
    "a rate of one's own": lambda world, tenant: world.query(
        "insert into cloud.tenant_rates (tenant_id, plan_id, resource_kind, effective_from, included_quantity, unit,"
        " unit_price_cents) select %s, plan_id, resource_kind, '2026-04-01', 1, unit, 3 from cloud.plan_rates"
        " order by 1, 2, 3 limit 1 on conflict (tenant_id, plan_id, resource_kind, effective_from)"
        " do update set included_quantity = tenant_rates.included_quantity + 1",
        tenant,
    ),
    "a rate": lambda world, tenant: world.query(
        "update cloud.plan_rates set included_quantity = included_quantity + 1"
    ),
    "an addon less": lambda world, tenant: world.query(
        "delete from cloud.subscription_addons where subscription_id = %s", uid(f"{tenant}-a")
    ),
    "an addon's price": lambda world, tenant: world.query(
        "update cloud.addon_prices set price_cents = price_cents + 5"
    ),
    "a discount": lambda world, tenant: world.query(
        "insert into cloud.discounts values (%s, %s, null, null, null, 10, null, '2026-01-01', null, 'spring')"
        " on conflict (id) do update set percent = discounts.percent + 1",
        uid(f"{tenant}/discount"),
        tenant,
    ),
    "a commitment": lambda world, tenant: world.query(
        "insert into cloud.commitments values (%s, %s, null, 9000, '2026-01-01', null)"
        " on conflict (id) do update set minimum_cents = commitments.minimum_cents + 1",
        uid(f"{tenant}/least"),
        tenant,
    ),
    "a commitment beside another": lambda world, tenant: world.query(
        "insert into cloud.commitments values (%s, %s, null, 9500, '2026-01-01', null)"
        " on conflict (id) do update set starts_on = case when commitments.starts_on = '2026-01-01' then '2026-06-01'"
        " else '2026-01-01' end::date",
        uid(f"{tenant}/beside"),
        tenant,
    ),
    "a deployment's name": lambda world, tenant: world.query(
        "update cloud.cloud_deployments set name = name || 'x' where tenant_id = %s", tenant
    ),
    "a tenant's name": lambda world, tenant: world.query(
        "update cloud.tenants set name = name || 'x' where id = %s", tenant
    ),
    "a tenant's GST": lambda world, tenant: world.query(
        "update cloud.tenants set gst_free_reason = case when gst_free_reason is null then 'charity' end where id = %s",
        tenant,
    ),
    "a hold": lambda world, tenant: world.query(
        "insert into billing.tenant_holds select tenant_id, 'o', 'r', 'x' from billing.tenant_invoices"
        " where tenant_id = %s on conflict do nothing",
        tenant,
    ),
    "a payment": lambda world, tenant: world.query(
        "update billing.tenant_invoices set status = 'paid' where tenant_id = %s and status = 'issued'", tenant
    ),
    "an invoice voided": lambda world, tenant: _operate(world, tenant, "void_invoice"),
    "an invoice issued as it was": lambda world, tenant: (
        _operate(world, tenant, "reopen_invoice"),
        world.operate("issue_drafts", month="2026-04", tenants=[tenant]),
    ),
    "frozen usage, by hand": lambda world, tenant: world.query(
        "update billing.metered_usage set quantity = quantity + 1 where deployment_id = %s", uid(f"{tenant}-a")
    ),
    "frozen usage of somebody else, by hand": lambda world, tenant: world.query(
        "update billing.metered_usage set subscription_id = %s where deployment_id = %s",
        uid(f"{TENANTS[2]}-a"),
        uid(f"{tenant}-b"),
    ),
    "a quote line, by hand": lambda world, tenant: world.query(
        "update billing.deployment_quote_lines set amount_cents = amount_cents + 1 where tenant_id = %s", tenant
    ),
    "a quote line less": lambda world, tenant: world.query(
        "delete from billing.deployment_quote_lines where tenant_id = %s and line_no = 1", tenant
    ),
    "unbilled usage less": lambda world, tenant: world.query("delete from billing.unbilled_usage"),
}


def forget(world: World) -> None:
    """What was known of earlier runs is gone."""
    world.query("delete from billing.quoted_tenants")
    world.query("delete from billing.passed_controls")
    world.query("update billing.billing_months set frozen_rows = null, quoted_rows = null, invoiced_rows = null")
    world.query("delete from billing.invoiced_tenants")


def outcome(world: World) -> Contents:
    """All that is billed and recorded, but for what is known of earlier runs."""
    with psycopg.connect(world.url) as connection:
        contents, _ = seen(connection)
    return [(table, row) for table, row in timeless(contents) if table not in KNOWN]


def quoted(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], set[str]]:
    """The tenants that are quoted, and those whose invoices are computed, when April is run again."""
    seen: tuple[set[str], set[str]] = (set(), set())

    def told(which: set[str], compute: Callable[..., Any], place: int) -> Callable[..., Any]:
        def computed(*frames: Any) -> Any:
            which.update(frames[place]["tenant_id"])
            return compute(*frames)

        return computed

    with monkeypatch.context() as patched:
        patched.setattr(compute, "quote", told(seen[0], quote, 0))
        patched.setattr(compute, "invoices", told(seen[1], compute.invoices, 2))
        world.publish("2026-04")
    return seen


FOURTH, BILLED = {TENANTS[3]}, set(TENANTS[:-1])


@pytest.mark.parametrize(
    ("change", "again"),
    {
        "nothing": (set(), set()),
        "late usage": (FOURTH, FOURTH),
        "usage that is no number": (FOURTH, FOURTH),
        "a subscription that ends within the month": (FOURTH, FOURTH),
        "an addon less": (FOURTH, FOURTH),
        "a discount": (FOURTH, FOURTH),
        "a commitment": (FOURTH, FOURTH),
        "a deployment's name": (FOURTH, FOURTH),
        "a price": (set(TENANTS), BILLED),
        "a rate of one's own": (FOURTH, FOURTH),
        "a tenant's GST": (set(), set()),
        "a quote line, by hand": (set(TENANTS), set()),
        "frozen usage, by hand": (set(TENANTS), set()),
    }.items(),
)
def test_tenants_are_computed_again_if_something_has_changed_for_them(
    billed: World, monkeypatch: pytest.MonkeyPatch, change: str, again: tuple[set[str], set[str]]
) -> None:
    """By what changed for the fourth tenant: who is quoted, and whose invoice is computed.

    Not the others', of which each has usage without a rate, and one a plan without a price. What was changed by hand
    is put right by the quotes: the invoices are those of before.
    """
    CHANGES[change](billed, TENANTS[3])
    assert quoted(billed, monkeypatch) == again


def test_a_changed_engine_computes_everybody_once(billed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a release of one."""
    monkeypatch.setattr(scope, "ENGINE", 1)
    assert quoted(billed, monkeypatch) == (set(TENANTS), BILLED)
    assert quoted(billed, monkeypatch) == (set(), set())


@pytest.mark.long
def test_an_upgrade_of_the_engine_and_its_downgrade_reissue_nothing_of_a_year(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten months, each computed for everybody by two other engines in turn: the same invoices, lines and events."""
    world.plan("studio", 5000, {"droplet_hours": (100, 1)})
    months = [f"2026-{number:02d}" for number in range(1, 11)]
    for tenant in ("acme", "bolt"):
        world.tenant(tenant)
        world.deployment(tenant, f"{tenant}-web", "studio")
        for month in months:
            world.use(f"{tenant}-web", "droplet_hours", 150, at=f"{month}-15")
    for month in months:
        world.publish(month)
    written = [world.query(f"select * from billing.{table} order by 1, 2") for table in WRITTEN]
    assert [len(rows) for rows in written] == [20, 60, 20]
    for engine in (1, scope.ENGINE):
        monkeypatch.setattr(scope, "ENGINE", engine)
        for month in months:
            world.publish(month)
        assert [world.query(f"select * from billing.{table} order by 1, 2") for table in WRITTEN] == written


def test_the_engines_number_changes_with_its_source(tmp_path: Path) -> None:
    """A comment in one of its files is enough; another module's text is none of it. Without texts nothing is known."""
    package = Path(compute.__file__).parents[1]
    shutil.copytree(package / "billing", tmp_path / "billing")
    (tmp_path / "month").mkdir()
    shutil.copy(package / "month" / "compute.py", tmp_path / "month")
    (tmp_path / "cli.py").write_text("# no part of it\n")
    assert scope._engine(tmp_path) == scope.ENGINE
    for name in ("billing/gst.py", "month/compute.py"):
        before = scope._engine(tmp_path)
        with (tmp_path / name).open("a") as file:
            file.write("# edited\n")
        assert scope._engine(tmp_path) != before
    assert scope._engine(tmp_path / "nowhere") != scope._engine(tmp_path / "nowhere")


def test_a_tenant_that_is_renamed_is_computed_once_and_keeps_its_invoice(
    billed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is on its invoice, and is nothing that it bills."""
    CHANGES["a tenant's name"](billed, TENANTS[3])
    assert [quoted(billed, monkeypatch) for _ in range(2)] == [(set(), FOURTH), (set(), set())]
    assert billed.invoices("2026-04")[TENANTS[3]] == ("issued", 1, 6950, 695, 7645)


def test_an_invoice_that_differs_and_is_left_is_computed_and_reported_in_each_run(
    billed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth has paid, and the fifth is on hold, when usage comes late."""
    CHANGES["a payment"](billed, TENANTS[3])
    CHANGES["a hold"](billed, TENANTS[4])
    for tenant in TENANTS[3:5]:
        CHANGES["late usage"](billed, tenant)
    assert [quoted(billed, monkeypatch)[1] for _ in range(3)] == [set(TENANTS[3:5])] * 3
    assert billed.findings("2026-04")["frozen_invoices_agree"].count == 1


def between(world: World, monkeypatch: pytest.MonkeyPatch, name: str, happens: Callable[[], object]) -> None:
    """Run April again; something happens once it is known who is computed, and before they are read."""
    as_it_is = getattr(compute, name)

    def computed(*arguments: Any, **options: Any) -> Any:
        happens()
        return as_it_is(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(compute, name, computed)
        world.publish("2026-04")


def test_a_price_that_is_changed_while_a_month_is_quoted_and_put_back_is_on_no_invoice(
    billed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late usage of the fourth, 7 x 1 c: 69.57 and GST 6.957, with the addon's 7.50 as ever; now, and when run again.

    Before: 50.00 + 7.50 + 50 h x 1 c + 140 GB x 0.5 c, and 10.00 + 40 h x 2 c: 69.50.
    """
    assert billed.invoices("2026-04")[TENANTS[3]] == ("issued", 1, 6950, 695, 7645)
    CHANGES["late usage"](billed, TENANTS[3])
    raised = "update cloud.addon_prices set price_cents = price_cents + 500"
    between(billed, monkeypatch, "month_quotes", lambda: billed.query(raised))
    assert billed.invoices("2026-04")[TENANTS[3]] == ("issued", 2, 6957, 696, 7653)
    billed.query("update cloud.addon_prices set price_cents = price_cents - 500")
    billed.publish("2026-04")
    assert billed.invoices("2026-04")[TENANTS[3]] == ("issued", 2, 6957, 696, 7653)


def test_gst_that_is_taken_off_while_a_month_is_published_and_put_back_is_on_the_invoice(
    billed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """69.57 and GST 6.96, by the instant that is published and by the next run."""
    CHANGES["late usage"](billed, TENANTS[3])
    freed = "update cloud.tenants set gst_free_reason = 'charity' where id = %s"
    between(billed, monkeypatch, "month_invoices", lambda: billed.query(freed, TENANTS[3]))
    assert billed.invoices("2026-04")[TENANTS[3]] == ("issued", 2, 6957, 696, 7653)
    billed.query("update cloud.tenants set gst_free_reason = null where id = %s", TENANTS[3])
    billed.publish("2026-04")
    assert billed.invoices("2026-04")[TENANTS[3]] == ("issued", 2, 6957, 696, 7653)


@pytest.mark.long
def test_a_subscription_that_moves_while_a_month_is_quoted_is_billed_to_one_of_the_two(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a tenant that is quoted again to one that is not: to the first, and the next run holds both back.

    68.70, as the second deployment is not used, and 7 hours more at 1 c: 68.77, GST 6.88.
    """
    platform(world)
    world.query("delete from cloud.usage_records where deployment_id = %s", uid(f"{TENANTS[3]}-b"))
    world.publish("2026-04")
    CHANGES["late usage"](world, TENANTS[3])
    move = CHANGES["a subscription that goes to another tenant"]
    payer = "select distinct tenant_id from billing.deployment_quote_lines where subscription_id = %s"
    between(world, monkeypatch, "month_quotes", lambda: move(world, TENANTS[3]))
    assert world.query(payer, uid(f"{TENANTS[3]}-b")) == [(TENANTS[3],)]
    world.publish("2026-04")
    assert world.query(payer, uid(f"{TENANTS[3]}-b")) == []
    moved = "select tenant_id from billing.quote_faults where fault = 'billed_to_another_tenant' order by 1"
    assert world.query(moved) == [(TENANTS[0],), (TENANTS[3],)]
    assert world.invoices("2026-04")[TENANTS[3]] == ("issued", 2, 6877, 688, 7565)


def test_what_is_known_of_the_quotes_may_be_deleted(billed: World) -> None:
    """A tenant has nothing to bill any more, and nobody knows that it was quoted: its invoice is voided."""
    CHANGES["a tenant with nothing any more"](billed, TENANTS[3])
    billed.query("delete from billing.quoted_tenants")
    billed.publish("2026-04")
    assert billed.invoices("2026-04")[TENANTS[3]][0] == "void"


def test_frozen_usage_that_was_changed_by_hand_and_changed_back_is_quoted_again(billed: World) -> None:
    """It was quoted in between; then another tenant's usage comes late: 69.50 as before, and 69.50 + 7 x 1 c."""
    change = "update billing.metered_usage set quantity = quantity + %s where deployment_id = %s"
    billed.query(change, 50, uid(f"{TENANTS[3]}-a"))
    materialize(billed, "deployment_quotes")
    billed.query(change, -50, uid(f"{TENANTS[3]}-a"))
    CHANGES["late usage"](billed, TENANTS[1])
    billed.publish("2026-04")
    assert billed.invoices("2026-04")[TENANTS[3]] == ("issued", 1, 6950, 695, 7645)
    assert billed.invoices("2026-04")[TENANTS[1]] == ("issued", 2, 6957, 696, 7653)


def test_a_month_of_before_is_known_after_its_first_rerun(billed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the migration: everybody is computed once more, and then nobody."""
    forget(billed)
    assert [quoted(billed, monkeypatch) for _ in range(2)] == [(set(TENANTS), BILLED), (set(), set())]


@pytest.mark.long
def test_a_tenant_that_has_left_gets_its_correction_when_the_newest_month_is_run_again(world: World) -> None:
    """March is paid and gets 100 hours more, 1.00; April, where it has nothing, is run again: 1.00 and GST 0.10."""
    world.plan("studio", 5000, {"droplet_hours": (100, 1)})
    for tenant in ("leaver", "stays"):
        world.tenant(tenant)
    world.deployment("leaver", "a", "studio", end="2026-04-01")
    world.deployment("stays", "b", "studio")
    world.use("a", "droplet_hours", 150, "2026-03-15")
    for month in ("2026-03", "2026-04"):
        world.publish(month)
    world.query("update billing.tenant_invoices set status = 'paid' where tenant_id = 'leaver'")
    world.use("a", "droplet_hours", 100, "2026-03-16")
    for month in ("2026-03", "2026-04"):
        world.publish(month)
    assert world.invoices("2026-04")["leaver"] == ("issued", 1, 100, 10, 110)


def test_an_invoice_that_was_issued_again_with_nothing_to_bill_is_voided_again(billed: World) -> None:
    """A run voids it, an operator issues it as it was, and the next run voids it: nothing is owed for nothing."""
    CHANGES["a tenant with nothing any more"](billed, TENANTS[3])
    for _ in range(2):
        billed.publish("2026-04")
        assert billed.invoices("2026-04")[TENANTS[3]] == ("void", 1, 6950, 695, 7645)
        CHANGES["an invoice issued as it was"](billed, TENANTS[3])
        assert billed.invoices("2026-04")[TENANTS[3]] == ("issued", 1, 6950, 695, 7645)


def gate(world: World) -> dict[str, str]:
    """The run in which each control of the gate passed April."""
    rows = world.query("select control, run_id from billing.passed_controls where period_start = '2026-04-01'")
    return {str(control): str(run) for control, run in rows}


@pytest.mark.long
def test_the_gate_does_not_check_again_what_the_checks_have_passed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two controls, each looked at once in a run: by its check, or while the usage was frozen again."""
    platform(world)
    looked: list[str] = []
    find = controls.find

    def told(connection: Connection, control: Control, month: BillingMonth) -> Finding:
        looked.append(control.name)
        return find(connection, control, month)

    monkeypatch.setattr(controls, "find", told)
    first = world.month_end("2026-04").run_id
    assert gate(world) == {"usage_equals_raw_records": first, "usage_is_conserved": first}
    assert [looked.count(name) for name in gate(world)] == [1, 1]
    world.month_end("2026-04")
    assert looked.count("usage_equals_raw_records") == 1
    assert gate(world) == {"usage_equals_raw_records": first, "usage_is_conserved": first}
    late = CHANGES["late usage"]
    late(world, TENANTS[3])
    third = world.month_end("2026-04").run_id
    assert gate(world) == {"usage_equals_raw_records": third, "usage_is_conserved": third}


@pytest.mark.long
def test_a_check_by_itself_looks_at_the_raw_records_whatever_passed_before(world: World) -> None:
    """A record is changed after the month was run: the check, asked for alone, finds its meter."""
    platform(world)
    world.month_end("2026-04")
    CHANGES["a record in place"](world, TENANTS[3])
    found = check_alone(world, "metered_usage", "usage_equals_raw_records", "2026-04")
    assert (found.passed, found.metadata["offenders"].value) == (False, 2)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_whatever_changes_a_rerun_gives_what_computing_everybody_gives(
    world: World, server_url: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Twelve runs, up to three changes before each; beside each, one on a copy that knows nothing of those before."""
    chance = random.Random(seed)
    platform(world)
    world.publish("2026-04")
    for _ in range(12):
        for change in chance.sample(list(CHANGES), chance.randint(1, 3)):
            CHANGES[change](world, chance.choice(TENANTS))
        with copy_of(server_url, world.url.rpartition("/")[2]) as copy, monkeypatch.context() as patched:
            anew = World(copy)
            forget(anew)
            patched.setattr(usage_records, "_COLUMNS_FIT", "select false")
            anew.publish("2026-04")
            expected = outcome(anew)
        world.publish("2026-04")
        assert outcome(world) == expected
