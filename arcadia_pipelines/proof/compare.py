"""Two revisions of an invoice side by side: which lines differ, by how much, and why.

Belongs here: matching lines and naming the cause. Does not: reading revisions (history.py), words for people
(cli/history.py), whether a month's invoice is to be replaced (billing/reconcile.py).
"""

import re
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from arcadia_pipelines.billing.money import CENTS, COUNT, QUANTITY, TEXT, Series, repeat, to_arrow, to_pandas

_UNIT_PRICE = pa.decimal128(27, 8)  # as on invoice lines

LINES = pa.schema(
    [
        ("line_no", COUNT),
        ("deployment_id", TEXT),  # null: none, or deleted since
        ("deployment_name", TEXT),
        ("kind", TEXT),
        ("resource_kind", TEXT),
        ("description", TEXT),
        ("qty", QUANTITY),
        ("unit", TEXT),
        ("unit_price_cents", _UNIT_PRICE),
        ("price_per", QUANTITY),
        ("amount_cents", CENTS),
        ("meta", TEXT),
        ("used", QUANTITY),  # these are from the meta; null where the line has none
        ("included", QUANTITY),
        ("effective_from", TEXT),
        ("days", TEXT),
        ("pooled", QUANTITY),
    ]
)
"""One row per line of one invoice."""

_VALUES = [
    ("qty", QUANTITY),
    ("unit", TEXT),
    ("unit_price_cents", _UNIT_PRICE),
    ("price_per", QUANTITY),
    ("amount_cents", CENTS),
    ("used", QUANTITY),
    ("included", QUANTITY),
    ("effective_from", TEXT),
    ("days", TEXT),
    ("pooled", QUANTITY),
]
CHANGES = pa.schema(
    [
        ("change", TEXT),  # changed, added or removed
        ("cause", TEXT),
        ("deployment_name", TEXT),
        ("kind", TEXT),
        ("resource_kind", TEXT),
        ("description", TEXT),
        ("difference_cents", CENTS),
        *((f"{name}_{when}", of) for name, of in _VALUES for when in ("before", "after")),
    ]
)
"""One row per line that differs, in the order of the later revision; a side without the line has nulls."""

_KEY = ["deployment", "kind", "resource_kind", "description", "nth"]


