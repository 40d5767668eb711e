"""JSON Web Tokens: whose keys are trusted for which algorithm, and what a valid token says.

Owns verification and, for development mode, minting. Promises that the algorithm decides where the key comes
from, never the token: a public key is no HS256 secret, "none" is nothing. Production trusts one JWKS URL;
development mode trusts a key kept in the data directory. Never sees a request. Called by `api/auth.py`; the
command line mints here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import jwt
import msgspec
import structlog

OPERATOR_SCOPE = "ops"
PRODUCTION_ALGORITHMS = frozenset(("RS256", "ES256", "EdDSA"))
DEVELOPMENT_ISSUER = "lastunit-development"
DEVELOPMENT_TOKEN_TTL_S = 24 * 3600

LEEWAY_S = 30
CACHED_TOKENS = 20_000
CACHE_TTL_S = 300  # bounds how long a key that was withdrawn still opens
JWKS_MAX_AGE_S = 600
JWKS_MIN_REFRESH_S = 30
JWKS_TIMEOUT_S = 5
JWKS_MAX_BYTES = 1 << 20

_MAX_TOKEN_CHARS = 8192
_MAX_SUBJECT_CHARS = 255

_log = structlog.get_logger("lastunit.api")


class KeysUnavailableError(Exception):
    """The identity provider's keys cannot be had, so that the token is neither valid nor invalid."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says: who (`sub`), and whether that is an operator."""

    sub: str
    is_operator: bool


@dataclass(frozen=True, slots=True)
class Rejection:
    """A token that is not valid; `reason` is a sentence for its bearer."""

    reason: str


class KeySource(Protocol):
    """Where the keys of some algorithms come from, and which issuer and audience their tokens must name."""

    @property
    def algorithms(self) -> frozenset[str]: ...

    @property
    def issuer(self) -> str: ...

    @property
    def audience(self) -> str: ...

    async def find(self, kid: str | None, algorithm: str) -> Any | None:
        """The key, for PyJWT; None if there is no such key. KeysUnavailableError: nobody knows."""
        ...


@dataclass(frozen=True, slots=True)
class DevelopmentKey:
    """The secret of development mode's own tokens (HS256)."""

    secret: bytes
    algorithms: frozenset[str] = frozenset(("HS256",))
    issuer: str = DEVELOPMENT_ISSUER
    audience: str = DEVELOPMENT_ISSUER

    async def find(self, kid: str | None, algorithm: str) -> Any | None:
        """The one key there is."""
        return self.secret

    def mint(self, sub: str, *, operator: bool = False, now_s: float | None = None) -> str:
        """A token for a customer or an operator, good for 24 h from `now_s` (seconds since 1970)."""
        issued_at = int(time.time() if now_s is None else now_s)
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": sub,
            "iat": issued_at,
            "exp": issued_at + DEVELOPMENT_TOKEN_TTL_S,
        }
        if operator:
            claims["scope"] = OPERATOR_SCOPE
        return jwt.encode(claims, self.secret, algorithm="HS256")


