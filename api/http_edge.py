"""Two courtesies of HTTP that the framework leaves to us: HEAD, and one request id for one keyed request.

Owns no state. Promises that HEAD answers what GET would, without its body; and that the attempts at one keyed
request share a request id unless the caller names one, so that a repeated problem, which holds the id, is the
same byte for byte. Plain ASGI, around the request guard.
"""

from __future__ import annotations

from hashlib import blake2b

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD_ONLY = "lastunit.head_only"
"""In the scope of a request whose answer's body nobody will read: a stream need not begin."""

_SAME_REQUEST = (b"authorization", b"cart-token", b"idempotency-key")


class HeadAsGet:
    """Serves HEAD by the routes of GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # Changed in place: what is outside reads the route that is matched inside.
        scope["method"] = "GET"
        scope[HEAD_ONLY] = True
        await self._app(scope, receive, send_head)


class KeyedRequestIds:
    """Gives a request with an Idempotency-Key and no X-Request-Id the id of all its attempts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            names = {name for name, _ in scope["headers"]}
            if b"idempotency-key" in names and b"x-request-id" not in names:
                scope["headers"] = [*scope["headers"], (b"x-request-id", _id_of(scope))]
        await self._app(scope, receive, send)


def _id_of(scope: Scope) -> bytes:
    digest = blake2b(f"{scope['method']} {scope['path']}".encode("utf-8", "surrogatepass"), digest_size=16)
    for name, value in scope["headers"]:
        if name in _SAME_REQUEST:
            digest.update(b"\0" + name + b"\0" + value)
    return digest.hexdigest().encode()
