"""What every engine is asked, as Ibis expressions over the contract's columns: filter, group, sum, count, min, max.

Nothing else is pushed down but the join with a few rows of ours: engines differ in what they make of products and
quotients of decimals. Bounds are texts that the engine reads as its own timestamps, as literals lose microseconds on
some. Each function returns the engine's SQL, which reads what it knows as RECORDS, SPANS and IDS.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from arcadia_pipelines.billing.month import BillingMonth

RECORDS, SPANS = "arcadia_usage_records", "arcadia_usage_spans"
IDS, DEPLOYMENTS = "arcadia_usage_ids", "arcadia_usage_deployments"
"""The names under which an engine finds the records, the spans (contract.SPANS), and ids to look for."""
IN_THIS_PROCESS = "duckdb"
"""The engine to which this process lends its memory."""
WITH_WIDE_HASHES = (IN_THIS_PROCESS, "clickhouse")
"""The engines whose hash of a text has 64 bits: of a billion texts two share one once in forty times."""
_RECORDS = ibis.table(
    {
        "record_id": "string",
        "deployment_id": "string",
        "resource_kind": "string",
        "quantity": "decimal(18, 6)",
        "recorded_at": "timestamp('UTC', 6)",
        "ingested_at": "timestamp('UTC', 6)",
    },
    name=RECORDS,
)
_SPANS = ibis.table(
    {
        "subscription_id": "string",
        "of_deployment": "string",
        "started_at": "timestamp('UTC', 6)",
        "ended_at": "timestamp('UTC', 6)",
    },
    name=SPANS,
)
_IDS = ibis.table({"wanted_id": "string"}, name=IDS)
_DEPLOYMENTS = ibis.table({"wanted_deployment": "string"}, name=DEPLOYMENTS)


@dataclass(frozen=True)
class Asked:
    """What is asked about: a month's records, with a cut-off those ingested until then; in the engine's dialect."""

    dialect: str
    month: BillingMonth
    cutoff: dt.datetime | None

    def counted(self, with_spans: bool, among: str | None = None) -> str:
        """One row per deployment, kind and subscription of the spans: quantity, record_count, known.

        Of the records of the ids, or deployments, that the engine finds as `among`: IDS or DEPLOYMENTS.
        """
        records = self._of_month()
        if among == IDS:
            records = records.semi_join(_IDS, records.record_id == _IDS.wanted_id)
        if among == DEPLOYMENTS:
            records = records.semi_join(_DEPLOYMENTS, records.deployment_id == _DEPLOYMENTS.wanted_deployment)
        if with_spans:
            assigned = records.left_join(
                _SPANS,
                [
                    records.deployment_id == _SPANS.of_deployment,
                    records.recorded_at >= _SPANS.started_at,
                    records.recorded_at < _SPANS.ended_at,
                ],
            )
        else:
            assigned = records.mutate(subscription_id=ibis.null("string"))
        grouped = assigned.group_by("deployment_id", "resource_kind", "subscription_id")
        return self._sql(
            grouped.aggregate(
                quantity=ibis._.quantity.sum(), record_count=ibis._.count(), known=ibis._.quantity.count()
            )
        )

    def second_count(self) -> str:
        """One row per deployment and kind: how many, the sum of whole units, and of the millionths beyond them.

        Both are below 0 if the quantity is: rounded down, the smallest quantity would have 19 digits.
        """
        records = self._of_month()
        quantity = records.quantity
        units = (quantity < 0).ifelse(quantity.ceil(), quantity.floor())
        beyond = (quantity - units).cast("decimal(11, 6)")  # less than 1; ClickHouse needs the digits of the product
        return self._sql(
            records.select(
                "deployment_id",
                "resource_kind",
                units=units.cast("int64"),
                millionths=(beyond * ibis.literal(1_000_000)).cast("int64"),
            )
            .group_by("deployment_id", "resource_kind")
            .aggregate(records=ibis._.count(), units=ibis._.units.sum(), millionths=ibis._.millionths.sum())
        )

    def identity(self, hashed: bool) -> str:
        """Of the records of the month and its neighbours, one row: records, named (with a record_id), and ids.

        `ids` is how many different record_ids they have, or how many hashes of them: those are not more, and cheaper.
        By groups, as some engines count what is different approximately.
        """
        records = self._with_neighbours()
        id_ = records.record_id
        per_id = records.group_by(one=id_.hash() if hashed else id_)
        per_id = per_id.aggregate(records=ibis._.count(), named=ibis._.record_id.count())
        return self._sql(
            per_id.aggregate(records=ibis._.records.sum(), named=ibis._.named.sum(), ids=ibis._.one.count())
        )

    def near(self) -> str:
        """One row: how many records the month and its neighbours have."""
        return self._sql(self._with_neighbours().aggregate(records=ibis._.count()))

    def hashes(self) -> str:
        """A hash of each record_id of the month and its neighbours, or null, as `one`."""
        id_ = ibis._.record_id
        return self._sql(self._with_neighbours().select(one=ibis.ifelse(id_.isnull(), ibis.null("int64"), id_.hash())))

    def ids(self) -> str:
        """The record_ids of the month and its neighbours, as IDS."""
        return self._sql(self._with_neighbours().select(wanted_id="record_id"))

    def totals(self) -> str:
        """One row: how many records the month has, and their quantity."""
        return self._sql(self._of_month().aggregate(records=ibis._.count(), quantity=ibis._.quantity.sum()))

    def copies(self, most: int, among_ids: bool = False) -> str:
        """The record_ids that stand more than once in the month and its neighbours, and null, `most` of them.

        Of all, or of those that the engine finds as IDS.
        """
        records = self._with_neighbours()
        if among_ids:
            records = records.semi_join(_IDS, records.record_id == _IDS.wanted_id)
        per_id = records.group_by("record_id").aggregate(records=ibis._.count())
        return self._sql(per_id.filter((per_id.records > 1) | per_id.record_id.isnull()).limit(most))

    def timeless(self) -> str:
        """One row: how many records have no recorded_at."""
        return self._sql(_RECORDS.filter(_RECORDS.recorded_at.isnull()).aggregate(records=ibis._.count()))

    def records_of(self, deployments: Sequence[str]) -> str:
        """The month's records of these deployments: the columns of contract.RECORDS, in another order.

        In their own order they would be written as `*`, which also is what a source has beside them.
        """
        records = self._of_month()
        of_them = records.filter(records.deployment_id.isin(list(deployments)))
        return self._sql(of_them.select(*reversed(_RECORDS.columns)))

    def _of_month(self) -> ir.Table:
        return self._between(self.month.start, self.month.end)

    def _with_neighbours(self) -> ir.Table:
        return self._between(self.month.before.start, BillingMonth(self.month.end).end)

    def _between(self, start: dt.date, end: dt.date) -> ir.Table:
        kept = (_RECORDS.recorded_at >= _instant(start)) & (_RECORDS.recorded_at < _instant(end))
        if self.cutoff is not None:
            until = _instant(self.cutoff.astimezone(dt.UTC).replace(tzinfo=None))
            kept &= _RECORDS.ingested_at.isnull() | (_RECORDS.ingested_at <= until)
        return _RECORDS.filter(kept)

    def _sql(self, expression: ir.Table) -> str:
        return str(ibis.to_sql(expression, dialect=self.dialect))


def _instant(at: dt.date) -> ir.TimestampScalar:
    moment = at if isinstance(at, dt.datetime) else dt.datetime.combine(at, dt.time())
    return ibis.literal(moment.isoformat(" ", "microseconds")).cast("timestamp('UTC', 6)")
