"""The month of a subscription is billed to one tenant, whatever becomes of the tenant's id or the subscription's."""

from collections.abc import Callable, Iterator

import pytest

from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.world import World, uid

JANUARY = "INV-202601-00001"


def invoice_january(world: World) -> None:
    """As `invoiced` says."""
    world.plan("studio", 5000)
    for tenant, deployments in {"acme": ("web", "api"), "zulu": ("shop",)}.items():
        world.tenant(tenant)
        for deployment in deployments:
            world.deployment(tenant, deployment, "studio")
    world.publish("2026-01")
    assert world.invoices("2026-01")["acme"] == ("issued", 1, 10000, 1000, 11000)


@pytest.fixture
def invoiced(world: World) -> World:
    """Acme on studio, with web and api: 100.00 and GST 10.00 in January; zulu has shop: 50.00."""
    return world


BEGINNINGS = {"invoiced": invoice_january}


def move(world: World, *names: str, to: str) -> None:
    """These deployments and their subscriptions are another tenant's now."""
    world.query("update cloud.cloud_deployments set tenant_id = %s where id = any(%s)", to, [uid(n) for n in names])
    world.query("update cloud.subscriptions set tenant_id = %s where id = any(%s)", to, [uid(n) for n in names])


def web_and_api(tenant: str) -> tuple[str, str]:
    """The tenant's two deployments; acme's have short names."""
    return ("web", "api") if tenant == "acme" else (f"web of {tenant}", f"api of {tenant}")


def gets_a_new_id(world: World, acme: str = "acme") -> None:
    """Acme goes on as acme-new, and acme is deleted."""
    world.tenant(f"{acme}-new")
    move(world, *web_and_api(acme), to=f"{acme}-new")
    world.query("delete from cloud.tenants where id = %s", acme)


def gets_new_ids_throughout(world: World, acme: str) -> None:
    """As gets_a_new_id(), and the subscriptions are replaced by others of the same deployments."""
    world.query("delete from cloud.subscriptions where tenant_id = %s", acme)
    gets_a_new_id(world, acme)
    for name in web_and_api(acme):
        world.subscribe(f"{name} anew", f"{acme}-new", name, "studio")


def gets_new_deployments(world: World, acme: str) -> None:
    """As gets_a_new_id(), and the subscriptions, which stay, are for new deployments."""
    world.tenant(f"{acme}-new")
    for name in web_and_api(acme):
        world.deployment(f"{acme}-new", f"{name} anew")
        world.query(
            "update cloud.subscriptions set tenant_id = %s, deployment_id = %s where id = %s",
            *(f"{acme}-new", uid(f"{name} anew"), uid(name)),
        )
    world.query("delete from cloud.cloud_deployments where tenant_id = %s", acme)
    world.query("delete from cloud.tenants where id = %s", acme)


def moves_a_part(world: World, acme: str) -> None:
    """Api is acme-new's; acme stays, with web."""
    world.tenant(f"{acme}-new")
    move(world, web_and_api(acme)[1], to=f"{acme}-new")


def has_a_subscription_replaced(world: World, acme: str) -> None:
    """Acme stays, with web; in the place of api's subscription there is another, of acme-new."""
    _, api = web_and_api(acme)
    world.tenant(f"{acme}-new")
    world.query("delete from cloud.subscriptions where id = %s", uid(api))
    world.query("update cloud.cloud_deployments set tenant_id = %s where id = %s", f"{acme}-new", uid(api))
    world.subscribe(f"{api} anew", f"{acme}-new", api, "studio")


def faults(world: World, month: str) -> dict[str, set[str]]:
    """What holds tenants back in the month: their faults' details."""
    found: dict[str, set[str]] = {}
    for tenant, fault, detail in world.query(
        "select tenant_id, fault, detail from billing.quote_faults where period_start = %s", f"{month}-01"
    ):
        assert fault == "billed_to_another_tenant"
        found.setdefault(tenant, set()).add(detail)
    return found


CHANGES: list[tuple[Callable[[World, str], None], str, int]] = [
    (gets_a_new_id, "paid", 10000),
    (gets_a_new_id, "issued", 10000),
    (gets_new_ids_throughout, "paid", 10000),
    (gets_new_deployments, "paid", 10000),
    (moves_a_part, "paid", 5000),
    (moves_a_part, "issued", 5000),
    (has_a_subscription_replaced, "paid", 5000),
]
"""What happens to an acme after January, as what January was invoiced by then, and what February is acme-new's of."""


def acme_of(change: Callable[[World, str], None], status: str) -> str:
    return f"{status} acme that {change.__name__}"


