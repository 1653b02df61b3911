"""What the environment may say: spellings of the database's URL, what each driver is given of it, the first month."""

import re
from pathlib import Path

import pytest
import sqlalchemy

from arcadia_pipelines.settings import (
    PROJECT,
    VARIABLES,
    Settings,
    SettingsError,
    canonical,
    dagster_url,
    sqlalchemy_url,
)
from arcadia_pipelines.storage import database


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without a variable of ours but the home of the tests' server."""
    for name in ("ARCADIA_DATABASE_URL", "ARCADIA_FIRST_MONTH", "ARCADIA_ALERT_WEBHOOK_URL", "ARCADIA_UI_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("postgresql://ada:pw@db:5433/books", "postgresql://ada:pw@db:5433/books"),
        ("postgres://ada:pw@db:5433/books", "postgresql://ada:pw@db:5433/books"),
        ("postgresql+psycopg://ada:pw@db/books", "postgresql://ada:pw@db/books"),
        ("postgresql+psycopg2://ada:pw@db/books", "postgresql://ada:pw@db/books"),
        ("postgres://db/books?sslmode=require&application_name=x", "postgresql://db/books?sslmode=require&application_name=x"),
        ("postgres://ada:p%40ss%2Fword@db/books", "postgresql://ada:p%40ss%2Fword@db/books"),
        ("postgresql://[::1]:5432/books", "postgresql://[::1]:5432/books"),
        ("postgresql:///books?host=/run/postgresql", "postgresql:///books?host=/run/postgresql"),
        ("postgresql://%2Frun%2Fpostgresql/books", "postgresql://%2Frun%2Fpostgresql/books"),
        ("postgresql://db/my books", "postgresql://db/my%20books"),
        ("postgresql://a%25b:5%25@db/100%25", "postgresql://a%25b:5%25@db/100%25"),
        ("postgresql://ada:5%@db/100%", "postgresql://ada:5%25@db/100%25"),
        ("postgresql://db/books?options=-ca=b -cc=d", "postgresql://db/books?options=-ca%3Db%20-cc%3Dd"),
        ("postgresql://db/books?options=-ca%3Db+-cc%3Dd", "postgresql://db/books?options=-ca%3Db%20-cc%3Dd"),
        ("postgresql://db/books?options=-ca%3Db&options=-cc%3Dd", "postgresql://db/books?options=-ca%3Db%20-cc%3Dd"),
        ("postgresql://ada@a:1,b:2/books", "postgresql://ada@/books?host=a,b&port=1,2"),
        ("postgresql://a,[::1]:2/books?sslmode=require", "postgresql:///books?sslmode=require&host=a,::1&port=,2"),
        ("postgresql:///books?host=a:1&host=b:2", "postgresql:///books?host=a,b&port=1,2"),
        ("postgresql:///books?host=a,b&port=1,2", "postgresql:///books?host=a,b&port=1,2"),
    ],
)  # fmt: skip
def test_any_spelling_of_a_postgresql_url_is_understood(
    monkeypatch: pytest.MonkeyPatch, written: str, meant: str
) -> None:
    """Whatever a hosting provider prints can be pasted; user, password, port and query stay as they are."""
    monkeypatch.setenv("ARCADIA_DATABASE_URL", written)
    assert Settings.from_environment().database_url == meant


@pytest.mark.parametrize(
    "written",
    [
        "mysql://ada:secret@db/books",
        "sqlite:///secret.db",
        "postgresqlx://ada:secret@db/books",
        "postgresql:/secret/books",
        "postgresql://",
        "host=db password=secret dbname=books",
        "secret",
        "postgresql://ada:secret@db:port/books",
        "postgresql://ada:secret@db:543210/books",
        "postgresql://ada:secret@db/books\nselect 1",
        "postgresql://ada:secret@a:1,b:port/books",
        "postgresql://ada:secret@[db/books",
    ],
)
def test_a_url_that_is_not_postgresqls_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """The error names the variable and shows how to write it, in one line that does not print the password."""
    monkeypatch.setenv("ARCADIA_DATABASE_URL", written)
    with pytest.raises(SettingsError, match=r"^ARCADIA_DATABASE_URL .*postgresql://user:password@host") as refused:
        Settings.from_environment().url()
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_our_engine_is_given_psycopg_3() -> None:
    """Everything but the driver's name stays."""
    assert (
        sqlalchemy_url("postgresql://ada:p%40ss@db:5433/books?sslmode=require")
        == "postgresql+psycopg://ada:p%40ss@db:5433/books?sslmode=require"
    )


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("postgresql://ada:p%40ss@db:5433/books", {}),
        ("postgresql://ada:p%40ss@db:5433/books?sslmode=require", {"sslmode": "require"}),
    ],
)
def test_dagster_is_given_psycopg_2_and_what_the_url_asks_for(url: str, query: dict[str, str]) -> None:
    """It does not work on psycopg 3. The dialect of instance.py settles each session."""
    parsed = sqlalchemy.make_url(dagster_url(url))
    assert parsed.get_dialect().driver == "psycopg2"
    assert (parsed.username, parsed.password, parsed.host, parsed.port, parsed.database) == (
        "ada",
        "p@ss",
        "db",
        5433,
        "books",
    )
    assert dict(parsed.query) == query


