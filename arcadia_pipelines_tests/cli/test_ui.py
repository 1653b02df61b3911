"""`arcadia ui`, the real webserver over real HTTP: what is an operator's to do is no other web page's."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import psycopg
import pytest

from arcadia_pipelines.settings import PROJECT, SHIPPED
from arcadia_pipelines_tests.world import World

pytestmark = pytest.mark.long

EVIL = {"Origin": "https://evil.example"}
ADA = {"X-Auth-Request-Email": "ada@example.com"}
JSON = {"Content-Type": "application/json"}
LAUNCH = "mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename } }"
JOBS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { jobs { name } } } } }"


@dataclass
class Ui:
    """A running `arcadia ui`."""

    process: subprocess.Popen[str]
    base: str
    world: World

    def ask(self, method: str, path: str, body: str | bytes = "", **headers: str) -> httpx.Response:
        """Send it as written; a header is named with _ for -."""
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return httpx.request(method, self.base + path, content=body, headers=named, timeout=30, trust_env=False)

    def graphql(self, query: str, variables: object = None, **headers: str) -> httpx.Response:
        """Send it as the UI's own page does."""
        body = json.dumps({"operationName": None, "query": query, "variables": variables})
        return self.ask(
            "POST", "/graphql", body, **{"Content_Type": "application/json", "Origin": self.base, **headers}
        )

    def handshake(self, **headers: str) -> int:
        """The status of the answer to a websocket's opening."""
        sent = {"Host": self.base[7:], "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        sent |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "graphql-ws", **headers}
        with socket.create_connection(("127.0.0.1", int(self.base.rpartition(":")[2])), 30) as connection:
            lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
            connection.sendall(f"GET /graphql HTTP/1.1\r\n{lines}\r\n".encode())
            return int(connection.makefile("rb").readline().split()[1])

    def done(self) -> tuple[int, int]:
        """How many runs there are, and how many events of Dagster's."""
        [(runs, events)] = self.world.query(
            "select (select count(*) from dagster.runs), (select count(*) from dagster.event_logs)"
        )
        return runs, events


def launch(invoice: str) -> dict[str, Any]:
    """What the launchpad sends, for an operator who voids an invoice."""
    config = {"invoices": [invoice], "operator": "ada", "reason": "asked by the tenant", "dry_run": False}
    where = {"repositoryName": "__repository__", "repositoryLocationName": "arcadia_pipelines"}
    run_config = {"ops": {"do_void_invoice": {"config": config}}}
    return {"p": {"selector": {**where, "jobName": "void_invoice"}, "mode": "default", "runConfigData": run_config}}


@contextlib.contextmanager
def serve(world: World, folder: Path, *options: str, code: bool = True, **variables: str) -> Iterator[Ui]:
    """`arcadia ui` in a process group of its own, with a Dagster home of its own."""
    (folder / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text())
    workspace = (
        (SHIPPED / "workspace.yaml").read_text().replace("directory: .", f"directory: {json.dumps(str(PROJECT))}")
    )
    (folder / "workspace.yaml").write_text(workspace if code else "load_from: []")
    unset = dict.fromkeys(("ARCADIA_UI_URL", "ARCADIA_OPERATOR_HEADER", "ARCADIA_ALERT_WEBHOOK_URL"), "")
    ours = {"ARCADIA_DATABASE_URL": world.url, "ARCADIA_HOME": str(folder / "home"), "DAGSTER_HOME": str(folder)}
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("arcadia")), "ui", "--port", "0", *options],
            env={**os.environ, **unset, **ours, **variables},
            cwd=folder,
            stdout=out,
            stderr=out,
            text=True,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while "; Ctrl-C stops it" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Ui(process, log.read_text().partition("UI is on ")[2].partition(";")[0], world)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(90)


