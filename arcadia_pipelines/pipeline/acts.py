"""What every operator's job has: who asks and why, a dry run unless told otherwise, and a report of what was done.

Belongs here: the config, the author and the report that the jobs share. Does not: the jobs (jobs.py, delivery_jobs.py).
"""

import inspect
import re
import unicodedata
from collections.abc import Callable, Collection

import dagster as dg
from pydantic import Field
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.pipeline import failures, tables
from arcadia_pipelines.pipeline.instance import OPERATOR_TAG
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.operations import OperationRefused

MONTH_END = "month_end"
DRY_RUN_TAG = "arcadia/dry_run"
"""The tag of a dry run: the list of runs shows it."""


class Operation(dg.Config):
    """Who asks, why, and whether it is only to be said what would be done."""

    operator: str = Field(
        description="Your name, for the history. If you are logged in, your login is recorded and this may be empty;"
        " another name given here is recorded beside it."
    )
    reason: str = Field(description="Why, for the history: one sentence that an auditor understands.")
    dry_run: bool = Field(True, description="true: say what would be done, and do nothing. false: do it.")


class OnInvoices(Operation):
    """Of an act on invoices."""

    invoices: list[str] = Field(description="Invoice numbers, like INV-202604-00010; ids for drafts without a number.")


def step_of(operation: str) -> str:
    """The name of the job's one step; Dagster requires that it differs from the job's."""
    return f"do_{operation}"


def operation(act: Callable[..., None]) -> dg.JobDefinition:
    """A job of one op. It has no config of its own: the launchpad asks for what is required before it launches."""
    step = dg.op(name=step_of(act.__name__), out=dg.Out(dg.Nothing))(failures.marking_refusals()(act))
    return dg.GraphDefinition(name=act.__name__, node_defs=[step]).to_job(
        name=act.__name__,
        description=inspect.cleandoc(str(act.__doc__)),
        tags={"arcadia/operation": act.__name__, "dagster/max_retries": "0"},  # a retry might do it twice
    )


def author_of(context: dg.OpExecutionContext, config: Operation) -> Author:
    """The operator: the login that launched the run, if any; another name that was given is added to the reason."""
    login, named, reason = context.get_tag(OPERATOR_TAG) or "", config.operator.strip(), config.reason.strip()
    operator = login or named
    if not operator or not reason:
        raise OperationRefused("operator and reason must be given: they go into the history")
    for name in (login, named):
        refuse_pretence(name)
    if named and named.casefold() != operator.casefold():
        reason = f"{reason} (operator given: {named})"
    return Author(operator, reason, context.run_id)


def refuse_pretence(name: str) -> None:
    """Refuse the pipeline's name, or one that reads like it: in other cases, widths, accents or alphabets."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    if "".join(filter(str.isalnum, plain)) == MONTH_END.replace("_", ""):
        raise OperationRefused(f"{MONTH_END} is the pipeline: give your own name as the operator")
    for word in re.findall(r"[^\W\d_]+", plain):
        alphabets = {unicodedata.name(letter, "").partition(" ")[0] for letter in word}
        if "LATIN" in alphabets and alphabets & _LOOK_LATIN:
            raise OperationRefused(
                f"operator {name!r} mixes Latin letters with others that look like them: write it in one alphabet"
            )


_LOOK_LATIN = {"ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "GREEK", "LISU"}
"""Alphabets with letters that look like Latin ones."""


def end(connection: Connection, config: Operation) -> None:
    """Undo a dry run, which has done everything."""
    if config.dry_run:
        connection.rollback()


def tell(
    context: dg.OpExecutionContext,
    config: Operation,
    report: tables.Metadata,
    months: Collection[BillingMonth],
    asset: str = "tenant_invoices",
) -> None:
    """Report what was done, in the run and, unless it was a dry run, on the asset's partitions of these months."""
    if config.dry_run:
        context.instance.add_run_tags(context.run_id, {DRY_RUN_TAG: "true"})
    context.log.info(str(report["summary"].value))
    context.add_output_metadata(report)
    if not config.dry_run:
        author = author_of(context, config)
        who = {"operator": dg.MetadataValue.text(author.operator), "reason": dg.MetadataValue.text(author.reason)}
        keys: list[str | None] = [*sorted({month.key for month in months})]
        for key in keys or [None]:
            context.log_event(dg.AssetObservation(asset, partition=key, metadata={**report, **who}))