def asked(engine: sqlalchemy.Engine, *settings: str) -> dict[str, str]:
    """What the server says of a connection's settings."""
    with engine.connect() as connection:
        found = {name: str(connection.exec_driver_sql(f"show {name}").scalar_one()) for name in settings}
    engine.dispose()
    return found


@pytest.mark.parametrize(
    "query",
    ["", "?sslmode=disable&application_name=books", "?options=-cstatement_timeout%3D5000"],
    ids=["no query", "query", "options"],
)
def test_both_urls_open_the_database_with_what_the_url_asks_for(url: str, query: str) -> None:
    """Ours sees PostgreSQL's own names and Dagster's its schema, whatever options the operator's URL has besides."""
    given = canonical(url + query)
    ours = asked(database.engine(given), "search_path", "TimeZone", "statement_timeout")
    dagsters = asked(sqlalchemy.create_engine(dagster_url(given)), "search_path", "statement_timeout")
    timeout = "5s" if "statement_timeout" in query else "0"
    assert ours == {"search_path": "pg_catalog, pg_temp", "TimeZone": "UTC", "statement_timeout": timeout}
    assert dagsters == {"search_path": "dagster, pg_temp", "statement_timeout": timeout}


def test_without_a_url_the_embedded_server_is_used(server_url: str) -> None:
    """It is started when it is asked for; the tests' own is running."""
    settings = Settings.from_environment()
    assert settings.database_url is None
    assert settings.url() == server_url


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a line `ARCADIA_FIRST_MONTH=` of an .env file."""
    for name in ("ARCADIA_DATABASE_URL", "ARCADIA_FIRST_MONTH", "ARCADIA_ALERT_WEBHOOK_URL", "ARCADIA_HOME"):
        monkeypatch.setenv(name, "")
    settings = Settings.from_environment()
    assert (settings.database_url, settings.alert_webhook_url) == (None, None)
    assert settings.first_month.key == "2026-01-01"
    assert settings.home == PROJECT / ".arcadia"


def test_a_home_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command that changes its folder keeps its database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCADIA_HOME", "here")
    assert Settings.from_environment().home == tmp_path / "here"


@pytest.mark.parametrize("written", ["2025-07", "2025-07-01", " 2025-07 "])
def test_the_first_month_can_be_set(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """A month or its first day."""
    monkeypatch.setenv("ARCADIA_FIRST_MONTH", written)
    assert Settings.from_environment().first_month.key == "2025-07-01"


@pytest.mark.parametrize(
    "written", ["soon", "2026", "2026-13", "2026-00", "2026-01-15", "26-01", "0000-01", "\u0662\u0660\u0662\u0666-01"]
)
def test_an_invalid_first_month_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """The error names the variable, repeats what it says and shows how to write it."""
    monkeypatch.setenv("ARCADIA_FIRST_MONTH", written)
    with pytest.raises(SettingsError, match=r"^ARCADIA_FIRST_MONTH: .*write it like 2026-04$") as refused:
        Settings.from_environment()
    assert repr(written) in str(refused.value)


def test_where_the_ui_is_opened_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the links in alerts; the slash at the end does not matter, and a path before it stays."""
    monkeypatch.setenv("ARCADIA_UI_URL", "https://ops.example.com/dagster/")
    assert Settings.from_environment().ui_url == "https://ops.example.com/dagster"
    monkeypatch.setenv("ARCADIA_UI_URL", "")
    assert Settings.from_environment().ui_url is None