@pytest.fixture(scope="module")
def billed(server_url: str, migrated: str) -> Iterator[World]:
    """The pilot's April, invoiced as INV-202604-00001."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name} template {migrated}".encode())
        connection.execute(f"alter database {name} set search_path = billing, cloud, public".encode())
        world = World(f"{server_url.rpartition('/')[0]}/{name}")
        world.pilot()
        world.publish("2026-04")
        yield world
        connection.execute(f"drop database {name} with (force)".encode())


@pytest.fixture(scope="module")
def ui(billed: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The UI behind a proxy at dagster.example.com, which says who is logged in."""
    place, login = "https://Dagster.example.com/", next(iter(ADA))
    folder = tmp_path_factory.mktemp("ui")
    with serve(billed, folder, "--no-daemon", ARCADIA_UI_URL=place, ARCADIA_OPERATOR_HEADER=login) as running:
        yield running


def test_what_another_site_has_an_operators_browser_send_does_nothing(ui: Ui) -> None:
    """The proxy has added the operator's login to each of these; none reaches Dagster."""
    variables = json.dumps(launch("INV-202604-00001"))
    in_address = f"?query={quote(LAUNCH)}&variables={quote(variables)}"
    body = json.dumps({"query": LAUNCH, "variables": launch("INV-202604-00001")})
    assert ui.graphql(JOBS).status_code == 200
    before = ui.done()
    form = "application/x-www-form-urlencoded"
    for expected, method, path, content, headers in (
        (403, "GET", "/graphql" + in_address, "", EVIL),
        (405, "GET", "/graphql" + in_address, "", {}),  # an image's or a link's has no Origin
        (405, "GET", "/graphql" + in_address, "", {"Accept": "application/json,text/html"}),
        (405, "GET", "/graphql%0A" + in_address, "", {}),
        (405, "GET", "/%67raphql" + in_address, "", {}),
        (405, "HEAD", "/graphql" + in_address, "", {}),
        (403, "OPTIONS", "/graphql", "", {**EVIL, "Access-Control-Request-Method": "POST"}),
        (403, "POST", "/graphql", body, {**EVIL, "Content-Type": "text/plain"}),
        (403, "POST", "/graphql", body, {**EVIL, **JSON}),
        (403, "POST", "/graphql", body, {"Origin": "null", **JSON}),
        (403, "POST", "/graphql", body, {"Origin": "http://127.0.0.1:8000", **JSON}),  # the API's dashboard
        (403, "POST", "/graphql", body, {"Origin": ui.base.replace("127.0.0.1", "localhost"), **JSON}),
        (403, "POST", "/graphql", body, {"Origin": "http://dagster.example.com", **JSON}),  # not https
        (403, "POST", "/graphql", body, {"Origin": "https://dagster.example.com.evil.example", **JSON}),
        (415, "POST", "/graphql", body, {"Content-Type": "text/plain"}),
        (415, "POST", "/graphql", body, {"Content-Type": "text/plain; application/json"}),
        (415, "POST", "/graphql", LAUNCH, {"Content-Type": "application/graphql"}),
        (415, "POST", "/graphql" + in_address, "a=1", {"Content-Type": form}),
        (415, "POST", "/graphql" + in_address, body, {"Content-Type": "Application/JSON"}),
        (415, "POST", "/graphql" + in_address, "", {}),
        (415, "POST", "/report_asset_materialization/tenant_invoices", "", {}),
        (403, "POST", "/report_asset_check/tenant_invoices?check_name=totals_equal_lines&passed=true", "", EVIL),
        (403, "GET", "/", "", {"Host": "evil.example"}),  # a name of the attacker's that leads to 127.0.0.1
        (403, "POST", "/graphql", body, {"Host": "evil.example:3000", "Origin": "http://evil.example:3000", **JSON}),
        (403, "POST", "/graphql", body, {"Host": "127.0.0.1.evil.example", **JSON}),
        (403, "POST", "/graphql", body, {"Host": "dagster.example.com.", **JSON}),
    ):
        answer = ui.ask(method, path, content, **{**ADA, **headers})
        assert answer.status_code == expected, (method, path[:40], headers, answer.text)
        assert method == "HEAD" or answer.json()["errors"][0]["message"]
    assert ui.done() == before


