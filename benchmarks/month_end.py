"""How fast the month end is beside hand-written SQL and beside PostgreSQL itself: `make bench [N=100000]`.

Makes N deployments of N / 2 tenants and 90 usage records each (3 kinds, 30 days) in an embedded PostgreSQL of its own,
with the settings that the pipeline gives it, and runs April on copies of that database:

- pipeline: Dagster's month-end job as users run it, its storage in the same database. Cold: `arcadia invoice`, a new
  process. In process: the same where all is imported and has run once, on another database. Then again with nothing
  changed, and with one more usage record for 1 % of the tenants.
- baseline: the same invoices and lines by plain INSERT ... SELECT (month_end_baseline.sql), straight from usage, in
  one transaction, into ordinary indexed tables (month_end_tables.sql). It freezes nothing, checks nothing, keeps no
  history, and takes it that a deployment has one subscription in the month.
- reprice: April priced again at the prices that were in effect, which has to make no difference (`arcadia reprice`).
- floor: PostgreSQL's GROUP BY of the usage, and COPY of every row that the pipeline wrote into bare tables.

A run's seconds are those of its steps; Dagster's overhead is what the run takes beyond them, and is shown apart, and
so are ratios with it. Of repeated runs the quickest counts, on every side. There is no ratio unless pipeline and
baseline agree on every invoice and every line. Memory of the pipeline is its process's highest RSS; of PostgreSQL the
highest sum of PSS over its processes, shared buffers included, four times a second. WAL includes Dagster's.
With MIX=1 the month is run once more with every kind of price (month_end_mix.sql), and each line of it must take no
more than 1.3 of the time. With several N (`make bench N="100000 1000000"`) growth is compared too. The last line of
output is JSON.
"""

import compileall
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from arcadia_pipelines import embedded
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines.storage import database, migrations

HERE = Path(__file__).parent
SEED = 1
REPEATS = 3
MONTH = BillingMonth.parse("2026-04")
STEPS = ("metered_usage", "deployment_quotes", "publish_invoices")  # the others are checks
TARGETS_AT = 100_000
TARGETS = {
    "ratio_to_baseline": 0.5,
    "ratio_to_floor": 2.0,
    "ratio_unchanged": 0.4,
    "ratio_one_percent": 0.5,
    "ratio_mixed_line": 1.3,
    "ratio_reprice": 0.5,
    "pipeline_peak_mib": 1024.0,
    "ratio_smallest_to_empty": 1.5,
    "import_s": 2.0,
    "quote_ms": 5.0,
    "growth_of_time": 1.1,
    "growth_of_memory": 1.25,
}
"""At most; all but the last two at 100,000 deployments. The last two are between two N."""
Figures = dict[str, Any]


class Disagreement(Exception):
    """Pipeline and baseline differ, or a run did not do what it was to do: there is nothing to compare."""


def main(counts: list[int], mixed: bool) -> None:
    """Measure with so many deployments, one count after the other; if `mixed`, with every kind of price too."""
    with running() as server:
        load(server, "one_tenant", 1)
        shared = _import_time() | child("small", server.root)
        measured: list[Figures] = []
        for count in counts:
            measured.append(shared | _measure(server, count, mixed))
            figures = measured[-1] | _growth(measured[-2:])
            _print(figures)
        print(json.dumps(figures | ({"smaller": measured[:-1]} if len(measured) > 1 else {})))