def compare(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """The lines (LINES) that differ between two revisions of one invoice, as CHANGES.

    Lines are matched by deployment, kind, resource kind and description; several equal ones in order. Causes, more than
    one with commas between:

    - usage: the used quantity differs, or what the tenant's pool covers of it
    - price: the unit price, the allowance or the effective_from differs
    - subscription: a plan or addon came, went, or has another quantity or number of days; also overage of such a plan
    - usage or price: an overage line came or went though its plan stayed; the revision without it does not say which
    - discount: a discount came, went, or takes off another amount
    - commitment: something else is missing from a commitment
    - manual line: what an operator entered came, went or moved
    - credit: promotional credit pays another amount
    - correction: any other adjustment or credit
    - tax: GST is on another taxable sum, or GST came or went
    - code: the same inputs gave another result, so the engine was changed
    """
    both = _keyed(before, after).merge(_keyed(after, before), on=_KEY, how="outer", suffixes=("_before", "_after"))
    matched = both["line_no_before"].notna() & both["line_no_after"].notna()
    differs = _any_differs(both, "qty", "unit", "unit_price_cents", "price_per", "amount_cents", "meta")
    change = repeat("changed", TEXT, both)
    change = change.mask(both["line_no_before"].isna(), "added").mask(both["line_no_after"].isna(), "removed")
    changes = both.assign(
        change=change,
        cause=_causes(both, matched, taxed_alike=_taxable(before) == _taxable(after)),
        deployment_name=both["deployment_name_after"].fillna(both["deployment_name_before"]),
        difference_cents=both["amount_cents_after"].fillna(0) - both["amount_cents_before"].fillna(0),
        place=both["line_no_after"].fillna(both["line_no_before"]),
    )[differs | ~matched].sort_values(["place", "change"], ascending=[True, False], kind="stable", ignore_index=True)
    for column in ("resource_kind", "deployment_name"):
        changes[column] = changes[column].mask(changes[column] == "")
    return to_pandas(to_arrow(changes, CHANGES))


def unseen(before: Mapping[str, object], after: Mapping[str, object]) -> list[tuple[str, object, object]]:
    """What differs in the `meta` of two revisions, and no line shows: each name, with the value before and after.

    The reason that there is no GST is one of them. None where a revision lacks the name.
    """
    names = sorted(before.keys() | after.keys())
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _keyed(lines: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The lines with the key to match them by. A deleted deployment is known by its name."""
    known = pd.concat([lines, other]).dropna(subset=["deployment_id", "deployment_name"])
    ids = known.drop_duplicates("deployment_name").set_index("deployment_name")["deployment_id"]
    names = lines["deployment_name"].fillna("")
    deployment = lines["deployment_id"].fillna(names.map(ids.to_dict()).astype(pd.ArrowDtype(TEXT))).fillna(names)
    keyed = lines.assign(deployment=deployment, resource_kind=lines["resource_kind"].fillna("")).sort_values("line_no")
    nth = keyed.groupby([key for key in _KEY if key != "nth"], sort=False).cumcount()
    return keyed.assign(nth=nth)


def _causes(both: pd.DataFrame, matched: Series, taxed_alike: bool) -> Series:
    """Why each pair differs, if it does."""
    kind = both["kind"]
    overage = kind == "overage"
    replanned = overage & both["deployment"].isin(both["deployment"][(kind == "plan_base") & ~matched])
    supplied = kind.isin(["plan_base", "addon"])
    lasted = _any_differs(both, "days")
    price = (supplied | overage) & _any_differs(both, "unit_price_cents", "effective_from")
    price |= overage & (_any_differs(both, "unit") | _any_differs(both, "included") & ~lasted)
    carried, meta = kind.isin(["adjustment", "credit"]), both["meta_after"].fillna(both["meta_before"]).fillna("")
    says = {name: meta.str.contains(f'"{name}": ', regex=False) for name in ("manual_line", "grant")}
    causes = {
        "usage": overage & matched & _any_differs(both, "used", "pooled"),
        "price": price & matched & ~replanned,
        "subscription": (supplied & (~matched | _any_differs(both, "qty", "unit", "price_per")))
        | (overage & matched & lasted)
        | (replanned & (price | ~matched)),
        "usage or price": overage & ~matched & ~replanned,
        "discount": kind == "discount",
        "commitment": kind == "commitment",
        "manual line": carried & says["manual_line"],
        "credit": carried & says["grant"] & ~says["manual_line"],
        "correction": carried & ~says["grant"] & ~says["manual_line"],
        "tax": (kind == "tax") & (~matched | (not taxed_alike)),
    }
    text = repeat("", TEXT, both)
    for name, applies in causes.items():
        text = text.mask(applies, text + ", " + name)
    return text.mask(text == "", ", code").str.slice(2)


def _any_differs(both: pd.DataFrame, *columns: str) -> Series:
    """Whether one of the columns differs; null differs from any value."""
    found = pd.Series(False, index=both.index)
    for column in columns:
        one, other = both[f"{column}_before"], both[f"{column}_after"]
        found |= (one != other).fillna(False).astype(bool) | (one.isna() != other.isna())
    return found


def _taxable(lines: pd.DataFrame) -> int:
    """The taxable cents: what the tax line says, or else the sum of the other lines."""
    is_tax = lines["kind"] == "tax"
    said = re.search(r'"taxable_cents": (-?\d+)', " ".join(lines["meta"][is_tax].dropna()))
    return int(said[1]) if said else int(lines["amount_cents"][~is_tax].sum())
