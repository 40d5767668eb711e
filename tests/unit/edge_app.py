"""A small application behind the real guard and error handlers, for tests of the edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, Query, Request
from starlette.responses import StreamingResponse

from api import errors
from api.errors import STATUS_OF_CODE, Problem, from_refusal
from api.request_guard import RequestGuard
from api.schemas.common import Body, LineItems
from domain.messages import FieldError, Refusal


class Order(Body):
    line_items: LineItems
    note: str | None = None


def build_app() -> FastAPI:
    app = FastAPI()

    @app.post("/orders")
    async def place(body: Order, request: Request) -> dict[str, Any]:
        return {"json": request.state.json, "lines": len(body.line_items)}

    @app.patch("/orders")
    async def change(body: Order) -> dict[str, Any]:
        return {"lines": len(body.line_items)}

    @app.post("/cancel")
    async def cancel(request: Request) -> dict[str, Any]:
        return {"json": request.state.json}

    @app.get("/orders")
    async def find(limit: Annotated[int, Query(ge=1, le=100)] = 20) -> dict[str, int]:
        return {"limit": limit}

    @app.get("/things/{name}")
    async def thing(name: str) -> dict[str, str]:
        return {"name": name}

    @app.get("/refused")
    async def refused() -> None:
        raise from_refusal(
            Refusal(
                "out_of_stock",
                "Too few.",
                (FieldError("$.line_items[0]", "out_of_stock", "Take fewer.", {"sku": "A", "available": 1}),),
                {"checkout_id": "chk_1"},
            )
        )

    @app.get("/busy")
    async def busy() -> None:
        raise Problem("busy")

    @app.get("/broken")
    async def broken() -> None:
        raise KeyError("ada@example.com is secret")

    @app.get("/broken-stream")
    async def broken_stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            raise KeyError("ada@example.com is secret")

        return StreamingResponse(parts())

    errors.install(app)
    app.add_middleware(RequestGuard)
    return app


APP = build_app()


def open_client() -> httpx.AsyncClient:
    """A client of the application, without a network between."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://test")


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """The body of a problem, its common members checked."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code == STATUS_OF_CODE[body["code"]][0]
    assert body["title"] == STATUS_OF_CODE[body["code"]][1]
    assert body["type"].endswith(body["code"])
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["detail"]
    return body
