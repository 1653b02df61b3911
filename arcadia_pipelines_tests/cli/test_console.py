"""Tables for people, on terminals that are narrow: what is folded, what never is, and what is left out."""

import pytest

from arcadia_pipelines.cli.console import print_table

AMOUNTS = ("-12,345,678.90", "1,234,567,890.12", "99,999,999.99")


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, *table: object, **more: object
) -> list[str]:
    """The lines that a terminal of so many columns is given."""
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(*table, **more)  # type: ignore[arg-type]
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("columns", [120, 80, 40, 1])
def test_no_number_is_cut_off_or_folded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """Seven of them beside an id of 36 characters, and a sum: each is whole, on its row's line; the id is folded."""
    headings = ("id", "invoices", "new", "revised", "kept", "subtotal", "GST", "total, AUD")
    row = ("6e7e06c9-6e23-ca68-fff7-48d24473ba98", "100,000", "100,000", "0", "1", *AMOUNTS)
    sums = [("", "200,000", "200,000", "0", "2", *AMOUNTS)]
    lines = printed(monkeypatch, capsys, columns, headings, [row], numbers=headings[1:], sums=sums)
    cells = [line.replace("│", " ").split() for line in lines]
    assert [found[-7:] for found in cells if found[-3:] == list(AMOUNTS)] == [list(row[1:]), list(sums[0][1:])]
    assert row[0] in "".join(found[0] for found in cells if found)
    assert "…" not in "".join(lines)


def test_the_widest_table_fits_80_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`arcadia invoice`'s: of 100,000 tenants without lines between its columns, of 15 tenants with them."""
    headings = ("month", "invoices", "new", "revised", "kept", "subtotal", "GST", "total")
    large = ("2026-04", "100,000", "100,000", "0", "0", "5,123,456.78", "512,345.68", "5,635,802.46")
    lines = printed(monkeypatch, capsys, 80, headings, [large], numbers=headings[1:], title="Invoices, AUD")
    assert lines[-1].split() == list(large)
    assert max(map(len, lines)) <= 80
    small = ("2026-04", "15", "15", "0", "0", "964.22", "96.42", "1,060.64")
    lines = printed(monkeypatch, capsys, 80, headings, [small], numbers=headings[1:])
    assert [cell.strip() for cell in lines[-2].split("│")] == ["", *small, ""]
    assert max(map(len, lines)) <= 80


def test_columns_with_nothing_in_them_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of texts and of numbers; one cell, or one sum, is enough to stay."""
    rows = [("a", "", "", "1"), ("b", "", "", "")]
    lines = printed(monkeypatch, capsys, 80, ("name", "note", "cost", "rate"), rows, numbers=("cost", "rate"))
    assert lines[1].replace("┃", " ").split() == ["name", "rate"]
    sums = [("", "", "7.00", "")]
    lines = printed(monkeypatch, capsys, 80, ("name", "note", "cost", "rate"), rows, numbers=("cost",), sums=sums)
    assert lines[1].replace("┃", " ").split() == ["name", "cost", "rate"]
    assert printed(monkeypatch, capsys, 80, ("name",), []) == [""]


def test_a_long_name_is_folded_and_not_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In wide characters too, which take two columns each."""
    name = "雪" * 50
    lines = printed(monkeypatch, capsys, 40, ("name", "total"), [(name, "1,234,567.89")], numbers=("total",))
    assert sum(line.count("雪") for line in lines) == 50
    assert len([line for line in lines if "1,234,567.89" in line]) == 1