@pytest.fixture(scope="module")
def changed(server_url: str, migrated: str) -> Iterator[World]:
    """January, with an acme of 100.00 for each of CHANGES, which come then; January is run again, and February."""
    with copy_of(server_url, migrated) as url, World(url).connected() as world:
        world.plan("studio", 5000)
        acmes = {acme_of(change, status): (change, status) for change, status, _ in CHANGES}
        for acme in acmes:
            world.tenant(acme)
            for name in web_and_api(acme):
                world.deployment(acme, name, "studio")
        world.tenant("zulu")
        world.deployment("zulu", "shop", "studio")
        world.publish("2026-01")
        paid = [number_of(world, acme) for acme, (_, status) in acmes.items() if status == "paid"]
        world.done("mark_invoice_paid", invoices=paid)
        for acme, (change, _) in acmes.items():
            change(world, acme)
        assert world.findings("2026-01").keys() == {"no_tenant_is_held_back"}
        world.publish("2026-02")
        yield world


def number_of(world: World, tenant: str) -> str:
    """Of the tenant's January."""
    [(number,)] = world.query(
        "select invoice_number from billing.tenant_invoices where tenant_id = %s and period_start = '2026-01-01'",
        tenant,
    )
    return str(number)


@pytest.mark.parametrize(("change", "status", "part"), CHANGES)
def test_what_acme_was_invoiced_for_is_not_billed_to_the_next_tenant(
    changed: World, change: Callable[[World, str], None], status: str, part: int
) -> None:
    """January stays acme's, nothing is voided; acme-new is held back, and both are told why.

    February, which nobody has been invoiced for, is acme-new's; all of it or 50.00 for the part that went.
    """
    acme, found = acme_of(change, status), faults(changed, "2026-01")
    january = number_of(changed, acme)
    assert changed.invoices("2026-01")[acme] == (status, 1, 10000, 1000, 11000)
    assert f"{acme}-new" not in changed.invoices("2026-01")
    assert found[acme] == found[f"{acme}-new"]
    for detail in found[acme]:
        assert f"is billed to tenant {acme} by {january}" in detail
        assert f"would be billed to tenant {acme}-new too" in detail
        assert (f"void {january}" in detail) == (status == "issued")
        assert f"give that subscription back to {acme}" in detail
    assert changed.invoices("2026-02")[f"{acme}-new"] == ("issued", 1, part, part // 10, part * 11 // 10)


def test_nobody_else_is_concerned_nothing_is_credited_and_all_of_it_is_proved(changed: World) -> None:
    assert changed.invoices("2026-01")["zulu"] == ("issued", 1, 5000, 500, 5500)
    acmes = {acme_of(change, status) for change, status, _ in CHANGES}
    assert faults(changed, "2026-01").keys() == acmes | {f"{acme}-new" for acme in acmes}
    assert changed.query("select * from billing.invoice_corrections") == []
    assert changed.disproved() == []


@pytest.mark.long
def test_once_the_first_invoice_is_void_the_other_tenant_is_billed(invoiced: World) -> None:
    """January is acme-new's then, and stays so: acme's void invoice can be reopened, and cannot be issued as it is."""
    gets_a_new_id(invoiced)
    invoiced.publish("2026-01")
    invoiced.done("void_invoice", invoices=[JANUARY])
    invoiced.publish("2026-01")
    now = {
        "acme": ("void", 1, 10000, 1000, 11000),
        "acme-new": ("issued", 1, 10000, 1000, 11000),
        "zulu": ("issued", 1, 5000, 500, 5500),
    }
    assert (invoiced.invoices("2026-01"), faults(invoiced, "2026-01")) == (now, {})
    assert invoiced.disproved() == []
    invoiced.done("reopen_invoice", invoices=[JANUARY])
    refusal = invoiced.refused("issue_drafts", month="2026-01")
    assert "which is not acme's any more: run 2026-01 again" in refusal
    invoiced.publish("2026-01")
    assert (invoiced.invoices("2026-01"), faults(invoiced, "2026-01")) == (now, {})
    assert invoiced.disproved() == []


@pytest.mark.long
def test_a_paid_month_is_put_right_by_giving_the_subscription_back_until_it_went(invoiced: World) -> None:
    """Acme, restored, has its own up to February, and acme-new others since: all months agree, nothing is credited."""
    invoiced.done("mark_invoice_paid", invoices=[JANUARY])
    gets_a_new_id(invoiced)
    for month in ("2026-01", "2026-02"):
        invoiced.publish(month)
    assert invoiced.invoices("2026-02")["acme-new"] == ("issued", 1, 10000, 1000, 11000)
    invoiced.tenant("acme")
    given_back = (
        "update cloud.subscriptions set tenant_id = 'acme', ended_at = '2026-02-01' where tenant_id = 'acme-new'"
    )
    invoiced.query(given_back)
    for name in ("web", "api"):
        invoiced.subscribe(f"{name} anew", "acme-new", name, "studio", start="2026-02-01")
    before = invoiced.query("select id, xmin::text from billing.tenant_invoices order by id")
    for month in ("2026-01", "2026-02"):
        assert invoiced.findings(month) == {}
    assert invoiced.query("select id, xmin::text from billing.tenant_invoices order by id") == before
    assert faults(invoiced, "2026-01") == faults(invoiced, "2026-02") == {}
    assert invoiced.query("select * from billing.invoice_corrections") == []
    assert invoiced.disproved() == []


def test_a_deployment_may_go_to_another_tenant_within_a_month(invoiced: World) -> None:
    """Api's subscription ends on 10 January, and zulu's starts: both pay, and nobody is held back."""
    invoiced.query("update cloud.subscriptions set ended_at = '2026-01-10' where id = %s", uid("api"))
    invoiced.subscribe("api of zulu", "zulu", "api", "studio", start="2026-01-10")
    invoiced.publish("2026-01")
    assert invoiced.invoices("2026-01") == {
        "acme": ("issued", 1, 10000, 1000, 11000),
        "zulu": ("issued", 2, 10000, 1000, 11000),
    }
    invoiced.query("delete from cloud.subscriptions where id = %s", uid("api"))  # as a platform may that tidies up
    invoiced.publish("2026-01")
    assert faults(invoiced, "2026-01") == {}
    assert invoiced.invoices("2026-01")["acme"] == ("issued", 2, 5000, 500, 5500)
    assert invoiced.disproved() == []


@pytest.mark.long
def test_a_subscription_that_was_ended_where_it_was_is_credited_and_may_go_on_elsewhere(invoiced: World) -> None:
    """Acme has paid for api, which was zulu's from the start: ended at acme, it is credited, and zulu pays."""
    invoiced.done("mark_invoice_paid", invoices=[JANUARY])
    invoiced.query("update cloud.subscriptions set ended_at = started_at where id = %s", uid("api"))
    invoiced.subscribe("api of zulu", "zulu", "api", "studio")
    for month in ("2026-01", "2026-02"):
        invoiced.publish(month)
    assert invoiced.invoices("2026-01")["zulu"] == ("issued", 2, 10000, 1000, 11000)
    assert invoiced.lines("acme", "2026-02") == [
        ("Plan: studio", 5000),
        (f"Credit: 2026-01, {JANUARY}", -5000),
        ("GST 10%", 0),
    ]
    assert invoiced.disproved() == []


@pytest.mark.long
def test_a_correction_of_a_tenant_that_is_gone_is_named(invoiced: World) -> None:
    """Acme leaves, and its subscriptions are deleted with it, January too: 100.00 would be credited to nobody."""
    invoiced.done("mark_invoice_paid", invoices=[JANUARY])
    invoiced.query("delete from cloud.subscriptions where tenant_id = 'acme'")
    invoiced.query("delete from cloud.cloud_deployments where tenant_id = 'acme'")
    invoiced.query("delete from cloud.tenants where id = 'acme'")
    assert invoiced.findings("2026-01").keys() == {"frozen_invoices_agree", "corrections_have_a_tenant"}
    assert invoiced.finds("corrections_have_a_tenant", "2026-01")
    assert invoiced.findings("2026-02").keys() == {"corrections_have_a_tenant"}
    invoiced.tenant("acme")
    invoiced.publish("2026-02")
    assert invoiced.lines("acme", "2026-02") == [(f"Credit: 2026-01, {JANUARY}", -10000), ("GST 10%", -1000)]
    assert invoiced.disproved() == []


def test_a_subscription_that_two_invoices_bill_is_named_by_the_audit(invoiced: World) -> None:
    """As books may have it that are older than the rule."""
    of_zulu = "insert into billing.billed_subscriptions values ('2026-01-01', %s, 'zulu', %s)"
    invoiced.query(of_zulu, uid("web"), uid("web"))
    assert invoiced.disproved() == [("2026-01", "subscriptions_are_billed_once")]


@pytest.mark.long
def test_a_tenant_that_takes_over_a_deployment_keeps_the_invoice_that_it_has(invoiced: World) -> None:
    """Api goes to zulu, while acme is on hold: January stays as it is for both, and is zulu's once acme's is void."""
    invoiced.done("hold_tenant", tenants=["acme"])
    move(invoiced, "api", to="zulu")
    before = invoiced.invoices("2026-01")
    invoiced.publish("2026-01")
    assert invoiced.invoices("2026-01") == before
    assert faults(invoiced, "2026-01").keys() == {"acme", "zulu"}
    invoiced.done("void_invoice", invoices=[JANUARY])
    invoiced.publish("2026-01")
    assert faults(invoiced, "2026-01") == {}
    assert invoiced.invoices("2026-01") == {
        "acme": ("void", 1, 10000, 1000, 11000),
        "zulu": ("issued", 2, 10000, 1000, 11000),
    }
    invoiced.done("reopen_invoice", invoices=[JANUARY])
    invoiced.done("release_tenant", tenants=["acme"])
    invoiced.publish("2026-01")
    assert invoiced.invoices("2026-01")["acme"] == ("issued", 2, 5000, 500, 5500)
    assert invoiced.disproved() == []


@pytest.mark.long
def test_a_draft_is_not_issued_beside_another_tenants_invoice_of_the_same_subscription(invoiced: World) -> None:
    """Acme's January is void, and zulu's, 150.00, has web and api; both go back to acme, whose draft cannot be issued.

    Nor can it once zulu's is paid. Once zulu's is void it can: 100.00 and GST 10.00.
    """
    invoiced.done("void_invoice", invoices=[JANUARY])
    move(invoiced, "web", "api", to="zulu")
    invoiced.publish("2026-01")
    assert invoiced.invoices("2026-01")["zulu"] == ("issued", 2, 15000, 1500, 16500)
    move(invoiced, "web", "api", to="acme")
    invoiced.done("reopen_invoice", invoices=[JANUARY])
    refusal = invoiced.refused("issue_drafts", month="2026-01")
    assert f"draft {JANUARY} of acme bills subscription {min(uid('web'), uid('api'))}" in refusal
    assert "void INV-202601-00002 of zulu first; or run 2026-01 again" in refusal
    invoiced.publish("2026-01")
    assert invoiced.invoices("2026-01")["acme"] == ("draft", 1, 10000, 1000, 11000)
    invoiced.query("update billing.tenant_invoices set status = 'paid', paid_at = now() where tenant_id = 'zulu'")
    assert "INV-202601-00002 of zulu is paid and stays" in invoiced.refused("issue_drafts", month="2026-01")
    invoiced.tamper("update billing.tenant_invoices set status = 'void', paid_at = null where tenant_id = 'zulu'")
    invoiced.done("issue_drafts", month="2026-01")
    assert invoiced.invoices("2026-01")["acme"] == ("issued", 1, 10000, 1000, 11000)


def test_a_draft_is_not_issued_beside_another_tenants_invoice_of_the_same_deployment(invoiced: World) -> None:
    """Api is billed to zulu, by a subscription that is gone since; in its place acme's is back, on a draft."""
    invoiced.done("void_invoice", invoices=[JANUARY])
    invoiced.query("delete from cloud.subscriptions where id = %s", uid("api"))
    invoiced.subscribe("api of zulu", "zulu", "api", "studio")
    invoiced.publish("2026-01")
    assert invoiced.invoices("2026-01")["zulu"] == ("issued", 2, 10000, 1000, 11000)
    invoiced.query("delete from cloud.subscriptions where id = %s", uid("api of zulu"))
    invoiced.subscribe("api", "acme", "api", "studio")
    invoiced.done("reopen_invoice", invoices=[JANUARY])
    refusal = invoiced.refused("issue_drafts", month="2026-01")
    assert f"bills subscription {uid('api')}, whose month 2026-01 is billed by INV-202601-00002 of zulu" in refusal
    assert f"for subscription {uid('api of zulu')}" in refusal


@pytest.mark.long
def test_the_drafts_of_two_tenants_that_share_a_deployment_in_turn_are_issued(invoiced: World) -> None:
    """Api's subscription ends on 10 January, and zulu's starts: each has its own, so both drafts may be issued."""
    invoiced.done("hold_tenant", tenants=["acme", "zulu"])
    invoiced.query("update cloud.subscriptions set ended_at = '2026-01-10' where id = %s", uid("api"))
    invoiced.subscribe("api of zulu", "zulu", "api", "studio", start="2026-01-10")
    for operation in ("void_invoice", "reopen_invoice"):
        invoiced.done(operation, invoices=[JANUARY, "INV-202601-00002"])
    invoiced.publish("2026-01")
    invoiced.done("release_tenant", tenants=["acme", "zulu"])
    invoiced.done("issue_drafts", month="2026-01")
    assert invoiced.invoices("2026-01")["acme"][0] == invoiced.invoices("2026-01")["zulu"][0] == "issued"
    assert invoiced.disproved() == []
