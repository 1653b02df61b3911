"""An audit, and the words that several share."""

from dataclasses import dataclass

from arcadia_pipelines.proof.control import Control
from arcadia_pipelines.proof.controls import CONTROLS


@dataclass(frozen=True)
class Audit:
    """Something to prove of a month, and of what: a column of _LOOKED_AT."""

    control: Control
    of: str


def audit(of: str, name: str, description: str, remedy: str, query: str) -> Audit:
    """An audit of a month's invoices, by its query of offenders."""
    return Audit(Control(name=name, asset="tenant_invoices", description=description, query=query, remedy=remedy), of)


def applied(of: str, name: str) -> Audit:
    """A control that runs at the month end too."""
    return Audit(next(control for control in CONTROLS if control.name == name), of)


TAMPERED = "Invoices or lines were changed outside the pipeline: compare them with invoice_events."
REWRITTEN = (
    "History was changed, which the database refuses to all but its owner: restore invoice_events from a backup."
)
CHANGED = (
    "Subscriptions, addons, prices or tenants were changed since the month was invoiced: materialise it again; if it "
    "stays, call a developer."
)
