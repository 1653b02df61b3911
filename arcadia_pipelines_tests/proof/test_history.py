"""What an invoice was, what changed on it, and where its amounts come from: `show --revision`, `diff` and `explain`."""

import json
import re
from typing import Any

import pytest

from arcadia_pipelines_tests.command_line import INVOICE_KEYS, Answer, Call, refused
from arcadia_pipelines_tests.world import World, uid

RECORDS = "select id from cloud.usage_records order by recorded_at, id"
LINE_ID = "select id::text from billing.tenant_invoice_lines where line_no = %s and period_start = '2026-04-01'"


def text(answer: Answer) -> list[str]:
    """The lines of an answer that complains of nothing, without what is around them."""
    assert (answer.code, answer.err) == (0, "")
    return lines_of(answer)


def lines_of(answer: Answer) -> list[str]:
    """The lines of an answer, without what is around them."""
    return [line.strip(" │") for line in answer.out.splitlines() if line.strip()]


def objections(answer: Answer) -> list[str]:
    """The sums that do not agree, of an answer that says how many there are and ends with 1."""
    marked = [line.removeprefix("!! ") for line in lines_of(answer) if line.startswith("!! ")]
    count = "1 sum does" if len(marked) == 1 else f"{len(marked)} sums do"
    assert (answer.code, answer.err.splitlines()[0].partition(" not ")[0]) == (1, f"arcadia: {count}")
    assert "Every sum agrees." not in answer.out
    return marked


def document(answer: Answer) -> dict[str, Any]:
    """The JSON of an answer that ends with 1 and a line on stderr."""
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1
    found: dict[str, Any] = json.loads(answer.out)
    return found


def revise(world: World) -> None:
    """As `revised` says."""
    world.pilot()
    world.publish("2026-04")
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 2, 6522, 652, 7174)}


@pytest.fixture
def revised(world: World) -> World:
    """The pilot's April, and again with 100 hours more: 772 h over for 7.72, GST on 65.22 is 6.52, total 71.74."""
    return world


# Revisions.


@pytest.mark.usefixtures("pilots_april")
def test_a_replaced_revision_is_shown_as_it_stood(world: World, arcadia: Call) -> None:
    """Column by column and line by line what `show` said while it stood, and by what it was replaced."""
    stood = arcadia("show", "pilot", "2026-04", "--json").json()
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")

    past = arcadia("show", "pilot", "2026-04", "--revision", "1", "--json").json()
    replaced = past.pop("replaced")
    assert past == stood
    assert list(past) == list(stood)
    assert (replaced["by_revision"], replaced["operator"], replaced["reason"]) == (2, "month_end", "month end")

    standing = arcadia("show", "pilot", "2026-04", "--json").json()
    assert standing.keys() == INVOICE_KEYS
    assert arcadia("show", "pilot", "2026-04", "--revision", "2", "--json").json() == {**standing, "replaced": None}
    assert replaced["run_id"] == standing["run_id"]
    assert (past["total_cents"], standing["total_cents"]) == (7064, 7174)


@pytest.mark.usefixtures("revised")
def test_people_see_a_replaced_revision_with_its_hash_and_why_it_was_replaced(world: World, arcadia: Call) -> None:
    """6.72 and 70.64 on revision 1, 7.72 and 71.74 on the one that stands."""
    first = text(arcadia("show", "pilot", "2026-04", "--revision", "1"))
    assert any(re.search(r"Overage: droplet_hours .* 672 hour .* 6\.72$", line) for line in first)
    assert any(re.search(r"Total .* 70\.64$", line) for line in first)
    [(sha256,)] = world.query("select content_sha256 from billing.invoice_events where event = 'issued'")
    assert first[-2] == f"Content sha256 {sha256}"
    assert re.match(r"Revision 2 replaced revision 1 on [\d-]+ [\d:]+ UTC, by month_end: month end \(run ", first[-1])

    second = text(arcadia("show", "pilot", "2026-04", "--revision", "2"))
    assert any(re.search(r"Total .* 71\.74$", line) for line in second)
    assert second[-1] == "This revision stands."


