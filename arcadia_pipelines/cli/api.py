"""`arcadia api` and `arcadia token`. What loads slowly is loaded when one of them runs."""

import signal
import socket

import click
import psycopg

from arcadia_pipelines.settings import Settings, SettingsError
from arcadia_pipelines.storage import database, migrations

HOST = "127.0.0.1"


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for any free one.")
def api(port: int) -> None:
    """Serve the read API on 127.0.0.1 until Ctrl-C or SIGTERM; the log is JSON on stdout."""
    from arcadia_pipelines.api import limits
    from arcadia_pipelines.api.app import create_app
    from arcadia_pipelines.api.observe import log_to_stdout

    settings = Settings.from_environment()
    url = settings.url()
    if not settings.database_url:
        migrations.migrate(database.engine(url))
    app = create_app(settings)
    can_do_more = _refuse_unadmitted(url)
    listening = listen(port)
    where = f"http://{HOST}:{listening.getsockname()[1]}"
    click.echo(
        f"the read API is on {where} (reference: {where}/docs), the dashboard on {where}/dashboard; Ctrl-C stops it",
        err=True,
    )
    if settings.database_url and can_do_more:  # the embedded database has its owner's login only
        click.echo(f"warning: its login, {can_do_more}, can do more than read: {_READ_ONLY}", err=True)
    log_to_stdout()
    for asked_to_stop in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it has stopped: that is all
        signal.signal(asked_to_stop, signal.SIG_IGN)
    limits.server(app, settings).run([listening])


@click.command()
@click.option("--role", type=click.Choice(["platform_admin", "tenant"]), required=True)
@click.option("--tenant", metavar="ID", help="Whose invoices a tenant's token shows.")
@click.option("--hours", type=click.IntRange(1, 24 * 365), default=12, show_default=True, help="Until it expires.")
def token(role: str, tenant: str | None, hours: int) -> None:
    """Print a token for the read API over the embedded database."""
    from arcadia_pipelines.api import auth

    if role == "platform_admin":
        if tenant:
            raise click.UsageError("a platform_admin sees every tenant: leave --tenant out")
        principal = auth.Principal("platform_admin")
    elif auth.is_tenant_id(tenant):
        principal = auth.Principal("tenant", tenant)
    else:
        raise click.UsageError("say whose token it is: --tenant ID")
    click.echo(auth.embedded_token(Settings.from_environment(), principal, hours))


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1. Raises SettingsError."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise SettingsError(f"cannot listen on {HOST}:{port} ({error.strerror}): choose another --port") from error


_READ_ONLY = "give it one with arcadia_api and arcadia_reprice alone (docs/deployment.md, Database roles)"
_CAN_DO_MORE = """
    select session_user from pg_roles r
    where pg_has_role(session_user, r.oid, 'member') and rolname <> 'arcadia_api'
      and (rolsuper or rolcreaterole or rolbypassrls or rolname = 'arcadia_pipeline'
           or oid in (select relowner from pg_class where oid = 'billing.tenant_invoices'::regclass))
    limit 1
"""


def _refuse_unadmitted(url: str) -> str | None:
    """Say so now if the database does not let the API read. One that is down is left to /ready.

    Returns the login's name if it may write as well.
    """
    from arcadia_pipelines.api.queries import SESSION

    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            [[migrated]] = connection.execute("select to_regproc('billing.invoice_lines') is not null").fetchall()
            if not migrated:
                raise SettingsError("the database lacks our tables: run `arcadia db migrate`")
            database.settle(connection, SESSION)
            connection.execute("select from billing.tenant_invoices limit 0")
            connection.execute("select from billing.invoice_lines(null, null)")
            row = connection.execute(_CAN_DO_MORE).fetchone()
            return str(row[0]) if row else None
    except psycopg.OperationalError:
        return None
    except psycopg.Error as error:
        raise SettingsError(
            "the database does not let the API read: as a superuser `create role arcadia_api; grant arcadia_api to` "
            "the user of ARCADIA_DATABASE_URL, then as that user `select billing.admit_api();`"
        ) from error
