"""The nine who write and those who read, each a process: `python -m chaos.writers NAME SEED FOLDER MONTH...`.

Month ends by the command line (two) and by Dagster's queue, two operators, the meter, sales, contracts, which agree
terms with tenants (terms.py), and finance, which pays by plain SQL; besides, analysts with long transactions, one of
them with locks, and a transaction of the platform's that lingers. An act is one transaction, one job or one command;
how it ended goes into the journal.
"""

import datetime as dt
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines.storage.database import StorageError
from chaos import platform, terms
from chaos.journal import DONE, FAILED, KILLED, REFUSED, UNTOLD, Entry, Journal, in_one_line
from chaos.stage import program

COMMAND_SECONDS = 600
MOST_QUEUED = 5
MOST_LINES = 40
_BEFORE = re.compile("arcadia: waiting(?: for |, held by )|WARNING:  |DETAIL:  |HINT:  ")


class Ended(Exception):
    """An act that did not go through: how it ended, and why."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Writer:
    """What a process has: its random numbers, and the months that are over."""

    rng: random.Random
    months: list[dt.date]

    @property
    def month(self) -> dt.date:
        """Any of them."""
        return self.rng.choice(self.months)

    def run(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        """One transaction of one statement; `pick` is random. The rows that it returns. Raises psycopg.Error."""
        with connect() as connection:
            return self.on(connection, query, **parameters)

    def on(self, connection: "psycopg.Connection[Any]", query: str, **parameters: object) -> list[dict[str, Any]]:
        """The same in a transaction that is under way."""
        pick = str(self.rng.random())
        found = connection.execute(query.encode(), {"pick": pick, "month": self.month, **parameters})
        return found.fetchall() if found.description else []


def connect() -> "psycopg.Connection[Any]":
    """A connection of the owner's, as other programs have it."""
    return psycopg.connect(os.environ["ARCADIA_DATABASE_URL"], row_factory=dict_row, connect_timeout=10)


Act = Callable[[Writer], Any]
"""Does it, and returns what is to be looked at afterwards; nothing: there was nothing to do it to. Raises Ended and
psycopg.Error."""


# Month ends.


def invoice(writer: Writer) -> Any:
    """`arcadia invoice`: a first run, or a re-run."""
    month = f"{writer.month:%Y-%m}"
    return {
        "month": month,
        "heads": re.findall(rf"^head of {month}: ([0-9a-f]{{64}})$", arcadia("invoice", month), re.M),
    }


def arcadia(*arguments: str) -> str:
    """What a command prints. Raises Ended."""
    done = subprocess.run([program("arcadia"), *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS)
    if done.returncode == 0:
        return done.stdout
    if done.returncode < 0:
        raise Ended(KILLED, f"ended by signal {-done.returncode}")
    said = done.stderr.strip().splitlines()
    # Whom it waited for, and what PostgreSQL itself says of a crash, may stand before the reason.
    *before, reason = said or [""]
    is_told = reason.startswith("arcadia: ") and " unexpected " not in reason and all(map(_BEFORE.match, before))
    if is_told:
        raise Ended(FAILED, reason)
    raise Ended(UNTOLD, f"exit code {done.returncode}: {' | '.join(said[:MOST_LINES])}")


def launch(writer: Writer) -> Any:
    """`dagster job launch`: into the queue, from which the daemon takes it."""
    unfinished = "select count(*) as runs from dagster.runs where status in ('QUEUED', 'STARTING', 'STARTED')"
    if writer.run(unfinished)[0]["runs"] >= MOST_QUEUED:
        return None
    tags = json.dumps({"dagster/partition": f"{writer.month}"})
    job = ("job", "launch", "-w", str(PROJECT / "workspace.yaml"), "-j", "month_end", "--tags", tags)
    done = subprocess.run([program("dagster"), *job], capture_output=True, text=True, timeout=COMMAND_SECONDS)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}, and not a word"]
        raise Ended(KILLED if done.returncode < 0 else FAILED, in_one_line(said[-1]))
    return True


