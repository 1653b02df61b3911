"""Who asks: from a bearer token (a JWT) to a principal.

The signature, the issuer, the audience and the expiry are PyJWT's work. Ours: which keys and algorithms count, that a
principal has a role we know, and that keys are fetched neither too rarely nor too often.
Belongs here: tokens and keys. Does not: what a principal may read (queries.py and sql/migrations/0004_api.sql).
"""

import asyncio
import hashlib
import json
import logging
import os
import secrets
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import jwt

from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import USER_AGENT, Settings, SettingsError

EMBEDDED_ISSUER = "arcadia"
EMBEDDED_AUDIENCE = "arcadia-api"
LONGEST_TOKEN = 8192  # characters
LONGEST_TENANT_ID = 200
LEEWAY_SECONDS = 10  # between our clock and the issuer's
REMEMBERED_TOKENS = 10_000
REMEMBERED_SECONDS = 60.0  # a verified token is not verified again for so long

FRESH_SECONDS = 300.0  # a key set is fetched again after so long
STALE_SECONDS = 3600.0  # and used for so long if it cannot be
RETRY_SECONDS = 10.0  # an unknown key id, or a failure, does not fetch more often than this
FETCH_SECONDS = 5.0  # a fetch in all, however slowly it comes
PATIENCE_SECONDS = 1.0  # for a fetch that a known key can do without
MOST_READERS = 8  # of attempts that were given up and do not end
LARGEST_KEY_SET = 2**20  # bytes

_LOG = logging.getLogger("arcadia.api")


class InvalidToken(ArcadiaError):
    """There is no token, or not one of ours; the message may be told to whoever sent it."""


class KeysUnavailable(ArcadiaError):
    """The key set cannot be read, so that no token can be judged."""


@dataclass(frozen=True)
class Principal:
    """Who asks. A tenant has its id; a platform admin has none."""

    role: Literal["platform_admin", "tenant"]
    tenant_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether it sees every tenant's invoices."""
        return self.role == "platform_admin"


class SharedSecret:
    """One key for both sides: for the embedded default, and for an issuer in the same house."""

    algorithms = ("HS256",)

    def __init__(self, secret: str) -> None:
        if len(secret.encode()) < 32:
            raise SettingsError("ARCADIA_API_SECRET is shorter than 32 bytes: make one with `openssl rand -hex 32`")
        self._secret = secret

    async def key(self, key_id: object) -> str:
        """The secret, whatever key the token names."""
        return self._secret


