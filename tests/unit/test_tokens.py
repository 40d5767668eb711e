"""JSON Web Tokens: what is valid, what is refused and why, and where the keys come from."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.tokens import (
    CACHE_TTL_S,
    DEVELOPMENT_TOKEN_TTL_S,
    JWKS_MAX_AGE_S,
    JWKS_MAX_BYTES,
    JWKS_MIN_REFRESH_S,
    Claims,
    DevelopmentKey,
    Jwks,
    KeysUnavailableError,
    Rejection,
    Verifier,
    fetch_json,
)

ISSUER, AUDIENCE, URL = "https://id.example", "shop", "https://id.example/jwks"
DEVELOPMENT = DevelopmentKey(bytes(range(32)))
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SIGNERS: dict[str, Any] = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}


def jwk(algorithm: str, kid: str, **changes: Any) -> dict[str, Any]:
    """The public half of one of the keys above."""
    signing: Any = jwt.get_algorithm_by_name(algorithm)
    public = signing.to_jwk(SIGNERS[algorithm].public_key(), as_dict=True)
    return {**public, "kid": kid, "use": "sig", **changes}


JWKS = {"keys": [jwk("RS256", "r1"), jwk("ES256", "e1"), jwk("EdDSA", "d1")]}


class Provider:
    """An identity provider: what it publishes, how often it was asked, and whether it answers."""

    def __init__(self, document: Any = JWKS) -> None:
        self.document = document
        self.fetches = 0
        self.up = True

    async def fetch(self, url: str) -> Any:
        assert url == URL
        self.fetches += 1
        if not self.up:
            raise ConnectionError(url)
        return self.document


class Clock:
    """A clock that is moved by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def token(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "r1", **claims: Any) -> str:
    """A token of the provider; a claim of None is left out."""
    now = int(time.time())
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, algorithm, headers={"kid": kid} if kid else {})


def unsigned(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def production(provider: Provider | None = None) -> Verifier:
    return Verifier([Jwks(URL, ISSUER, AUDIENCE, (provider or Provider()).fetch)])


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "r1"), ("ES256", "e1"), ("EdDSA", "d1")])
async def test_a_token_of_the_provider_says_who_it_is(algorithm: str, kid: str) -> None:
    """In the three algorithms of production; a key id may be missing where one key fits."""
    for key_id in (kid, None):
        signed = token(SIGNERS[algorithm], algorithm, key_id)
        assert await production().verify(signed) == Claims("ada", False)


@pytest.mark.parametrize(
    ("claims", "is_operator"),
    [
        ({"scope": "ops"}, True),
        ({"scope": "profile ops"}, True),
        ({"scopes": ["profile", "ops"]}, True),
        ({"scope": "profile", "scopes": ["ops"]}, True),
        ({"scope": "devops opsy"}, False),
        ({"scope": ["ops"]}, False),
        ({"scopes": "ops"}, False),
        ({}, False),
    ],
)
async def test_the_scope_makes_an_operator(claims: dict[str, Any], is_operator: bool) -> None:
    """As a word of `scope` or a member of `scopes`."""
    assert await production().verify(token(**claims)) == Claims("ada", is_operator)


NOW = int(time.time())
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
GOOD_PAYLOAD = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 600}


def confused() -> str:
    """HS256 with the public key's bytes as its secret, as in the classic attack."""
    head = unsigned({"alg": "HS256", "kid": "r1"}, GOOD_PAYLOAD).rpartition(".")[0]
    signature = hmac.digest(PUBLIC_PEM, head.encode(), "sha256")
    return f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