# Operators, by jobs.

_SOME = """
    select id::text as id from billing.tenant_invoices i
    where {} order by md5(id::text || %(pick)s) limit %(most)s
"""


def void(writer: Writer) -> Any:
    """Void one or two issued invoices."""
    return _operate_on(writer, "void_invoice", "status = 'issued' and period_start = %(month)s")


def reopen(writer: Writer) -> Any:
    """Reopen void ones."""
    return _operate_on(writer, "reopen_invoice", "status = 'void' and finance_invoice_id is null")


def pay(writer: Writer) -> Any:
    """Mark issued ones as paid."""
    paid = _operate_on(writer, "mark_invoice_paid", "status = 'issued' and period_start = %(month)s", paid_on="")
    query = "select id::text as id, total_cents, revision from billing.tenant_invoices where id::text = any(%(ids)s)"
    return paid and writer.run(query, ids=paid)


def issue(writer: Writer) -> Any:
    """Issue a month's drafts."""
    return _operate("issue_drafts", {"month": f"{writer.month:%Y-%m}", "tenants": []})


def hold(writer: Writer) -> Any:
    """Hold a tenant."""
    query = "select id from cloud.tenants t where {} order by md5(id || %(pick)s) limit 1"
    tenants = writer.run(query.format("not exists (select from billing.tenant_holds h where h.tenant_id = t.id)"))
    return _operate("hold_tenant", {"tenants": [row["id"] for row in tenants]})


def release(writer: Writer) -> Any:
    """Release one that is on hold."""
    tenants = writer.run("select tenant_id from billing.tenant_holds order by md5(tenant_id || %(pick)s) limit 1")
    return tenants and _operate("release_tenant", {"tenants": [row["tenant_id"] for row in tenants]})


def manual_line(writer: Writer) -> Any:
    """A charge or a credit of a month, entered by hand."""
    cents = writer.rng.choice([-20_000, -250, -15, -1, 1, 5, 250, 5000])
    entered = {"month": f"{writer.month:%Y-%m}", "amount": f"{cents / 100:.2f}", "description": "by hand"}
    return _operate("add_line", {"tenant": _tenant(writer), **entered})


def grant(writer: Writer) -> Any:
    """Promotional credit, which may expire one day; what has expired already cannot be granted."""
    cents = writer.rng.choice([1, 99, 2500, 100_000])
    expires = writer.rng.choice(["", f"{dt.datetime.now(dt.UTC).date() + dt.timedelta(days=400)}"])
    given = {"amount": f"{cents / 100:.2f}", "expires": expires, "description": "promotion"}
    return _operate("grant_credit", {"tenant": _tenant(writer), **given})


def _tenant(writer: Writer) -> str:
    return str(writer.run("select id from cloud.tenants order by md5(id || %(pick)s) limit 1")[0]["id"])


def _operate_on(writer: Writer, operation: str, which: str, **config: object) -> list[str]:
    ids = [row["id"] for row in writer.run(_SOME.format(which), most=writer.rng.randint(1, 2))]
    if ids:
        _operate(operation, {"invoices": ids, **config})
    return ids


def _operate(operation: str, config: Mapping[str, object]) -> bool:
    from arcadia_pipelines.cli import launch

    who = {"operator": "ada", "reason": "asked by the tenant", "dry_run": False}
    try:
        with launch.instance() as instance:
            launch.operate(operation, {**config, **who}, instance)
    except (launch.MonthEndFailed, StorageError) as error:
        raise Ended(REFUSED if " did nothing: " in str(error) else FAILED, in_one_line(error)) from error
    return True


# The meter.

_RECORD = """
    insert into cloud.usage_records (id, deployment_id, resource_kind, quantity, recorded_at, ingested_at)
    values (%(id)s, %(deployment)s, %(kind)s, %(quantity)s, %(at)s, now() + %(ahead)s::interval)
"""
_DEPLOYMENTS = "select id from cloud.cloud_deployments order by md5(id::text || %(pick)s) limit %(most)s"


