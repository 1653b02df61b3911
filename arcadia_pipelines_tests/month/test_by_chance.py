"""Months of worlds by chance, invoiced by the engine and worked out by an oracle that shares no code with it."""

import datetime as dt
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from arcadia_pipelines_tests.month.by_chance import MONTHS, Chance
from arcadia_pipelines_tests.world import World
from chaos import oracle, proofs

Compared = tuple[Any, ...]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """As many worlds as are asked for; half as many of three months each."""
    worlds, first = metafunc.config.getoption("--worlds"), metafunc.config.getoption("--first-world")
    if "seed" in metafunc.fixturenames:
        number = (worlds + 1) // 2 if "three_months" in metafunc.definition.name else worlds
        metafunc.parametrize("seed", range(first, first + number))


@pytest.fixture
def tenants(request: pytest.FixtureRequest) -> int:
    """How many a world has."""
    return int(request.config.getoption("--tenants"))


def compared(name: str | None, line: Any) -> Compared:
    """Of a line what the rules say about it: not what a commitment is called, nor the number of what is corrected."""
    return (
        name,
        line.kind,
        line.resource_kind,
        re.sub(", INV-.*", "", line.description) if line.kind != "commitment" else "",
        *(Fraction(line.quantity), line.unit, Fraction(line.unit_price), Fraction(line.per), line.cents),
    )


def invoiced(connection: psycopg.Connection[Any], month: dt.date) -> dict[str, tuple[Any, list[Compared]]]:
    """Each tenant's invoice that is owed, and its lines but tax in their order."""
    lines = """
        select l.*, qty as quantity, unit_price_cents as unit_price, price_per as per, amount_cents as cents
        from billing.tenant_invoice_lines l where invoice_id = %s and kind <> 'tax' order by line_no
    """
    heads = connection.execute(
        "select i.*, (select array_agg(amount_cents) from billing.tenant_invoice_lines where invoice_id = i.id"
        " and kind = 'tax') as taxes from billing.tenant_invoices i where period_start = %s and status <> 'void'",
        [month],
    ).fetchall()
    return {
        head.tenant_id: (
            head,
            [compared(line.deployment_name, line) for line in connection.execute(lines, [head.id])],
        )
        for head in heads
    }


@contextmanager
def platform_of(world: World) -> Iterator[tuple[psycopg.Connection[Any], oracle.Platform, set[str]]]:
    """The platform's rows for the oracle, who is free of GST, and where they are from."""
    with psycopg.connect(world.url, row_factory=namedtuple_row, options="-c TimeZone=UTC") as connection:
        platform, gst_free = proofs.platform_of(connection)
        yield connection, platform, gst_free


def beside(world: World, month: dt.date, owed: oracle.Owed) -> Iterator[str]:
    """Faults and usage on no line of which the engine and the oracle say otherwise."""
    with platform_of(world) as (connection, platform, _):
        faults = connection.execute(
            "select tenant_id, fault from billing.quote_faults where period_start = %s", [month]
        )
        faulty = {(row.tenant_id, row.fault) for row in faults}
        rows = connection.execute(
            "select deployment_id::text, resource_kind, reason, sum(quantity) from billing.unbilled_usage"
            " where period_start = %s and reason <> 'tenant_held_back' group by 1, 2, 3",
            [month],
        )
        found = {tuple(key): Fraction(quantity) for *key, quantity in rows}
    said = {(tenant, fault) for tenant, names in owed.faults.items() for fault in names}
    if faulty != said:
        yield f"faults: engine {faulty - said}, oracle {said - faulty}"
    held_back = {s.deployment for s in platform.subscriptions if s.tenant in owed.faults}
    difference = found.items() ^ owed.unbilled.items()
    if difference := {(key, quantity) for key, quantity in difference if key[0] not in held_back}:
        yield f"unbilled {difference}"