REJECTED = {
    "expired": token(exp=NOW - 60),
    "not yet valid": token(nbf=NOW + 3600),
    "another issuer": token(iss="https://evil.example"),
    "no issuer": token(iss=None),
    "another audience": token(aud="other"),
    "no audience": token(aud=None),
    "no expiry": token(exp=None),
    "no subject": token(sub=None),
    "empty subject": token(sub=""),
    "long subject": token(sub="x" * 256),
    "unprintable subject": token(sub="a\nb"),
    "a stranger's key": token(STRANGER),
    "another key's id": token(kid="e1"),
    "unknown key id": token(kid="r9"),
    "another algorithm of the key": token(algorithm="RS512"),
    "padding": token(algorithm="PS256"),
    "none": unsigned({"alg": "none"}, GOOD_PAYLOAD),
    "None": unsigned({"alg": "None", "kid": "r1"}, GOOD_PAYLOAD),
    "no algorithm": unsigned({"kid": "r1"}, GOOD_PAYLOAD),
    "a list for an algorithm": unsigned({"alg": ["RS256"]}, GOOD_PAYLOAD),
    "public key as secret": confused(),
    "development key": DEVELOPMENT.mint("ada"),
    "cut": token()[:-4],
    "not a token": "abc",
    "empty": "",
    "not ASCII": "é.é.é",
    "endless": "a" * 100_000,
    "body is a list": jwt.PyJWS().encode(b"[]", RSA_KEY, "RS256", {"kid": "r1"}),
}


@pytest.mark.parametrize("name", REJECTED)
async def test_a_token_that_is_not_valid_is_rejected_with_a_reason(name: str) -> None:
    """The reason is a sentence, and nothing of the token is in it."""
    verdict = await production().verify(REJECTED[name])
    assert isinstance(verdict, Rejection)
    assert verdict.reason.endswith(".")


async def test_clocks_may_differ_by_half_a_minute() -> None:
    """A token that expired seconds ago still opens."""
    assert await production().verify(token(exp=int(time.time()) - 10)) == Claims("ada", False)


async def test_development_tokens_are_good_for_a_day_and_over_restarts() -> None:
    """The key is all there is to them; another day or another key ends it."""
    verifier = Verifier([DevelopmentKey(bytes(range(32)))])
    assert await verifier.verify(DEVELOPMENT.mint("ada")) == Claims("ada", False)
    assert await verifier.verify(DEVELOPMENT.mint("root", operator=True)) == Claims("root", True)
    yesterday = DEVELOPMENT.mint("ada", now_s=time.time() - DEVELOPMENT_TOKEN_TTL_S - 60)
    assert isinstance(await verifier.verify(yesterday), Rejection)
    assert isinstance(await Verifier([DevelopmentKey(bytes(32))]).verify(DEVELOPMENT.mint("ada")), Rejection)


async def test_a_development_key_does_not_weaken_the_provider() -> None:
    """Side by side, each algorithm has its own source, issuer and audience."""
    verifier = Verifier([DEVELOPMENT, Jwks(URL, ISSUER, AUDIENCE, Provider().fetch)])
    assert await verifier.verify(token()) == Claims("ada", False)
    assert isinstance(await verifier.verify(confused()), Rejection)
    with pytest.raises(ValueError, match="HS256"):
        Verifier([DEVELOPMENT, DEVELOPMENT])


