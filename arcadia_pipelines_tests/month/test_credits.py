"""Manual lines and promotional credit over the months: each is on an invoice once, whatever is run in what order."""

from collections.abc import Iterator

import pytest

from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.trouble import finish, start
from arcadia_pipelines_tests.world import World, uid

PLAN = ("Plan: flat", 4000)
FREE = [PLAN, ("Credit: Welcome", -4000), ("GST 10%", 0)]
JANUARY, FEBRUARY, MARCH, APRIL = (f"2026-{number:02d}" for number in range(1, 5))


@pytest.fixture
def acme(world: World) -> World:
    """40.00 a month, and 1.00 an hour beyond none included."""
    customers(world, "acme")
    return world


def customers(world: World, *tenants: str) -> None:
    """Tenants with a deployment each, of the same name: 40.00 a month, and 1.00 for each droplet hour."""
    if not world.query("select 1 from cloud.plans"):
        world.plan("flat", 4000, {"droplet_hours": (0, 100)})
    for tenant in tenants:
        world.tenant(tenant)
        world.deployment(tenant, tenant, "flat")


def grant(world: World, cents: int, expires_on: str | None = None, tenant: str = "acme", name: str = "Welcome") -> None:
    world.query(
        "insert into billing.credit_grants (id, tenant_id, amount_cents, expires_on, description, operator, reason)"
        " values (%s, %s, %s, %s, %s, 'ada', 'new customer')",
        *(uid(f"{tenant}/{name}"), tenant, cents, expires_on, name),
    )


def enter(world: World, month: str, cents: int, tenant: str = "acme", name: str = "Set-up") -> None:
    world.query(
        "insert into billing.manual_lines (id, tenant_id, period_start, amount_cents, description, operator, reason)"
        " values (%s, %s, %s, %s, %s, 'ada', 'as agreed')",
        *(uid(f"{tenant}/{name}"), tenant, f"{month}-01", cents, name),
    )


def publish(world: World, *months: str) -> None:
    for month in months:
        world.publish(month)


def taken(world: World, *months: str, name: str = "Welcome", tenant: str = "acme") -> list[int]:
    """What each month's invoice takes of a grant, in cents; 0 if it is void."""
    void = [month for month in months if world.invoices(month)[tenant][0] == "void"]
    lines = {month: dict(world.lines(tenant, month)) for month in months}
    return [0 if month in void else -lines[month].get(f"Credit: {name}", 0) for month in months]


def carrying(world: World, description: str, tenant: str = "acme") -> list[tuple[str, int]]:
    """The months whose invoice, if it is not void, has a line: month and cents."""
    rows = world.query(
        "select to_char(i.period_start, 'YYYY-MM'), l.amount_cents from billing.tenant_invoice_lines l"
        " join billing.tenant_invoices i on i.id = l.invoice_id"
        " where i.status <> 'void' and i.tenant_id = %s and l.description = %s order by 1",
        tenant,
        description,
    )
    return [tuple(row) for row in rows]


def number(world: World, month: str, tenant: str = "acme") -> str:
    [(of,)] = world.query(
        "select invoice_number from billing.tenant_invoices where tenant_id = %s and period_start = %s",
        *(tenant, f"{month}-01"),
    )
    return str(of)


def written(world: World) -> list[tuple[object, ...]]:
    """Every row of our invoices, lines and events, with the transaction that wrote it."""
    tables = ("tenant_invoices", "tenant_invoice_lines", "invoice_events", "invoice_corrections", "invoiced_tenants")
    union = " union all ".join(f"select '{table}', t::text, xmin::text from billing.{table} t" for table in tables)
    return sorted(world.query(union))


# Four months in order, a tenant for each example.

EXPIRES = {"2026-01-31": 0, "2026-02-01": 0, "2026-02-02": 4000}
"""What February takes of a grant that expires on this day."""