def differences(world: World, month: dt.date, owes: Mapping[str, list[oracle.Line]]) -> Iterator[str]:
    """Of which invoices the engine and the oracle say otherwise."""
    with platform_of(world) as (connection, platform, gst_free):
        invoices = invoiced(connection, month)
    for tenant in sorted({*owes, *invoices}):
        if tenant not in invoices or tenant not in owes:
            yield f"{tenant}: {'owed' if tenant in owes else 'invoiced'} only"
            continue
        head, lines = invoices[tenant]
        wants = [compared(platform.names.get(line.deployment or ""), line) for line in owes[tenant]]
        for line, times in (Counter(wants) - Counter(lines)).items():
            yield f"{month} {tenant} lacks {times} x {show(line)}"
        for line, times in (Counter(lines) - Counter(wants)).items():
            yield f"{month} {tenant} has {times} x {show(line)}"
        if places(lines) != places(wants):
            yield f"{month} {tenant}: another order"
        subtotal = sum(line[-1] for line in wants)
        taxes = None if tenant in gst_free else [oracle.gst(subtotal)]
        sums = (taxes, subtotal, subtotal + sum(taxes or []))
        if sums != (head.taxes, head.subtotal_cents, head.total_cents):
            yield f"{month} {tenant}: {head.taxes}, {head.subtotal_cents}, {head.total_cents} is not {sums}"


def places(lines: list[Compared]) -> list[tuple[str | None, str]]:
    """Deployments and kinds in order; the rules leave open how manual lines and corrections are ordered."""
    return [
        (name, "entered" if kind in ("adjustment", "credit") and "grant" not in description else kind)
        for name, kind, _, description, *_ in lines
    ]


def show(line: Compared) -> str:
    return " ".join(str(float(part)) if isinstance(part, Fraction) else str(part) for part in line)


def written(world: World) -> list[Any]:
    """Every row of our lines, invoices and events, with the transaction that wrote it."""
    tables = ("tenant_invoices", "tenant_invoice_lines", "invoice_events", "deployment_quote_lines")
    union = " union all ".join(f"select '{table}', t::text, xmin::text from billing.{table} t" for table in tables)
    return sorted(world.query(union))


@pytest.mark.long
def test_a_month_by_chance_is_invoiced_as_the_oracle_says(world: World, seed: int, tenants: int) -> None:
    """And it is proved the second way, and running it again writes nothing."""
    month = MONTHS[seed % len(MONTHS)]
    Chance(world, seed, month).fill(tenants)
    day = dt.date.fromisoformat(f"{month}-01")
    world.publish(month)
    owed = owed_for(world, day)
    found = "\n".join([*beside(world, day, owed), *differences(world, day, owed.lines)])
    assert not found, found
    assert world.disproved() == []
    before = written(world)
    world.publish(month)
    assert written(world) == before


def owed_for(world: World, month: dt.date) -> oracle.Owed:
    with platform_of(world) as (connection, platform, _):
        return oracle.owed(platform, proofs.records_of(connection, month), month)


@pytest.mark.long
def test_three_months_with_credit_are_invoiced_as_the_oracle_says(world: World, seed: int, tenants: int) -> None:
    """One after another or in any order; after the first one some of its invoices are paid, and then it changes."""
    rng = random.Random(seed)
    chance = Chance(world, seed, "2026-03")
    chance.fill(tenants)
    chance.credit()
    months = ["2026-02", "2026-03", "2026-04"]
    if seed % 2:
        rng.shuffle(months)
    books = oracle.Books()
    run(world, books, months[0])
    invoices = world.query("select invoice_number, tenant_id, period_start from billing.tenant_invoices order by 1")
    paid = rng.sample(invoices, max(1, len(invoices) // 3))
    world.done("mark_invoice_paid", invoices=[number for number, *_ in paid])
    books.paid |= {(tenant, month) for _, tenant, month in paid}
    chance.late(months[0])
    for month in months:
        run(world, books, month)
    before = written(world)
    for month in months:
        world.publish(month)
    assert written(world) == before
    assert world.disproved() == []


def run(world: World, books: oracle.Books, month: str) -> None:
    """Run a month by the engine and by the oracle, which agree."""
    day = dt.date.fromisoformat(f"{month}-01")
    world.publish(month)
    owed = owed_for(world, day)
    entered = world.query("select tenant_id, period_start, amount_cents, description from billing.manual_lines")
    grants = world.query("select tenant_id, amount_cents, expires_on, description from billing.credit_grants")
    books.run(owed, day, [oracle.Manual(*row) for row in entered], [oracle.Grant(*row) for row in grants])
    stands = {tenant: lines for (tenant, of), lines in books.invoices.items() if of == day}
    found = "\n".join([*beside(world, day, owed), *differences(world, day, stands)])
    assert not found, found
