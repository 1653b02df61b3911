"""What Dagster's catalogue shows beside what runs: views, versions of the code, and what `dg` makes of the project."""

import json
import tomllib

import dagster as dg
import pytest

from arcadia_pipelines.again.scope import ENGINE
from arcadia_pipelines.definitions import defs
from arcadia_pipelines.pipeline.assets.views import COMES_FROM, FILE
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines_tests.world import World

GRAPH = defs.resolve_asset_graph()


def test_the_views_of_analysts_are_in_the_catalogue_with_the_columns_that_the_database_has(
    world: World, pytestconfig: pytest.Config
) -> None:
    """--write-golden writes the file anew."""
    views = {
        name: {"description": description, "columns": columns_of(world, name)}
        for name, description in world.query(
            "select relname, obj_description(oid, 'pg_class') from pg_class where relkind = 'v'"
            " and relnamespace = 'billing'::regnamespace and relname like '%revenue_by%' order by relname"
        )
    }
    if pytestconfig.getoption("--write-golden"):
        FILE.write_text(json.dumps(views, indent=1) + "\n")
    assert json.loads(FILE.read_text()) == views
    assert views.keys() == COMES_FROM.keys()
    month = GRAPH.get(dg.AssetKey("cost_vs_revenue_by_month"))
    columns = {column.name: column for column in month.metadata["dagster/column_schema"].schema.columns}
    assert (columns["revenue_cents"].type, month.group_name) == ("bigint", "views")


def columns_of(world: World, view: str) -> dict[str, dict[str, str]]:
    """By name: the column's type and comment."""
    rows = world.query(
        "select attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) from pg_attribute"
        f" where attrelid = 'billing.{view}'::regclass and attnum > 0 order by attnum"
    )
    return {name: {"type": type_, "comment": comment} for name, type_, comment in rows}


def test_each_view_comes_from_what_it_selects_from(world: World) -> None:
    for view, parents in COMES_FROM.items():
        used = world.query(
            "select distinct d.refobjid::regclass::text from pg_rewrite r join pg_depend d on d.objid = r.oid"
            f" where r.ev_class = 'billing.{view}'::regclass and d.refclassid = 'pg_class'::regclass"
            " and d.refobjid <> r.ev_class"
        )
        ours = {name.removeprefix("billing.") for [name] in used}
        known = {key.to_user_string() for key in GRAPH.get_all_asset_keys()}
        assert set(parents) == ours & known, view


def test_what_computes_invoices_has_the_engine_as_its_version() -> None:
    for asset in ("deployment_quotes", "tenant_invoice_lines", "tenant_invoices"):
        assert GRAPH.get(dg.AssetKey(asset)).code_version == f"{ENGINE:014x}"


def test_dg_knows_the_code_location_by_the_name_that_the_workspace_gives_it() -> None:
    dg_project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["dg"]
    assert dg_project["directory_type"] == "project"
    name = dg_project["project"]["code_location_name"]
    assert f"location_name: {name}" in (PROJECT / "workspace.yaml").read_text()