async def fetch_json(url: str) -> Any:
    """The JSON document at a URL. ConnectionError: there is none to be had within `JWKS_TIMEOUT_S`."""
    try:
        timeout = aiohttp.ClientTimeout(total=JWKS_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            response.raise_for_status()
            raw = await response.content.read(JWKS_MAX_BYTES)
            while chunk := await response.content.read(JWKS_MAX_BYTES - len(raw)):
                raw += chunk
        return msgspec.json.decode(raw)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConnectionError(f"{url}: {type(error).__name__}") from error


class Jwks:
    """The keys an identity provider publishes, fetched when first needed, aged, or a new key id turns up.

    While the provider is out of reach the keys known so far keep their worth.
    """

    algorithms = PRODUCTION_ALGORITHMS

    def __init__(
        self,
        url: str,
        issuer: str,
        audience: str,
        fetch: Callable[[str], Awaitable[Any]] = fetch_json,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` returns the decoded document or raises ConnectionError; `now` counts seconds."""
        self.issuer = issuer
        self.audience = audience
        self._url = url
        self._fetch = fetch
        self._now = now
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> Any | None:
        """The key with that id and algorithm; without an id, the only one of the algorithm."""
        key = self._pick(kid, algorithm)
        if key is None or self._now() - self._fetched_at > JWKS_MAX_AGE_S:
            async with self._fetching:
                await self._refresh()
            key = self._pick(kid, algorithm)
        if key is None and self._fetched_at < self._tried_at:
            raise KeysUnavailableError(self._url)
        return key

    async def _refresh(self) -> None:
        # Made-up key ids must not become a flood of fetches; and whoever waited finds the work done.
        if self._now() - self._tried_at < JWKS_MIN_REFRESH_S:
            return
        self._tried_at = self._now()
        try:
            document = await self._fetch(self._url)
        except ConnectionError as error:
            _log.warning("identity provider's keys could not be fetched", error=str(error))
            return
        self._keys = list(_usable_keys(document))
        self._fetched_at = self._now()

    def _pick(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm]
        if kid is not None:
            fitting = [key for key in fitting if key.key_id == kid]
        return fitting[0] if len(fitting) == 1 else None


class Verifier:
    """Verifies bearer tokens against key sources, and remembers the valid ones for a while."""

    def __init__(self, sources: Iterable[KeySource], now: Callable[[], float] = time.time) -> None:
        """ValueError: two sources claim one algorithm. `now` is the wall clock, seconds since 1970."""
        self._source_of: dict[str, KeySource] = {}
        for source in sources:
            for algorithm in source.algorithms:
                if algorithm in self._source_of:
                    raise ValueError(f"two key sources for {algorithm}")
                self._source_of[algorithm] = source
        self._now = now
        self._verified: OrderedDict[bytes, tuple[float, Claims]] = OrderedDict()

    async def verify(self, token: str) -> Claims | Rejection:
        """What a valid token says. KeysUnavailableError: it cannot be checked now."""
        if len(token) > _MAX_TOKEN_CHARS or not token.isascii():
            return Rejection("The token is malformed.")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None:
            if self._now() < known[0]:
                self._verified.move_to_end(digest)
                return known[1]
            del self._verified[digest]
        payload = await self._decode(token)
        if isinstance(payload, Rejection):
            return payload
        sub = payload["sub"]
        if not 0 < len(sub) <= _MAX_SUBJECT_CHARS or not sub.isprintable():
            return Rejection(f"The token's sub must have 1 to {_MAX_SUBJECT_CHARS} visible characters.")
        claims = Claims(sub, OPERATOR_SCOPE in _scopes(payload))
        until = min(float(payload["exp"]) + LEEWAY_S, self._now() + CACHE_TTL_S)
        self._verified[digest] = (until, claims)
        if len(self._verified) > CACHED_TOKENS:
            self._verified.popitem(last=False)
        return claims

    async def _decode(self, token: str) -> dict[str, Any] | Rejection:
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            source = self._source_of.get(algorithm) if isinstance(algorithm, str) else None
            if source is None or algorithm is None:
                return Rejection("The token's algorithm is not accepted here.")
            key = await source.find(header.get("kid"), algorithm)
            if key is None:
                return Rejection("The token's key is not one of the identity provider's.")
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=source.audience,
                issuer=source.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            return Rejection(_reason(error))


def _reason(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "The token has expired."
        case jwt.ImmatureSignatureError():
            return "The token is not valid yet."
        case jwt.InvalidIssuerError():
            return "The token's iss is not the issuer trusted here."
        case jwt.InvalidAudienceError():
            return "The token's aud does not name this service."
        case jwt.MissingRequiredClaimError():
            return f"The token lacks {error.claim}."
        case _:
            return "The token is malformed or its signature is wrong."


def _scopes(payload: dict[str, Any]) -> list[Any]:
    """Scopes as OAuth writes them (`scope`: one string) and as others do (`scopes`: a list)."""
    scope, scopes = payload.get("scope"), payload.get("scopes")
    found = scope.split() if isinstance(scope, str) else []
    return found + scopes if isinstance(scopes, list) else found


def _usable_keys(document: Any) -> Iterable[jwt.PyJWK]:
    """The signing keys of a key set; others, and what cannot be read, are left out."""
    members = document.get("keys") if isinstance(document, dict) else None
    for member in members if isinstance(members, list) else ():
        if not isinstance(member, dict) or member.get("use", "sig") != "sig":
            continue
        try:
            yield jwt.PyJWK(member)
        except jwt.PyJWTError as error:
            _log.info("a key of the identity provider is of no use", error=type(error).__name__)