@pytest.mark.long
def test_a_draft_that_was_replaced_is_a_revision_too(world: World, arcadia: Call) -> None:
    """`redrafted` keeps what it replaced as `reissued` does."""
    world.pilot()
    world.done("hold_tenant", tenants=["pilot"])
    world.publish("2026-04")
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    assert world.query("select event from billing.invoice_events where period_start is not null order by id") == [
        ("drafted",),
        ("redrafted",),
    ]
    assert arcadia("show", "pilot", "2026-04", "--revision", "1", "--json").json()["total_cents"] == 7064
    assert "Tax invoice without a number for Pilot" in arcadia("show", "pilot", "2026-04", "--revision", "1").out
    [(draft,)] = world.query("select id::text from billing.tenant_invoices")
    assert text(arcadia("explain", draft))[-1] == "Every sum agrees."


@pytest.mark.usefixtures("pilots_april")
def test_an_unknown_revision_is_refused_with_those_that_exist(world: World, arcadia: Call) -> None:
    """Whichever command asks for it; a tenant or month without an invoice is told as by `show`."""
    refused(arcadia("show", "pilot", "2026-04", "--revision", "2"), "no revision 2: there is only 1, the current one")
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    known = "there are 1 and 2, the current one"
    refused(arcadia("show", "pilot", "2026-04", "--revision", "0"), "no revision 0", known)
    refused(arcadia("show", "pilot", "2026-04", "--revision", "3", "--json"), "no revision 3", known)
    refused(arcadia("diff", "pilot", "2026-04", "--from", "7"), "no revision 7", known)
    refused(arcadia("diff", "pilot", "2026-04", "--to", "3"), "no revision 3", known)
    refused(arcadia("diff", "pilot", "2026-04", "--from", "0"), "no revision 0", known)
    refused(arcadia("diff", "nobody", "2026-04"), "no tenant 'nobody'")
    refused(arcadia("show", "pilot", "2026-05", "--revision", "1"), "2026-05 is not invoiced yet")
    refused(arcadia("show", "pilot", "2026-04", "--revision", "first"), "'first' is not a valid integer")


# What changed.


@pytest.mark.usefixtures("pilots_april")
def test_one_revision_is_nothing_to_compare(world: World, arcadia: Call) -> None:
    """No error: it says so, and as JSON there are no changes."""
    assert arcadia("diff", "pilot", "2026-04") == (0, "only one revision: nothing to compare\n", "")
    compared = arcadia("diff", "pilot", "2026-04", "--json").json()
    assert (compared["from"], compared["to"]["revision"], compared["changes"]) == (None, 1, [])


@pytest.mark.usefixtures("revised")
def test_the_last_two_revisions_are_compared(world: World, arcadia: Call) -> None:
    """100 h more at 1 c: the overage is 1.00 more, GST 0.10, the total 1.10; plan and addon are the same."""
    told = text(arcadia("diff", "pilot", "2026-04"))
    cells = [[cell.strip() for cell in line.split("│")] for line in told if "│" in line]
    assert cells == [
        ["web", "Overage: droplet_hours", "6.72", "7.72", "+1.00", "usage"],
        ["GST 10%", "6.42", "6.52", "+0.10", "tax"],
        ["Total, AUD", "70.64", "71.74", "+1.10"],
    ]
    assert told[-3:] == [
        "web, Overage: droplet_hours: used 2,160, then 2,260 hour",
        "GST 10%: 10 % of 64.22, then of 65.22",
        "2 lines are the same.",
    ]
    assert any(line.startswith("Revision 2 replaced revision 1 on ") for line in told)


@pytest.mark.usefixtures("revised")
def test_a_comparison_as_json_has_cents_and_decimals(world: World, arcadia: Call) -> None:
    """Integers and strings, with both revisions' heads and what came between."""
    compared = arcadia("diff", "pilot", "2026-04", "--json").json()
    assert (compared["from"]["revision"], compared["to"]["revision"]) == (1, 2)
    assert (compared["from"]["total_cents"], compared["to"]["total_cents"], compared["difference_cents"]) == (
        7064,
        7174,
        110,
    )
    assert [(step["revision"], step["by_revision"]) for step in compared["replacements"]] == [(1, 2)]
    overage, gst = compared["changes"]
    assert overage == {
        "change": "changed",
        "cause": "usage",
        "deployment_name": "web",
        "kind": "overage",
        "resource_kind": "droplet_hours",
        "description": "Overage: droplet_hours",
        "difference_cents": 100,
        "qty_before": "672.000000",
        "qty_after": "772.000000",
        "unit_before": "hour",
        "unit_after": "hour",
        "unit_price_cents_before": "1.00000000",
        "unit_price_cents_after": "1.00000000",
        "price_per_before": "1.000000",
        "price_per_after": "1.000000",
        "amount_cents_before": 672,
        "amount_cents_after": 772,
        "used_before": "2160.000000",
        "used_after": "2260.000000",
        "included_before": "1488.000000",
        "included_after": "1488.000000",
        "effective_from_before": "2026-01-01",
        "effective_from_after": "2026-01-01",
        "days_before": None,
        "days_after": None,
        "pooled_before": None,
        "pooled_after": None,
    }
    assert (gst["cause"], gst["difference_cents"], gst["deployment_name"]) == ("tax", 10, None)
    assert compared["meta_changes"] == []