@pytest.fixture(scope="module")
def in_order(server_url: str, migrated: str) -> Iterator[World]:
    """January to April, published, of tenants that pay 40.00 a month each but for what has been entered before."""
    with copy_of(server_url, migrated) as url, World(url).connected() as world:
        customers(world, "hundred", "two", *EXPIRES, "lines", "february", "agreed")
        grant(world, 10000, tenant="hundred")
        grant(world, 10000, tenant="two")
        grant(world, 3000, "2026-06-30", tenant="two", name="Spring")
        for day in EXPIRES:
            grant(world, 10000, day, tenant=day, name=day)
        world.tenant("school", "a school")
        world.deployment("school", "class", "flat")
        grant(world, 1000, tenant="school")
        enter(world, JANUARY, 500, tenant="school")
        enter(world, JANUARY, 1250, tenant="lines")
        enter(world, JANUARY, -250, tenant="lines", name="Outage")
        enter(world, FEBRUARY, 1000, tenant="february")
        world.tenant("nothing")
        grant(world, 10000, tenant="nothing")
        enter(world, JANUARY, -1250, tenant="nothing", name="Outage")
        world.query(
            "insert into cloud.discounts (tenant_id, percent, starts_on, description)"
            " values ('agreed', 10, '2026-01-01', 'Friends')"
        )
        world.query(
            "insert into cloud.commitments (tenant_id, minimum_cents, starts_on) values ('agreed', 5000, '2026-01-01')"
        )
        grant(world, 2000, tenant="agreed")
        enter(world, JANUARY, -500, tenant="agreed", name="Outage")
        publish(world, JANUARY, FEBRUARY, MARCH, APRIL)
        yield world


def test_a_grant_of_100_pays_40_and_40_and_20_of_three_months_of_40(in_order: World) -> None:
    """GST is 10 % of what is left to pay: 0, 0 and 2.00; the fourth month is paid in full."""
    assert in_order.lines("hundred", JANUARY) == in_order.lines("hundred", FEBRUARY) == FREE
    assert in_order.lines("hundred", MARCH) == [PLAN, ("Credit: Welcome", -2000), ("GST 10%", 200)]
    assert in_order.lines("hundred", APRIL) == [PLAN, ("GST 10%", 400)]
    assert in_order.invoices(MARCH)["hundred"] == ("issued", 1, 2000, 200, 2200)
    metas = in_order.query(
        "select l.kind, l.qty, l.unit_price_cents, l.deployment_id, l.meta from billing.tenant_invoice_lines l"
        " join billing.tenant_invoices i on i.id = l.invoice_id"
        " where l.kind = 'credit' and i.tenant_id = 'hundred' order by l.period_start"
    )
    assert metas == [
        ("credit", 1, cents, None, {"grant": str(uid("hundred/Welcome")), "left": left})
        for cents, left in ((-4000, 6000), (-4000, 2000), (-2000, 0))
    ]


def test_of_two_grants_the_one_that_expires_sooner_pays_first(in_order: World) -> None:
    """January: 30.00 of the one that expires, then 10.00 of the other one. February: 40.00 of that."""
    assert in_order.lines("two", JANUARY) == [
        PLAN,
        ("Credit: Spring", -3000),
        ("Credit: Welcome", -1000),
        ("GST 10%", 0),
    ]
    assert in_order.lines("two", FEBRUARY) == FREE


@pytest.mark.parametrize("day", EXPIRES)
def test_a_grant_pays_a_month_that_begins_before_it_expires(in_order: World, day: str) -> None:
    assert taken(in_order, FEBRUARY, name=day, tenant=day) == [EXPIRES[day]]


def test_a_tenant_without_gst_has_credit_without_gst(in_order: World) -> None:
    assert in_order.lines("school", JANUARY) == [PLAN, ("Adjustment: Set-up", 500), ("Credit: Welcome", -1000)]


def test_a_manual_line_is_on_the_invoice_of_its_month(in_order: World) -> None:
    assert in_order.lines("lines", JANUARY) == [
        PLAN,
        ("Adjustment: Set-up", 1250),
        ("Credit: Outage", -250),
        ("GST 10%", 500),
    ]
    [(kind, qty, price, meta)] = in_order.query(
        "select l.kind, l.qty, l.unit_price_cents, l.meta from billing.tenant_invoice_lines l"
        " join billing.tenant_invoices i on i.id = l.invoice_id where l.kind = 'adjustment' and i.tenant_id = 'lines'"
    )
    assert (kind, qty, price) == ("adjustment", 1, 1250)
    assert meta == {"manual_line": str(uid("lines/Set-up")), "period_start": "2026-01-01"}
    assert carrying(in_order, "Adjustment: Set-up", "february") == [(FEBRUARY, 1000)]


