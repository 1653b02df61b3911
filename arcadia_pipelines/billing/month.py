"""The billing month: a calendar month in UTC, half open. Its Dagster partitions are in pipeline/partitions.py."""

import datetime as dt
import re
from dataclasses import dataclass

from arcadia_pipelines.errors import Refused


class InvalidMonth(Refused, ValueError):
    """The text names no calendar month."""


@dataclass(frozen=True, order=True)
class BillingMonth:
    """The period [start, end): from the first day 00:00 UTC to the first day of the next month 00:00 UTC."""

    start: dt.date

    @classmethod
    def parse(cls, text: str) -> "BillingMonth":
        """The month that `2026-04` or `2026-04-01` names. Raises InvalidMonth."""
        match = re.fullmatch(r"(\d{4})-(\d{2})(-01)?", text.strip(), re.ASCII)
        if match is None or not 1 <= int(match[2]) <= 12 or not 1900 <= int(match[1]) <= 9998:
            raise InvalidMonth(f"{text!r} is not a month: write it like 2026-04")
        return cls(dt.date(int(match[1]), int(match[2]), 1))

    @classmethod
    def parse_range(cls, text: str) -> "list[BillingMonth]":
        """The months from the first to the last of `2026-01..2026-10`, or `2026-04` alone. Raises InvalidMonth."""
        first, _, last = text.partition("..")
        months, until = [cls.parse(first)], cls.parse(last or first)
        if until < months[0]:
            raise InvalidMonth(f"{text} ends before it begins")
        while months[-1] < until:
            months.append(cls(months[-1].end))
        return months

    @property
    def end(self) -> dt.date:
        """First day of the next month."""
        return dt.date(self.start.year + self.start.month // 12, self.start.month % 12 + 1, 1)

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.end - self.start).days

    @property
    def before(self) -> "BillingMonth":
        """The month before."""
        return BillingMonth((self.start - dt.timedelta(days=1)).replace(day=1))

    @property
    def key(self) -> str:
        """The Dagster partition key, which is `period_start`: 2026-04-01."""
        return self.start.isoformat()

    def __str__(self) -> str:
        return f"{self.start:%Y-%m}"