@pytest.mark.long
@pytest.mark.usefixtures("revised")
def test_any_two_revisions_are_compared(world: World, arcadia: Call) -> None:
    """Revision 3 has 2 c an hour: 772 x 2 = 15.44. From 1 to 3 usage and price are both the cause: +8.72."""
    world.plan("studio", None, {"droplet_hours": (1488, 2)}, since="2026-04-01")
    world.publish("2026-04")

    def of(*between: str) -> list[tuple[str, int]]:
        changes = arcadia("diff", "pilot", "2026-04", *between, "--json").json()["changes"]
        return [(change["cause"], change["difference_cents"]) for change in changes]

    assert of() == of("--from", "2") == of("--to", "3") == [("price", 772), ("tax", 77)]  # 72.94 x 10 % = 7.29
    assert of("--to", "2") == of("--from", "1", "--to", "2") == [("usage", 100), ("tax", 10)]
    assert of("--from", "1") == [("usage, price", 872), ("tax", 87)]
    assert of("--from", "3", "--to", "1") == [("usage, price", -872), ("tax", -87)]
    assert of("--to", "1") == []
    assert arcadia("diff", "pilot", "2026-04", "--to", "1").out == "revision 1 beside itself: nothing to compare\n"
    told = text(arcadia("diff", "pilot", "2026-04", "--from", "1"))
    assert sum(" replaced revision " in line for line in told) == 2
    assert (
        "web, Overage: droplet_hours: used 2,160, then 2,260 hour; $0.01, then $0.02 per hour;"
        " price in effect since 2026-01-01, then 2026-04-01"
    ) in told


@pytest.mark.usefixtures("pilots_april")
def test_what_the_lines_do_not_show_is_told(world: World, arcadia: Call) -> None:
    """The tenant became GST-free, and its invoice was reopened: its GST line went, and the reason came."""
    world.query("update cloud.tenants set gst_free_reason = 'Exports'")
    for operation in ("void_invoice", "reopen_invoice"):
        world.done(operation, invoices=["INV-202604-00001"])
    world.publish("2026-04")
    told = text(arcadia("diff", "pilot", "2026-04"))
    assert "GST 10%: 10 % of 64.22; not on revision 2" in told
    assert "gst_free_reason: nothing, then Exports" in told
    compared = arcadia("diff", "pilot", "2026-04", "--json").json()
    assert compared["meta_changes"] == [{"name": "gst_free_reason", "before": None, "after": "Exports"}]
    assert [(change["change"], change["cause"]) for change in compared["changes"]] == [("removed", "tax")]


@pytest.mark.long
def test_another_plan_is_a_subscription(world: World, arcadia: Call) -> None:
    """From studio to large, which includes 3,000 h: 90.00 for 50.00, no overage, GST on 97.50 is 9.75."""
    world.pilot()
    world.plan("large", 9000, {"droplet_hours": (3000, 1)})
    world.publish("2026-04")
    world.query("update cloud.subscriptions set plan_id = %s", uid("large"))
    world.publish("2026-04")
    changes = arcadia("diff", "pilot", "2026-04", "--json").json()["changes"]
    assert [(change["description"], change["cause"], change["difference_cents"]) for change in changes] == [
        ("Plan: studio", "subscription", -5000),
        ("Plan: large", "subscription", 9000),
        ("Overage: droplet_hours", "subscription", -672),
        ("GST 10%", "tax", 333),
    ]
    told = text(arcadia("diff", "pilot", "2026-04"))
    assert "web, Plan: large: 1 month; not on revision 1" in told
    assert "web, Overage: droplet_hours: used 2,160, included 1,488, 672 hour over; not on revision 2" in told


