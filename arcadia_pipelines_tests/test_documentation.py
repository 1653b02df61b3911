"""Whether the pages name what there is, and nothing else; `make check` looks at links and at what is generated."""

import re

from arcadia_pipelines.cli import operators
from arcadia_pipelines.definitions import defs
from arcadia_pipelines.settings import PROJECT


def page(name: str) -> str:
    """The text of a page in docs/."""
    return (PROJECT / "docs" / f"{name}.md").read_text()


def test_every_check_is_in_a_table_of_what_to_do_and_no_other() -> None:
    checks = {key.name for key in defs.resolve_asset_graph().asset_check_keys}
    rows = "\n".join(line for line in (page("operations") + page("costs")).splitlines() if line.startswith("| "))
    assert set(re.findall(r"\*([a-z_]+)\*", rows)) == checks


def test_every_act_of_an_operator_is_explained_with_its_command() -> None:
    told = page("operations")
    assert [command.name for command in operators.COMMANDS if f"`arcadia {command.name} " not in told] == []
