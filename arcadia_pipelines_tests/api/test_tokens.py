"""Which tokens count. What is wrong with one is said, what is in it is not."""

import base64
import contextlib
import datetime as dt
import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from arcadia_pipelines.api import auth
from arcadia_pipelines.settings import SettingsError
from arcadia_pipelines_tests.api.conftest import SECRET, Serve, bearer, token

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(65537, 2048)


def b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unsigned(**header: str) -> str:
    """The claims of a good token under a header of one's own, without a signature."""
    return f"{b64(header)}.{token().split('.')[1]}."


def key_set(**keys: Any) -> dict[str, Any]:
    """A JWKS of the keys' public halves, by key id."""
    entries = []
    for kid, key in keys.items():
        algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        entries.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"})
    return {"keys": entries}


BAD = {
    "none at all": ({}, "send a token"),
    "another scheme": ({"Authorization": "Basic YWRtaW46YWRtaW4="}, "send a token"),
    "empty": ({"Authorization": "Bearer"}, "send a token"),
    "no JWT": (bearer("x" * 50), "not a JWT"),
    "expired": (bearer(token(exp=int(time.time()) - 60)), "expired"),
    "without expiry": (bearer(token(exp=None)), "exp"),
    "expiry that is none": (bearer(token(exp=None, ex=1) + "x"), "not a JWT"),
    "not valid yet": (bearer(token(nbf=int(time.time()) + 600)), "not a JWT"),
    "another audience": (bearer(token(aud="https://other.example.com")), "audience"),
    "without audience": (bearer(token(aud=None)), "aud"),
    "another issuer": (bearer(token(iss="https://evil.example.com")), "issuer"),
    "without issuer": (bearer(token(iss=None)), "iss"),
    "forged": (bearer(token(key="another secret, as long as it has to be.")), "not a JWT"),
    "another algorithm": (bearer(token(alg="HS512")), "not a JWT"),
    "alg none": (bearer(unsigned(alg="none", typ="JWT")), "not a JWT"),
    "alg None": (bearer(unsigned(alg="None")), "not a JWT"),
    "no alg": (bearer(unsigned(typ="JWT")), "not a JWT"),
    "signature cut off": (bearer(token().rpartition(".")[0] + "."), "not a JWT"),
    "claims swapped": (
        bearer(".".join([token().split(".")[0], token("tenant", "pilot").split(".")[1], token().split(".")[2]])),
        "not a JWT",
    ),
    "oversized": (bearer(token(padding="x" * 9000)), "longer than"),
    "nested without end": (bearer(f"{base64.urlsafe_b64encode(b'[' * 4500).decode()}.e30.x"), "not a JWT"),
    "critical extension": (bearer(f"{b64({'alg': 'HS256', 'crit': ['x'], 'x': 1})}.{token().split('.')[1]}.x"), "not"),
    "no role": (bearer(token(role=None)), "role"),
    "unknown role": (bearer(token(role="root")), "role"),
    "role of a list": (bearer(token(roles=["platform_admin"], role=None)), "role"),
    "tenant without id": (bearer(token("tenant")), "tenant_id"),
    "tenant of nothing": (bearer(token("tenant", "")), "tenant_id"),
    "tenant of a list": (bearer(token("tenant", ["pilot", "nova"])), "tenant_id"),
    "tenant with NUL": (bearer(token("tenant", "pilot\0")), "tenant_id"),
    "tenant with half a character": (bearer(token("tenant", "\ud800")), "tenant_id"),
    "tenant too long": (bearer(token("tenant", "x" * 201)), "tenant_id"),
}