@pytest.mark.usefixtures("revised")
def test_an_engine_that_bills_the_same_inputs_otherwise_is_told_as_code(world: World, arcadia: Call) -> None:
    """A cent more on the plan's line: nobody used more, no price changed."""
    world.tamper("update billing.tenant_invoice_lines set amount_cents = 5001 where kind = 'plan_base'")
    told = text(arcadia("diff", "pilot", "2026-04"))
    alarm = "web, Plan: studio: the same inputs come to another amount: the engine was changed; have a developer look"
    assert any(line.startswith(alarm) for line in told)
    changes = arcadia("diff", "pilot", "2026-04", "--json").json()["changes"]
    assert [(change["cause"], change["difference_cents"]) for change in changes] == [
        ("code", 1),
        ("usage", 100),
        ("tax", 10),
    ]


# Where an amount comes from.


@pytest.mark.usefixtures("pilots_april")
def test_an_invoice_is_explained_line_by_line(world: World, arcadia: Call) -> None:
    """The pilot's April: 50.00, 7.50, 672 h beyond the allowance for 6.72, GST on 64.22; 90 records are behind it."""
    ids = [str(record) for (record,) in world.query(RECORDS)]
    told = text(arcadia("explain", "INV-202604-00001"))
    assert told[0] == "Invoice INV-202604-00001 for Pilot"
    [received] = [line for line in told if "usage records" in line]
    assert received.startswith("90 usage records, 2026-04-01 00:00 to 2026-04-30 02:00 UTC, received by 20")
    told.remove(received)
    assert [re.sub(" {2,}", "  ", line) for line in told[2:]] == [
        "1. web, Plan: studio  50.00",
        "1 month x 50.00 = 50.00",
        "price of plan studio: 50.00 per month, since 2026-01-01 (plan_prices)",
        "2. web, Addon: storage_50gb  7.50",
        "1 month x 7.50 = 7.50",
        "price of addon storage_50gb: 7.50 per month, since 2026-01-01 (addon_prices)",
        "3. web, Overage: droplet_hours  6.72",
        "used 2,160 - included 1,488 = 672 hour",
        "672 hour x 0.01 = 6.72",
        "price of plan studio: 0.01 per hour beyond 1,488, since 2026-01-01 (plan_rates)",
        f"2026-04-01 00:00:00  24 hour  {ids[0]}",
        f"2026-04-01 01:00:00  24 hour  {ids[1]}",
        f"2026-04-01 02:00:00  24 hour  {ids[2]}",
        "... 84 more ...",
        f"2026-04-30 00:00:00  24 hour  {ids[-3]}",
        f"2026-04-30 01:00:00  24 hour  {ids[-2]}",
        f"2026-04-30 02:00:00  24 hour  {ids[-1]}",
        "the records sum to 2,160 hour, as billed",
        "4. GST 10%  6.42",
        "64.22 taxable x 10 % = 6.422, rounded half up to the cent: 6.42",
        "The lines sum to 64.22, and 6.42 GST: 70.64 AUD in total, as on the invoice.",
        "Every sum agrees.",
    ]


@pytest.mark.usefixtures("pilots_april")
def test_an_invoice_is_found_by_number_or_id_and_a_line_by_its_id(world: World, arcadia: Call) -> None:
    """The number in small letters too, also of another system; a line is explained alone."""
    world.tenant("other")
    world.query(
        "insert into billing.tenant_invoices select gen_random_uuid(), 'other', period_start, period_end, currency, 0,"
        " 0, 0, status, issued_at, null, null, null, now(), now(), 'man-7', 1, content_sha256, usage_cutoff, run_id"
        " from billing.tenant_invoices"
    )
    assert text(arcadia("explain", "man-7"))[0] == "Invoice man-7 for other"
    [(invoice,)] = world.query("select id::text from billing.tenant_invoices where tenant_id = 'pilot'")
    whole = arcadia("explain", "INV-202604-00001")
    assert arcadia("explain", invoice) == arcadia("explain", "inv-202604-00001") == whole
    [(line,)] = world.query(LINE_ID, 3)
    told = text(arcadia("explain", line))
    assert [entry.split() for entry in told if re.match(r"\d\. ", entry)] == [
        ["3.", "web,", "Overage:", "droplet_hours", "6.72"]
    ]
    assert told[-1] == "Every sum agrees."
    assert not any("taxable" in entry or "The lines sum" in entry for entry in told)
    for unknown in ("INV-202604-00002", str(uid("nobody")), "pilot", ""):
        refused(arcadia("explain", unknown), f"no invoice and no line {unknown!r}")


