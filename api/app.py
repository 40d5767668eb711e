"""The application: routes, what stands around them, and how the engine's "later" becomes an answer.

Owns the composition of the HTTP edge. Is told an `AppContext`; a lifespan, if any, is the caller's.
Promises no globals: two applications in one process do not know each other. Called by the API worker and by
tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from api import errors
from api.context import AppContext
from api.errors import Problem
from api.http_edge import HeadAsGet, KeyedRequestIds
from api.metrics import HttpMetrics, Observed
from api.openapi import document
from api.rate_limits import LookupLimits
from api.request_guard import RequestGuard
from api.routes import (
    batches,
    carts,
    checkouts,
    completions,
    machines,
    operations,
    orders,
    sandbox,
    stock,
    web,
)
from cluster.engine_types import Busy, StillPending
from persistence.outages import OUTAGES

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]

# In the order in which they are tried: what a flash sale calls comes first.
_ROUTERS = (completions, checkouts, carts, orders, batches, stock, operations, machines)


class Api(FastAPI):
    """FastAPI with our description of our routes."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made when it is first asked for."""
        if self.openapi_schema is None:
            self.openapi_schema = document(self)
        return self.openapi_schema


def create_app(context: AppContext, lifespan: Lifespan | None = None) -> FastAPI:
    """The application over this context."""
    app = Api(
        title="Lastunit",
        version=context.settings.version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.context = context
    app.state.master_key = context.master_key
    app.state.verifier = context.verifier
    app.state.metrics = HttpMetrics()
    app.state.lookup_limits = LookupLimits(on=context.settings.rate_limits_on)
    for module in (*_ROUTERS, *((sandbox,) if context.settings.sandbox_on else ())):
        # Taken over one by one: an included router would cost every request a second match.
        app.router.routes.extend(module.router.routes)
    web.install(app, context.settings)
    _install_handlers(app)
    # The last one added is the outermost.
    app.add_middleware(RequestGuard, max_body_bytes=context.settings.max_body_bytes)
    app.add_middleware(HeadAsGet)
    app.add_middleware(KeyedRequestIds)
    app.add_middleware(Observed, metrics=app.state.metrics)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _install_handlers(app: FastAPI) -> None:
    errors.install(app)
    app.add_exception_handler(405, _on_method_not_allowed)
    app.add_exception_handler(Busy, _on_busy)
    app.add_exception_handler(StillPending, _on_still_pending)
    for outage in OUTAGES:
        app.add_exception_handler(outage, _on_outage)


async def _on_busy(request: Request, error: Exception) -> Response:
    assert isinstance(error, Busy)
    retry_after_s = str(max(1, math.ceil(error.retry_after_s)))
    return Problem("busy", headers={"Retry-After": retry_after_s}).response(request.state.request_id)


async def _on_still_pending(request: Request, error: Exception) -> Response:
    detail = "The work goes on. Ask again with the same key, or read the resource."
    return Problem("request_in_progress", detail).response(request.state.request_id)


async def _on_outage(request: Request, error: Exception) -> Response:
    # The store is restarting or out of reach. Nothing is half done: what writes is journaled first.
    return Problem("busy").response(request.state.request_id)


async def _on_method_not_allowed(request: Request, error: Exception) -> Response:
    allow = {"Allow": ", ".join(_methods(request))}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    return Problem("method_not_allowed", headers=allow).response(request.state.request_id)


def _methods(request: Request) -> list[str]:
    methods = {"OPTIONS"}
    for route in request.app.router.routes:
        if isinstance(route, APIRoute) and route.path_regex.match(request.scope["path"]):
            methods |= route.methods or set()
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