def late_usage(writer: Writer) -> Any:
    """Records of months that are over."""
    return _ingest(writer, "0")


def usage_ahead(writer: Writer) -> Any:
    """The same, stamped a day ahead of the clock."""
    return _ingest(writer, "1 day")


def slow_usage(writer: Writer) -> Any:
    """The same, stamped seconds before it is there."""
    return _ingest(writer, "0", lingers=writer.rng.uniform(1, 5))


def _ingest(writer: Writer, ahead: str, lingers: float = 0) -> int:
    rng, month = writer.rng, writer.month
    with connect() as connection:
        deployments = writer.on(connection, _DEPLOYMENTS, most=rng.randint(1, 10))
        for row in deployments:
            record = {"id": platform.new_id(rng), "deployment": row["id"], "kind": rng.choice(list(platform.KINDS))}
            at, quantity = platform.instant(rng, month), platform.quantity(rng) / 10
            writer.on(connection, _RECORD, **record, quantity=round(quantity, 6), at=at, ahead=ahead)
        time.sleep(lingers)
        return len(deployments)


def correction(writer: Writer) -> Any:
    """Half of a record is taken back, once, by a record below 0."""
    query = """
        insert into cloud.usage_records (id, deployment_id, resource_kind, quantity, recorded_at)
        select md5(id || ' corrected')::uuid, deployment_id, resource_kind, -trunc(quantity / 2, 6), recorded_at
        from cloud.usage_records
        where quantity > 0 and deployment_id = (select id from cloud.cloud_deployments
                                                order by md5(id::text || %(pick)s) limit 1)
        order by md5(id::text || %(pick)s) limit 1 on conflict do nothing returning 1
    """
    return writer.run(query)


def replacement(writer: Writer) -> Any:
    """A record gives way to another one, of another quantity."""
    query = """
        with gone as (
            delete from cloud.usage_records where id = (
                select id from cloud.usage_records
                where quantity > 0 and deployment_id = (select id from cloud.cloud_deployments
                                                        order by md5(id::text || %(pick)s) limit 1)
                order by md5(id::text || %(pick)s) limit 1)
            returning *
        )
        insert into cloud.usage_records (id, deployment_id, resource_kind, quantity, recorded_at)
        select %(id)s, deployment_id, resource_kind, quantity + 1, recorded_at from gone returning 1
    """
    return writer.run(query, id=platform.new_id(writer.rng))


# Sales.


def _update(query: str) -> Act:
    """An act that is one statement; `some` is a number from 1 to 300, `at` an instant of the month."""

    def act(writer: Writer) -> Any:
        month = writer.month
        some, at = writer.rng.randint(1, 300), platform.instant(writer.rng, month)
        ids = {name: platform.new_id(writer.rng) for name in ("id", "deployment", "booking")}
        return writer.run(query + " returning 1", month=month, some=some, at=at, **ids)

    return act