@pytest.mark.usefixtures("pilots_april")
def test_an_explanation_as_json_has_the_lines_and_what_is_behind_them(world: World, arcadia: Call) -> None:
    """The contract's line, the exact amount, the price row, the records; decimals are strings, cents integers."""
    explained = arcadia("explain", "INV-202604-00001", "--json").json()
    assert (explained["agrees"], explained["disagreements"], explained["invoice"]["total_cents"]) == (True, [], 7064)
    plan, _, overage, gst = explained["lines"]
    assert plan["price"] == {
        "table": "plan_prices",
        "code": "studio",
        "effective_from": "2026-01-01",
        "unit_price_cents": "5000",
        "included": None,
        "unit": "month",
    }
    assert (plan["usage"], plan["correction"]) == (None, None)
    assert (overage["amount_cents"], overage["qty"], overage["price"]["included"]) == (672, "672.000000", "1488.000000")
    assert overage["subscription_id"] == str(uid("web"))
    usage = overage["usage"]
    assert (usage["records"], usage["quantity"], len(usage["shown"])) == (90, "2160.000000", 6)
    assert (usage["first_at"], usage["late_records"]) == ("2026-04-01T00:00:00+00:00", 0)
    assert usage["shown"][0].keys() == {"id", "quantity", "recorded_at"}
    assert (gst["exact_cents"], gst["amount_cents"]) == ("642.20", 642)


@pytest.mark.parametrize(("month", "lines"), [("2026-04", 74), ("2026-07", 88)], ids=["2026-04", "2026-07"])
def test_every_line_of_the_sample_is_explained_and_agrees(sample: World, arcadia: Call, month: str, lines: int) -> None:
    """April, and July with a change of plan, part months, tiers and credit: a line's records are its subscription's.

    The price of a tier or of a cap is no price by itself, and the further tiers of a meter say no usage again.
    """
    sample.publish(month)
    explained = [
        arcadia("explain", number, "--json").json()
        for (number,) in sample.query("select invoice_number from billing.tenant_invoices order by 1")
    ]
    assert sum(len(invoice["lines"]) for invoice in explained) == lines
    for invoice in explained:
        assert invoice["agrees"], invoice["disagreements"]
        for line in invoice["lines"]:
            assert not line["disagreements"]
            by_rule = line["unit"] == "cap" or "model" in line["meta"]
            priced = line["kind"] in ("plan_base", "addon", "overage") and not by_rule
            assert (line["price"] is not None) == priced
            assert (line["usage"] is not None) == (
                line["kind"] == "overage" and line["meta"].get("tier", "0 to ").startswith("0 to ")
            )


def test_half_a_cent_is_told_with_the_rule(sample: World, arcadia: Call) -> None:
    """wattle-site's reprint in March: 62.5 h x 0.744 c = 46.5 c, which is 0.47."""
    sample.publish("2026-03")
    [(line,)] = sample.query(
        "select id::text from billing.tenant_invoice_lines where deployment_name = 'wattle-site' and kind = 'overage'"
    )
    told = text(arcadia("explain", line))
    assert "62.5 hour x 0.00744 = 0.465, rounded half up to the cent: 0.47" in told
    assert "used 806.5 - included 744 = 62.5 hour" in told


@pytest.mark.usefixtures("pilots_april")
def test_records_that_changed_since_do_not_agree(world: World, arcadia: Call) -> None:
    """An hour more, then a droplet's day gone: 2,161 and 2,137 where 2,160 was billed. All is told; the code is 1."""
    world.use("web", "droplet_hours", 1)
    answer = arcadia("explain", "INV-202604-00001")
    assert objections(answer) == ["the records sum to 2,161 hour now, 2,160 was billed: late usage?"]
    assert "64.22 taxable x 10 % = 6.422, rounded half up to the cent: 6.42" in lines_of(answer)

    world.query("delete from cloud.usage_records where recorded_at = '2026-04-07 01:00+00'")
    explained = document(arcadia("explain", "INV-202604-00001", "--json"))
    assert not explained["agrees"]
    assert [line["disagreements"] for line in explained["lines"]] == [
        [],
        [],
        ["the records sum to 2,137 hour now, 2,160 was billed: were records removed or corrected?"],
        [],
    ]
    [(plan,)] = world.query(LINE_ID, 1)
    assert text(arcadia("explain", plan))[-1] == "Every sum agrees."  # nothing is wrong with that line


