"""The billing month as Dagster's partition. Its key is `period_start`: 2026-04-01.

The running month is not a partition: it cannot be billed before it is over.
"""

import dagster as dg

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import Refused
from arcadia_pipelines.pipeline import failures
from arcadia_pipelines.settings import Settings

MONTHS = dg.MonthlyPartitionsDefinition(start_date=Settings.from_environment().first_month.key, timezone="UTC")


class NotBillable(Refused):
    """The month is before the first billing month, or not over; the message says which can be billed."""


def month_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> BillingMonth:
    """The month that the step is for. A run that was launched by a tag may name any: the step refuses a wrong one."""
    with failures.marking_refusals():
        month = BillingMonth.parse(context.partition_key)
        refuse_unless_billable(month)
    return month


def refuse_unless_billable(month: BillingMonth) -> None:
    """Raise NotBillable for a month that is not over, or before the first."""
    if month.key not in MONTHS.get_partition_keys():
        last = MONTHS.get_last_partition_key()
        raise NotBillable(
            f"{month} cannot be invoiced: the first billing month is {BillingMonth(MONTHS.start.date())} and the last"
            f" that is over is {BillingMonth.parse(last) if last else 'before it'}"
        )
