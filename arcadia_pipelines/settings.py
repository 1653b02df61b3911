"""What the environment configures, read in one place. docs/deployment.md documents each variable.

Belongs here: names of environment variables, their defaults, and the forms of the database URL that each driver wants.
Does not: connections (pipeline/resources.py), the embedded server's life (embedded.py).
"""

import difflib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from sqlalchemy.dialects import registry
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from arcadia_pipelines import embedded
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines.errors import ArcadiaError

DAGSTER_SCHEMA = "dagster"
USER_AGENT = "arcadia-pipelines"
"""What we call ourselves to other servers: some refuse Python's default User-Agent."""
_PACKAGE = Path(__file__).parent
SHIPPED = _PACKAGE if (_PACKAGE / "sql").is_dir() else _PACKAGE.parent
"""The folder of sql/, dagster.yaml and workspace.yaml: the checkout, or the package if a wheel is installed."""
PROJECT = Path() if SHIPPED == _PACKAGE else SHIPPED
"""The folder of .env and .arcadia/: the checkout, or the current folder if a wheel is installed."""

VARIABLES = (
    "ARCADIA_ALERT_WEBHOOK_URL",
    "ARCADIA_API_AUDIENCE",
    "ARCADIA_API_CLIENTS",
    "ARCADIA_API_CONNECTIONS",
    "ARCADIA_API_ISSUER",
    "ARCADIA_API_JWKS",
    "ARCADIA_API_REQUESTS",
    "ARCADIA_API_SECRET",
    "ARCADIA_DATABASE_URL",
    "ARCADIA_DEBUG",
    "ARCADIA_DELIVER_ON_DOWNLOAD",
    "ARCADIA_DIGITALOCEAN_TOKEN",
    "ARCADIA_DIGITALOCEAN_URL",
    "ARCADIA_FINANCE_HOLD",
    "ARCADIA_FINANCE_TOKEN",
    "ARCADIA_FINANCE_URL",
    "ARCADIA_FIRST_MONTH",
    "ARCADIA_HOME",
    "ARCADIA_LOCK_TIMEOUT",
    "ARCADIA_OPERATOR_HEADER",
    "ARCADIA_SMTP_URL",
    "ARCADIA_UI_URL",
    "ARCADIA_USAGE_URL",
)
"""Every variable of ours. Another one whose name begins with ARCADIA_ is misspelt, and would have no effect."""


registry.register("postgresql.arcadia", "arcadia_pipelines.pipeline.instance", "SettledDialect")