def test_a_credit_alone_is_an_invoice_below_zero_and_uses_no_grant(in_order: World) -> None:
    """Of a tenant with nothing else: 12.50 back, with 1.25 GST."""
    assert in_order.lines("nothing", JANUARY) == [("Credit: Outage", -1250), ("GST 10%", -125)]
    assert in_order.invoices(JANUARY)["nothing"] == ("issued", 1, -1250, -125, -1375)


def test_credit_pays_what_a_commitment_adds_and_leaves_what_a_discount_takes_off(in_order: World) -> None:
    """40.00 less 10 % is 36.00, of at least 50.00: 14.00 more; 5.00 back, and 20.00 of credit: 25.00, GST 2.50."""
    assert [cents for _, cents in in_order.lines("agreed", JANUARY)] == [4000, -400, 1400, -500, -2000, 250]
    assert in_order.lines("agreed", JANUARY)[3:5] == [("Credit: Outage", -500), ("Credit: Welcome", -2000)]


@pytest.mark.long
def test_all_of_that_is_proved_and_running_the_months_again_writes_nothing(in_order: World) -> None:
    assert in_order.disproved() == []
    before = written(in_order)
    publish(in_order, FEBRUARY, MARCH, JANUARY, MARCH, FEBRUARY)
    assert written(in_order) == before


# Months in another order, and again after something has changed.


@pytest.mark.long
@pytest.mark.parametrize("order", [(MARCH, FEBRUARY, JANUARY), (FEBRUARY, MARCH, JANUARY)])
def test_in_whatever_order_months_are_run_a_line_is_on_its_own_and_no_more_is_taken_than_there_is(
    acme: World, order: tuple[str, ...]
) -> None:
    """Of 100.00 the month that is run last, January, has the 20.00 that are left; that of bulk has no line either."""
    grant(acme, 10000)
    customers(acme, "bulk")
    enter(acme, FEBRUARY, 1000, tenant="bulk")
    publish(acme, *order)
    for _ in range(2):
        assert taken(acme, JANUARY, FEBRUARY, MARCH) == [2000, 4000, 4000]
        assert carrying(acme, "Adjustment: Set-up", "bulk") == [(FEBRUARY, 1000)]
        before = written(acme)
        publish(acme, JANUARY, FEBRUARY, MARCH)
        assert written(acme) == before
    assert acme.disproved() == []


@pytest.fixture(scope="module")
def changed(server_url: str, migrated: str) -> Iterator[World]:
    """January to March are invoiced; then something is entered or comes, and they are run again, February first."""
    with copy_of(server_url, migrated) as url, World(url).connected() as world:
        customers(world, "more", "less", "line", "paid", "other")
        grant(world, 14000, tenant="more")
        grant(world, 6000, tenant="less")
        world.use("less", "droplet_hours", 10, "2026-01-15 12:00+00")
        publish(world, JANUARY, FEBRUARY, MARCH)
        assert taken(world, JANUARY, FEBRUARY, tenant="less") == [5000, 1000]
        world.done("mark_invoice_paid", invoices=[number(world, JANUARY, "paid")])
        world.use("more", "droplet_hours", 10, "2026-01-15 12:00+00")
        world.use("less", "droplet_hours", -10, "2026-01-15 13:00+00")
        enter(world, JANUARY, 1000, tenant="line")
        enter(world, JANUARY, 1000, tenant="paid")
        publish(world, FEBRUARY, JANUARY, MARCH, FEBRUARY)
        yield world


def revisions(world: World, tenant: str) -> list[int]:
    """Those of January, February and March."""
    return [world.invoices(month)[tenant][1] for month in (JANUARY, FEBRUARY, MARCH)]


def test_an_older_month_keeps_what_it_took_though_it_has_more_to_pay_now(changed: World) -> None:
    """Ten hours of January come late: 10.00 more, with 1.00 GST, though 20.00 of the grant are left."""
    assert changed.invoices(JANUARY)["more"] == ("issued", 2, 1000, 100, 1100)
    assert taken(changed, JANUARY, FEBRUARY, MARCH, tenant="more") == [4000, 4000, 4000]
    assert revisions(changed, "more") == [2, 1, 1]


