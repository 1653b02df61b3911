"""A control: a query that looks for what must not be, written apart from the code that it watches; and what it finds.

Belongs here: what every control has. Does not: the controls themselves, by what they are of (usage_controls.py,
invoice_controls.py, cost_controls.py, finance_controls.py), and running them (controls.py).

A control's query selects offenders, worst first; none is the good answer. Takes `month`, `first` (dates: this month,
the first billing month), `start`, `end` and `cutoff` (instants).
"""

from dataclasses import dataclass

MOST_SHOWN = 20


@dataclass(frozen=True)
class Control:
    """One thing that must hold for a month of an asset."""

    name: str
    asset: str
    description: str
    query: str
    remedy: str
    blocking: bool = False
    """Part of the release gate: what is downstream in the run does not start."""
    warning: bool = False
    unless: str | None = None
    """A quicker query, whose truth says that there are no offenders."""
    reads: tuple[str, ...] = ()
    """Of a blocking one: the tables whose rows of the month it is about."""


@dataclass(frozen=True)
class Finding:
    """The offenders: how many, and the first 20 as column name to value."""

    count: int
    offenders: list[dict[str, object]]
