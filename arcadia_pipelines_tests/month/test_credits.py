"""Manual lines and promotional credit over the months: each is on an invoice once, whatever is run in what order."""

import pytest

from arcadia_pipelines_tests.trouble import finish, start
from arcadia_pipelines_tests.world import World, uid

PLAN = ("Plan: flat", 4000)
FREE = [PLAN, ("Credit: Welcome", -4000), ("GST 10%", 0)]
JANUARY, FEBRUARY, MARCH, APRIL = (f"2026-{number:02d}" for number in range(1, 5))


@pytest.fixture
def acme(world: World) -> World:
    """40.00 a month, and 1.00 an hour beyond none included."""
    world.plan("flat", 4000, {"droplet_hours": (0, 100)})
    world.tenant("acme")
    world.deployment("acme", "web", "flat")
    return world


def grant(world: World, cents: int, expires_on: str | None = None, tenant: str = "acme", name: str = "Welcome") -> None:
    world.query(
        "insert into billing.credit_grants (id, tenant_id, amount_cents, expires_on, description, operator, reason)"
        " values (%s, %s, %s, %s, %s, 'ada', 'new customer')",
        *(uid(name), tenant, cents, expires_on, name),
    )


def enter(world: World, month: str, cents: int, tenant: str = "acme", name: str = "Set-up") -> None:
    world.query(
        "insert into billing.manual_lines (id, tenant_id, period_start, amount_cents, description, operator, reason)"
        " values (%s, %s, %s, %s, %s, 'ada', 'as agreed')",
        *(uid(name), tenant, f"{month}-01", cents, name),
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


def test_a_grant_of_100_pays_40_and_40_and_20_of_three_months_of_40(acme: World) -> None:
    """GST is 10 % of what is left to pay: 0, 0 and 2.00; the fourth month is paid in full."""
    grant(acme, 10000)
    publish(acme, JANUARY, FEBRUARY, MARCH, APRIL)
    assert acme.lines("acme", JANUARY) == acme.lines("acme", FEBRUARY) == FREE
    assert acme.lines("acme", MARCH) == [PLAN, ("Credit: Welcome", -2000), ("GST 10%", 200)]
    assert acme.lines("acme", APRIL) == [PLAN, ("GST 10%", 400)]
    assert acme.invoices(MARCH)["acme"] == ("issued", 1, 2000, 200, 2200)
    metas = acme.query(
        "select kind, qty, unit_price_cents, deployment_id, meta from billing.tenant_invoice_lines"
        " where kind = 'credit' order by period_start"
    )
    assert metas == [
        ("credit", 1, cents, None, {"grant": str(uid("Welcome")), "left": left})
        for cents, left in ((-4000, 6000), (-4000, 2000), (-2000, 0))
    ]
    assert acme.disproved() == []


def test_running_the_months_again_writes_nothing(acme: World) -> None:
    grant(acme, 10000)
    enter(acme, FEBRUARY, 500)
    publish(acme, JANUARY, FEBRUARY, MARCH)
    before = written(acme)
    publish(acme, FEBRUARY, MARCH, JANUARY, MARCH, FEBRUARY)
    assert written(acme) == before


def test_months_in_reverse_order_take_no_more_than_there_is_and_keep_it(acme: World) -> None:
    grant(acme, 10000)
    publish(acme, MARCH, FEBRUARY, JANUARY)
    assert taken(acme, JANUARY, FEBRUARY, MARCH) == [2000, 4000, 4000]
    before = written(acme)
    publish(acme, JANUARY, FEBRUARY, MARCH)
    assert written(acme) == before
    assert acme.disproved() == []


def test_of_two_grants_the_one_that_expires_sooner_pays_first(acme: World) -> None:
    """January: 30.00 of the one that expires, then 10.00 of the other one. February: 40.00 of that."""
    grant(acme, 10000)
    grant(acme, 3000, "2026-06-30", name="Spring")
    publish(acme, JANUARY, FEBRUARY)
    assert acme.lines("acme", JANUARY) == [PLAN, ("Credit: Spring", -3000), ("Credit: Welcome", -1000), ("GST 10%", 0)]
    assert acme.lines("acme", FEBRUARY) == FREE
    assert acme.disproved() == []


def test_a_grant_pays_a_month_that_begins_before_it_expires(acme: World) -> None:
    """February, by grants of three tenants."""
    of_february = {"2026-01-31": 0, "2026-02-01": 0, "2026-02-02": 4000}
    for expires_on in of_february:
        acme.tenant(expires_on)
        acme.deployment(expires_on, expires_on, "flat")
        grant(acme, 10000, expires_on, tenant=expires_on, name=expires_on)
    publish(acme, FEBRUARY)
    for expires_on, cents in of_february.items():
        assert taken(acme, FEBRUARY, name=expires_on, tenant=expires_on) == [cents]


def test_a_grant_pays_months_before_the_day_on_which_it_was_granted(acme: World) -> None:
    publish(acme, JANUARY)
    grant(acme, 10000)
    publish(acme, JANUARY)
    assert acme.lines("acme", JANUARY) == FREE
    assert acme.invoices(JANUARY)["acme"] == ("issued", 2, 0, 0, 0)


def test_each_tenant_has_its_own_credit_and_a_grant_re_invoices_nobody_else(acme: World) -> None:
    acme.tenant("bulk")
    acme.deployment("bulk", "shop", "flat")
    publish(acme, JANUARY)
    grant(acme, 10000, tenant="bulk")
    publish(acme, JANUARY)
    assert acme.invoices(JANUARY) == {"acme": ("issued", 1, 4000, 400, 4400), "bulk": ("issued", 2, 0, 0, 0)}
    enter(acme, JANUARY, 100, tenant="acme")
    publish(acme, JANUARY)
    assert acme.invoices(JANUARY) == {"acme": ("issued", 2, 4100, 410, 4510), "bulk": ("issued", 2, 0, 0, 0)}
    assert acme.disproved() == []


def test_a_tenant_without_gst_has_credit_without_gst(acme: World) -> None:
    acme.tenant("school", "a school")
    acme.deployment("school", "class", "flat")
    grant(acme, 1000, tenant="school")
    enter(acme, JANUARY, 500, tenant="school")
    publish(acme, JANUARY)
    assert acme.lines("school", JANUARY) == [PLAN, ("Adjustment: Set-up", 500), ("Credit: Welcome", -1000)]
    assert acme.disproved() == []


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


def test_an_older_month_keeps_what_it_took_though_it_has_more_to_pay_now(acme: World) -> None:
    """Ten hours of January come late: 10.00 more, with 1.00 GST. February is as it was."""
    grant(acme, 10000)
    publish(acme, JANUARY, FEBRUARY)
    acme.use("web", "droplet_hours", 10, "2026-01-15 12:00+00")
    publish(acme, JANUARY)
    assert acme.invoices(JANUARY)["acme"] == ("issued", 2, 1000, 100, 1100)
    before = written(acme)
    publish(acme, FEBRUARY)
    assert written(acme) == before
    assert taken(acme, JANUARY, FEBRUARY) == [4000, 4000]
    assert acme.disproved() == []


def test_an_older_month_with_less_to_pay_gives_back_the_rest_for_the_newest(acme: World) -> None:
    """January took 50.00 of 60.00 and February 10.00; ten hours are taken back: January 40.00, February 20.00."""
    acme.use("web", "droplet_hours", 10, "2026-01-15 12:00+00")
    grant(acme, 6000)
    publish(acme, JANUARY, FEBRUARY)
    assert taken(acme, JANUARY, FEBRUARY) == [5000, 1000]
    acme.use("web", "droplet_hours", -10, "2026-01-15 13:00+00")
    publish(acme, JANUARY, FEBRUARY)
    assert taken(acme, JANUARY, FEBRUARY) == [4000, 2000]
    assert acme.invoices(JANUARY)["acme"] == ("issued", 2, 0, 0, 0)
    assert acme.disproved() == []


def test_a_manual_line_is_on_the_invoice_of_its_month(acme: World) -> None:
    enter(acme, JANUARY, 1250)
    enter(acme, JANUARY, -250, name="Outage")
    publish(acme, JANUARY)
    assert acme.lines("acme", JANUARY) == [
        PLAN,
        ("Adjustment: Set-up", 1250),
        ("Credit: Outage", -250),
        ("GST 10%", 500),
    ]
    [(kind, qty, price, meta)] = acme.query(
        "select kind, qty, unit_price_cents, meta from billing.tenant_invoice_lines where kind = 'adjustment'"
    )
    assert (kind, qty, price) == ("adjustment", 1, 1250)
    assert meta == {"manual_line": str(uid("Set-up")), "period_start": "2026-01-01"}
    assert acme.disproved() == []


def test_a_manual_line_revises_its_month_though_newer_ones_are_invoiced(acme: World) -> None:
    publish(acme, JANUARY, FEBRUARY)
    enter(acme, JANUARY, 1000)
    publish(acme, FEBRUARY, JANUARY, FEBRUARY)
    assert acme.invoices(JANUARY)["acme"] == ("issued", 2, 5000, 500, 5500)
    assert carrying(acme, "Adjustment: Set-up") == [(JANUARY, 1000)]
    assert acme.disproved() == []


def test_a_manual_line_of_a_paid_month_goes_on_the_next_invoice_once(acme: World) -> None:
    publish(acme, JANUARY)
    acme.done("mark_invoice_paid", invoices=[number(acme, JANUARY)])
    enter(acme, JANUARY, 1000)
    publish(acme, JANUARY)
    assert carrying(acme, "Adjustment: Set-up") == []
    publish(acme, FEBRUARY, MARCH, JANUARY, FEBRUARY, MARCH)
    assert acme.lines("acme", FEBRUARY) == [PLAN, ("Adjustment: Set-up", 1000), ("GST 10%", 500)]
    assert carrying(acme, "Adjustment: Set-up") == [(FEBRUARY, 1000)]
    assert acme.disproved() == []


def test_a_line_that_is_on_no_invoice_yet_is_named_by_the_check(acme: World) -> None:
    """January is paid when it is entered: its own run says that 10.00 wait; once February has them, it does not."""
    publish(acme, JANUARY)
    acme.done("mark_invoice_paid", invoices=[number(acme, JANUARY)])
    enter(acme, JANUARY, 1000)
    assert acme.findings(JANUARY)["manual_lines_are_carried"].count == 1
    assert acme.findings(FEBRUARY) == {}


def test_an_older_month_takes_no_line_of_another_one(acme: World) -> None:
    """January is paid, March is invoiced: the line is on March, not on February, which is run first."""
    publish(acme, JANUARY, FEBRUARY, MARCH)
    acme.done("mark_invoice_paid", invoices=[number(acme, JANUARY)])
    enter(acme, JANUARY, 1000)
    publish(acme, FEBRUARY, MARCH, FEBRUARY)
    assert carrying(acme, "Adjustment: Set-up") == [(MARCH, 1000)]
    assert acme.disproved() == []


@pytest.mark.parametrize("order", [(JANUARY, FEBRUARY, MARCH), (MARCH, FEBRUARY, JANUARY), (FEBRUARY, MARCH, JANUARY)])
def test_in_whatever_order_months_are_run_a_line_is_on_its_own(acme: World, order: tuple[str, ...]) -> None:
    enter(acme, FEBRUARY, 1000)
    publish(acme, *order)
    assert carrying(acme, "Adjustment: Set-up") == [(FEBRUARY, 1000)]
    before = written(acme)
    publish(acme, *order)
    assert written(acme) == before
    assert acme.disproved() == []


def test_a_void_invoice_gives_its_line_to_the_next_one(acme: World) -> None:
    enter(acme, JANUARY, 1000)
    publish(acme, JANUARY)
    acme.done("void_invoice", invoices=[number(acme, JANUARY)])
    publish(acme, JANUARY, FEBRUARY)
    assert carrying(acme, "Adjustment: Set-up") == [(FEBRUARY, 1000)]
    assert acme.invoices(JANUARY)["acme"][0] == "void"
    assert acme.disproved() == []


def test_a_credit_alone_is_an_invoice_below_zero_and_uses_no_grant(world: World) -> None:
    """Of a tenant with nothing else: 12.50 back, with 1.25 GST."""
    world.tenant("acme")
    world.tenant("bulk")
    world.plan("flat", 4000)
    world.deployment("bulk", "shop", "flat")
    grant(world, 10000)
    enter(world, JANUARY, -1250, name="Outage")
    publish(world, JANUARY)
    assert world.lines("acme", JANUARY) == [("Credit: Outage", -1250), ("GST 10%", -125)]
    assert world.invoices(JANUARY)["acme"] == ("issued", 1, -1250, -125, -1375)
    assert world.disproved() == []


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


def test_manual_lines_then_corrections_then_promotional_credit(acme: World) -> None:
    """January is paid, and 3 hours of it come late. February: 40.00 + 5.00 + 3.00 - 20.00 = 28.00, GST 2.80."""
    publish(acme, JANUARY)
    acme.done("mark_invoice_paid", invoices=[number(acme, JANUARY)])
    acme.use("web", "droplet_hours", 3, "2026-01-15 12:00+00")
    publish(acme, JANUARY)
    grant(acme, 2000)
    enter(acme, FEBRUARY, 500)
    publish(acme, FEBRUARY)
    assert acme.lines("acme", FEBRUARY) == [
        PLAN,
        ("Adjustment: Set-up", 500),
        ("Adjustment: 2026-01, INV-202601-00001", 300),
        ("Credit: Welcome", -2000),
        ("GST 10%", 280),
    ]
    assert acme.disproved() == []


def test_credit_pays_what_a_commitment_adds_and_leaves_what_a_discount_takes_off(acme: World) -> None:
    """40.00 less 10 % is 36.00, of at least 50.00: 14.00 more; 5.00 back, and 20.00 of credit: 25.00, GST 2.50."""
    acme.query(
        "insert into cloud.discounts (tenant_id, percent, starts_on, description)"
        " values ('acme', 10, '2026-01-01', 'Friends')"
    )
    acme.query(
        "insert into cloud.commitments (tenant_id, minimum_cents, starts_on) values ('acme', 5000, '2026-01-01')"
    )
    enter(acme, JANUARY, -500, name="Outage")
    grant(acme, 2000)
    publish(acme, JANUARY)
    assert [cents for _, cents in acme.lines("acme", JANUARY)] == [4000, -400, 1400, -500, -2000, 250]
    assert acme.lines("acme", JANUARY)[3:5] == [("Credit: Outage", -500), ("Credit: Welcome", -2000)]
    assert acme.disproved() == []


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