@contextmanager
def running() -> Iterator["Server"]:
    """An embedded PostgreSQL of its own, also Dagster's; a Disagreement ends the program."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which stops the server too
    home = Path(tempfile.mkdtemp(prefix="arcadia-bench-"))
    shutil.copy(PROJECT / "dagster.yaml", home)
    compileall.compile_dir(PROJECT / "arcadia_pipelines", quiet=1)  # as `make` installs it
    os.environ |= {"DAGSTER_HOME": str(home), "ARCADIA_HOME": str(home), "ARCADIA_FIRST_MONTH": str(MONTH)}
    try:
        yield Server(home, embedded.start(home).rpartition("/")[0])
    except Disagreement as error:
        sys.exit(f"no ratios: {error}")
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)


@dataclass
class Server:
    """The embedded PostgreSQL and its databases."""

    home: Path
    root: str

    def url(self, name: str) -> str:
        return f"{self.root}/{name}"

    def copy(self, name: str, of: str) -> str:
        """A new database like another one. What was written before is on disk then, and costs nobody later."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)".encode())
            connection.execute(f"create database {name} template {of} strategy file_copy".encode())
            connection.execute(b"checkpoint")
        return self.url(name)

    def drop(self, *names: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for name in names:
                connection.execute(f"drop database if exists {name} with (force)".encode())

    @contextmanager
    def watched(self) -> Iterator[Figures]:
        """Fills in what PostgreSQL takes meanwhile: seconds, peak memory, WAL."""
        figures: Figures = {}
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(figures, over))
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("checkpoint")
        watcher.start()
        before, started = _wal(self.url("postgres")), time.perf_counter()
        try:
            yield figures
        finally:
            figures["seconds"] = time.perf_counter() - started
            figures["wal_mib"] = _wal(self.url("postgres")) - before
            over.set()
            watcher.join()

    def _watch(self, figures: Figures, over: threading.Event) -> None:
        postmaster = psutil.Process(int((self.home / "postgres" / "postmaster.pid").read_text().split()[0]))
        figures["postgres_peak_mib"] = 0.0
        while True:
            memory = sum(_memory(process) for process in [postmaster, *postmaster.children()])
            figures["postgres_peak_mib"] = max(figures["postgres_peak_mib"], memory / 2**20)
            if over.wait(0.25):
                return


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):  # it has ended
        if hasattr(used := process.memory_full_info(), "pss"):
            return int(used.pss)
        return int(used.uss)
    return 0


def _wal(url: str) -> float:
    """MiB of WAL that the server has ever written."""
    with psycopg.connect(url) as connection:
        return float(_row(connection, "select pg_current_wal_insert_lsn() - '0/0'")[0]) / 2**20


def _row(connection: psycopg.Connection[Any], query: str, parameters: Any = None) -> Any:
    return connection.execute(query.encode(), parameters).fetchone()


@contextmanager
def _scripts(url: str) -> Iterator[Callable[..., None]]:
    """Runs files of SQL beside this one, in one transaction."""
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:

        def run(name: str, **parameters: object) -> None:
            connection.execute((HERE / name).read_bytes(), parameters)

        yield run


