"""Sheets (CSV): whatever a text holds and a program splits at, it stays one cell, or at least runs as no formula."""

import csv
import io
import random
import re
from decimal import Decimal

import psycopg
import pytest

from arcadia_pipelines.exports import sheets

COLUMNS = ["number", "name", "total"]
EVIL = [
    "=1+2",
    "Reef Labs;=1+2",
    "Reef Labs\t=1+2",
    "Reef Labs\n=1+2",
    "Reef Labs\r\n+1+2",
    "Reef Labs; @SUM(A1)",
    "Reef Labs,-1",
    "Reef Labs|=1",
    'Reef;"=1+2',
    '";=1+2;"',
    'a","=1+2","',
    "a;;\t;=1",
    "\t=1",
    " \u00a0=1",
    "\ufeff=1",
    "\u2028=1",
    "a\x0b=1",
    "\uff1d1",
    "x;\uff0b1",
    ";=1",
]


def test_a_text_is_quoted_a_number_is_not_and_a_formula_begins_with_an_apostrophe() -> None:
    """By hand: what the rows of a sheet with bad names come to."""
    names = ["=1+2", "Reef Labs;=1+2", "Reef Labs\t=1+2", "Jo\n-1", 'Smith, "Jo" & co', "", None]
    rows = [{"number": f"INV-{n}", "name": name, "total": sheets.dollars(-6050)} for n, name in enumerate(names)]
    assert sheets.header(COLUMNS) + sheets.lines(COLUMNS, rows) == (
        "\ufeffnumber,name,total\r\n"
        '"INV-0","\'=1+2",-60.50\r\n'
        '"INV-1","Reef Labs;\'=1+2",-60.50\r\n'
        '"INV-2","Reef Labs\t\'=1+2",-60.50\r\n'
        '"INV-3","Jo\n\'-1",-60.50\r\n'
        '"INV-4","Smith, ""Jo"" & co",-60.50\r\n'
        '"INV-5","",-60.50\r\n'
        '"INV-6",,-60.50\r\n'
    )


@pytest.mark.parametrize("text", EVIL)
def test_no_cell_is_a_formula_whatever_a_program_splits_at(text: str) -> None:
    """In the first cell or in a later one, split at one character, at line breaks, or at all of them with quotes."""
    row: dict[str, sheets.Cell] = {"number": text, "name": text, "total": Decimal(-1)}
    sheet = sheets.lines(COLUMNS, [row])
    cells = [
        cell for by in ",;\t|" for line in csv.reader(io.StringIO(sheet, newline=""), delimiter=by) for cell in line
    ]
    for line in sheet.splitlines():
        cells += [cell.strip('"') for cell in line.split(",")] + re.split("[;\t|]", line)
    cells = [cell for cell in cells if cell.strip() not in ("-1", "-1.00")]  # the number
    assert [cell for cell in cells if cell.lstrip(' "\u00a0\ufeff').startswith(tuple("=+-@\uff1d\uff0b"))] == []


@pytest.mark.parametrize("text", EVIL)
def test_a_text_is_one_cell_where_quotes_count_and_the_amount_stays_in_its_column(text: str) -> None:
    """Split at commas, semicolons and tabs at once, as LibreOffice proposes."""
    line = sheets.lines(COLUMNS, [{"number": "INV-1", "name": text, "total": Decimal("60.50")}]).removesuffix("\r\n")
    cells = re.findall(r'(?:^|[;,\t])("(?:[^"]|"")*"|[^";,\t]*)', line)
    assert (cells[0], len(cells), cells[2]) == ('"INV-1"', 3, "60.50")


def test_postgresql_finds_formulas_where_python_does(server_url: str) -> None:
    """Some thousand texts of what matters: the same apostrophes by both."""
    chance = random.Random(17)
    alphabet = ";,|\t\n\r\x0b\x0c\x1c\x85\u2028 \xa0\u3000\ufeff\"'=+-@\uff1d\uff0bab1"
    texts = ["".join(chance.choices(alphabet, k=chance.randint(0, 7))) for _ in range(5000)] + EVIL
    with psycopg.connect(server_url) as connection:
        found = connection.execute(
            "select substr(regexp_replace(';' || t, %s, %s, 'g'), 2) from unnest(%s::text[]) with ordinality x (t, n)"
            " order by n",
            [sheets.BEFORE_FORMULA, sheets.WITH_APOSTROPHE, texts],
        ).fetchall()
    assert sum("'" in text for (text,) in found) > 1000
    for text, (by_postgresql,) in zip(texts, found, strict=True):
        quoted = by_postgresql.replace('"', '""')
        assert sheets.lines(["a"], [{"a": text}]) == f'"{quoted}"\r\n'