def test_a_websocket_is_opened_for_the_uis_own_pages_only(ui: Ui) -> None:
    """A browser sends the other page's Origin, and no preflight."""
    assert ui.handshake(Origin=ui.base) == 101
    assert ui.handshake(Origin="https://dagster.example.com") == 101
    assert ui.handshake(**EVIL) == 403
    assert ui.handshake(Host="evil.example:3000", Origin="http://evil.example:3000") == 403


def test_without_the_proxys_login_the_ui_is_for_looking(ui: Ui) -> None:
    """A query is answered; a mutation is refused however it is written, and done with the login."""
    variables = launch("INV-202604-00001")
    jobs = ui.graphql(JOBS).json()["data"]["repositoriesOrError"]["nodes"][0]["jobs"]
    assert {"name": "void_invoice"} in jobs
    before = ui.done()
    among_others = f"query jobs {JOBS} {LAUNCH.replace('mutation', 'mutation launch')}"
    in_json = json.dumps({"query": "query", "variables": variables})[:-1] + f', "query": {json.dumps(LAUNCH)}}}'
    for body in (
        json.dumps({"query": LAUNCH, "variables": variables}),
        json.dumps({"query": f"# {{}}\n,{LAUNCH}", "variables": variables}),
        json.dumps({"query": among_others, "operationName": "launch", "variables": variables}),
        json.dumps({"query": among_others, "operationName": "jobs", "variables": variables}),
        in_json,
        in_json.encode("utf-16"),
    ):
        for login in ({}, {"X-Auth-Request-Email": ""}):
            answer = ui.ask("POST", "/graphql", body, **JSON, **login)
            assert (answer.status_code, "X-Auth-Request-Email" in answer.text) == (401, True), body
    for body in ("", "[]", '{"query": 1}', '{"query": "{"}', '{"query": "' + "{a" * 100_000 + '"}', "[" * 100_000):
        assert ui.ask("POST", "/graphql", body, **JSON).status_code == 400, body[:30]
    assert ui.ask("POST", "/report_asset_observation/tenant_invoices", "{}", **JSON).status_code == 401
    assert ui.ask("POST", "/graphql", " " * (16 * 2**20 + 1), **JSON).status_code == 413
    assert ui.done() == before
    for login in (ADA, {**ADA, "Host": "dagster.example.com", "Origin": "https://dagster.example.com"}):
        answer = ui.graphql(LAUNCH, variables, **login)
        assert answer.json() == {"data": {"launchRun": {"__typename": "LaunchRunSuccess"}}}
    assert ui.done()[0] == before[0] + 2


_FORGET_RUNS = """
    do $$ begin
        if to_regclass('dagster.runs') is not null then
            truncate dagster.runs, dagster.run_tags, dagster.bulk_actions cascade;
        end if;
    end $$
"""
"""Those that other tests have launched; a daemon would run them first."""


