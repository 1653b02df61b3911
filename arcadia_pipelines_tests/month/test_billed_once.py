"""The month of a subscription is billed to one tenant, whatever becomes of the tenant's id or the subscription's."""

from collections.abc import Callable

import pytest

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


def move(world: World, *names: str, to: str = "acme-new") -> None:
    """These deployments and their subscriptions are another tenant's now."""
    world.query("update cloud.cloud_deployments set tenant_id = %s where id = any(%s)", to, [uid(n) for n in names])
    world.query("update cloud.subscriptions set tenant_id = %s where id = any(%s)", to, [uid(n) for n in names])


def gets_a_new_id(world: World) -> None:
    """Acme goes on as acme-new, and acme is deleted."""
    world.tenant("acme-new")
    move(world, "web", "api")
    world.query("delete from cloud.tenants where id = 'acme'")


def gets_new_ids_throughout(world: World) -> None:
    """As gets_a_new_id(), and the subscriptions are replaced by others of the same deployments."""
    world.query("delete from cloud.subscriptions where tenant_id = 'acme'")
    world.tenant("acme-new")
    move(world, "web", "api")
    for name in ("web", "api"):
        world.subscribe(f"{name} anew", "acme-new", name, "studio")
    world.query("delete from cloud.tenants where id = 'acme'")


def gets_new_deployments(world: World) -> None:
    """As gets_a_new_id(), and the subscriptions, which stay, are for new deployments."""
    world.tenant("acme-new")
    for name in ("web", "api"):
        world.deployment("acme-new", f"{name} anew")
        world.query(
            "update cloud.subscriptions set tenant_id = 'acme-new', deployment_id = %s where id = %s",
            uid(f"{name} anew"),
            uid(name),
        )
    world.query("delete from cloud.cloud_deployments where tenant_id = 'acme'")
    world.query("delete from cloud.tenants where id = 'acme'")


def moves_a_part(world: World) -> None:
    """Api is acme-new's; acme stays, with web."""
    world.tenant("acme-new")
    move(world, "api")


def has_a_subscription_replaced(world: World) -> None:
    """Acme stays, with web; in the place of api's subscription there is another, of acme-new."""
    world.tenant("acme-new")
    world.query("delete from cloud.subscriptions where id = %s", uid("api"))
    world.query("update cloud.cloud_deployments set tenant_id = 'acme-new' where id = %s", uid("api"))
    world.subscribe("api anew", "acme-new", "api", "studio")


def faults(world: World, month: str) -> dict[str, set[str]]:
    """What holds tenants back in the month: their faults' details."""
    found: dict[str, set[str]] = {}
    for tenant, fault, detail in world.query(
        "select tenant_id, fault, detail from billing.quote_faults where period_start = %s", f"{month}-01"
    ):
        assert fault == "billed_to_another_tenant"
        found.setdefault(tenant, set()).add(detail)
    return found


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (gets_a_new_id, "paid"),
        (gets_a_new_id, "issued"),
        (gets_new_ids_throughout, "paid"),
        (gets_new_deployments, "paid"),
        (moves_a_part, "paid"),
        (moves_a_part, "issued"),
        (has_a_subscription_replaced, "paid"),
    ],
)
def test_what_acme_was_invoiced_for_is_not_billed_to_the_next_tenant(
    invoiced: World, change: Callable[[World], None], status: str
) -> None:
    """January stays acme's: nothing is credited or voided, acme-new is held back, and both are told why.

    February, which nobody has been invoiced for, is acme-new's; all of it or 50.00 for the part that went.
    """
    if status == "paid":
        invoiced.done("mark_invoice_paid", invoices=[JANUARY])
    change(invoiced)
    assert invoiced.findings("2026-01").keys() == {"no_tenant_is_held_back"}
    assert invoiced.invoices("2026-01") == {
        "acme": (status, 1, 10000, 1000, 11000),
        "zulu": ("issued", 1, 5000, 500, 5500),
    }
    assert invoiced.query("select * from billing.invoice_corrections") == []
    found = faults(invoiced, "2026-01")
    assert found.keys() == {"acme", "acme-new"}
    assert found["acme"] == found["acme-new"]
    for detail in found["acme"]:
        assert f"is billed to tenant acme by {JANUARY}" in detail
        assert "would be billed to tenant acme-new too" in detail
        assert (f"void {JANUARY}" in detail) == (status == "issued")
        assert "give that subscription back to acme" in detail
    invoiced.publish("2026-02")
    part = 5000 if change in (moves_a_part, has_a_subscription_replaced) else 10000
    assert invoiced.invoices("2026-02")["acme-new"] == ("issued", 1, part, part // 10, part * 11 // 10)
    assert invoiced.disproved() == []


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
