"""The operators' jobs as the UI shows them, before anything is launched."""

import dagster as dg
import pytest

from arcadia_pipelines.definitions import defs
from arcadia_pipelines.pipeline.acts import step_of
from arcadia_pipelines.pipeline.jobs import OPERATIONS


@pytest.mark.parametrize("name", [job.name for job in OPERATIONS])
def test_a_job_says_what_it_does_in_paragraphs(name: str) -> None:
    """The UI reads Markdown: an indented line would be shown as code."""
    description = defs.resolve_job_def(name).description or ""
    assert description.partition("\n")[0].endswith(".")
    assert not [line for line in description.splitlines() if line.startswith(" ")]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("void_invoice", "'invoices', 'operator', 'reason'"),
        ("mark_invoice_paid", "'invoices', 'operator', 'reason'"),
        ("issue_drafts", "'month', 'operator', 'reason'"),
        ("hold_tenant", "'operator', 'reason', 'tenants'"),
        ("accept_unbilled_usage", "'month', 'operator', 'reason'"),
    ],
)
def test_the_launchpad_asks_for_what_is_required_before_it_launches(name: str, missing: str) -> None:
    """Whether it is a dry run is not asked: it is one."""
    job = defs.resolve_job_def(name)
    with pytest.raises(dg.DagsterInvalidConfigError, match=rf"Missing required config entries \[{missing}\]"):
        dg.validate_run_config(job, {"ops": {step_of(name): {"config": {}}}})