class KeySet:
    """An issuer's public keys (JWKS) in a file or at a URL, by key id.

    Fetched when a token needs it: the first time, every five minutes, and at once for a key id that is new, at most
    every ten seconds. So a new key works as soon as it is published, and a withdrawn one stops within six minutes.
    A fetch that hangs is given up after FETCH_SECONDS; a known key waits for it no longer than PATIENCE_SECONDS.
    """

    algorithms = ("RS256", "PS256", "ES256", "EdDSA")

    def __init__(self, source: str) -> None:
        self._is_url = urlsplit(source).scheme in ("http", "https")
        if self._is_url and not _is_private(source):
            raise SettingsError(f"ARCADIA_API_JWKS {source}: keys must come over https")
        self._source = source
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = -float("inf")
        self._fetching: asyncio.Task[None] | None = None
        self._readers = list[threading.Thread]()

    async def key(self, key_id: object) -> jwt.PyJWK:
        """The key of this id. Raises InvalidToken where there is none, KeysUnavailable where none can be known."""
        is_known = key_id in self._keys and not self._is_stale()
        if is_due := self._is_due(key_id):
            self._fetching = asyncio.create_task(self._fetch())
        if self._fetching and (is_due or not is_known):
            await asyncio.wait({self._fetching}, timeout=PATIENCE_SECONDS if is_known else None)
        if self._is_stale():
            raise KeysUnavailable(f"no key set from {self._source}")
        if not isinstance(key_id, str) or key_id not in self._keys:
            raise InvalidToken("the token is signed with a key that is not the issuer's (kid)")
        return self._keys[key_id]

    def _is_stale(self) -> bool:
        return time.monotonic() > self._fetched_at + STALE_SECONDS

    def _is_due(self, key_id: object) -> bool:
        now = time.monotonic()
        wanted = now > self._fetched_at + FRESH_SECONDS or key_id not in self._keys
        return wanted and now > self._tried_at + RETRY_SECONDS and (self._fetching is None or self._fetching.done())

    async def _fetch(self) -> None:
        self._tried_at = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                document = await self._read()
            self._keys = _public_keys(document)
            self._fetched_at = time.monotonic()
        except TimeoutError:
            _LOG.warning("the key set %s is not there after %s s", self._source, FETCH_SECONDS)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            _LOG.warning("the key set %s cannot be read: %s", self._source, error)

    def _read(self) -> asyncio.Future[bytes]:
        """The document, read in a thread that nobody waits for at the end: a name, a disk or an issuer may hang."""
        self._readers = [reader for reader in self._readers if reader.is_alive()]
        if len(self._readers) >= MOST_READERS:
            raise OSError(f"{MOST_READERS} attempts still hang")
        loop = asyncio.get_running_loop()
        coming: asyncio.Future[bytes] = loop.create_future()

        def tell(settle: Callable[[Any], None], outcome: object) -> None:
            if not coming.done():  # given up
                settle(outcome)

        def read() -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                try:
                    document = _download(self._source) if self._is_url else Path(self._source).read_bytes()
                    loop.call_soon_threadsafe(tell, coming.set_result, document)
                except Exception as error:  # noqa: BLE001  raised again where it is awaited
                    loop.call_soon_threadsafe(tell, coming.set_exception, error)

        self._readers.append(threading.Thread(target=read, name="key set", daemon=True))
        self._readers[-1].start()
        return coming