@pytest.mark.parametrize(("headers", "said"), BAD.values(), ids=BAD)
def test_a_bad_token_is_refused_with_the_reason_and_nothing_of_it(
    api: httpx.Client, headers: dict[str, str], said: str
) -> None:
    answer = api.get("/api/v1/invoices", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert said in answer.json()["detail"]
    given = headers.get("Authorization", "").partition(" ")[2]
    assert len(given) < 20 or given[:20] not in answer.text


def test_a_verified_token_is_remembered_but_not_beyond_its_expiry(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an hour between the clocks a token of a minute ago is good; without, it is judged again and refused."""
    expired = bearer(token(exp=int(time.time()) - 60))
    monkeypatch.setattr(auth, "LEEWAY_SECONDS", 3600)
    assert api.get("/api/v1/invoices", headers=expired).status_code == 200
    monkeypatch.setattr(auth, "LEEWAY_SECONDS", 0)
    assert api.get("/api/v1/invoices", headers=expired).status_code == 401


def test_keys_of_a_file_are_used_by_id_with_their_own_algorithm_only(serve: Serve, url: str, tmp_path: Path) -> None:
    """RSA and elliptic curve; a stranger's key, a key id of nobody, and the public key taken for a shared secret."""
    file = tmp_path / "jwks.json"
    published = key_set(one=RSA_KEY, two=EC_KEY)
    published["keys"] += [
        {"kty": "oct", "kid": "shared", "k": b64(SECRET)},
        {"kty": "RSA", "kid": "broken", "n": "AQAB", "e": "?"},
        {"kty": "EC", "crv": "P-384", "kid": "unsupported", "x": "AA", "y": "AA"},
    ]
    file.write_text(json.dumps(published))
    client = serve(url, api_jwks=str(file))
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    by_hmac = jwt.api_jws.PyJWS().encode(b"{}", SECRET, "HS256")
    tokens = {
        "rsa": token(key=RSA_KEY, alg="RS256", kid="one"),
        "ec": token(key=EC_KEY, alg="ES256", kid="two"),
        "stranger": token(key=STRANGER, alg="RS256", kid="one"),
        "nobody's id": token(key=RSA_KEY, alg="RS256", kid="three"),
        "no id": token(key=RSA_KEY, alg="RS256"),
        "the other's id": token(key=RSA_KEY, alg="RS256", kid="two"),
        "weaker padding": token(key=RSA_KEY, alg="PS256", kid="one"),
        "shared secret": token(alg="HS256", kid="shared"),
        "public key as secret": confused(pem),
        "hmac": by_hmac,
    }
    statuses = {what: client.get("/api/v1/invoices", headers=bearer(one)).status_code for what, one in tokens.items()}
    assert statuses == {what: 200 if what in ("rsa", "ec") else 401 for what in tokens}


def confused(pem: bytes) -> str:
    """A token whose HMAC key is the issuer's public key, which PyJWT itself refuses to make."""
    import hashlib
    import hmac

    signed = f"{b64({'alg': 'HS256', 'kid': 'one'})}.{token().split('.')[1]}"
    signature = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


class Issuer:
    """A server of a key set, which can be changed, fail, lead elsewhere, or hang.

    `hangs` is where: before it says anything, between its headers, or in its document; there it says a byte now and
    then, so that no read of a client's lasts long.
    """

    def __init__(self) -> None:
        self.document: object = {}
        self.status, self.asked, self.clients = 200, 0, set[str]()
        self.location, self.hangs, self.is_over = "", "", threading.Event()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.clients.add(self.headers["User-Agent"])
                where = "" if self.path == "/elsewhere.json" else issuer.location
                with contextlib.suppress(OSError):
                    self.hang_if("at once")
                    self.send_response(302 if where else issuer.status)
                    if where:
                        self.send_header("Location", where)
                    self.flush_headers()
                    self.hang_if("headers")
                    self.end_headers()
                    self.hang_if("document")
                    self.wfile.write(json.dumps(issuer.document).encode())

            def hang_if(self, place: str) -> None:
                while issuer.hangs == place and not issuer.is_over.wait(0.1):
                    self.wfile.write({"at once": b"", "headers": b"X", "document": b" "}[place])

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks.json"

    @contextlib.contextmanager
    def running(self) -> Iterator["Issuer"]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self.is_over.set()
            self.server.shutdown()
            thread.join()
            self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running


@pytest.fixture
def secure_issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """Over https, with a certificate that this process trusts."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, EC_KEY.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(EC_KEY, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key = EC_KEY.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key + certificate.public_bytes(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "key.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "key.pem")
    secure = Issuer()
    secure.server.socket = context.wrap_socket(secure.server.socket, server_side=True)
    secure.url = f"https://localhost:{secure.server.server_address[1]}/jwks.json"
    with secure.running() as running:
        yield running


def test_keys_are_not_fetched_where_a_redirect_leaves_https(
    serve: Serve, url: str, issuer: Issuer, secure_issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is between could answer there with keys of his own: it is not even asked. Another https place is."""
    monkeypatch.setattr(auth, "RETRY_SECONDS", 0.0)
    issuer.document = secure_issuer.document = key_set(one=RSA_KEY)
    client, headers = serve(url, api_jwks=secure_issuer.url), bearer(token(key=RSA_KEY, alg="RS256", kid="one"))
    port = issuer.server.server_address[1]
    for elsewhere in (
        issuer.url,
        f"HTTP://localhost:{port}/elsewhere.json",
        f"http://127.0.0.1:{port}",
        "ftp://localhost/jwks.json",
        "file:///etc/passwd",
    ):
        secure_issuer.location = elsewhere
        assert client.get("/api/v1/invoices", headers=headers).status_code == 503, elsewhere
    assert (issuer.asked, secure_issuer.asked) == (0, 5)
    secure_issuer.location = "/elsewhere.json"
    assert client.get("/api/v1/invoices", headers=headers).status_code == 200


def test_an_issuer_on_this_machine_leads_to_no_other(
    serve: Serve, url: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.2 stands for it: whoever is asked over http is on 127.0.0.1, whatever the redirect says."""
    monkeypatch.setattr(auth, "RETRY_SECONDS", 0.0)
    issuer.document = key_set(one=RSA_KEY)
    headers, port = bearer(token(key=RSA_KEY, alg="RS256", kid="one")), issuer.server.server_address[1]
    with ThreadingHTTPServer(("127.0.0.2", port), issuer.server.RequestHandlerClass) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.02,))
        thread.start()
        client = serve(url, api_jwks=issuer.url)
        issuer.location = f"http://127.0.0.2:{port}/elsewhere.json"
        assert (client.get("/api/v1/invoices", headers=headers).status_code, issuer.asked) == (503, 1)
        issuer.location = f"http://localhost:{port}/elsewhere.json"
        assert client.get("/api/v1/invoices", headers=headers).status_code == 200
        other.shutdown()
        thread.join()


@pytest.mark.long
@pytest.mark.parametrize("place", ["at once", "headers", "document"])
def test_an_issuer_that_hangs_holds_nobody_up_whose_key_is_known(
    serve: Serve, url: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whose key is unknown has a 503 once the fetch is given up, with no key at all, and a 401 with others."""
    monkeypatch.setattr(auth, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(auth, "FETCH_SECONDS", 1.5)
    monkeypatch.setattr(auth, "PATIENCE_SECONDS", 0.2)
    issuer.document, issuer.hangs = key_set(one=RSA_KEY), place
    client = serve(url, api_jwks=issuer.url)

    def ask(number: int, kid: str = "one") -> tuple[int, float]:
        started = time.monotonic()
        headers = bearer(token(key=RSA_KEY, alg="RS256", kid=kid, jti=str(number)))
        return client.get("/api/v1/invoices", headers=headers).status_code, time.monotonic() - started

    with ThreadPoolExecutor(4) as clients:
        for status, seconds in clients.map(ask, range(4)):  # all of them wait for the one fetch
            assert (status, 1.4 < seconds < 5.5) == (503, True), seconds
    assert issuer.asked == 1
    issuer.hangs = ""
    assert ask(10)[0] == 200
    issuer.hangs = place
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.0)
    with ThreadPoolExecutor(4) as clients:
        unknown = clients.submit(ask, 20, "two")
        for status, seconds in clients.map(ask, range(21, 29)):
            assert (status, seconds < 1.2) == (200, True), seconds
        assert unknown.result()[0] == 401


def test_a_new_key_works_at_once_and_an_unknown_one_does_not_ask_again_and_again(
    serve: Serve, url: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation: `new` is published after `old` was fetched. Twenty tokens of nobody's ask the issuer once."""
    monkeypatch.setattr(auth, "RETRY_SECONDS", 0.0)
    issuer.document = key_set(old=RSA_KEY)
    client = serve(url, api_jwks=issuer.url)

    def ask(key: Any, alg: str, kid: str) -> int:
        return client.get("/api/v1/invoices", headers=bearer(token(key=key, alg=alg, kid=kid))).status_code

    assert ask(RSA_KEY, "RS256", "old") == 200
    issuer.document = key_set(old=RSA_KEY, new=EC_KEY)
    assert (ask(EC_KEY, "ES256", "new"), issuer.asked) == (200, 2)
    monkeypatch.setattr(auth, "RETRY_SECONDS", 60.0)
    assert {ask(STRANGER, "RS256", f"unknown {number}") for number in range(20)} == {401}
    assert issuer.asked == 2


def test_while_the_issuer_is_down_known_keys_go_on_and_without_any_the_answer_is_503(
    serve: Serve, url: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "RETRY_SECONDS", 0.0)
    headers = bearer(token(key=RSA_KEY, alg="RS256", kid="one"))
    issuer.status, issuer.document = 500, key_set(one=RSA_KEY)
    client = serve(url, api_jwks=issuer.url)
    answer = client.get("/api/v1/invoices", headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    issuer.status = 200
    assert client.get("/api/v1/invoices", headers=headers).status_code == 200
    issuer.status = 500
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.0)
    fresh = bearer(token(key=RSA_KEY, alg="RS256", kid="one", jti="2"))
    assert client.get("/api/v1/invoices", headers=fresh).status_code == 200
    monkeypatch.setattr(auth, "STALE_SECONDS", -1.0)
    stale = bearer(token(key=RSA_KEY, alg="RS256", kid="one", jti="3"))
    assert client.get("/api/v1/invoices", headers=stale).status_code == 503


NO_KEYS: list[object] = [
    None, 5, "key", [], {}, {"kid": "one"}, {"kid": None, "kty": "RSA"}, {"kid": "x", "kty": ["RSA"]},
    {"kid": ["x"], "kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kid": "x", "kty": "RSA", "n": 5, "e": None},
    {"kid": {}, "kty": "EC"}, {"kid": "x", "kty": "EC", "crv": [], "x": {}, "y": 1},
    {"kid": "x", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kid": "x", "kty": "OKP", "crv": "Ed25519", "x": "AA"},
    {"kid": "x", "kty": "RSA", "alg": 5, "n": "AQAB", "e": "AQAB"},
]  # fmt: skip
"""Entries of a key set, each in its way no key."""


def test_keys_are_taken_from_among_entries_that_are_none(serve: Serve, url: str, issuer: Issuer) -> None:
    """And the issuer is told who asks: some refuse the name that Python gives itself."""
    issuer.document = {"keys": [*NO_KEYS, *key_set(one=RSA_KEY)["keys"], *NO_KEYS], "more": 1}
    client = serve(url, api_jwks=issuer.url)
    headers = bearer(token(key=RSA_KEY, alg="RS256", kid="one"))
    assert client.get("/api/v1/invoices", headers=headers).status_code == 200
    assert client.get("/api/v1/invoices", headers=bearer(token(key=RSA_KEY, alg="RS256", kid="x"))).status_code == 401
    assert issuer.clients == {"arcadia-pipelines"}


def test_what_is_no_key_set_is_as_good_as_none(
    serve: Serve, url: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, not an error of ours, and the keys are there once the issuer has mended it."""
    monkeypatch.setattr(auth, "RETRY_SECONDS", 0.0)
    client = serve(url, api_jwks=issuer.url)
    headers = bearer(token(key=RSA_KEY, alg="RS256", kid="one"))
    nested: Any = []
    for _ in range(900):
        nested = [nested]
    no_sets: list[Any] = [[], "keys", None, {}, {"keys": None}, {"keys": {}}, {"keys": NO_KEYS}, nested]
    for document in no_sets:
        issuer.document = document
        assert client.get("/api/v1/invoices", headers=headers).status_code == 503, document
    issuer.document = key_set(one=RSA_KEY)
    assert client.get("/api/v1/invoices", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_secret": "short"}, "32 bytes"),
        ({"api_issuer": None}, "ARCADIA_API_ISSUER"),
        ({"api_audience": None}, "ARCADIA_API_AUDIENCE"),
        ({"api_jwks": "https://id.example.com/jwks", "api_secret": SECRET}, "both"),
        ({"api_jwks": "http://id.example.com/jwks"}, "https"),
        ({"api_secret": None}, "ARCADIA_API_JWKS"),
    ],
)
def test_half_a_configuration_is_refused_by_name(serve: Serve, url: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        serve(url, **settings)
