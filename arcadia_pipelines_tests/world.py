"""A small world to bill: tenants, deployments, plans and usage, written to the cloud tables in one line each.

Ids are the md5 of a name, so that a test can name a deployment `web` and find it again.
"""

import csv
import datetime as dt
import functools
import hashlib
import io
import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Self, cast

import dagster as dg
import psycopg
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import bill_csv, bills
from arcadia_pipelines.costs import month as month_costs
from arcadia_pipelines.costs.bill_items import RECEIVED
from arcadia_pipelines.definitions import build_defs, defs
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.month import steps
from arcadia_pipelines.pipeline.acts import step_of
from arcadia_pipelines.pipeline.assets.tenant_invoices import FROZEN_CHECK
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.proof import audit, controls, late, replay
from arcadia_pipelines.proof.control import Finding
from arcadia_pipelines.storage import database, ledger, migrations, publication
from arcadia_pipelines.usage import sources

JANUARY = "2026-01-01"
_ANY_BEGINNING = "every_month_before_is_invoiced"
"""The check that is left out of what failed, for worlds begin anywhere."""


def uid(name: str) -> uuid.UUID:
    """The id of what has this name."""
    return uuid.UUID(hashlib.md5(name.encode()).hexdigest())


def item(
    amount: str, resource: str = "", project: str = "", product: str = "Droplets", start: str = "", end: str = ""
) -> dict[str, str]:
    """An item of a bill of the provider's; without start and end it is the whole month's."""
    named = {"product": product, "description": resource or project or product, "amount": amount}
    return {**named, "resource_uuid": resource, "project_name": project, "start_time": start, "end_time": end}