_ONE = "(select {1} from cloud.{0} order by md5({1}::text || %(pick)s) limit 1)"
price = _update(f"""
    update cloud.plan_prices p set base_price_cents = 900 + %(some)s
    where ctid = {_ONE.format("plan_prices", "ctid")}
""")
new_price = _update(f"""
    insert into cloud.plan_prices values ({_ONE.format("plans", "id")}, %(month)s, 1500 + %(some)s)
    on conflict (plan_id, effective_from) do update set base_price_cents = excluded.base_price_cents
""")
rate = _update(f"""
    update cloud.plan_rates set unit_price_cents = 0.5 + %(some)s * 0.00123, included_quantity = 100 + %(some)s
    where ctid = {_ONE.format("plan_rates", "ctid")}
""")
addon_price = _update(f"""
    insert into cloud.addon_prices values ({_ONE.format("addons", "id")}, %(month)s, 200 + %(some)s)
    on conflict (addon_id, effective_from) do update set price_cents = excluded.price_cents
""")
plan_change = _update(f"""
    update cloud.subscriptions set plan_id = {_ONE.format("plans", "id")}
    where id = {_ONE.format("subscriptions", "id")}
""")
end = _update("""
    update cloud.subscriptions set ended_at = %(at)s
    where id = (select id from cloud.subscriptions where ended_at is null and started_at < %(at)s
                order by md5(id::text || %(pick)s) limit 1)
""")
begin = _update(f"""
    with made as (
        insert into cloud.cloud_deployments values (%(deployment)s, {_ONE.format("tenants", "id")}, 'new-' || %(some)s)
        returning *
    ),
    subscribed as (
        insert into cloud.subscriptions
        select %(id)s, tenant_id, id, {_ONE.format("plans", "id")}, 'active', %(at)s, null from made returning *
    ),
    used as (
        insert into cloud.usage_records (id, deployment_id, resource_kind, quantity, recorded_at)
        select gen_random_uuid(), deployment_id, 'droplet_hours', %(some)s * 7, started_at + hours * interval '1 hour'
        from subscribed, generate_series(-1, 24, 5) hours
    )
    insert into cloud.subscription_addons
    select %(booking)s, id, {_ONE.format("addons", "id")}, 1, started_at, null from subscribed
""")
addon = _update(f"""
    update cloud.subscription_addons set quantity = mod(%(some)s, 5), ended_at = greatest(started_at, %(at)s)
    where id = {_ONE.format("subscription_addons", "id")}
""")
activation = _update("""
    update cloud.subscriptions set status = 'active'
    where id = (select id from cloud.subscriptions where status = 'pending' order by md5(id::text || %(pick)s) limit 1)
""")
renaming = _update(f"""
    update cloud.cloud_deployments set name = 'renamed-' || %(some)s where id = {_ONE.format("cloud_deployments", "id")}
""")


def _agree(change: "Callable[[psycopg.Connection[Any], random.Random, dt.date], bool]") -> Act:
    """Terms with somebody, in one transaction."""

    def act(writer: Writer) -> Any:
        with connect() as connection:
            return change(connection, writer.rng, writer.month)

    return act


# Finance, by plain SQL.

_STANDING = """
    select id from billing.tenant_invoices where status = 'issued' and {} order by md5(id::text || %(pick)s) limit 3
"""


def payment(writer: Writer) -> Any:
    """Up to three issued invoices are paid."""
    query = f"""
        update billing.tenant_invoices set status = 'paid', paid_at = now()
        where status = 'issued' and id in ({_STANDING.format("true")})
        returning id::text as id, total_cents, revision
    """
    return writer.run(query)


def push(writer: Writer) -> Any:
    """Up to three issued invoices are with finance from now on."""
    query = f"""
        update billing.tenant_invoices set finance_invoice_id = 'F-' || left(id::text, 8), pushed_to_finance_at = now()
        where status = 'issued' and id in ({_STANDING.format("finance_invoice_id is null")})
        returning id::text as id, total_cents, revision
    """
    return writer.run(query)


# Who reads, and who lingers.

_HALF = """
    select count(*) as half from billing.tenant_invoices i
    where total_cents is distinct from (select sum(amount_cents) from billing.tenant_invoice_lines l
                                        where l.invoice_id = i.id and l.period_start = i.period_start)
"""


def read(writer: Writer) -> Any:
    """A long transaction of an analyst's, in which every invoice is the sum of its lines, now and later."""
    with _as_analyst("begin isolation level repeatable read") as connection:
        for _ in range(2):
            half = writer.on(connection, _HALF)[0]["half"]
            if half:
                raise Ended(UNTOLD, f"an analyst saw {half} invoices that are not the sum of their lines")
            time.sleep(writer.rng.uniform(2, 12))
    return True


def read_and_lock(writer: Writer) -> Any:
    """An analyst's transaction that holds the locks which reading takes, on all that it may read."""
    with _as_analyst("begin") as connection:
        connection.execute("lock table billing.tenant_invoices, billing.tenant_invoice_lines in access share mode")
        time.sleep(writer.rng.uniform(2, 8))
    return True


