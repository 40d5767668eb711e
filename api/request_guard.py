"""What every request passes before a route sees it, and every unexpected error on its way out.

Owns request ids, the size limit, media types, strict JSON and the refusal of card numbers. Promises routes a
body that is whole, small, UTF-8 and free of NUL, with its decoded form in `request.state.json`; promises
callers a problem and a request id in every case. Never parses a field, never logs an input. Plain ASGI:
the framework's own middleware class would cost more than all of these checks.
"""

from __future__ import annotations

import json
import re
import secrets
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import card_numbers
from api.errors import Problem, field_problem, json_path

MAX_BODY_BYTES = 256 * 1024
MOST_DRAINED_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 64

_METHODS_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_UTF_8 = frozenset((b"charset=utf-8", b'charset="utf-8"'))
_TOO_DEEP = f"The body is nested deeper than {MAX_DEPTH} levels."
_PLACE = re.compile(r" \(byte \d+\)")
_NUL_ESCAPE = b"\\u0000"

_ESCAPED_COLON = re.compile(rb"\\u003a", re.IGNORECASE)

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger("lastunit.api")


class Disconnected(Exception):
    """The caller went away before its request was whole: there is nobody to answer."""


class RequestGuard:
    """ASGI middleware, the outermost of ours: `app.add_middleware(RequestGuard)`, last of all."""

    def __init__(self, app: ASGIApp, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {}).update(request_id=request_id, json=None)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        answered = False

        async def send_with_id(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            _check_head(scope)
            if scope["method"] in _METHODS_WITH_BODY:
                body = await self._read_body(scope, receive)
                if body:
                    scope["state"]["json"] = _check_body(scope, body)
                receive = _replay(body, receive)
            await self._app(scope, receive, send_with_id)
        except Disconnected:
            return
        except Problem as problem:
            await problem.response(request_id)(scope, receive, send_with_id)
        except Exception as error:
            # The message may quote the request, and with it a person: only places and names are logged.
            frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in _frames(error)]
            _log.error("request failed", error=type(error).__name__, frames=frames[-20:])
            if answered:
                raise  # the server can still cut the connection, which is all that tells the caller now
            await Problem("internal_error").response(request_id)(scope, receive, send_with_id)

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        header = _header(scope, b"content-length")
        declared = int(header) if header.isdigit() else 0
        chunks: list[bytes] = []
        size, more = 0, declared <= MOST_DRAINED_BYTES
        # Who is still sending does not hear an answer: what is too large is read to its end, within reason.
        while more and size <= MOST_DRAINED_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(body)  # counted, too, because a chunked body declares nothing
            if size <= self._max_body_bytes:
                chunks.append(body)
        if max(size, declared) > self._max_body_bytes:
            raise Problem("request_too_large", f"A body has at most {self._max_body_bytes} bytes.")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _request_id(scope: Scope) -> str:
    sent = _header(scope, b"x-request-id").decode("latin-1")
    if _SANE_REQUEST_ID.fullmatch(sent) and not card_numbers.holds_card_number(sent, identifier=True):
        return sent
    return secrets.token_hex(16)


def _check_head(scope: Scope) -> None:
    path, query = scope["path"], scope["query_string"]
    # Servers put U+FFFD where a path is not UTF-8, so that two different paths would name one thing.
    # And a line break is the one character that a pattern of the router does not match.
    if "\0" in path or "\n" in path or "\ufffd" in path:
        raise field_problem("path", "invalid", "Must be percent-encoded UTF-8 without NUL or line breaks.")
    if b"%" in query and not _is_clean_text(unquote_to_bytes(query)):
        raise field_problem("query", "invalid", "Must be percent-encoded UTF-8 without NUL characters.")
    where = card_numbers.find_in_headers(scope["headers"]) or card_numbers.find_in_url(path, query)
    if where is not None:
        raise _card_number_refused(where)


def _check_body(scope: Scope, body: bytes) -> Any:
    """The decoded body. Problem: not JSON by its media type or its content, or it holds what no field may."""
    _check_media_type(scope)
    _check_encoding(scope)
    value = _decode_strictly(body)
    where = card_numbers.find_in_body(body, value)
    if where is not None:
        raise _card_number_refused(where)
    nul = _find_nul(value) if _NUL_ESCAPE in body else None
    if nul is not None:
        raise field_problem(json_path(nul), "invalid", "Must not contain NUL characters.")
    _check_members(body, value)
    return value


def _decode_strictly(body: bytes) -> Any:
    try:
        value = _decode(body)
    except RecursionError:
        raise Problem("malformed_json", _TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Of the parser's complaint only the place is passed on: the rest may quote the body.
        place = _PLACE.search(str(error))
        raise Problem("malformed_json", f"The body is not valid JSON{place[0] if place else ''}.") from None
    # There are at most as many levels as opening brackets, and those are quick to count.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise Problem("malformed_json", _TOO_DEEP)
    return value


def _check_members(body: bytes, value: Any) -> None:
    """Problem: an object has two members of one name, of which the decoder kept the last."""
    # Each member has a colon, so one that was dropped is missing when written again: cheaper than parsing twice.
    if _ESCAPED_COLON.search(body) is not None or _encode(value).count(b":") != body.count(b":"):
        json.loads(body, object_pairs_hook=_only_once, parse_int=str)


def _only_once(members: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            if card_numbers.holds_card_number(name):
                raise _card_number_refused("$")
            shown = json_path((name,)).removeprefix("$").removeprefix(".")
            raise Problem("malformed_json", f"An object has more than one member {shown}.")
        seen.add(name)


def _check_media_type(scope: Scope) -> None:
    sent = _header(scope, b"content-type")
    if sent == b"application/json":
        return
    media_type, *parameters = (part.strip().lower() for part in sent.split(b";"))
    allowed = [b"application/json"]
    if scope["method"] == "PATCH":
        allowed.append(b"application/merge-patch+json")
    charsets = [part for part in parameters if part.startswith(b"charset=")]
    if media_type not in allowed or not _UTF_8.issuperset(charsets):
        names = b", ".join(allowed).decode()
        header = "Accept-Patch" if scope["method"] == "PATCH" else "Accept"
        raise Problem("unsupported_media_type", f"Send {names} in UTF-8.", headers={header: names})


def _check_encoding(scope: Scope) -> None:
    if _header(scope, b"content-encoding").strip().lower() not in (b"", b"identity"):
        message = "Send the body as it is, without compression (Content-Encoding)."
        raise Problem("unsupported_media_type", message, headers={"Accept-Encoding": "identity"})


def _card_number_refused(where: str) -> Problem:
    message = "Looks like a card number. Send a payment method's token instead, and no card number anywhere."
    return field_problem(where, "card_number_refused", message, top="card_number_refused")


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [child for parent in layer for child in _children(parent)]
        if not layer:
            return False
    return any(isinstance(value, dict | list) for value in layer)


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _find_nul(value: Any) -> list[str | int] | None:
    """The keys and positions that lead to a NUL character, outermost first."""
    if isinstance(value, str):
        return [] if "\0" in value else None
    members: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, dict):
        if any("\0" in key for key in value):
            return []
        members = iter(value.items())
    elif isinstance(value, list):
        members = iter(enumerate(value))
    for key, member in members:
        found = _find_nul(member)
        if found is not None:
            return [key, *found]
    return None


def _is_clean_text(raw: bytes) -> bool:
    try:
        return "\0" not in raw.decode()
    except UnicodeDecodeError:
        return False


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Where an error came from, the first cause included; without source lines or messages."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, and then whatever comes: a disconnect."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