class SettingsError(ArcadiaError):
    """An environment variable has an unknown name, or a value that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """The configuration of one process."""

    database_url: str | None
    """Canonical `postgresql://` URL, or None for the embedded server under `home`."""
    home: Path
    first_month: BillingMonth
    alert_webhook_url: str | None
    ui_url: str | None = None
    """Where people open Dagster's UI, for the links in alerts; pages from there may send it requests."""
    operator_header: str | None = None
    """The header in which the proxy in front of Dagster's UI names the login; a request without it changes nothing."""
    api_jwks: str | None = None
    """File or URL of the keys that the API's tokens are signed with."""
    api_secret: str | None = field(default=None, repr=False)
    """Or the secret that they are signed with, at least 32 bytes."""
    api_issuer: str | None = None
    api_audience: str | None = None
    api_connections: int = 5
    """How many connections to the database one API process keeps at most; more of them made it slower."""
    api_clients: int = 400
    """How many HTTP connections one API process serves at once."""
    api_requests: int = 60_000
    """How many requests a minute one API process answers to one tenant, or to platform admins together."""
    lock_timeout_seconds: int = 600
    """How long a month end or an operator's act waits for a lock."""
    deliver_on_download: bool = False
    """Whether an invoice is delivered, and locked, once its tenant has downloaded it through the API."""
    smtp_url: str | None = field(default=None, repr=False)
    """The mail server that takes invoices to their tenants; without it none is sent."""
    digitalocean_token: str | None = field(default=None, repr=False)
    """The token that the provider's bills are fetched with; without it they are imported."""
    digitalocean_url: str = "https://api.digitalocean.com"
    finance_url: str | None = None
    """Where finance takes invoices, tryton+https://... if it is Tryton; None: it is told nothing."""
    finance_token: str | None = field(default=None, repr=False)
    """A bearer token; for Tryton, user:password."""
    usage_url: str | None = field(default=None, repr=False)
    """Where usage is, if not in cloud.usage_records: see usage/sources.py."""
    finance_hold: bool = False
    """Whether finance is told of a month only once an operator says so."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the environment. Raises SettingsError naming the variable that is wrong."""
        _refuse_unknown(os.environ)
        url, jwks = os.environ.get("ARCADIA_DATABASE_URL") or None, os.environ.get("ARCADIA_API_JWKS") or ""
        try:
            first_month = BillingMonth.parse(os.environ.get("ARCADIA_FIRST_MONTH") or "2026-01")
        except InvalidMonth as error:
            raise SettingsError(f"ARCADIA_FIRST_MONTH: {error}") from error
        return cls(
            database_url=canonical(url) if url else None,
            home=Path(os.environ.get("ARCADIA_HOME") or PROJECT / ".arcadia").absolute(),
            first_month=first_month,
            alert_webhook_url=_web_address("ARCADIA_ALERT_WEBHOOK_URL"),
            ui_url=_web_address("ARCADIA_UI_URL", is_base=True),
            operator_header=_header_name("ARCADIA_OPERATOR_HEADER"),
            api_jwks=_web_address("ARCADIA_API_JWKS") if "://" in jwks else jwks or None,
            api_secret=os.environ.get("ARCADIA_API_SECRET") or None,
            api_issuer=os.environ.get("ARCADIA_API_ISSUER") or None,
            api_audience=os.environ.get("ARCADIA_API_AUDIENCE") or None,
            api_connections=_count("ARCADIA_API_CONNECTIONS", cls.api_connections),
            api_clients=_count("ARCADIA_API_CLIENTS", cls.api_clients),
            api_requests=_count("ARCADIA_API_REQUESTS", cls.api_requests, 9_999_999),
            lock_timeout_seconds=_count("ARCADIA_LOCK_TIMEOUT", cls.lock_timeout_seconds, 99_999),
            deliver_on_download=_truth("ARCADIA_DELIVER_ON_DOWNLOAD"),
            smtp_url=_mail_server("ARCADIA_SMTP_URL"),
            digitalocean_token=(os.environ.get("ARCADIA_DIGITALOCEAN_TOKEN") or "").strip() or None,
            digitalocean_url=_web_address("ARCADIA_DIGITALOCEAN_URL", is_base=True) or cls.digitalocean_url,
            finance_url=_web_address("ARCADIA_FINANCE_URL", is_base=True, kinds=("tryton",)),
            finance_token=(os.environ.get("ARCADIA_FINANCE_TOKEN") or "").strip() or None,
            usage_url=(os.environ.get("ARCADIA_USAGE_URL") or "").strip() or None,
            finance_hold=_truth("ARCADIA_FINANCE_HOLD"),
        )

    def url(self) -> str:
        """The canonical URL of the billing database; starts the embedded server when that is the one to use."""
        return self.database_url or embedded.start(self.home)


def _count(variable: str, default: int, most: int = 9999) -> int:
    text = os.environ.get(variable) or str(default)
    if not re.fullmatch(rf"[1-9]\d{{0,{len(str(most)) - 1}}}", text, re.ASCII):
        raise SettingsError(f"{variable} is {text!r}: write a whole number from 1 to {most}")
    return int(text)


def _mail_server(variable: str) -> str | None:
    """An smtp or smtps URL. The error does not repeat the value, which has a password."""
    text = (os.environ.get(variable) or "").strip()
    with suppress(ValueError):
        parts = urlsplit(text)
        if not text or (parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0):
            return text or None
    raise SettingsError(f"{variable} is not a mail server: write it like smtps://user:password@mail.example.com")