@pytest.mark.usefixtures("pilots_april")
def test_records_of_no_number_and_none_at_all_do_not_agree(world: World, arcadia: Call) -> None:
    """A record that became NaN cannot be summed; with no record left the sum is 0."""
    world.query("update cloud.usage_records set quantity = 'NaN' where recorded_at = '2026-04-07 01:00+00'")
    assert objections(arcadia("explain", "INV-202604-00001")) == [
        "the records sum to 2,136 hour now, 2,160 was billed: were records removed or corrected?",
        "1 more cannot be summed: NaN, null, infinity, or 1e12 and more",
    ]
    world.query("delete from cloud.usage_records")
    answer = arcadia("explain", "INV-202604-00001")
    assert objections(answer) == ["the records sum to 0 hour now, 2,160 was billed: were records removed or corrected?"]
    assert any(line.startswith("no usage records received by ") for line in lines_of(answer))


@pytest.mark.usefixtures("pilots_april")
def test_records_that_came_after_the_cutoff_are_told_apart(world: World, arcadia: Call) -> None:
    """What was billed is what was there at the cut-off: two late records of 12.5 h are no disagreement."""
    for _ in range(2):
        world.use("web", "droplet_hours", "12.5", ingested_at="9000-01-01 00:00+00")
    told = text(arcadia("explain", "INV-202604-00001"))
    assert "the records sum to 2,160 hour, as billed" in told
    assert "2 more came later, 25 hour in sum: not on this invoice" in told
    world.publish("2026-04")  # stamped ahead of the clock, they count as received now
    for changed in (None, "update cloud.usage_records set ingested_at = now() where ingested_at > now()"):
        if changed:
            world.query(changed)
        assert "the records sum to 2,185 hour, as billed" in text(arcadia("explain", "INV-202604-00001"))


def test_each_of_two_subscriptions_has_its_own_records(world: World, arcadia: Call) -> None:
    """Of one plan, one after the other: 1,500 h up to the 10th, 1,600 h after. A record of the second is changed."""
    world.tenant("pilot")
    world.plan("studio", 5000, {"droplet_hours": (1488, 1)})
    world.deployment("pilot", "web", "studio", end="2026-04-10 00:00+00")
    world.subscribe("again", "pilot", "web", "studio", start="2026-04-10 00:00+00")
    world.use("web", "droplet_hours", 1500, "2026-04-09 23:59:59.999999+00")
    late = world.use("web", "droplet_hours", 1600, "2026-04-10 00:00+00")
    world.use("web", "egress_gb", 5, "2026-04-10 00:00+00")
    world.publish("2026-04")
    assert sorted(world.lines("pilot", "2026-04"))[:2] == [("GST 10%", 1012), ("Overage: droplet_hours", 12)]
    told = text(arcadia("explain", "INV-202604-00001"))
    assert [line for line in told if "as billed" in line] in (
        [f"the records sum to {hours} hour, as billed" for hours in order]
        for order in (("1,500", "1,600"), ("1,600", "1,500"))
    )
    world.query("update cloud.usage_records set quantity = 1601 where id = %s", late)
    answer = arcadia("explain", "INV-202604-00001")
    assert objections(answer) == ["the records sum to 1,601 hour now, 1,600 was billed: late usage?"]
    assert "the records sum to 1,500 hour, as billed" in lines_of(answer)


def test_records_are_in_the_unit_of_their_rate_whatever_the_line_charges(world: World, arcadia: Call) -> None:
    """25 calls are 3 packages of 10, 4 builds a flat fee of 2.00, 9 GB a cap of 0.50: nobody uses 9 caps."""
    world.tenant("pilot")
    world.plan("studio", 5000, {"calls": (0, 100), "builds": (0, 0), "egress": (0, 10)})
    world.query("update cloud.plan_rates set unit = case resource_kind when 'egress' then 'GB' else resource_kind end")
    world.query("update cloud.plan_rates set charge_model = 'package', package_size = 10 where resource_kind = 'calls'")
    world.query("update cloud.plan_rates set charge_model = 'graduated' where resource_kind = 'builds'")
    world.query("update cloud.plan_rates set maximum_cents = 50 where resource_kind = 'egress'")
    world.query(
        "insert into cloud.plan_rate_tiers values (%s, 'builds', '2026-01-01', null, 0, 200)",
        uid("studio"),
    )
    world.deployment("pilot", "web", "studio")
    for kind, quantity in (("calls", 25), ("builds", 4), ("egress", 9)):
        world.use("web", kind, quantity)
    world.publish("2026-04")
    told = text(arcadia("explain", "INV-202604-00001"))
    assert [line for line in told if " x " in line and "month" not in line][:3] == [
        "1 flat fee x 2.00 = 2.00",
        "3 package of 10 calls x 1.00 = 3.00",
        "1 cap x 0.50 = 0.50",
    ]
    assert [line for line in told if "as billed" in line] == [
        "the records sum to 4 builds, as billed",
        "the records sum to 25 calls, as billed",
        "the records sum to 9 GB, as billed",
    ]
    listed = [line.split()[2:4] for line in told if line.startswith("2026-04-15 12:00:00")]
    assert listed == [["4", "builds"], ["25", "calls"], ["9", "GB"]]


