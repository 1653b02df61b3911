"""`arcadia` as people and programs call it: in this process, or as one of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from arcadia_pipelines.cli import main as cli
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines_tests.world import World

CLOSED = "postgresql://127.0.0.1:1/closed"
"""A database behind a port that nobody listens on."""


class Answer(NamedTuple):
    """What a call left behind."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The document on stdout, of a call that worked and complained of nothing."""
        assert (self.code, self.err) == (0, "")
        document: dict[str, Any] = json.loads(self.out)
        return document


Call = Callable[..., Answer]


def surroundings(url: str, folder: Path) -> dict[str, str]:
    """The environment of somebody with a server of their own, who has never used the embedded one.

    Every variable of ours is set, if only to nothing, so that no .env of a developer gets in.
    """
    return {
        "ARCADIA_DATABASE_URL": url,
        "ARCADIA_HOME": str(folder / "home"),
        "ARCADIA_FIRST_MONTH": "",
        "ARCADIA_ALERT_WEBHOOK_URL": "",
        "ARCADIA_DIGITALOCEAN_TOKEN": "",
        "ARCADIA_FINANCE_URL": os.environ.get("ARCADIA_FINANCE_URL", ""),
        "ARCADIA_USAGE_URL": os.environ.get("ARCADIA_USAGE_URL", ""),
        "ARCADIA_DEBUG": "",
        "DAGSTER_HOME": str(PROJECT),
        "HOME": str(folder),
        "COLUMNS": "120",
    }


@pytest.fixture
def arcadia(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], url: str, tmp_path: Path) -> Call:
    """Calls `arcadia` in this process; keywords are environment variables."""
    for name, value in surroundings(url, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **variables: str) -> Answer:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["arcadia", *arguments])
            code: object = 0
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture
def process(url: str, tmp_path: Path) -> Call:
    """Runs a program of the virtual environment as a process of its own; keywords are environment variables."""

    def call(program: str, *arguments: str, **variables: str) -> Answer:
        ended = start(program, *arguments, url=url, folder=tmp_path, **variables)
        out, err = ended.communicate(timeout=120)
        return Answer(ended.returncode, out, err)

    return call


def start(program: str, *arguments: str, url: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """A program of the virtual environment, started."""
    return subprocess.Popen(
        [str(Path(sys.executable).with_name(program)), *arguments],
        env={**os.environ, **surroundings(url, folder), **variables},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(url: str) -> dict[str, list[Any]]:
    """Every table of the database with its number of rows and a hash of them."""
    world = World(url)
    tables = world.query(
        "select quote_ident(nspname) || '.' || quote_ident(relname) from pg_class c"
        " join pg_namespace n on n.oid = relnamespace"
        " where relkind in ('r', 'p') and nspname not like 'pg%' and nspname <> 'information_schema'"
    )
    union = " union all ".join(
        f"select '{table}', count(*), sum(hashtextextended(t::text, 0)) from {table} t" for (table,) in tables
    )
    return {name: rest for name, *rest in world.query(union)} if union else {}


def refused(answer: Answer, *words: str) -> None:
    """One clear line on stderr, nothing on stdout, an exit code that is not 0."""
    assert answer.code in (1, 2)
    assert answer.out == ""
    assert answer.err.startswith("arcadia: ")
    assert answer.err.endswith("\n")
    assert len(answer.err.splitlines()) == 1
    assert len(answer.err) < 400
    assert not re.search(r"Traceback|arcadia: unexpected|Error:|arcadia_pipelines\.", answer.err)
    for word in words:
        assert word in answer.err


INVOICE_KEYS = {
    "id",
    "tenant_id",
    "period_start",
    "period_end",
    "currency",
    "subtotal_cents",
    "tax_cents",
    "total_cents",
    "status",
    "issued_at",
    "paid_at",
    "finance_invoice_id",
    "pushed_to_finance_at",
    "delivered_at",
    "due_on",
    "inserted_at",
    "updated_at",
    "invoice_number",
    "revision",
    "content_sha256",
    "usage_cutoff",
    "run_id",
    "meta",
    "lines",
}
