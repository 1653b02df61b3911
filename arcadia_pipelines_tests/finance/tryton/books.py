"""What an accountant sets up in an empty Tryton: a company in Australia, a small chart of accounts, GST, a year."""

import datetime as dt
from decimal import Decimal
from typing import Any

from arcadia_pipelines.finance.tryton.rpc import Rpc

Values = dict[str, Any]


def keep_books(rpc: Rpc, login: str, password: str) -> None:
    """Set up what invoices need, and a user for us, as the database's first user.

    The company is in the context from then on.
    """
    [currency] = _made(
        rpc,
        "currency.currency",
        {"name": "Australian Dollar", "code": "AUD", "numeric_code": "036", "symbol": "$", "rounding": Decimal("0.01")},
    )
    [party] = _made(rpc, "party.party", {"name": "Arcadia Cloud Pty Ltd"})
    [company] = _made(
        rpc, "company.company", {"party": party, "currency": currency, "timezone": "UTC", "cancel_invoice_out": True}
    )
    [user] = _found(rpc, "res.user", [["login", "=", "admin"]])
    rpc.change("model.res.user.write", [user], {"companies": [["add", [company]]], "company": company})
    rpc.context["company"] = company
    [accounting] = _found(rpc, "res.group", [["name", "=", "Accounting"]])
    ours = {"companies": [["add", [company]]], "company": company, "groups": [["add", [accounting]]]}
    _made(rpc, "res.user", {"name": "Arcadia", "login": login, "password": password, **ours})
    accounts = _accounts(rpc, company)
    _gst(rpc, company, accounts["GST"])
    for year in _years():
        _year(rpc, company, year)
    [journal] = _found(rpc, "account.journal", [["type", "=", "cash"]])
    bank = {"debit_account": accounts["Bank"], "credit_account": accounts["Bank"]}
    _made(rpc, "account.invoice.payment.method", {"name": "Transfer", "company": company, "journal": journal, **bank})
    rpc.change(
        "model.account.configuration.write",
        [1],
        {
            "default_account_receivable": accounts["Trade debtors"],
            "default_category_account_revenue": accounts["Cloud services"],
        },
    )


def _accounts(rpc: Rpc, company: int) -> dict[str, int]:
    types: dict[str, Values] = {
        "Assets": {"statement": "balance", "assets": True, "receivable": True},
        "Taxes": {"statement": "balance"},
        "Sales": {"statement": "income", "revenue": True},
        "Cash": {"statement": "balance", "assets": True},
    }
    rows = [{"name": name, "company": company, **values} for name, values in types.items()]
    assets, taxes, sales, cash = _made(rpc, "account.account.type", *rows)
    names = ("Trade debtors", "GST", "Cloud services", "Bank")
    shared = {"company": company}
    made = _made(
        rpc,
        "account.account",
        {
            "name": "Trade debtors",
            "code": "1-1200",
            "type": assets,
            "reconcile": True,
            "party_required": True,
            **shared,
        },
        {"name": "GST", "code": "2-1200", "type": taxes, **shared},
        {"name": "Cloud services", "code": "4-1000", "type": sales, **shared},
        {"name": "Bank", "code": "1-1100", "type": cash, **shared},
    )
    return dict(zip(names, made, strict=True))


def _gst(rpc: Rpc, company: int, account: int) -> None:
    _made(
        rpc,
        "account.tax",
        {
            "name": "GST",
            "description": "GST 10%",
            "company": company,
            "type": "percentage",
            "rate": Decimal("0.1"),
            "invoice_account": account,
            "credit_note_account": account,
        },
    )


def _years() -> range:
    """The calendar years that are needed, whatever day it is: invoices are of today, or of the tests' own days."""
    return range(2025, dt.datetime.now(dt.UTC).year + 2)


def _year(rpc: Rpc, company: int, year: int) -> None:
    shared = {"company": company}
    types = rpc.read("model.ir.sequence.type.search_read", [], 0, None, None, ["name"])
    of = {row["name"]: row["id"] for row in types}
    moves, invoices, notes = _made(
        rpc,
        "ir.sequence.strict",
        *(
            {"name": f"{name} {year}", "sequence_type": of[kind], "prefix": prefix, **shared}
            for name, kind, prefix in (
                ("Moves", "Account Move", ""),
                ("Invoices", "Invoice", f"{year}-"),
                ("Credit notes", "Invoice", f"{year}-C"),
            )
        ),
    )
    sequences = {
        "in_invoice_sequence": invoices,
        "out_invoice_sequence": invoices,
        "in_credit_note_sequence": notes,
        "out_credit_note_sequence": notes,
    }
    [made] = _made(
        rpc,
        "account.fiscalyear",
        {
            "name": str(year),
            "start_date": dt.date(year, 1, 1),
            "end_date": dt.date(year, 12, 31),
            "move_sequence": moves,
            "invoice_sequences": [["create", [{**sequences, **shared}]]],
            **shared,
        },
    )
    rpc.change("model.account.fiscalyear.create_period", [made], 1)


def _made(rpc: Rpc, model: str, *rows: Values) -> list[int]:
    made: list[int] = rpc.change(f"model.{model}.create", list(rows))
    return made


def _found(rpc: Rpc, model: str, domain: list[Any]) -> list[int]:
    found: list[int] = rpc.read(f"model.{model}.search", domain)
    return found
