"""The controls of the month end, and running any control: what it finds, and what the gate remembers of it.

Belongs here: CONTROLS, and looking with them. Does not: what each looks for (usage_controls.py, invoice_controls.py).
"""

from collections.abc import Iterable, Mapping

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof import invoice_controls, recount, usage_controls
from arcadia_pipelines.proof.control import MOST_SHOWN, Control, Finding
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import counts, months
from arcadia_pipelines.storage.catalogue import bounds
from arcadia_pipelines.storage.usage import cutoff_of

CONTROLS = [*usage_controls.CONTROLS, *invoice_controls.CONTROLS]


def find(connection: Connection, control: Control, month: BillingMonth) -> Finding:
    """Run the control for the month; see find_each()."""
    [found] = find_each(connection, [control], month)
    return found


def find_each(connection: Connection, controls: Iterable[Control], month: BillingMonth) -> list[Finding]:
    """Run the controls for the month, in order.

    Usage that was counted elsewhere is counted there again; raises UsageSourceError if that cannot be done.
    """
    parameters = {
        **bounds(month),
        "month": month.start,
        "first": Settings.from_environment().first_month.start,
        "cutoff": cutoff_of(connection, month),
    }
    return [_find(connection, control, month, parameters) for control in controls]


def _find(connection: Connection, control: Control, month: BillingMonth, parameters: Mapping[str, object]) -> Finding:
    if control is usage_controls.USAGE_EQUALS_RAW_RECORDS and (pin := counts.pin(connection, month)):
        return Finding(*recount.find(connection, month, pin, MOST_SHOWN))
    if control.unless and connection.exec_driver_sql(control.unless, parameters).scalar_one():
        return Finding(count=0, offenders=[])
    found = connection.exec_driver_sql(
        f"select count(*) over () as offenders_in_all, q.* from ({control.query}) q limit {MOST_SHOWN}", parameters
    ).mappings()
    rows = [dict(row) for row in found]
    in_all = [int(row.pop("offenders_in_all")) for row in rows]
    return Finding(count=in_all[0] if in_all else 0, offenders=rows)


def rows_of(connection: Connection, control: Control, month: BillingMonth) -> str:
    """Of the tables that the blocking control reads of the month: which rows they are (months.rows_as_they_are)."""
    return months.rows_as_they_are(connection, month, *control.reads)


def has_passed(connection: Connection, control: Control, month: BillingMonth) -> bool:
    """Whether the blocking control has looked at the month's rows as they stand, and found nothing."""
    passed = connection.exec_driver_sql(
        "select rows_passed from billing.passed_controls where period_start = %(month)s and control = %(control)s",
        {"month": month.start, "control": control.name},
    ).scalar()
    return passed is not None and passed == rows_of(connection, control, month)


def pass_if_clean(
    connection: Connection, control: Control, month: BillingMonth, run_id: str, is_clean: bool = False
) -> Finding:
    """Look at the month's rows with the blocking control, and record it if it finds nothing; returns what it finds.

    What is known to be clean is not looked at.
    """
    rows = rows_of(connection, control, month)
    found = Finding(count=0, offenders=[]) if is_clean else find(connection, control, month)
    if not found.count:
        record_passed(connection, control, month, rows, run_id)
    return found


def record_passed(connection: Connection, control: Control, month: BillingMonth, rows: str, run_id: str) -> None:
    """Record that the blocking control found nothing in these rows (rows_of() before it looked).

    Nothing is written if that is on record.
    """
    connection.exec_driver_sql(
        "insert into billing.passed_controls (period_start, control, rows_passed, run_id)"
        " values (%(month)s, %(control)s, %(rows)s, %(run)s)"
        " on conflict (period_start, control) do update"
        " set rows_passed = excluded.rows_passed, run_id = excluded.run_id, passed_at = now()"
        " where passed_controls.rows_passed <> excluded.rows_passed",
        {"month": month.start, "control": control.name, "rows": rows, "run": run_id},
    )
