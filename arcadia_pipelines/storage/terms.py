"""The terms of tenants in a month: the discounts and the commitments in effect, and what is wrong with them.

Belongs here: reading them from the platform's tables, which may be views that show anything. Does not: what they make
of a month's charges (billing/discounts.py, billing/commitments.py).
"""

from typing import NamedTuple

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.commitments import COMMITMENTS
from arcadia_pipelines.billing.discounts import DISCOUNTS
from arcadia_pipelines.billing.money import Series
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.kinds import SUPPLY

# Of one that begins or ends within a month it cannot be told which months it is for: it counts for both, as wrong.
_IN_EFFECT = """
    tenant_id is not null and coalesce(starts_on, '-infinity') < %(month)s::date + interval '1 month'
    and coalesce(ends_on, 'infinity') > %(month)s::date
"""
_WRONG_MONTHS = """
    when id is null then 'has no id'
    when twice then 'is there more than once'
    when starts_on is null or extract(day from starts_on) is distinct from 1 or starts_on < '0001-01-01'
        then 'has a starts_on that is not the first of a month'
    when ends_on < 'infinity' and extract(day from ends_on) <> 1 then 'has an ends_on that is not the first of a month'
"""
_MOST_CENTS = 10**15
"""The most that a commitment can be, ten million million dollars; a tenant's sum to at most a hundred times that."""
DISCOUNTS_IN_EFFECT = f"""
    select id, tenant_id, deployment_id, line_kind, resource_kind,
           case when wrong is null then percent::numeric(7, 4) end as percent,
           case when wrong is null then amount_cents::bigint end as amount_cents, starts_on, description, wrong
    from (
        select *, case
            {_WRONG_MONTHS}
            when num_nonnulls(percent, amount_cents) <> 1 then 'has both, or neither, of percent and amount_cents'
            when not (percent between 0 and 100 and percent = round(percent, 4))
                then 'has a percent that is not from 0 to 100, to 4 decimals'
            when not (amount_cents between 0 and 9223372036854775807 and amount_cents = trunc(amount_cents))
                then 'has an amount_cents that is not a whole number of cents from 0'
            when line_kind not in {SUPPLY}
                then 'has a line_kind that is none of plan_base, addon and overage'
            when description is null then 'has no description'
        end as wrong
        from (
            select *, count(*) over (partition by id) > 1 as twice from billing.discounts() where {_IN_EFFECT}
        ) d
    ) d
"""
COMMITMENTS_IN_EFFECT = f"""
    select id, tenant_id, deployment_id, case when wrong is null then minimum_cents::bigint end as minimum_cents,
           overlapping, wrong
    from (
        select *, case
            {_WRONG_MONTHS}
            when (minimum_cents between 0 and {_MOST_CENTS} and minimum_cents = trunc(minimum_cents)) is not true
                then 'has a minimum_cents that is not a whole number of cents, from 0 to 10,000,000,000,000 dollars'
            when in_all > {100 * _MOST_CENTS} then 'is one of too many: they sum to more than 64 bits of cents'
        end as wrong
        from (
            select *, count(*) over (partition by id) > 1 as twice,
                   count(*) over (partition by tenant_id, deployment_id) > 1 as overlapping,
                   sum(minimum_cents) over (partition by tenant_id) as in_all
            from billing.commitments() where {_IN_EFFECT}
        ) c
    ) c
"""
ALL = f"""
    select tenant_id, hash_record_extended(d, 7) as hash from ({DISCOUNTS_IN_EFFECT}) d
    union all
    select tenant_id, hash_record_extended(c, 8) from ({COMMITMENTS_IN_EFFECT}) c
"""
"""A hash of each discount and each commitment in effect, and whose it is. Takes `month`."""


class Terms(NamedTuple):
    """What tenants pay less, or at least, in a month."""

    discounts: pd.DataFrame
    """As discounts.DISCOUNTS."""
    commitments: pd.DataFrame
    """As commitments.COMMITMENTS."""

    @property
    def held_back(self) -> Series:
        """The tenants of those that cannot be applied, each as often as it has one."""
        of, least = self.discounts, self.commitments
        return pd.concat([of[of["wrong"].notna()], least[least["wrong"].notna() | least["overlapping"]]])["tenant_id"]


def of(connection: Connection, month: BillingMonth) -> Terms:
    """The discounts and the commitments in effect in the month, of all tenants."""
    parameters = {"month": month.start}
    return Terms(
        bulk.read(connection, DISCOUNTS_IN_EFFECT, DISCOUNTS, parameters),
        bulk.read(connection, COMMITMENTS_IN_EFFECT, COMMITMENTS, parameters),
    )


def for_new(connection: Connection, month: BillingMonth, tenant: str | None) -> pd.DataFrame:
    """The tenant's discounts in effect in the month that count for a deployment that it has not yet, as DISCOUNTS."""
    query = f"select * from ({DISCOUNTS_IN_EFFECT}) d where tenant_id = %(tenant)s and deployment_id is null"
    return bulk.read(connection, query, DISCOUNTS, {"month": month.start, "tenant": tenant})


def least(connection: Connection, month: BillingMonth, tenant: str | None) -> int:
    """What the tenant has committed to pay in the month for all that it has, cents ex GST; 0 if nothing."""
    query = f"""
        select coalesce(max(minimum_cents), 0) from ({COMMITMENTS_IN_EFFECT}) c
        where tenant_id = %(tenant)s and deployment_id is null
    """
    return int(connection.exec_driver_sql(query, {"month": month.start, "tenant": tenant}).scalar_one())