def test_a_login_header_that_no_proxy_could_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never be there, and nobody could change anything; with a value in it, it is no name."""
    monkeypatch.setenv("ARCADIA_OPERATOR_HEADER", " X-Auth-Request-Email ")
    assert Settings.from_environment().operator_header == "X-Auth-Request-Email"
    monkeypatch.setenv("ARCADIA_OPERATOR_HEADER", "X-User: ada")
    with pytest.raises(SettingsError, match=r"^ARCADIA_OPERATOR_HEADER is 'X-User: ada': write a header's name, like"):
        Settings.from_environment()


@pytest.mark.parametrize("text", ["mail.example.com", "http://mail.example.com", "smtp://", "smtp://host:99999"])
def test_a_mail_server_is_an_smtp_url_and_its_password_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ARCADIA_SMTP_URL", "smtps://ada:hush@mail.example.com")
    assert Settings.from_environment().smtp_url == "smtps://ada:hush@mail.example.com"
    assert "hush" not in repr(Settings.from_environment())
    monkeypatch.setenv("ARCADIA_SMTP_URL", text)
    with pytest.raises(SettingsError, match=r"^ARCADIA_SMTP_URL is not a mail server: write it like smtps://"):
        Settings.from_environment()


def test_a_download_delivers_only_if_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Settings.from_environment().deliver_on_download
    monkeypatch.setenv("ARCADIA_DELIVER_ON_DOWNLOAD", "true")
    assert Settings.from_environment().deliver_on_download
    monkeypatch.setenv("ARCADIA_DELIVER_ON_DOWNLOAD", "yes")
    with pytest.raises(SettingsError, match=r"^ARCADIA_DELIVER_ON_DOWNLOAD is 'yes': write true or false"):
        Settings.from_environment()


@pytest.mark.parametrize(
    "variable", ["ARCADIA_UI_URL", "ARCADIA_ALERT_WEBHOOK_URL", "ARCADIA_DIGITALOCEAN_URL", "ARCADIA_API_JWKS"]
)
@pytest.mark.parametrize(
    "written",
    [
        "ftp://secret",
        "https://",
        "https://a secret",
        "https:///secret",
        "https://secret:x",
        "https://[secret",
        "http://:80",
    ],
)
def test_an_invalid_web_address_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, written: str) -> None:
    """The error names the variable and shows how to write it; it does not repeat what may be a secret."""
    monkeypatch.setenv(variable, written)
    with pytest.raises(SettingsError, match=f"^{variable} is not a web address: write one like https://") as refused:
        Settings.from_environment()
    assert "secret" not in str(refused.value)


def test_finance_may_be_tryton_and_nothing_else_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCADIA_FINANCE_URL", "tryton+https://tryton.example.com/books/")
    assert Settings.from_environment().finance_url == "tryton+https://tryton.example.com/books"
    for variable, written in (
        ("ARCADIA_FINANCE_URL", "sage+https://sage.example.com"),
        ("ARCADIA_FINANCE_URL", "tryton+ftp://tryton.example.com"),
        ("ARCADIA_UI_URL", "tryton+https://tryton.example.com"),
    ):
        monkeypatch.setenv(variable, written)
        with pytest.raises(SettingsError, match=f"^{variable} is not a web address"):
            Settings.from_environment()
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("written", ["hooks.example.com/arcadia", "/", "yes", "#alerts", "mailto:ada@example.com"])
def test_a_webhook_that_is_not_a_url_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """At the start, not when the first alert is lost."""
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_URL", written)
    with pytest.raises(SettingsError, match=r"^ARCADIA_ALERT_WEBHOOK_URL is not a web address"):
        Settings.from_environment()


def test_a_webhook_keeps_its_query_and_keys_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an address needs stays in it."""
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_URL", "http://[::1]:8065/hooks/a/?key=b")
    monkeypatch.setenv("ARCADIA_API_JWKS", "/etc/arcadia/keys.json")
    settings = Settings.from_environment()
    assert settings.alert_webhook_url == "http://[::1]:8065/hooks/a/?key=b"
    assert settings.api_jwks == "/etc/arcadia/keys.json"


def test_variables_that_kubernetes_sets_are_not_taken_for_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a service named arcadia, or arcadia-api, it sets these in every container of the namespace."""
    for service in ("ARCADIA", "ARCADIA_API"):
        for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"):
            monkeypatch.setenv(f"{service}_{name}", "10.0.0.1")
    assert Settings.from_environment().database_url is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ARCADIA_DATABSE_URL", "ARCADIA_DATABASE_URL"),
        ("ARCADIA_ALERT_WEBHOOK", "ARCADIA_ALERT_WEBHOOK_URL"),
        ("ARCADIA_FIRSTMONTH", "ARCADIA_FIRST_MONTH"),
        ("ARCADIA_DIGITAL_OCEAN_TOKEN", "ARCADIA_DIGITALOCEAN_TOKEN"),
        ("arcadia_home", "ARCADIA_HOME"),
        ("ARCADIA_", "ARCADIA_HOME"),
    ],
)
def test_an_unknown_variable_is_refused_and_the_nearest_named(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    """It would have no effect, and the embedded database be billed instead of one's own."""
    monkeypatch.setenv(name, "postgresql://secret")
    with pytest.raises(SettingsError, match=rf"^{name} is not a variable .*: did you mean {nearest}\?") as refused:
        Settings.from_environment()
    assert "secret" not in str(refused.value)


def test_every_variable_is_documented_and_no_other() -> None:
    """What is documented is known, and what is known is documented."""
    documented = (PROJECT / "docs/deployment.md").read_text() + (PROJECT / ".env.example").read_text()
    assert set(re.findall(r"\bARCADIA_[A-Z_]+\b", documented)) == set(VARIABLES)
