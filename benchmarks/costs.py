"""How fast a bill is imported and set beside the revenue: `make bench-costs [N=100000]`.

Makes a month of N deployments with ten invoice lines each, in a PostgreSQL of its own, and a bill of three items for
each deployment (two by resource, one by project) and one that a thousand of them share. The floor of a view is the bare
GROUP BY of the same lines and allocations. The last line of output is JSON; times are seconds; queries, best of 3.
"""

import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from arcadia_pipelines import embedded
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import bill_csv, bills
from arcadia_pipelines.costs import month as month_costs
from arcadia_pipelines.storage import database, migrations

MONTH = BillingMonth.parse("2026-04")
SHARERS = 1000
FLOOR = """
    select count(*), sum(cents) from (
        select deployment_id, sum(cents) as cents from (
            select deployment_id, amount_cents as cents from billing.tenant_invoice_lines
            where period_start = '2026-04-01' and kind <> 'tax'
            union all
            select deployment_id, aud_cents from billing.cost_allocations where period_start = '2026-04-01'
        ) e group by 1
    ) d
"""
RESOURCES = """
    insert into billing.deployment_resources
    select what || '-' || n, md5('deployment ' || n)::uuid, timestamptz '2025-01-01', null::timestamptz, 1
    from generate_series(1, {count}) n, (values ('droplet'), ('volume')) w (what)
    union all
    select 'cluster', md5('deployment ' || n)::uuid, timestamptz '2025-01-01', null::timestamptz, 1 + n % 3
    from generate_series(1, least({count}, {sharers})) n
"""


def main(count: int) -> None:
    """Measure with so many deployments."""
    home = Path(tempfile.mkdtemp(prefix="arcadia-bench-"))
    try:
        url = embedded.start(home)
        _fill(url, count)
        figures = _measure(url, _csv(count))
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps({"deployments": count, "items": 3 * count + 1, **figures}))


def _fill(url: str, count: int) -> None:
    migrations.migrate(database.engine(url))
    month = (Path(__file__).parent / "api_data.sql").read_text()
    names = {"tenants": count, "month": MONTH.start, "end": MONTH.end, "count": count, "sharers": SHARERS}
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into cloud.tenants select 'tenant-' || lpad(n::text, 7, '0'), 'Tenant ' || n"
            " from generate_series(1, %s) n",
            [count],
        )
        connection.execute(
            "insert into cloud.cloud_deployments select md5('deployment ' || n)::uuid,"
            " 'tenant-' || lpad(n::text, 7, '0'), 'web-' || n from generate_series(1, %s) n",
            [count],
        )
        partition = "billing.tenant_invoice_lines_2026_04"
        connection.execute(month.format(**names, partition=partition).encode())
        connection.execute(RESOURCES.format(**names).encode())
        connection.execute("insert into billing.fx_rates values ('2026-04-01', 'USD', 0.6612, null, 'benchmark')")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")


def _csv(count: int) -> bytes:
    period = "2026-04-01T00:00:00Z,2026-05-01T00:00:00Z"
    lines = ["product,resource_uuid,description,amount,start_time,end_time,project_name"]
    for n in range(1, count + 1):
        lines.append(f"Droplets,droplet-{n},web-{n}-1,6.43,{period},web-{n}")
        lines.append(f"Volumes,volume-{n},volume-{n},{n % 50}.10,{period},web-{n}")
        lines.append(f"Bandwidth,,web-{n}: over the pool,0.{n % 100:02d},{period},web-{n}")
    lines.append(f"Kubernetes Clusters,cluster,control plane,40.00,{period},shared")
    return "\n".join(lines).encode()


def _measure(url: str, document: bytes) -> dict[str, float]:
    engine = database.engine(url)
    took: dict[str, float] = {}

    def timed(name: str, act: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        done = act()
        took[name] = round(time.perf_counter() - started, 3)
        print(f"{name:16} {took[name]:8.3f}", flush=True)
        return done

    received = timed("read", lambda: bill_csv.read_csv(document, "bill.csv"))
    for run in ("first", "unchanged"):
        with database.month_transaction(engine, MONTH) as connection:
            timed(f"store, {run}", lambda on=connection: bills.store(on, received))
            timed(f"allocate, {run}", lambda on=connection: month_costs.allocate(on, MONTH))
    with psycopg.connect(url, autocommit=True) as connection:
        queries = {"floor": FLOOR} | {
            f"by {by}": f"select count(*), sum(margin_cents) from billing.cost_vs_revenue_by_{by}"
            " where period_start = '2026-04-01'"
            for by in ("month", "deployment", "tenant", "kind")
        }
        for name, query in queries.items():
            times = []
            for _ in range(3):
                started = time.perf_counter()
                connection.execute(query.encode()).fetchall()
                times.append(time.perf_counter() - started)
            took[name] = round(min(times), 3)
            print(f"{name:16} {took[name]:8.3f}", flush=True)
    took["deployment view to floor"] = round(took["by deployment"] / took["floor"], 2)
    took["peak MiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return took


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