@pytest.mark.usefixtures("pilots_april")
def test_a_plan_of_the_same_code_as_another_is_explained_by_its_own_price(world: World, arcadia: Call) -> None:
    """Behind a view two plans are called studio: the pilot's is the one of 50.00; a quote of studio is refused."""
    world.query("alter table cloud.plans drop constraint plans_code_key")
    for name in ("another", "0"):
        world.query("insert into cloud.plans values (%s, 'studio', 'Another')", uid(name))
        world.query("insert into cloud.plan_prices values (%s, '2026-01-01', 9000)", uid(name))
        world.query("insert into cloud.plan_rates values (%s, 'droplet_hours', '2026-01-01', 0, 'hour', 5)", uid(name))
    told = text(arcadia("explain", "INV-202604-00001"))
    assert "price of plan studio: 50.00 per month, since 2026-01-01 (plan_prices)" in told
    assert "price of plan studio: 0.01 per hour beyond 1,488, since 2026-01-01 (plan_rates)" in told
    refused(
        arcadia("quote", "--plan", "studio", "--month", "2026-04"), "plan 'studio' has 3 prices in 2026-04: what it"
    )


@pytest.mark.usefixtures("pilots_april")
def test_a_price_list_that_changed_since_does_not_agree(world: World, arcadia: Call) -> None:
    """For April there is 55.00, 2 c beyond 1,000 and no addon price at all, where 50.00, 1 c and 7.50 was billed."""
    world.plan("studio", 5500, {"droplet_hours": (1000, 2)}, since="2026-04-01")
    world.query("delete from cloud.addon_prices")
    assert objections(arcadia("explain", "INV-202604-00001")) == [
        "price of plan studio for April 2026: 55.00 per month, since 2026-04-01 now (plan_prices); billed was"
        " 50.00 per month, since 2026-01-01",
        "addon storage_50gb has no price for April 2026 now; billed was 7.50 per month, since 2026-01-01",
        "price of plan studio for April 2026: 0.02 per hour beyond 1,000, since 2026-04-01 now (plan_rates); billed"
        " was 0.01 per hour beyond 1,488, since 2026-01-01",
    ]


@pytest.mark.usefixtures("pilots_april")
def test_a_price_rise_of_later_months_changes_nothing(world: World, arcadia: Call) -> None:
    """April is explained by April's prices."""
    world.plan("studio", 5500, {"droplet_hours": (1000, 2)}, since="2026-05-01")
    assert text(arcadia("explain", "INV-202604-00001"))[-1] == "Every sum agrees."


@pytest.mark.usefixtures("pilots_april")
def test_rows_altered_by_hand_do_not_agree(world: World, arcadia: Call) -> None:
    """A cent on the plan, an hour of the overage, and the sums that follow: each is told where it stands."""
    world.tamper("update billing.tenant_invoice_lines set amount_cents = 5001 where kind = 'plan_base'")
    world.tamper("update billing.tenant_invoice_lines set qty = 673 where kind = 'overage'")
    assert objections(arcadia("explain", "INV-202604-00001")) == [
        "1 month x 50.00 = 50.00, but 50.01 stands on the line",
        "used 2,160 - included 1,488 = 672 hour, but 673 stands on the line",
        "673 hour x 0.01 = 6.73, but 6.72 stands on the line",
        "the lines but tax sum to 64.23; GST was computed on 64.22",
        "The lines sum to 64.23, and 6.42 GST: 70.65 AUD. On the invoice: 64.22 + 6.42 = 70.64.",
    ]


@pytest.mark.usefixtures("pilots_april")
def test_a_deployment_that_is_gone_cannot_be_summed_again(world: World, arcadia: Call) -> None:
    """Neither its subscription nor its id is left: the arithmetic is told, and that the usage cannot be."""
    world.tamper("update billing.tenant_invoice_lines set deployment_id = null")
    answer = arcadia("explain", "INV-202604-00001")
    assert objections(answer) == ["its subscription no longer exists: neither its rate nor its usage can be found"]
    assert "672 hour x 0.01 = 6.72" in lines_of(answer)