def test_an_older_month_with_less_to_pay_gives_back_the_rest_for_the_newest(changed: World) -> None:
    """January took 50.00 of 60.00 and February 10.00; ten hours are taken back: January 40.00, March 10.00."""
    assert taken(changed, JANUARY, FEBRUARY, MARCH, tenant="less") == [4000, 1000, 1000]
    assert changed.invoices(JANUARY)["less"] == ("issued", 2, 0, 0, 0)


def test_a_manual_line_revises_its_month_though_newer_ones_are_invoiced(changed: World) -> None:
    assert changed.invoices(JANUARY)["line"] == ("issued", 2, 5000, 500, 5500)
    assert carrying(changed, "Adjustment: Set-up", "line") == [(JANUARY, 1000)]


def test_an_older_month_takes_no_line_of_another_one(changed: World) -> None:
    """January is paid, March is invoiced: the line is on March, not on February, which is run first."""
    assert carrying(changed, "Adjustment: Set-up", "paid") == [(MARCH, 1000)]


def test_what_is_entered_for_one_tenant_re_invoices_nobody_else(changed: World) -> None:
    assert revisions(changed, "other") == [1, 1, 1]
    assert changed.disproved() == []


@pytest.mark.long
def test_what_comes_for_a_paid_month_waits_as_the_check_says_and_is_on_the_next_invoice_once(acme: World) -> None:
    """acme's January and bulk's are paid. Then 10.00 are entered for acme, and 3 hours of bulk's come late.

    bulk's February: 40.00 + 5.00 + 3.00 - 20.00 = 28.00, GST 2.80; manual lines, then corrections, then credit.
    """
    customers(acme, "bulk")
    publish(acme, JANUARY)
    acme.done("mark_invoice_paid", invoices=[number(acme, JANUARY), number(acme, JANUARY, "bulk")])
    enter(acme, JANUARY, 1000)
    acme.use("bulk", "droplet_hours", 3, "2026-01-15 12:00+00")
    assert acme.findings(JANUARY)["manual_lines_are_carried"].count == 1
    assert carrying(acme, "Adjustment: Set-up") == []
    grant(acme, 2000, tenant="bulk")
    enter(acme, FEBRUARY, 500, tenant="bulk")
    assert acme.findings(FEBRUARY) == {}
    publish(acme, MARCH, JANUARY, FEBRUARY, MARCH)
    assert acme.lines("acme", FEBRUARY) == [PLAN, ("Adjustment: Set-up", 1000), ("GST 10%", 500)]
    assert carrying(acme, "Adjustment: Set-up") == [(FEBRUARY, 1000)]
    assert acme.lines("bulk", FEBRUARY) == [
        PLAN,
        ("Adjustment: Set-up", 500),
        ("Adjustment: 2026-01, INV-202601-00002", 300),
        ("Credit: Welcome", -2000),
        ("GST 10%", 280),
    ]
    assert acme.disproved() == []


def test_a_grant_pays_months_before_the_day_on_which_it_was_granted(acme: World) -> None:
    publish(acme, JANUARY)
    grant(acme, 10000)
    publish(acme, JANUARY)
    assert acme.lines("acme", JANUARY) == FREE
    assert acme.invoices(JANUARY)["acme"] == ("issued", 2, 0, 0, 0)


def test_a_void_invoice_gives_back_what_it_took(acme: World) -> None:
    """Of 100.00 January and February took 40.00, March 20.00. January is void: March takes 40.00, and 20.00 is left."""
    grant(acme, 10000)
    publish(acme, JANUARY, FEBRUARY, MARCH)
    acme.done("void_invoice", invoices=[number(acme, JANUARY)])
    publish(acme, FEBRUARY, JANUARY, MARCH)
    assert taken(acme, JANUARY, FEBRUARY, MARCH) == [0, 4000, 4000]
    [(left,)] = acme.query(
        "select meta -> 'left' from billing.tenant_invoice_lines where period_start = '2026-03-01' and kind = 'credit'"
    )
    assert left == 2000
    publish(acme, APRIL)
    assert taken(acme, APRIL) == [2000]
    assert acme.disproved() == []