async def test_a_weak_key_opens_nothing() -> None:
    """A provider that publishes one must not make forging easy."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    public = jwt.get_algorithm_by_name("RS256").to_jwk(weak.public_key(), as_dict=True)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        signed = token(weak, kid="w1")
    verdict = await production(Provider({"keys": [{**public, "kid": "w1"}]})).verify(signed)
    assert isinstance(verdict, Rejection)


async def test_keys_of_no_use_are_left_out() -> None:
    """Secrets, encryption keys and nonsense in a key set neither open nor harm."""
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "kid": "s1"}
    useless = [secret, jwk("RS256", "r2", use="enc"), jwk("RS256", "r3", alg="PS256"), {"kty": "RSA"}, 7]
    verifier = production(Provider({"keys": [*useless, *JWKS["keys"]]}))
    assert await verifier.verify(token()) == Claims("ada", False)
    for kid in ("r2", "r3"):
        assert isinstance(await verifier.verify(token(kid=kid)), Rejection)
    hs256 = token(b"x" * 32, "HS256", "s1")
    assert isinstance(await verifier.verify(hs256), Rejection)


@pytest.mark.parametrize("document", [None, [], {}, {"keys": None}, {"keys": {}}, "x"])
async def test_a_key_set_that_is_none_has_no_keys(document: Any) -> None:
    """No token is valid then."""
    assert isinstance(await production(Provider(document)).verify(token()), Rejection)


async def test_valid_tokens_are_remembered_until_they_expire_or_are_old() -> None:
    """The same token costs no second check; after five minutes, or its own end, it does."""
    clock = Clock(time.time())

    class Source:
        algorithms, issuer, audience = frozenset(("HS256",)), DEVELOPMENT.issuer, DEVELOPMENT.audience
        asked = 0

        async def find(self, kid: str | None, algorithm: str) -> Any:
            self.asked += 1
            return DEVELOPMENT.secret

    source = Source()
    verifier = Verifier([source], clock)
    signed = DEVELOPMENT.mint("ada")
    for _ in range(3):
        await verifier.verify(signed)
    assert source.asked == 1
    clock.now += CACHE_TTL_S
    await verifier.verify(signed)
    assert source.asked == 2


async def test_new_keys_are_fetched_when_a_token_names_one() -> None:
    """A key that was rotated in works at once; made-up key ids do not flood the provider."""
    provider, clock = Provider({"keys": [jwk("ES256", "e1")]}), Clock(0.0)
    jwks = Jwks(URL, ISSUER, AUDIENCE, provider.fetch, clock)
    assert await jwks.find("e1", "ES256") is not None
    provider.document = JWKS
    clock.now += JWKS_MIN_REFRESH_S
    assert await jwks.find("r1", "RS256") is not None
    assert provider.fetches == 2
    for number in range(100):
        assert await jwks.find(f"made-up-{number}", "RS256") is None
    assert provider.fetches == 2


async def test_withdrawn_keys_are_forgotten_with_age() -> None:
    """A key that the provider took back stops working within ten minutes."""
    provider, clock = Provider(), Clock(0.0)
    jwks = Jwks(URL, ISSUER, AUDIENCE, provider.fetch, clock)
    assert await jwks.find("r1", "RS256") is not None
    provider.document = {"keys": []}
    clock.now += JWKS_MAX_AGE_S + 1
    assert await jwks.find("r1", "RS256") is None


async def test_known_keys_outlast_an_outage_of_the_provider() -> None:
    """An unknown key cannot be judged then, and is not called invalid."""
    provider, clock = Provider(), Clock(0.0)
    jwks = Jwks(URL, ISSUER, AUDIENCE, provider.fetch, clock)
    provider.up = False
    with pytest.raises(KeysUnavailableError):
        await jwks.find("r1", "RS256")
    provider.up = True
    clock.now += JWKS_MIN_REFRESH_S
    assert await jwks.find("r1", "RS256") is not None
    provider.up = False
    clock.now += JWKS_MAX_AGE_S + 1
    assert await jwks.find("r1", "RS256") is not None
    with pytest.raises(KeysUnavailableError):
        await jwks.find("r9", "RS256")


@pytest.fixture
async def provider_url() -> AsyncIterator[str]:
    """The address of a web server that answers well and badly."""

    async def keys(_: web.Request) -> web.Response:
        return web.json_response(JWKS)

    async def huge(_: web.Request) -> web.Response:
        return web.Response(text='{"keys":[' + " " * JWKS_MAX_BYTES + "]}", content_type="application/json")

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=500, text="{}")

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    app = web.Application()
    app.add_routes([web.get("/keys", keys), web.get("/huge", huge), web.get("/broken", broken), web.get("/", page)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_key_sets_are_fetched_over_http(provider_url: str) -> None:
    """The document comes back decoded."""
    assert await fetch_json(f"{provider_url}/keys") == JWKS


@pytest.mark.parametrize("path", ["/huge", "/broken", "/", "/nowhere"])
async def test_a_bad_answer_of_the_provider_is_none(provider_url: str, path: str) -> None:
    """Errors, pages and endless documents count as silence."""
    with pytest.raises(ConnectionError):
        await fetch_json(provider_url + path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/keys", "not a url"])
async def test_a_provider_that_is_not_there_is_silent(url: str) -> None:
    """Whatever the reason."""
    with pytest.raises(ConnectionError):
        await fetch_json(url)
