"""`arcadia finance push`, `status` and `reconcile`."""

import json

from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.finance.receiver import TOKEN, Receiver, commit_and_drop, drop
from arcadia_pipelines_tests.world import World


def test_push_status_and_reconcile_tell_programs_what_they_did(
    pilots_april: World, finance: Receiver, arcadia: Call
) -> None:
    finance.trouble = commit_and_drop
    first = arcadia("finance", "push", "2026-04", "--json").json()
    assert (first["told"], first["open"]) == ({"pending": 0, "uncertain": 1, "confirmed": 0, "refused": 0}, 1)
    finance.trouble = lambda call: call.do()
    assert arcadia("finance", "push", "--json").json() == {
        "told": {"pending": 0, "uncertain": 0, "confirmed": 1, "refused": 0},
        "open": 0,
        "last_error": None,
    }
    [row] = arcadia("finance", "status", "2026-04", "--json").json()["rows"]
    assert (row["month"], row["operation"], row["state"], row["rows"]) == ("2026-04", "put", "confirmed", 1)
    agreed = arcadia("finance", "reconcile", "2026-04", "--json").json()
    assert agreed == {
        "agrees": True,
        "months": [
            {
                "month": "2026-04",
                "ours": 1,
                "theirs": 1,
                "ours_cents": 7064,
                "theirs_cents": 7064,
                "paid": [],
                "missing": [],
                "extra": [],
                "different": [],
            }
        ],
    }


def test_people_read_sentences_and_tables(pilots_april: World, finance: Receiver, arcadia: Call) -> None:
    assert arcadia("finance", "status").out == "Finance was told nothing yet.\n"
    assert arcadia("finance", "push", "2026-04").out == "1 row confirmed, 0 refused, 0 still to be told.\n"
    assert "2026-04 │ put  │ confirmed" in arcadia("finance", "status").out
    finance.invoices.clear()
    differs = arcadia("finance", "reconcile")
    assert (differs.code, differs.err) == (1, "arcadia: finance differs in 1 invoice: see docs/finance.md\n")
    assert "missing │ INV-202604-00001 │ pilot" in differs.out
    [month] = json.loads(arcadia("finance", "reconcile", "--json").out)["months"]
    assert (month["missing"], month["extra"]) == (
        [{"invoice": "INV-202604-00001", "tenant_id": "pilot", "what": "finance does not have it"}],
        [],
    )


def test_without_a_finance_each_says_so(pilots_april: World, arcadia: Call) -> None:
    unset = "ARCADIA_FINANCE_URL is not set: finance is told nothing"
    assert arcadia("finance", "status").out == f"{unset}.\n"
    for command in ("push", "reconcile"):
        assert arcadia("finance", command, "2026-04")[::2] == (1, f"arcadia: {unset}\n")


def test_a_token_is_not_sent_in_the_clear(pilots_april: World, arcadia: Call) -> None:
    answer = arcadia("finance", "push", ARCADIA_FINANCE_URL="http://finance.example.com", ARCADIA_FINANCE_TOKEN=TOKEN)
    assert answer[::2] == (1, "arcadia: ARCADIA_FINANCE_URL must be an https address: the token is sent there\n")


def test_what_is_left_is_said_with_the_last_error(pilots_april: World, finance: Receiver, arcadia: Call) -> None:
    finance.trouble = drop
    assert arcadia("finance", "push").out.startswith(
        "0 rows confirmed, 0 refused, 1 still to be told.\nLast error: finance the connection was lost"
    )
