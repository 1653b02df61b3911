"""Which tokens count. What is wrong with one is said, what is in it is not."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
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
    """A server of a key set, which can be changed, or fail."""

    def __init__(self) -> None:
        self.document: object = {}
        self.status, self.asked, self.clients = 200, 0, set[str]()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.clients.add(self.headers["User-Agent"])
                self.send_response(issuer.status)
                self.end_headers()
                self.wfile.write(json.dumps(issuer.document).encode())

            def log_message(self, *_: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks.json"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    thread = threading.Thread(target=running.server.serve_forever, args=(0.02,))
    thread.start()
    yield running
    running.server.shutdown()
    thread.join()
    running.server.server_close()


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