@pytest.mark.long
def test_a_paid_invoice_keeps_what_it_took_whatever_comes(acme: World) -> None:
    grant(acme, 6000)
    publish(acme, JANUARY, FEBRUARY)
    acme.done("mark_invoice_paid", invoices=[number(acme, JANUARY)])
    acme.done("void_invoice", invoices=[number(acme, FEBRUARY)])
    grant(acme, 9000, "2026-02-01", name="Spring")
    publish(acme, JANUARY, MARCH)
    assert acme.lines("acme", JANUARY) == FREE
    assert taken(acme, JANUARY, FEBRUARY, MARCH) == [4000, 0, 2000]
    assert acme.disproved() == []


@pytest.mark.long
def test_a_void_invoice_gives_its_line_to_the_next_one(acme: World) -> None:
    enter(acme, JANUARY, 1000)
    publish(acme, JANUARY)
    acme.done("void_invoice", invoices=[number(acme, JANUARY)])
    publish(acme, JANUARY, FEBRUARY)
    assert carrying(acme, "Adjustment: Set-up") == [(FEBRUARY, 1000)]
    assert acme.invoices(JANUARY)["acme"][0] == "void"
    assert acme.disproved() == []


def test_a_line_of_a_tenant_that_does_not_exist_waits(acme: World) -> None:
    enter(acme, JANUARY, 1000, tenant="ghost")
    grant(acme, 1000, tenant="ghost")
    publish(acme, JANUARY)
    assert list(acme.invoices(JANUARY)) == ["acme"]
    acme.tenant("ghost")
    publish(acme, JANUARY)
    assert acme.lines("ghost", JANUARY) == [
        ("Adjustment: Set-up", 1000),
        ("Credit: Welcome", -1000),
        ("GST 10%", 0),
    ]


@pytest.mark.long
def test_a_tenant_on_hold_takes_credit_on_its_drafts_once(acme: World) -> None:
    grant(acme, 6000)
    enter(acme, JANUARY, 100)
    acme.done("hold_tenant", tenants=["acme"])
    publish(acme, JANUARY, FEBRUARY, JANUARY)
    assert taken(acme, JANUARY, FEBRUARY) == [4100, 1900]
    acme.done("release_tenant", tenants=["acme"])
    acme.done("issue_drafts", month=JANUARY)
    publish(acme, FEBRUARY, JANUARY)
    assert taken(acme, JANUARY, FEBRUARY) == [4100, 1900]
    assert acme.disproved() == []


@pytest.mark.long
def test_a_draft_that_was_reopened_gives_way_to_the_invoice_that_has_its_credit(acme: World) -> None:
    """As it is it cannot be issued; run again it has neither the line nor more credit than is left."""
    grant(acme, 6000)
    enter(acme, JANUARY, 1000)
    publish(acme, JANUARY)
    acme.done("void_invoice", invoices=[number(acme, JANUARY)])
    publish(acme, FEBRUARY)
    assert taken(acme, FEBRUARY) == [5000]
    acme.done("reopen_invoice", invoices=[number(acme, JANUARY)])
    message = acme.refused("issue_drafts", month=JANUARY)
    assert "carries a manual line or promotional credit that is on another invoice too: run 2026-01 again" in message
    publish(acme, FEBRUARY)
    assert taken(acme, FEBRUARY) == [5000]
    publish(acme, JANUARY)
    assert acme.lines("acme", JANUARY) == [PLAN, ("Credit: Welcome", -1000), ("GST 10%", 300)]
    assert carrying(acme, "Adjustment: Set-up") == [(FEBRUARY, 1000)]
    assert acme.disproved() == []


@pytest.mark.long
def test_four_months_that_are_run_at_once_take_a_grant_once_and_carry_a_line_once(acme: World) -> None:
    """In eight processes: together they take 100.00; the line of a month before the first goes on one of them."""
    grant(acme, 10000)
    enter(acme, "2025-12", 500)
    enter(acme, FEBRUARY, 700, name="Late")
    months = (JANUARY, FEBRUARY, MARCH, APRIL)
    processes = [start(acme.url, month) for month in (*months, *months)]
    assert [finish(process) for process in processes] == [0] * 8
    assert sum(taken(acme, *months)) == 10000
    assert carrying(acme, "Adjustment: Late") == [(FEBRUARY, 700)]
    assert len(carrying(acme, "Adjustment: Set-up")) == 1
    before = written(acme)
    publish(acme, *months)
    assert written(acme) == before
    assert acme.disproved() == []