def _as_analyst(begin: str) -> "psycopg.Connection[Any]":
    connection = connect()
    connection.autocommit = True
    connection.execute("set role arcadia_analyst")
    connection.execute(begin.encode())
    return connection


def linger(writer: Writer) -> Any:
    """A transaction of the platform's that has written a deployment and does not end."""
    with connect() as connection:
        writer.on(connection, f"update cloud.cloud_deployments set name = name where id in ({_DEPLOYMENTS})", most=3)
        time.sleep(writer.rng.uniform(1, 5))
    return True


Acts = dict[str, tuple[int, Act]]
"""By name: how often, and what."""
_OPERATOR: Acts = {
    "invoices voided": (3, void),
    "void invoices reopened": (3, reopen),
    "invoices paid by the job": (3, pay),
    "drafts issued": (2, issue),
    "tenants held": (2, hold),
    "tenants released": (2, release),
    "lines entered by hand": (3, manual_line),
    "credit granted": (2, grant),
}
_INVOICES: Acts = {"month ends by the command line": (1, invoice)}
WRITERS: dict[str, tuple[float, Acts]] = {
    "command-line-1": (0.5, _INVOICES),
    "command-line-2": (0.5, _INVOICES),
    "queue": (3, {"month ends by the queue": (1, launch)}),
    "operator-1": (1, _OPERATOR),
    "operator-2": (1, _OPERATOR),
    "meter": (
        1,
        {
            "late usage": (6, late_usage),
            "usage stamped ahead": (2, usage_ahead),
            "usage stamped before it came": (1, slow_usage),
            "usage corrected": (4, correction),
            "usage replaced": (1, replacement),
        },
    ),
    "sales": (
        3,
        {
            "prices changed in place": (2, price),
            "prices added": (2, new_price),
            "rates changed in place": (2, rate),
            "addon prices changed": (1, addon_price),
            "plans changed in place": (4, plan_change),
            "subscriptions ended": (2, end),
            "subscriptions begun": (4, begin),
            "addons changed": (3, addon),
            "subscriptions activated": (1, activation),
            "deployments renamed": (2, renaming),
        },
    ),
    "contracts": (
        1,
        {
            "discounts agreed": (4, _agree(terms.discount)),
            "discounts changed": (3, _agree(terms.discount_changed)),
            "commitments agreed": (3, _agree(terms.commitment)),
            "commitments given up": (1, _agree(terms.commitment_ended)),
            "own prices": (3, _agree(terms.own_price)),
            "own rates": (3, _agree(terms.own_rate)),
            "rates of another model": (2, _agree(terms.listed_rate)),
            "proration changed": (1, _agree(terms.proration)),
            "plans changed within the month": (4, _agree(terms.switch)),
        },
    ),
    "finance": (2, {"payments by SQL": (3, payment), "pushes by SQL": (2, push)}),
    "analyst": (2, {"long reads": (1, read)}),
    "analyst-with-locks": (3, {"locks of a reader": (1, read_and_lock)}),
    "platform": (4, {"transactions that linger": (1, linger)}),
}
"""By name: about how many seconds between two acts, and the acts."""


def acts(writer: Writer, name: str) -> Iterator[tuple[str, Act]]:
    """One after the other, for ever."""
    seconds, choices = WRITERS[name]
    while True:
        [what] = writer.rng.choices(list(choices), [often for often, _ in choices.values()])
        yield what, choices[what][1]
        time.sleep(writer.rng.uniform(0.2, 1.8) * seconds)


def main(name: str, seed: str, folder: Path, months: list[dt.date]) -> None:
    """Write until killed."""
    writer, journal = Writer(random.Random(seed), months), Journal(folder / "journal")
    for what, act in acts(writer, name):
        try:
            noted = act(writer)
            if noted:
                journal.write(Entry(name, what, DONE, noted=noted))
        except (Ended, psycopg.Error) as error:
            outcome = error.outcome if isinstance(error, Ended) else FAILED
            journal.write(Entry(name, what, outcome, in_one_line(error)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), [dt.date.fromisoformat(month) for month in sys.argv[4:]])