def connect(url: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """A connection of a test's own, in UTC whatever the server's defaults are: what it writes is what it says."""
    return psycopg.connect(url, options="-c TimeZone=UTC -c DateStyle=ISO,MDY")


def _connected(engine: Engine) -> Any:
    """A connection of the engine's that is the caller's to close."""
    lent = engine.raw_connection()
    connected = cast("psycopg.Connection[Any]", lent.driver_connection)
    lent.detach()
    connected.prepare_threshold = None  # a plan may be older than the schema
    return connected


def _rows(
    connection: "psycopg.Connection[tuple[Any, ...]]", sql: str, parameters: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    cursor = connection.execute(sql.encode(), parameters or None)
    return cursor.fetchall() if cursor.description else []


class World:
    """The platform, and the month end over it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._kept: psycopg.Connection[tuple[Any, ...]] | None = None
        self._kept_engine: Engine | None = None
        self._keeper: threading.Thread | None = None

    @contextmanager
    def connected(self) -> Iterator[Self]:
        """Keep a connection for the queries of this thread, and one for plain steps, instead of one for each."""
        self._keeper = threading.current_thread()
        try:
            yield self
        finally:
            self._keeper = None
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connections that are kept; the next query, or step, has another."""
        if self._kept:
            self._kept.close()
            self._kept = None
        if self._kept_engine:
            self._kept_engine.dispose()
            self._kept_engine = None

    def engine(self) -> Engine:
        """An engine for plain steps, which connects as the pipeline's does; a world that is connected keeps the one.

        To connect and to learn the catalogue anew takes a seventh of a small month. Where somebody else makes the
        pipeline's connections (trouble.Line), each step has one of these.
        """
        pipelines = BillingDatabase(url=self.url).engine()
        as_ever = event.contains(pipelines, "do_connect", database._connect)
        if threading.current_thread() is not self._keeper or not as_ever:
            return pipelines
        if self._kept_engine is None:
            self._kept_engine = sqlalchemy.create_engine(
                pipelines.url, creator=lambda: _connected(pipelines), pool_size=1, pool_pre_ping=True
            )
        return self._kept_engine

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own; its rows, if it has any."""
        if threading.current_thread() is not self._keeper:
            with connect(self.url) as connection:
                return _rows(connection, sql, parameters)
        if self._kept:
            try:
                return _rows(self._kept, sql, parameters)
            except psycopg.OperationalError:
                if not self._kept.closed:
                    raise
        self._kept = connect(self.url)  # the first one, or in the place of one that was terminated
        self._kept.autocommit = True
        self._kept.prepare_threshold = None  # a plan may be older than the schema
        return _rows(self._kept, sql, parameters)

    def tamper(self, sql: str) -> None:
        """Run one statement as somebody who has switched the database's own guards off."""
        with connect(self.url) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(sql.encode())

    def rewrite(self) -> None:
        """Hash all lines and chain all events anew: what was tampered with is as if it had always been so."""
        migration = (migrations.SQL / "migrations" / "0017_tamper_evidence.sql").read_text()
        chains = re.findall(r"^do \$\$.*?^end \$\$;", migration, re.DOTALL | re.MULTILINE)[0]
        self.tamper(f"""
            update billing.tenant_invoices i set lines_sha256 = l.sha256
            from (select invoice_id, {ledger.LINES_SHA256} as sha256 from billing.tenant_invoice_lines l group by 1) l
            where l.invoice_id = i.id and i.lines_sha256 is not null;
            update billing.billing_months set invoiced_rows = null;
            delete from billing.event_chain;
            delete from billing.event_heads;
            {chains}
        """)

    def tenant(self, name: str, gst_free_reason: str | None = None) -> None:
        """A tenant with this id."""
        self.query("insert into cloud.tenants values (%s, %s, null, %s)", name, name.title(), gst_free_reason)

    def plan(
        self,
        code: str,
        base_cents: int | None = None,
        rates: Mapping[str, tuple[int | str, int | str]] | None = None,
        since: str = JANUARY,
    ) -> None:
        """A plan, or a new price of one: base price, and (included, cents a unit) by resource kind, from `since` on."""
        plan = uid(code)
        self.query("insert into cloud.plans values (%s, %s, %s) on conflict do nothing", plan, code, code.title())
        if base_cents is not None:
            self.query("insert into cloud.plan_prices values (%s, %s, %s)", plan, since, base_cents)
        for kind, (included, price) in (rates or {}).items():
            self.query(
                "insert into cloud.plan_rates values (%s, %s, %s, %s, 'hour', %s)", plan, kind, since, included, price
            )

    def addon(self, code: str, cents: int, since: str = JANUARY) -> None:
        """An addon with a price from `since` on."""
        self.query("insert into cloud.addons values (%s, %s, %s) on conflict do nothing", uid(code), code, code)
        self.query("insert into cloud.addon_prices values (%s, %s, %s)", uid(code), since, cents)

    def deployment(
        self,
        tenant: str,
        name: str,
        plan: str | None = None,
        addons: Sequence[str] = (),
        start: str = JANUARY,
        end: str | None = None,
        status: str = "active",
    ) -> None:
        """A deployment, with a subscription of the same name if a plan is given."""
        self.query("insert into cloud.cloud_deployments values (%s, %s, %s)", uid(name), tenant, name)
        if plan:
            self.subscribe(name, tenant, name, plan, start, end, status)
        for addon in addons:
            self.query(
                "insert into cloud.subscription_addons values (%s, %s, %s, 1, %s, null)",
                uid(f"{name}/{addon}"),
                uid(name),
                uid(addon),
                start,
            )

    def subscribe(
        self,
        name: str,
        tenant: str,
        deployment: str,
        plan: str,
        start: str = JANUARY,
        end: str | None = None,
        status: str = "active",
    ) -> None:
        """A subscription of a deployment."""
        self.query(
            "insert into cloud.subscriptions values (%s, %s, %s, %s, %s, %s, %s)",
            uid(name),
            tenant,
            uid(deployment),
            uid(plan),
            status,
            start,
            end,
        )

    def use(
        self,
        deployment: str,
        kind: str,
        quantity: int | str | Decimal | None,
        at: str = "2026-04-15 12:00+00",
        **columns: Any,
    ) -> uuid.UUID:
        """One usage record, ingested when it was recorded; returns its id."""
        record = columns.get("id") or uuid.uuid4()
        self.query(
            "insert into cloud.usage_records values (%s, %s, %s, %s, %s, %s)",
            record,
            uid(deployment),
            kind,
            quantity,
            at,
            columns.get("ingested_at", at),
        )
        return record

    def pilot(self) -> None:
        """The worked example: 50.00 + 7.50 + 672 h x 1 c = 64.22, GST 6.42, total 70.64 for April 2026."""
        self.tenant("pilot")
        self.plan("studio", 5000, {"droplet_hours": (1488, 1)})
        self.addon("storage_50gb", 750)
        self.deployment("pilot", "web", "studio", ["storage_50gb"])
        self.query(
            "insert into cloud.usage_records select gen_random_uuid(), %s, 'droplet_hours', 24, at, at"
            " from generate_series(0, 2) droplet, generate_series(0, 29) day,"
            " lateral (select timestamptz '2026-04-01 00:00+00' + make_interval(days => day, hours => droplet)) t (at)",
            uid("web"),
        )

    def month_end(
        self, month: str, instance: dg.DagsterInstance | None = None, succeed: bool = True
    ) -> dg.ExecuteInProcessResult:
        """Run the month-end job for a month like 2026-04; expects it to succeed unless told otherwise."""
        result = run(self, "month_end", instance, partition_key=f"{month}-01")
        assert result.success is succeed, failures(result)
        return result

    def publish(self, month: str) -> publication.Published:
        """Take the month's five steps as the assets do, without Dagster, its record and the checks beside them."""
        of, run_id, engine = BillingMonth.parse(month), str(uuid.uuid4()), self.engine()
        with database.month_at_an_instant(engine, of) as connection:
            steps.freeze(connection, of, run_id, sources.configured())
        with database.month_at_an_instant(engine, of) as connection:
            steps.quote(connection, of)
        with database.month_at_an_instant(engine, of, publishes=True) as connection:
            invoiced = steps.invoice(connection, of, steps.refuse_unless_quoted(connection, of))
            published = steps.publish(connection, of, invoiced, run_id)
            steps.correct(connection, of, published, run_id)
        return published

    def findings(self, month: str) -> dict[str, Finding]:
        """Publish the month by plain steps; what its checks find then, by check, as failed_checks() has it of a run."""
        frozen, of = self.publish(month).frozen, BillingMonth.parse(month)
        names = [control.name for control in controls.CONTROLS]
        with database.transaction(self.engine()) as connection:
            found = {
                FROZEN_CHECK.name: Finding(len(frozen), [{"tenant_id": tenant} for tenant in frozen["tenant_id"]]),
                **dict(zip(names, controls.find_each(connection, controls.CONTROLS, of), strict=True)),
                "no_late_usage_in_the_month_before": late.find(connection, of.before),
                "no_usage_is_stamped_ahead_of_the_clock": late.find_ahead(connection, of),
            }
        found.pop(_ANY_BEGINNING)
        return {name: finding for name, finding in found.items() if finding.count}

    def stopped(self, month: str) -> str:
        """Publish the month by plain steps, one of which refuses; the message."""
        try:
            self.publish(month)
        except ArcadiaError as error:
            return str(error)
        raise AssertionError(f"{month} is published")

    def bill(self, month: str, *items: dict[str, str], total: int | None = None) -> bills.Stored:
        """Import a bill of the month as a CSV of these items, and allocate it."""
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, RECEIVED)
        writer.writeheader()
        writer.writerows(items)
        received = bill_csv.read_csv(out.getvalue().encode(), "bill.csv", BillingMonth.parse(month), total)
        with database.month_transaction(self.engine(), received.month) as connection:
            stored = bills.store(connection, received)
            month_costs.allocate(connection, received.month)
        return stored

    def owns(
        self, deployment: str, resource: str, start: str = JANUARY, end: str | None = None, share: int = 1
    ) -> None:
        """A resource of the provider's is the deployment's."""
        self.query(
            "insert into billing.deployment_resources values (%s, %s, %s, %s, %s)",
            resource,
            uid(deployment),
            start,
            end,
            share,
        )

    def rate(self, month: str, usd_per_aud: str) -> None:
        """The month's rate of exchange, by hand."""
        self.query(
            "insert into billing.fx_rates (period_start, usd_per_aud, source) values (%s, %s, 'a test')",
            f"{month}-01",
            usd_per_aud,
        )

    def month_costs(self, month: str, instance: dg.DagsterInstance | None = None) -> dg.ExecuteInProcessResult:
        """Run the job of a month's costs."""
        return run(self, "month_costs", instance, partition_key=f"{month}-01")

    def operate(
        self, operation: str, instance: dg.DagsterInstance | None = None, **config: Any
    ) -> dg.ExecuteInProcessResult:
        """Run an operator's job as Ada, for real unless told otherwise."""
        return run(self, operation, instance, {"ops": {step_of(operation): {"config": {**_ADA, **config}}}})

    def done(self, operation: str, **config: Any) -> str:
        """Do what an operator's job does, without a run of Dagster's; what it says it did."""
        return str(self._act(operation, **config)["summary"].value)

    def would(self, operation: str, **config: Any) -> str:
        """Run an operator's job as a dry run; what it says it would do."""
        result = self.operate(operation, **config, dry_run=True)
        assert result.success, failures(result)
        [output] = [event for event in result.all_events if event.is_successful_output]
        return str(output.step_output_data.metadata["summary"].value)

    def refused(self, operation: str, **config: Any) -> str:
        """Ask for what an operator's job refuses; the message."""
        try:
            self._act(operation, **config)
        except dg.Failure as refusal:
            return str(refusal.description)
        except ArcadiaError as error:
            return str(error)
        raise AssertionError(f"{operation} is done")

    def _act(self, operation: str, **config: Any) -> Mapping[str, Any]:
        [step] = defs.resolve_job_def(operation).graph.node_defs
        context = dg.build_op_context(
            resources={"database": BillingDatabase(url=self.url)},
            op_config={**_ADA, **config},
            instance=shared_instance(),
        )
        context.log.setLevel("CRITICAL")  # what it says is looked at, not printed
        cast("dg.OpDefinition", step)(context)
        told = context.get_output_metadata("result")
        assert told
        return told

    def disproved(self) -> list[tuple[str, str]]:
        """Whatever the audits find in any month, and months that do not replay: month, and what."""
        with database.snapshot(self.engine()) as connection:
            # To plan the audits takes longer than to run them: they are planned for the first month, and not again.
            raw, usual = database.driver(connection), database.driver(connection).prepare_threshold
            raw.prepare_threshold = 0
            connection.exec_driver_sql("set local plan_cache_mode = force_generic_plan")
            months = ledger.invoiced_months(connection)
            found = [
                (str(month), proof.audit.control.name)
                for month in months
                for proof in audit.run(connection, month).proofs
                if proof.finding.count
            ]
            raw.prepare_threshold = usual
            return found + [(str(month), "replay") for month in months if replay.replay(connection, month).differing]

    def finds(self, name: str, month: str) -> int:
        """How many offenders the audit of this name finds in the month."""
        [control] = [known.control for known in audit.AUDITS if known.control.name == name]
        with database.snapshot(self.engine()) as connection:
            return controls.find(connection, control, BillingMonth.parse(month)).count

    def events(self) -> list[tuple[Any, ...]]:
        """The history in order: event, tenant, number, revision, operator."""
        return self.query(
            "select event, tenant_id, invoice_number, revision, operator from billing.invoice_events order by id"
        )

    def invoices(self, month: str) -> dict[str, tuple[Any, ...]]:
        """The month's invoices by tenant: status, revision, subtotal, tax and total in cents."""
        rows = self.query(
            "select tenant_id, status, revision, subtotal_cents, tax_cents, total_cents from billing.tenant_invoices"
            " where period_start = %s order by 1",
            f"{month}-01",
        )
        return {tenant: tuple(rest) for tenant, *rest in rows}

    def lines(self, tenant: str, month: str) -> list[tuple[str, int]]:
        """A tenant's invoice lines of the month in order: description and amount in cents."""
        return [
            (description, amount)
            for description, amount in self.query(
                "select l.description, l.amount_cents from billing.tenant_invoice_lines l"
                " join billing.tenant_invoices i on i.id = l.invoice_id"
                " where i.tenant_id = %s and i.period_start = %s order by l.line_no",
                tenant,
                f"{month}-01",
            )
        ]


_ADA = {"operator": "ada", "reason": "asked by the tenant", "dry_run": False}
"""Who asks for an operator's act, unless it matters."""


def sample_data(world: World) -> None:
    """The sample data of sql/sample_data.sql, nothing of it invoiced."""
    with connect(world.url) as connection:
        connection.execute((migrations.SQL / "sample_data.sql").read_bytes())


def publish_pilots_april(world: World) -> None:
    """The worked example, invoiced as INV-202604-00001."""
    world.pilot()
    world.publish("2026-04")


QUIETLY = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run config: what goes wrong is looked at, not printed."""


@functools.cache
def shared_instance() -> dg.DagsterInstance:
    """An instance in memory that tests share, for the main thread: making one takes as long as a small run."""
    return dg.DagsterInstance.ephemeral(tempdir=os.environ["ARCADIA_HOME"])


def run(
    world: World,
    job: str,
    instance: dg.DagsterInstance | None = None,
    run_config: Mapping[str, object] | None = None,
    checks: Set[dg.AssetCheckKey] | None = None,
    **how: Any,
) -> dg.ExecuteInProcessResult:
    """Run a job of ours, or all assets' implicit one, in this process; whatever comes of it.

    With `checks`, only these of the job's. To resolve the definitions takes as long as a small run: they are the
    worker's, and the database is the world's.
    """
    resolved = defs.resolve_job_def(job)
    if checks is not None:
        resolved = resolved.get_subset(asset_selection=set(), asset_check_selection=checks)
    return _execute(resolved, instance, run_config, resources={"database": BillingDatabase(url=world.url)}, **how)


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance | None,
    run_config: Mapping[str, object] | None = None,
    **how: Any,
) -> dg.ExecuteInProcessResult:
    if instance is None and threading.current_thread() is threading.main_thread():
        instance = shared_instance()
    return job.execute_in_process(
        instance=instance, raise_on_error=False, run_config={**QUIETLY, **(run_config or {})}, **how
    )


EVERYTHING = "__ASSET_JOB"
"""Dagster's own job of all assets and checks, by which the UI materialises some and checks by themselves."""


def check_alone(world: World, asset: str, check: str, month: str) -> dg.AssetCheckEvaluation:
    """Run one check of an asset, as from the button in the UI; what it found."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    result = run(world, EVERYTHING, checks={key}, partition_key=f"{month}-01")
    [evaluation] = result.get_asset_check_evaluations()
    assert evaluation.check_name == check
    return evaluation


def materialize(
    world: World, month: str, *assets: str, instance: dg.DagsterInstance | None = None
) -> dg.ExecuteInProcessResult:
    """Materialise some assets of a month, as from the UI."""
    selected = [dg.AssetKey(asset) for asset in assets]
    # Dagster gives a selection of assets no other resources than those that they are defined with.
    job = build_defs(BillingDatabase(url=world.url)).resolve_job_def(EVERYTHING)
    return _execute(job, instance, partition_key=f"{month}-01", asset_selection=selected)


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """Why steps of the run failed, each in a few words."""
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return [(error.cause or error).message.strip() for error in errors if error]


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks of a run that failed, by name; but not that earlier months are missing."""
    failed = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    failed.pop(_ANY_BEGINNING, None)
    return failed


def utc(text: str) -> dt.datetime:
    """An instant from text like 2026-05-01T03:00."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