def test_whatever_is_launched_is_the_logins_and_no_request_says_otherwise(ui: Ui) -> None:
    """Every way to launch, each with a tag that names somebody else: the run, or the backfill, has the login's."""
    ui.world.query(_FORGET_RUNS)
    eve = [{"key": "arcadia/operator", "value": "eve@example.com"}]
    where = {"repositoryName": "__repository__", "repositoryLocationName": "arcadia_pipelines"}
    run = launch("INV-202604-00001")["p"] | {"executionMetadata": {"tags": eve}}
    first = ui.graphql(
        "mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) { ... on LaunchRunSuccess { run { id } } } }",
        {"p": run},
        **ADA,
    ).json()["data"]["launchRun"]["run"]["id"]
    again = run | {"executionMetadata": {"tags": eve, "rootRunId": first, "parentRunId": first}}
    backfill = {
        "selector": {"repositorySelector": where, "partitionSetName": "month_costs_partition_set"},
        "partitionNames": ["2026-01-01"],
        "tags": eve,
    }
    retry = {"parentRunId": first, "strategy": "ALL_STEPS", "extraTags": eve}
    one, several, anew, back = (
        "$p: ExecutionParams!",
        "$p: [ExecutionParams!]!",
        "$p: ReexecutionParams!",
        "$p: LaunchBackfillParams!",
    )
    for declared, mutation, sent in (
        (one, "launchPipelineExecution(executionParams: $p)", run),
        (several, "launchMultipleRuns(executionParamsList: $p)", [run, run]),
        (one, "launchPipelineReexecution(executionParams: $p)", again),
        (one, "launchRunReexecution(executionParams: $p)", again),
        (anew, "launchRunReexecution(reexecutionParams: $p)", retry),
        (back, "launchPartitionBackfill(backfillParams: $p)", backfill),
        (back, "launchPartitionBackfill(backfillParams: $p)", backfill | {"forceSynchronousSubmission": True}),
    ):  # fmt: skip
        answer = ui.graphql(
            f"mutation ({declared}) {{ {mutation} {{ __typename }} }}",
            {"p": sent},
            X_Auth_Request_Email="grace@example.com",
        ).json()
        assert "errors" not in answer, (mutation, answer)
        [done] = answer["data"].values()
        assert "Success" in done["__typename"] or done["__typename"] == "LaunchMultipleRunsResult", (mutation, answer)
    tags = "select value, count(*) from dagster.run_tags where key = 'arcadia/operator' group by 1"
    launched = dict(ui.world.query(tags))
    assert launched.keys() == {"ada@example.com", "grace@example.com"}
    assert launched["grace@example.com"] == 7
    backfills = ui.world.query("select body::jsonb -> 'tags' ->> 'arcadia/operator' from dagster.bulk_actions")
    assert backfills == [("grace@example.com",)]


def test_no_other_site_shows_the_ui_inside_its_own_page(ui: Ui) -> None:
    """A click there would land on a button of the UI."""
    page = ui.ask("GET", "/")
    assert (page.status_code, page.headers["X-Frame-Options"]) == (200, "SAMEORIGIN")
    assert "Content-Security-Policy" in page.headers


def test_an_operators_job_is_run_and_ctrl_c_stops_all(billed: World, tmp_path: Path) -> None:
    """Webserver, daemon and code: the invoice is void, by who was logged in; none of their processes is left."""
    billed.query(_FORGET_RUNS)
    with serve(billed, tmp_path, ARCADIA_OPERATOR_HEADER="X-Auth-Request-Email") as ui:
        sent = launch("INV-202604-00001")
        answer = ui.graphql(LAUNCH, sent, X_Auth_Request_Email="zoë@example.com").json()
        assert answer["data"]["launchRun"]["__typename"] == "LaunchRunSuccess"
        deadline = time.monotonic() + 90
        while billed.invoices("2026-04")["pilot"][0] != "void":
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        by = "select operator, reason from billing.invoice_events where event = 'voided'"
        assert billed.query(by) == [("zoë@example.com", "asked by the tenant (operator given: ada)")]
        family = psutil.Process(ui.process.pid).children(recursive=True)
        assert any("dagster._daemon" in process.cmdline() for process in family)
        os.killpg(ui.process.pid, signal.SIGINT)
        assert ui.process.wait(90) == 0
        assert psutil.wait_procs(family, timeout=30)[1] == []
        with pytest.raises(httpx.ConnectError):
            ui.graphql(JOBS)


def test_the_ui_does_not_go_on_without_its_daemon(billed: World, tmp_path: Path) -> None:
    """Schedules would not run, and nobody would notice: it ends too, and says why in one line."""
    with serve(billed, tmp_path, code=False) as ui:
        [daemon] = [one for one in psutil.Process(ui.process.pid).children() if "dagster._daemon" in one.cmdline()]
        daemon.kill()
        assert ui.process.wait(60) == 1
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("arcadia: Dagster's daemon ended by itself (exit code -9)")


def test_read_only_is_for_looking(billed: World, tmp_path: Path) -> None:
    """A webserver for analysts: they are shown all, and launch nothing. It does without code here, to start quickly."""
    with serve(billed, tmp_path, "--read-only", code=False) as ui:
        assert ui.graphql(JOBS).status_code == 200
        before = ui.done()
        answer = ui.graphql(LAUNCH, launch("INV-202604-00001"))
        assert answer.json()["data"]["launchRun"]["__typename"] == "UnauthorizedError"
        assert ui.done() == before