def test_a_gst_free_and_a_void_invoice_say_so(world: World, arcadia: Call) -> None:
    """No tax line, and why; nothing is owed, and what was once billed."""
    world.pilot()
    world.query("update cloud.tenants set gst_free_reason = 'Exports'")
    world.publish("2026-04")
    world.query("update billing.tenant_invoices set status = 'void'")
    told = text(arcadia("explain", "INV-202604-00001"))
    assert told[-4:] == [
        "The lines sum to 64.22, and 0.00 GST: 64.22 AUD in total, as on the invoice.",
        "There is no GST: Exports.",
        "The invoice is void: nothing of it is owed.",
        "Every sum agrees.",
    ]


def correct(world: World) -> None:
    """As `corrected` says."""
    world.pilot()
    world.publish("2026-04")
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    world.publish("2026-05")


@pytest.fixture
def corrected(world: World) -> World:
    """The pilot's April, paid, and 100 h late: billed 64.22, owed 65.22; May has an adjustment of 1.00."""
    return world


BEGINNINGS = {"revised": revise, "corrected": correct}


def adjustment(world: World) -> str:
    """The id of the line that adjusts."""
    [(line,)] = world.query("select id::text from billing.tenant_invoice_lines where kind = 'adjustment'")
    return str(line)


@pytest.mark.usefixtures("corrected")
def test_an_adjustment_names_what_it_corrects(world: World, arcadia: Call) -> None:
    """April billed 64.22 and owed 65.22: May carries the 1.00. When 65.72 is owed, 0.50 is left for a later invoice."""
    line = adjustment(world)
    assert text(arcadia("explain", line))[3:] == [
        "1 x 1.00 = 1.00",
        "corrects April 2026, invoice INV-202604-00001, which stays as it is",
        "that month, ex GST: billed 64.22, owed 65.22, difference 1.00 (invoice_corrections)",
        "the lines that correct it sum to 1.00: nothing is left to correct",
        "Every sum agrees.",
    ]
    assert text(arcadia("explain", "INV-202605-00001"))[-1] == "Every sum agrees."

    world.use("web", "droplet_hours", 50)
    world.publish("2026-04")
    rest = "the lines that correct it sum to 1.00, so 0.50 is for a later invoice"
    assert objections(arcadia("explain", line)) == [rest]
    assert document(arcadia("explain", line, "--json"))["lines"][0]["correction"] == {
        "billed_cents": 6422,
        "owed_cents": 6572,
        "difference_cents": 150,
        "carried_cents": 100,
    }
    world.publish("2026-05")
    told = text(arcadia("diff", "pilot", "2026-05"))
    assert "Adjustment: 2026-04, INV-202604-00001: 1.00, then 1.50" in told
    assert [change["cause"] for change in arcadia("diff", "pilot", "2026-05", "--json").json()["changes"]] == [
        "correction",
        "tax",
    ]


@pytest.mark.usefixtures("corrected")
def test_a_credit_without_a_correction_left_says_so(world: World, arcadia: Call) -> None:
    """The late hours are taken back: nothing is to be corrected in April, and the 1.00 of May is to be given back."""
    line = adjustment(world)
    world.use("web", "droplet_hours", -100)
    world.publish("2026-04")
    answer = arcadia("explain", line)
    assert objections(answer) == ["the lines that correct it sum to 1.00, so -1.00 is for a later invoice"]
    assert "invoice_corrections has no difference for that month any more" in lines_of(answer)

    world.done("mark_invoice_paid", invoices=["INV-202605-00001"])
    world.publish("2026-06")
    [(credit,)] = world.query("select id::text from billing.tenant_invoice_lines where kind = 'credit'")
    told = text(arcadia("explain", credit))
    assert "1 x -1.00 = -1.00" in told
    assert "the lines that correct it sum to 0.00: nothing is left to correct" in told


@pytest.mark.usefixtures("corrected")
def test_an_adjustment_by_hand_names_no_month(world: World, arcadia: Call) -> None:
    """There is no more to tell than its arithmetic."""
    line = adjustment(world)
    world.tamper("update billing.tenant_invoice_lines set meta = '{}' where kind = 'adjustment'")
    assert text(arcadia("explain", line))[3:] == [
        "1 x 1.00 = 1.00",
        "the line does not say which month it corrects",
        "Every sum agrees.",
    ]
