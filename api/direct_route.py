"""A route that calls its endpoint with the request and the path's parameters, and does nothing else.

Owns nothing. For endpoints that parse their body and find their caller themselves: the framework's handling
of dependencies and bodies would cost each request some 20 µs more. Routers name it as `route_class`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class DirectRoute(APIRoute):
    """`async def endpoint(request, **path_parameters) -> Response`; parameters are strings."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = self.endpoint
        more = (self.dependant.query_params, self.dependant.dependencies, self.body_field)
        assert not any(more), f"{self.path} takes more than the request and the path"

        async def handle(request: Request) -> Response:
            response: Response = await endpoint(request, **request.path_params)
            return response

        return handle
