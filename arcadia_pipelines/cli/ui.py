"""`arcadia ui`: Dagster's UI behind our guard, and its daemon. Dagster is loaded when it runs.

Belongs here: the processes. Does not: who may ask the UI for what (pipeline/guard.py).
"""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from arcadia_pipelines.cli.api import HOST, listen
from arcadia_pipelines.settings import Settings, SettingsError
from arcadia_pipelines.storage import database, migrations

if TYPE_CHECKING:
    import uvicorn

_GRACE_SECONDS = 5  # for requests under way when the server is asked to stop; open pages hold their websockets
_DAEMON_SECONDS = 60  # for the daemon to end, as `dagster dev` has it


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="0 for any free one.")
@click.option("--no-daemon", is_flag=True, help="Only the webserver: dagster-daemon runs elsewhere.")
@click.option("--read-only", is_flag=True, help="Only the webserver, and nothing can be launched or changed in it.")
def ui(port: int, no_daemon: bool, read_only: bool) -> None:
    """Serve Dagster's UI on 127.0.0.1 until Ctrl-C or SIGTERM, with its daemon.

    Other web pages cannot make a browser launch or change anything in it. It has no login of its own: see
    docs/deployment.md for the proxy that others reach it through.
    """
    with listen(port) as listening:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        settings = Settings.from_environment()
        if not settings.database_url:
            migrations.migrate(database.engine(settings.url()))
        from arcadia_pipelines.pipeline.instance import enter_dagster_home

        workspace = enter_dagster_home(settings.home)
        with _webserver(settings, workspace, read_only) as server, _daemon(workspace, server, no_daemon or read_only):
            where = f"http://{HOST}:{listening.getsockname()[1]}"
            click.echo(f"Dagster's UI is on {where}; Ctrl-C stops it", err=True)
            for asked_to_stop in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it has stopped
                signal.signal(asked_to_stop, signal.SIG_IGN)
            server.run([listening])


@contextlib.contextmanager
def _webserver(settings: Settings, workspace: Path, read_only: bool) -> Iterator["uvicorn.Server"]:
    """The webserver over the code of workspace.yaml, which it loads in a process of its own."""
    import dagster as dg
    import uvicorn
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    from arcadia_pipelines.pipeline.guard import Guard
    from arcadia_pipelines.pipeline.instance import ArcadiaRunStorage

    with dg.DagsterInstance.get() as instance:
        if settings.operator_header and not isinstance(instance.run_storage, ArcadiaRunStorage):
            raise SettingsError(
                "with ARCADIA_OPERATOR_HEADER, dagster.yaml needs the storage that our own has: no other notes who"
                " launched a run"
            )
        instance.optimize_for_webserver(statement_timeout=15_000, pool_recycle=3600, max_overflow=20)
        target = WorkspaceFileTarget([str(workspace)])
        with WorkspaceProcessContext(
            instance, target, dg.__version__, read_only, code_server_log_level="WARNING"
        ) as context:
            app = create_app_from_workspace_process_context(context, urlsplit(settings.ui_url or "").path, 2000)
            guarded = Guard(app, settings.ui_url, settings.operator_header)
            yield uvicorn.Server(uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=_GRACE_SECONDS))


@contextlib.contextmanager
def _daemon(workspace: Path, server: "uvicorn.Server", elsewhere: bool) -> Iterator[None]:
    """Dagster's daemon beside the server: each ends with the other. Raises SettingsError if the daemon ended first."""
    if elsewhere:
        yield
        return
    daemon = subprocess.Popen([sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace)])
    ended: list[int] = []

    def watch() -> None:
        code = daemon.wait()
        if not server.should_exit:
            ended.append(code)
            server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
        if ended:
            raise SettingsError(
                f"Dagster's daemon ended by itself (exit code {ended[0]}), and the UI with it: see the lines above"
            )
    finally:
        daemon.terminate()
        try:
            daemon.wait(_DAEMON_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
