"""Who is calling: valid tokens open, invalid ones are refused everywhere, made-up ones open nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import errors
from api.auth import AnyCaller, Caller, Customer, Operator
from api.request_guard import RequestGuard
from api.tokens import DEVELOPMENT_TOKEN_TTL_S, DevelopmentKey, Jwks, Verifier
from persistence.sealing import MasterKey, owner_of_token

MASTER = MasterKey(bytes(range(32)))
DEVELOPMENT = DevelopmentKey(bytes(range(32)))


def build_app(verifier: Verifier) -> FastAPI:
    app = FastAPI()
    app.state.verifier, app.state.master_key = verifier, MASTER

    def shown(caller: Caller) -> dict[str, Any]:
        return {
            "customer": caller.customer_id,
            "operator": caller.is_operator,
            "owner": caller.owner,
            "owners": caller.owners,
            "guest_owner": caller.guest_owner,
        }

    @app.get("/public")
    async def public(caller: AnyCaller) -> dict[str, Any]:
        return shown(caller)

    @app.get("/mine")
    async def mine(caller: Customer) -> dict[str, Any]:
        return shown(caller)

    @app.get("/ops")
    async def ops(caller: Operator) -> dict[str, Any]:
        return shown(caller)

    errors.install(app)
    app.add_middleware(RequestGuard)
    return app


APP = build_app(Verifier([DEVELOPMENT]))
GUEST = MASTER.guest_token("cart_01jd4x6p8rk2m5q7t9vbdfhkmn")
ADA = MASTER.owner_of_customer("ada")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://test") as client:
        yield client


def bearer(sub: str = "ada", **options: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {DEVELOPMENT.mint(sub, **options)}"}


@pytest.mark.parametrize(
    ("headers", "customer", "owners"),
    [
        ({}, None, []),
        ({"Cart-Token": GUEST}, None, [owner_of_token(GUEST)]),
        (bearer(), "ada", [ADA]),
        ({"authorization": bearer()["Authorization"].replace("Bearer", "bearer")}, "ada", [ADA]),
        ({**bearer(), "Cart-Token": GUEST}, "ada", [ADA, owner_of_token(GUEST)]),
        ({"Cart-Token": "lut_made_up"}, None, []),
        ({"Cart-Token": GUEST[:-1] + ("A" if GUEST[-1] != "A" else "B")}, None, []),
        ({"Cart-Token": ""}, None, []),
        ({"Cart-Token": "x" * 5_000}, None, []),
    ],
)
async def test_callers_are_what_their_credentials_say(client, headers, customer, owners) -> None:
    """A guest token counts if it was made here; a customer may send one along."""
    answer = (await client.get("/public", headers=headers)).json()
    assert answer["customer"] == customer
    assert answer["owners"] == owners
    assert answer["owner"] == (owners[0] if owners else None)
    assert answer["guest_owner"] == (owners[-1] if GUEST in headers.values() else None)


@pytest.mark.parametrize("path", ["/public", "/mine", "/ops"])
@pytest.mark.parametrize(
    "sent", ["Bearer abc", "Bearer ", "Bearer", "Basic YTpi", f"Token {DEVELOPMENT.mint('ada')}", "", "é"]
)
async def test_a_bad_bearer_token_is_refused_on_every_route(client, path: str, sent: str) -> None:
    """Also where none is needed: a caller who sends one means to be known."""
    response = await client.get(path, headers={"Authorization": sent.encode()})
    assert response.status_code == 401
    assert response.json()["code"] == "unauthorized"
    assert response.headers["www-authenticate"].startswith('Bearer realm="lastunit", error="invalid_token"')


@pytest.mark.parametrize("headers", [{}, {"Cart-Token": GUEST}])
@pytest.mark.parametrize("path", ["/mine", "/ops"])
async def test_a_missing_token_is_refused_where_one_is_needed(client, path: str, headers) -> None:
    """A guest's token is none; the challenge has no error, for nothing was wrong with a token."""
    response = await client.get(path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="lastunit"'


async def test_operators_routes_are_for_operators(client) -> None:
    """A customer is known, and not allowed: 403."""
    response = await client.get("/ops", headers=bearer())
    assert response.status_code == 403
    assert response.json()["code"] == "insufficient_scope"
    assert 'scope="ops"' in response.headers["www-authenticate"]
    answer = (await client.get("/ops", headers=bearer("root", operator=True))).json()
    assert (answer["customer"], answer["operator"]) == ("root", True)


async def test_an_expired_token_is_told_so(client) -> None:
    """So that the client gets a new one instead of giving up."""
    old = bearer(now_s=time.time() - DEVELOPMENT_TOKEN_TTL_S - 60)
    assert (await client.get("/public", headers=old)).json()["detail"] == "The token has expired."


async def test_a_silent_provider_is_no_verdict_on_a_token() -> None:
    """503 with Retry-After, not 401: the customer need not log in again."""

    async def silence(url: str) -> Any:
        raise ConnectionError(url)

    class Silent(Jwks):
        algorithms = frozenset(("HS256",))

    app = build_app(Verifier([Silent("https://id.example/jwks", "", "", silence)]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        response = await client.get("/public", headers=bearer())
    assert response.status_code == 503
    assert response.json()["code"] == "identity_provider_unavailable"
    assert int(response.headers["retry-after"]) >= 1


def test_the_api_description_names_the_credentials() -> None:
    """Either of two for public routes, an operator's for theirs."""
    description = APP.openapi()
    assert set(description["components"]["securitySchemes"]) == {
        "CustomerToken",
        "GuestToken",
        "OperatorToken",
    }
    security = {path: item["get"]["security"] for path, item in description["paths"].items()}
    assert security["/public"] == [{"CustomerToken": []}, {"GuestToken": []}]
    assert security["/mine"] == [{"CustomerToken": []}]
    assert security["/ops"] == [{"OperatorToken": []}]