def load(server: Server, name: str, count: int) -> None:
    """A database of so many deployments, with our tables and Dagster's, and no month in it."""
    started = time.monotonic()
    url = server.copy(name, of="template0")
    migrations.migrate(database.engine(url))
    values = {"deployments": count, "tenants": max(1, count // 2), "seed": SEED}
    with _scripts(url) as run:
        run("month_end_data.sql", **values)
        for day in range(30):
            run("month_end_usage.sql", **values, day=day)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter table cloud.usage_records add primary key (id)")
        connection.execute("create index on cloud.usage_records (recorded_at)")
        connection.execute("vacuum analyze")
    child("open", url)
    print(f"{count} deployments, {count * 90} usage records: made in {time.monotonic() - started:.0f} s", flush=True)


def _measure(server: Server, count: int, mixed: bool) -> Figures:
    repeats = REPEATS if count <= TARGETS_AT else 1
    load(server, "made", count)
    cold = [_cold(server.copy("cold", of="made")) for _ in range(repeats)]
    server.drop("cold")
    # One after the other, so that who else uses the machine is in everybody's way alike.
    rounds = [
        (_run(server, server.copy("month", of="made")), _baseline(server), _floor(server)) for _ in range(repeats)
    ]
    first, baseline, floor = (min(side, key=_seconds) for side in zip(*rounds, strict=True))
    mix = min((_mixed(server) for _ in range(repeats)), key=_seconds) if mixed else {}
    server.drop("made")
    counts = _agree(server.url("month"))
    reprice_s = child("reprice", server.url("month"))["reprice_s"]
    unchanged = min((_unchanged(server) for _ in range(repeats)), key=_seconds)
    one_percent = min((_one_percent(server, max(1, count // 200)) for _ in range(repeats)), key=_seconds)
    server.drop("month")
    steps, whole = first["seconds"], first["run_s"]
    if mix:
        mix = {"mixed": mix, "ratio_mixed_line": mix["seconds"] / mix["lines"] / steps * counts["lines"]}
    return {
        "deployments": count,
        "usage_rows": count * 90,
        **counts,
        **mix,
        "cold_s": min(took["seconds"] for took in cold),
        "cold_peak_mib": max(took["peak_mib"] for took in cold),
        "pipeline": first,
        "pipeline_peak_mib": first["peak_mib"],
        "baseline": baseline,
        "floor": floor,
        "unchanged": unchanged,
        "one_percent": one_percent,
        "reprice_s": reprice_s,
        **{f"{what}_per_s": counts[what] / steps for what in ("invoices", "lines")},
        "usage_rows_per_s": count * 90 / steps,
        "ratio_to_baseline": steps / baseline["seconds"],
        "ratio_to_floor": steps / floor["seconds"],
        "ratio_unchanged": unchanged["seconds"] / steps,
        "ratio_one_percent": one_percent["seconds"] / steps,
        "ratio_reprice": reprice_s / steps,
        "with_dagster": {
            "ratio_to_baseline": whole / baseline["seconds"],
            "ratio_to_floor": whole / floor["seconds"],
            "ratio_unchanged": unchanged["run_s"] / whole,
            "ratio_one_percent": one_percent["run_s"] / whole,
        },
    }


def _seconds(figures: Figures) -> float:
    return float(figures["seconds"])


def _cold(url: str) -> Figures:
    """`arcadia invoice` in a new process: wall clock and highest RSS."""
    command = [str(Path(sys.executable).with_name("arcadia")), "invoice", str(MONTH), "--json"]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | {"ARCADIA_DATABASE_URL": url}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or json.loads(said)["failed_checks"]:
        raise Disagreement(f"arcadia invoice did not go through: {said.decode()}")
    return {"seconds": time.perf_counter() - started, "peak_mib": _mib(used)}


def _run(server: Server, url: str) -> Figures:
    """The month end in a process where everything is imported and ran once: steps, what is beyond them, memory, WAL."""
    warm = server.copy("warm", of="one_tenant")
    with server.watched() as figures:
        ran = child("run", warm, url)
    return figures | ran


def _mixed(server: Server) -> Figures:
    """The month end with every kind of price, and how many lines it made. Raises Disagreement unless it is proved."""
    url = server.copy("mixed", of="made")
    with _scripts(url) as run:
        run("month_end_mix.sql")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")
    figures = _run(server, url)
    command = [str(Path(sys.executable).with_name("arcadia")), "audit", str(MONTH)]
    proof = subprocess.run(command, env=os.environ | {"ARCADIA_DATABASE_URL": url}, capture_output=True, text=True)
    if proof.returncode:
        raise Disagreement(f"the mixed month is not proved: {proof.stdout}{proof.stderr}")
    with psycopg.connect(url) as connection:
        lines = _row(connection, "select count(*) from billing.tenant_invoice_lines")[0]
    server.drop("mixed")
    return figures | {"lines": lines}


def _unchanged(server: Server) -> Figures:
    url = server.url("month")
    before = _versions(url)
    figures = _run(server, url)
    if before != _versions(url):
        raise Disagreement("a run with nothing changed wrote rows")
    return figures


def _one_percent(server: Server, tenants: int) -> Figures:
    """The re-run after so many tenants used ten thousand hours more."""
    url = server.url("month")
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into cloud.usage_records select gen_random_uuid(), deployment_id, 'droplet_hours', 10000,"
            " '2026-04-30 23:00+00', now() from (select distinct on (tenant_id) tenant_id, deployment_id"
            " from cloud.subscriptions order by tenant_id, deployment_id) one"
            " order by md5(tenant_id) limit %s",
            [tenants],
        )
    figures = _run(server, url)
    if figures["actions"]["revise"] != tenants:
        raise Disagreement(f"usage of {tenants} tenants changed, but {figures['actions']}")
    return figures


def _baseline(server: Server) -> Figures:
    url, month = server.url("month"), {"month": MONTH.start, "end": MONTH.end}
    with _scripts(url) as run:
        run("month_end_tables.sql")
    with server.watched() as figures, _scripts(url) as run:
        run("month_end_baseline.sql", **month)
    return figures


def _agree(url: str) -> Figures:
    """How many invoices and lines there are. Raises Disagreement unless pipeline and baseline made the same."""
    content = (
        "tenant_id, line_no, deployment_id, deployment_name, kind, resource_kind, description, qty, unit,"
        " l.unit_price_cents, amount_cents, l.meta"
    )
    select = f"select {content} from %s l join %s i on i.id = l.invoice_id"
    ours = select % ("billing.tenant_invoice_lines", "billing.tenant_invoices")
    theirs = select % ("baseline.lines", "baseline.invoices")
    with psycopg.connect(url) as connection:
        invoices = connection.execute(
            "select tenant_id, a.subtotal_cents, b.subtotal_cents, a.tax_cents, b.tax_cents, a.total_cents,"
            " b.total_cents from billing.tenant_invoices a full join baseline.invoices b using (tenant_id)"
            " where (a.subtotal_cents, a.tax_cents, a.total_cents, a.meta) is distinct from"
            " (b.subtotal_cents, b.tax_cents, b.total_cents, b.meta) order by 1 limit 10"
        ).fetchall()
        both = f"({ours} except all {theirs}) union all ({theirs} except all {ours}) order by 1, 2 limit 10"
        lines = connection.execute(both.encode()).fetchall()
        if invoices or lines:
            raise Disagreement("\n".join(["the pipeline and the baseline differ in", *map(str, invoices + lines)]))
        count = "select (select count(*) from baseline.invoices), (select count(*) from baseline.lines)"
        return dict(zip(("invoices", "lines"), _row(connection, count), strict=True))


def _floor(server: Server) -> Figures:
    """PostgreSQL's own sum of the usage, and COPY of what the pipeline wrote for the month."""
    url, folder = server.url("month"), server.home / "rows"
    folder.mkdir(exist_ok=True)
    with psycopg.connect(url) as connection:
        connection.execute("drop schema if exists bare cascade; create schema bare")
        tables = _tables_of_the_month(connection)
        for table in tables:
            query = sql.SQL("copy (select * from billing.{} where period_start = {}) to stdout").format(
                sql.Identifier(table), MONTH.start
            )
            with (folder / table).open("wb") as file, connection.cursor().copy(query) as rows:
                for part in rows:
                    file.write(part)
    with server.watched() as figures, psycopg.connect(url) as connection:
        connection.execute("set parallel_leader_participation = off")  # as the pipeline counts
        started = time.perf_counter()
        connection.execute(
            "select count(*), sum(used) from (select deployment_id, resource_kind, sum(quantity) as used"
            " from cloud.usage_records where recorded_at >= %s and recorded_at < %s group by 1, 2) usage",
            [MONTH.start, MONTH.end],
        )
        figures["group_by_s"] = time.perf_counter() - started
        for table in tables:
            name = sql.Identifier(table)
            connection.execute(sql.SQL("create table bare.{} (like billing.{})").format(name, name))
            with (
                (folder / table).open("rb") as file,
                connection.cursor().copy(sql.SQL("copy bare.{} from stdin").format(name)) as rows,
            ):
                while part := file.read(2**18):
                    rows.write(part)
    figures["copied_mib"] = sum((folder / table).stat().st_size for table in tables) / 2**20
    figures["copy_s"] = figures["seconds"] - figures["group_by_s"]
    shutil.rmtree(folder)
    return figures


def _tables_of_the_month(connection: psycopg.Connection[Any]) -> list[str]:
    """Our tables that have rows of the month, whichever they are."""
    tables = connection.execute(
        "select relname from pg_class c join pg_attribute a on a.attrelid = c.oid and attname = 'period_start'"
        " where relnamespace = 'billing'::regnamespace and relkind in ('r', 'p') and not relispartition order by 1"
    ).fetchall()
    filled = "select exists (select from billing.{} where period_start = {})"
    return [
        name
        for (name,) in tables
        if connection.execute(sql.SQL(filled).format(sql.Identifier(name), MONTH.start)).fetchone() == (True,)
    ]


def _versions(url: str) -> Any:
    """Changes with every row of the month that is written, wherever it is (compare storage/ledger.row_versions)."""
    with psycopg.connect(url) as connection:
        rows = " union all ".join(
            f"select tableoid, ctid, xmin from billing.{table} where period_start = '{MONTH.key}'"
            for table in _tables_of_the_month(connection)
        )
        query = f"select count(*), sum(hashtextextended(concat_ws('/', tableoid, ctid, xmin), 0)) from ({rows}) r"
        return _row(connection, query)


def _import_time() -> Figures:
    code = "import time; t = time.perf_counter(); import arcadia_pipelines.definitions; print(time.perf_counter() - t)"
    took = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(4)]
    return {"import_s": statistics.median(took[1:])}  # the first may compile


def child(*arguments: str) -> Figures:
    """What this file does in a process of its own, by one of the names in CHILDREN; its last line is JSON."""
    command = [sys.executable, str(Path(__file__)), "--child", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _open(url: str) -> Figures:
    """Makes Dagster's tables."""
    from arcadia_pipelines.cli import launch

    os.environ["ARCADIA_DATABASE_URL"] = url
    with launch.instance():
        return {}


def _invoice(warm: str, url: str) -> Figures:
    """Runs the month end on the first database, and measures it on the second."""
    from arcadia_pipelines.cli import launch

    for database_url in (warm, url):
        os.environ["ARCADIA_DATABASE_URL"] = database_url
        with launch.instance() as instance:
            wal, started = _wal(url), time.perf_counter()
            outcome = launch.run(MONTH, instance)
            seconds, wal = time.perf_counter() - started, _wal(url) - wal
            steps = instance.get_run_step_stats(outcome.run_id)
    if outcome.failed_checks:
        raise Disagreement(f"checks failed: {outcome.failed_checks}")
    took = {step.step_key: (step.end_time or 0) - (step.start_time or 0) for step in steps}
    stages = {step: took.pop(step) for step in STEPS} | {"checks": sum(took.values())}
    return {
        "seconds": sum(stages.values()),
        "run_s": seconds,
        "dagster_s": seconds - sum(stages.values()),
        "stages": stages,
        "actions": outcome.actions,
        "wal_mib": wal,
        "peak_mib": _mib(resource.getrusage(resource.RUSAGE_SELF)),
    }


def _reprice(url: str) -> Figures:
    """Seconds for the month at the prices that were in effect. Raises Disagreement if they make a difference."""
    from arcadia_pipelines.month.reprice import reprice
    from arcadia_pipelines.prices import proposed, stored

    engine, took = database.engine(url), []
    for _ in range(REPEATS):
        with database.snapshot(engine) as connection:
            prices = proposed.rows(stored.in_effect(connection, MONTH))
            started = time.perf_counter()
            repriced = reprice(connection, MONTH, prices)
            took.append(time.perf_counter() - started)
    amounts = repriced.amounts
    if len(repriced.faults) or not amounts["before_cents"].equals(amounts["after_cents"]):
        raise Disagreement("the month at the prices that were in effect is another month")
    return {"reprice_s": min(took)}


def _mib(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _small(root: str) -> Figures:
    """The smallest month beside a run of four empty assets on the same database, and the price of one quote."""
    import dagster as dg

    from arcadia_pipelines.cli import launch
    from arcadia_pipelines.pipeline.partitions import MONTHS

    server = Server(Path(os.environ["ARCADIA_HOME"]), root)
    before: list[dg.AssetsDefinition] = []
    for number in range(4):
        asset = dg.asset(name=f"empty_{number}", deps=before[-1:], partitions_def=MONTHS)(_nothing)
        before.append(asset)
    job = dg.Definitions(
        assets=before, jobs=[dg.define_asset_job("empty", before)], executor=dg.in_process_executor
    ).resolve_job_def("empty")
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    empty, smallest = [], []
    for _ in range(6):
        os.environ["ARCADIA_DATABASE_URL"] = server.copy("smallest", of="one_tenant")
        with launch.instance() as instance:
            for _ in range(2):  # the first to fill Dagster's caches for this database
                started = time.perf_counter()
                job.execute_in_process(partition_key=MONTH.key, instance=instance, run_config=quiet)
                seconds = time.perf_counter() - started
            empty.append(seconds)
            started = time.perf_counter()
            launch.run(MONTH, instance)
            smallest.append(time.perf_counter() - started)
    server.drop("smallest")
    figures = {"smallest_s": statistics.median(smallest[1:]), "empty_run_s": statistics.median(empty[1:])}
    return {
        **figures,
        "ratio_smallest_to_empty": figures["smallest_s"] / figures["empty_run_s"],
        "quote_ms": _quote_time() * 1000,
    }


def _nothing() -> None:
    """What an empty asset does."""


def _quote_time() -> float:
    """Seconds for one quote by the engine: a subscription with two addons and usage of three kinds."""
    import pyarrow as pa

    from arcadia_pipelines.billing import quote
    from arcadia_pipelines.billing.money import to_pandas

    kinds = ("droplet_hours", "egress_gb", "storage_gb")
    rows: dict[str, list[dict[str, Any]]] = {
        "SUBSCRIPTIONS": [
            {"subscription_id": "s", "tenant_id": "t", "tenant_exists": True, "deployment_id": "d"}
            | {"deployment_exists": True, "deployment_name": "web", "overlapping": False, "incomplete": False}
            | {"twice": None, "plan_id": "p", "plan": "studio", "daily": False, "first_day": 1, "last_day": 30}
            | {"days_in_month": 30, "base_price_cents": 5000, "effective_from": MONTH.key}
        ],
        "ADDONS": [
            {"subscription_addon_id": addon, "subscription_id": "s", "addon": addon, "quantity": 1, "price_cents": 750}
            | {"incomplete": False, "twice": None, "effective_from": MONTH.key, "first_day": 1, "last_day": 30}
            for addon in ("a", "b")
        ],
        "RATES": [
            {"plan_id": "p", "resource_kind": kind, "twice": False, "included": Decimal(100), "unit": "hour"}
            | {"unit_price_cents": Decimal("0.744"), "effective_from": MONTH.key, "charge_model": "per_unit"}
            | {"pooled": False}
            for kind in kinds
        ],
        "USAGE": [
            {"deployment_id": "d", "subscription_id": "s", "resource_kind": kind, "quantity": Decimal(720)}
            | {"unusable_records": 0, "duplicate_records": 0}
            for kind in kinds
        ],
    }
    frames = [to_pandas(pa.Table.from_pylist(rows[name], getattr(quote, name))) for name in rows]
    took = []
    for _ in range(200):
        started = time.perf_counter()
        quoted = quote.quote(*frames)
        took.append(time.perf_counter() - started)
    if len(quoted.lines) != 6:
        raise Disagreement(f"the quote has {len(quoted.lines)} lines, not 6")
    return statistics.median(took)


def _growth(measured: list[Figures]) -> Figures:
    """From one N to the next: seconds per deployment, and memory, as ratios."""
    if len(measured) < 2:
        return {}
    small, large = measured
    seconds = [figures["pipeline"]["seconds"] / figures["deployments"] for figures in measured]
    memory = large["pipeline_peak_mib"] / small["pipeline_peak_mib"]
    return {"growth_of_time": seconds[1] / seconds[0], "growth_of_memory": memory}


def _print(figures: Figures) -> None:
    ran, resting = figures["pipeline"], figures["unchanged"]
    print(f"\n{figures['deployments']} deployments: {figures['invoices']} invoices, {figures['lines']} lines\n")
    print(f"{'seconds':24}{'first':>10}{'unchanged':>12}{'1 % changed':>12}")
    for stage in (*STEPS, "checks"):
        _print_row(f"  {stage}", *(run["stages"][stage] for run in (ran, resting, figures["one_percent"])))
    for name, key in {"steps": "seconds", "Dagster's own": "dagster_s", "run in process": "run_s"}.items():
        _print_row(name, *(run[key] for run in (ran, resting, figures["one_percent"])))
    _print_row("cold, a new process", figures["cold_s"])
    _print_row("  of it imports", figures["import_s"])
    _print_row("priced again", figures["reprice_s"])
    if "mixed" in figures:
        print(f"with every kind of price: {figures['mixed']['lines']} lines, {figures['mixed']['seconds']:.2f} s")
    _print_row("smallest month", figures["smallest_s"])
    _print_row("four empty assets", figures["empty_run_s"])
    print(f"\n{'':24}{'pipeline':>10}{'baseline':>12}{'floor':>12}")
    sides = (ran, figures["baseline"], figures["floor"])
    for name, key in {"seconds": "seconds", "PostgreSQL, MiB": "postgres_peak_mib", "WAL, MiB": "wal_mib"}.items():
        _print_row(name, *(side[key] for side in sides))
    _print_row("process, MiB", ran["peak_mib"])
    for name in ("invoices", "lines", "usage_rows"):
        _print_row(f"{name.replace('_', ' ')} a second", *(figures[name] / side["seconds"] for side in sides))
    print(f"\n{'':24}{'':>10}{'at most':>12}{'with Dagster':>14}")
    for name, most in TARGETS.items():
        if name in figures:
            met = ("yes" if figures[name] <= most else "no") if _applies(name, figures) else ""
            whole = figures["with_dagster"].get(name)
            print(f"{name:24}{figures[name]:10.3f}{most:12g}{f'{whole:.3f}' if whole else '':>14}  {met}")
    print(flush=True)


def _applies(name: str, figures: Figures) -> bool:
    return figures["deployments"] == TARGETS_AT or name.startswith("growth")


def _print_row(name: str, *values: float) -> None:
    print(f"{name:24}" + "".join(f"{value:{width}.2f}" for value, width in zip(values, (10, 12, 12), strict=False)))


CHILDREN: dict[str, Callable[..., Figures]] = {"open": _open, "run": _invoice, "reprice": _reprice, "small": _small}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:])))
    else:
        main([int(count) for count in sys.argv[1:] if count != "--mix"] or [TARGETS_AT], "--mix" in sys.argv)