def _is_private(address: str) -> bool:
    """Whether nobody between can change what comes from there: https, or this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows none that leads from https to http, to another machine over http, or to another scheme."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != urlsplit(req.full_url).scheme or not _is_private(newurl):
            fp.close()
            raise URLError(f"it leads to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: urllib.request.Request) -> HTTPResponse:
    try:
        response: HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=FETCH_SECONDS)
    except HTTPError as error:
        error.close()
        raise
    return response


def _download(address: str) -> bytes:
    """What is there. Raises OSError, HTTPException, ValueError."""
    request = urllib.request.Request(address, headers={"User-Agent": USER_AGENT, "Accept": "application/json"})
    given_up_at, body = time.monotonic() + FETCH_SECONDS, b""
    with _open(request) as response:
        while part := response.read1(2**16):
            body += part
            if len(body) > LARGEST_KEY_SET:
                raise ValueError("it is larger than 1 MiB")
            if time.monotonic() > given_up_at:
                raise TimeoutError("it comes too slowly")
    return body


class Tokens:
    """Turns tokens into principals, and remembers those it has verified for a minute."""

    def __init__(self, keys: SharedSecret | KeySet, issuer: str, audience: str) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self._verified: dict[bytes, tuple[Principal, float]] = {}

    async def principal(self, token: str) -> Principal:
        """Who the token speaks for. Raises InvalidToken and KeysUnavailable."""
        if len(token) > LONGEST_TOKEN:
            raise InvalidToken(f"the token is longer than {LONGEST_TOKEN} characters")
        digest = hashlib.sha256(token.encode()).digest()
        principal, until = self._verified.get(digest, (None, 0.0))
        if principal and time.monotonic() < until:
            return principal
        claims = await self._claims(token)
        principal = _principal(claims)
        if len(self._verified) >= REMEMBERED_TOKENS:
            self._verified.clear()
        left = min(REMEMBERED_SECONDS, int(claims["exp"]) - time.time())
        self._verified[digest] = (principal, time.monotonic() + left)  # also if the clock is set back meanwhile
        return principal

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = await self._keys.key(jwt.get_unverified_header(token).get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=self._keys.algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise InvalidToken("the token has expired: get a new one") from error
        except jwt.InvalidAudienceError as error:
            raise InvalidToken("the token is for another audience (aud)") from error
        except jwt.InvalidIssuerError as error:
            raise InvalidToken("the token is from another issuer (iss)") from error
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"the token lacks the claim {error.claim}") from error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise InvalidToken("the token is not a JWT signed by the issuer") from error
        return claims


def tokens(settings: Settings) -> Tokens:
    """What the environment configures. Raises SettingsError for half a configuration."""
    if settings.api_jwks and settings.api_secret:
        raise SettingsError("ARCADIA_API_JWKS and ARCADIA_API_SECRET are both set: tokens are signed with one of them")
    if settings.api_jwks or settings.api_secret:
        if not settings.api_issuer or not settings.api_audience:
            raise SettingsError("set ARCADIA_API_ISSUER and ARCADIA_API_AUDIENCE to the iss and aud of your tokens")
        keys = KeySet(settings.api_jwks) if settings.api_jwks else SharedSecret(str(settings.api_secret))
        return Tokens(keys, settings.api_issuer, settings.api_audience)
    return Tokens(SharedSecret(embedded_secret(settings)), EMBEDDED_ISSUER, EMBEDDED_AUDIENCE)


def embedded_secret(settings: Settings) -> str:
    """The secret of the embedded default, made on first use, readable by its owner only. Raises SettingsError."""
    if settings.database_url or settings.api_jwks or settings.api_secret:
        raise SettingsError(
            "only the embedded default has a secret of its own: where ARCADIA_DATABASE_URL is set, ARCADIA_API_JWKS or "
            "ARCADIA_API_SECRET says what tokens are signed with, and your issuer makes them"
        )
    file = settings.home / "api-secret"
    if not file.exists():
        settings.home.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=settings.home)  # mode 0600
        with os.fdopen(descriptor, "w") as written:
            written.write(secrets.token_urlsafe(48))
        try:
            os.link(draft, file)  # whole or not at all, and the first of two at once wins
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    return file.read_text().strip()


def embedded_token(settings: Settings, principal: Principal, hours: int) -> str:
    """A token for the embedded default, good for so many hours. Raises SettingsError."""
    now = int(time.time())
    claims = {
        "iss": EMBEDDED_ISSUER,
        "aud": EMBEDDED_AUDIENCE,
        "sub": "arcadia token",
        "iat": now,
        "exp": now + hours * 3600,
        "role": principal.role,
    }
    if principal.tenant_id is not None:
        claims["tenant_id"] = principal.tenant_id
    return jwt.encode(claims, embedded_secret(settings), "HS256")


def is_tenant_id(value: object) -> bool:
    """Whether it can be a tenant's id: printable text, which PostgreSQL can hold."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TENANT_ID and value.isprintable()


def _principal(claims: dict[str, Any]) -> Principal:
    role, tenant = claims.get("role"), claims.get("tenant_id")
    if role == "platform_admin":
        return Principal("platform_admin")
    if role == "tenant" and is_tenant_id(tenant):
        return Principal("tenant", tenant)
    raise InvalidToken("the token's claims need role: platform_admin, or role: tenant with tenant_id")


def _public_keys(document: bytes) -> dict[str, jwt.PyJWK]:
    """The keys of a JWKS for the algorithms we take. Whatever else is among them is passed over. Raises ValueError."""
    listed = json.loads(document)
    entries = listed.get("keys") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        raise ValueError('it is not a key set: {"keys": [...]}')
    found = {key.key_id: key for key in map(_public_key, entries) if key and key.key_id}
    if not found:
        raise ValueError(f"it has no key with a kid for {', '.join(KeySet.algorithms)}")
    return found


def _public_key(entry: object) -> jwt.PyJWK | None:
    """The key that an entry of a JWKS is, if it is one to verify with; others may list what we do not know."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    if entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(entry)
    except Exception:  # noqa: BLE001  whatever its members hold, the others are keys
        return None
    return key if key.algorithm_name in KeySet.algorithms else None
