"""What was found about a line or an invoice, as sentences, with the facts behind them.

Belongs here: what explanations of every kind are made of. Does not: their words (charges.py, terms.py, carried.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from arcadia_pipelines.proof.facts import Correction, Entered, Price, Subscription, Term, Usage

Line = Mapping[str, Any]
"""A line as from facts.worked_out."""


@dataclass
class Findings:
    """What was found, in sentences; `disagreements` are the sentences about sums that do not agree."""

    sentences: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A fact."""
        self.sentences.append(text)

    def object_to(self, text: str) -> None:
        """A sum that does not agree."""
        self.sentences.append(text)
        self.disagreements.append(text)


@dataclass
class Explanation(Findings):
    """A line, and the price, subscription, correction, or discount or commitment behind it, if its kind has them."""

    line: Line = field(default_factory=dict)
    price: Price | None = None
    subscription: Subscription | None = None
    correction: Correction | None = None
    term: Term | None = None
    entered: Entered | None = None
    """The manual line or the grant of promotional credit."""

    @property
    def usage(self) -> Usage | None:
        """The records behind an overage line, even if there are none; None without a subscription to look for."""
        if self.subscription is None:
            return None
        return self.subscription.usage.get(self.line["resource_kind"], Usage())


Prices = Mapping[tuple[str, str], Sequence[Price]]


def meta_quantity(line: Line, name: str) -> Decimal | None:
    """A number that the line's meta has as text; None where it has none."""
    value = line["meta"].get(name)
    return None if value is None else Decimal(value)