def _truth(variable: str) -> bool:
    text = (os.environ.get(variable) or "false").strip().lower()
    if text not in ("true", "false"):
        raise SettingsError(f"{variable} is {text!r}: write true or false")
    return text == "true"


def _header_name(variable: str) -> str | None:
    text = (os.environ.get(variable) or "").strip()
    if text and not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise SettingsError(f"{variable} is {text!r}: write a header's name, like X-Auth-Request-Email")
    return text or None


def _web_address(variable: str, is_base: bool = False, kinds: tuple[str, ...] = ()) -> str | None:
    """An http or https URL, or `kind+https`; a base, which paths are added to, has no query and no slash at its end.

    The error does not repeat the value: it may be a secret in the wrong variable.
    """
    text = (os.environ.get(variable) or "").strip()
    with suppress(ValueError):  # an invalid port, or brackets around what is not an IPv6 address
        parts = urlsplit(text)
        kind, _, scheme = parts.scheme.rpartition("+")
        is_one = kind in ("", *kinds) and scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        if not text or (is_one and not re.search(r"[\s?#]" if is_base else r"\s", text)):
            return (text.rstrip("/") if is_base else text) or None
    raise SettingsError(f"{variable} is not a web address: write one like https://dagster.example.com")


_OF_OTHERS = r"ARCADIA_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)|ARCADIA_TEST_\w+"
"""Not ours: what Kubernetes sets in every container if a service's name begins with arcadia; and what tests set."""


def _refuse_unknown(environment: Iterable[str]) -> None:
    for name in sorted(environment):
        is_ours = name.upper().startswith("ARCADIA_") and not re.fullmatch(_OF_OTHERS, name)
        if is_ours and name not in VARIABLES:
            [nearest] = difflib.get_close_matches(name.upper(), VARIABLES, n=1, cutoff=0)
            raise SettingsError(
                f"{name} is not a variable of Arcadia's: did you mean {nearest}? docs/deployment.md lists them"
            )


def canonical(url: str) -> str:
    """`postgresql://...` for any spelling of a PostgreSQL URL: one that libpq and SQLAlchemy read alike.

    Several hosts go into its query. Raises SettingsError for any other text.
    """
    match = re.fullmatch(r"(?:postgres|postgresql)(?:\+\w+)?://([^/?#]*)(.+|$)", url)
    try:
        if match is None or not (match[1] or match[2]):
            raise ValueError
        user, at, hosts = match[1].rpartition("@")
        several = hosts if "," in hosts else ""
        parsed = make_url(f"postgresql://{user}{at}{'' if several else hosts}{match[2]}")
        query = {name: given if isinstance(given, str) else given[-1] for name, given in parsed.query.items()}
        if isinstance(options := parsed.query.get("options"), tuple):
            query["options"] = " ".join(options)
        if isinstance(given := parsed.query.get("host"), tuple):
            several = ",".join(given)
        places = [urlsplit(f"//{one}") for one in (several or hosts).split(",")]
        if any(place.port == 0 for place in places):  # a port that is not a number up to 65535 raises a ValueError
            raise ValueError
        if several:
            query["host"] = ",".join(place.hostname or "" for place in places)
            query["port"] = ",".join(str(place.port or "") for place in places)
    except (ValueError, ArgumentError):
        raise SettingsError(
            "ARCADIA_DATABASE_URL is not a PostgreSQL URL: write postgresql://user:password@host:5432/database"
        ) from None
    plain = parsed.set(query={}).render_as_string(hide_password=False).replace(" ", "%20")
    return f"{plain}{'?' if query else ''}{urlencode(query, quote_via=quote, safe='/,:')}"


def sqlalchemy_url(url: str) -> str:
    """The URL for our own engine, which runs on psycopg 3."""
    return _driver_url(url, "psycopg")


def dagster_url(url: str) -> str:
    """The URL for Dagster's storage: psycopg 2 (psycopg 3 does not work), by the dialect of pipeline/instance.py."""
    return _driver_url(url, "arcadia")


def _driver_url(url: str, driver: str) -> str:
    return make_url(url.replace("postgresql://", f"postgresql+{driver}://", 1)).render_as_string(hide_password=False)
