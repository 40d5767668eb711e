"""Every "no" of the API as RFC 9457 problem+json: the one place where codes become statuses.

Owns the table of codes and the shape of an error. Promises that an answer names fields and says what to do,
and never repeats what the caller sent in them. Is told refusals by routes and dependencies, which raise
`Problem`. Never decides a business question. What else escapes a route, `api/request_guard.py` answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from domain.messages import FieldError, Refusal

MEDIA_TYPE = "application/problem+json"
RULE_PREFIX = "rule."  # marks the error types of our own schemas; the rest of the type is the code

STATUS_OF_CODE: dict[str, tuple[int, str]] = {
    "bad_request": (400, "The request could not be understood"),
    "malformed_json": (400, "The body is not valid JSON"),
    "idempotency_key_required": (400, "An Idempotency-Key header is required here"),
    "idempotency_key_invalid": (400, "The Idempotency-Key header cannot be used"),
    "unauthorized": (401, "Valid credentials are required"),
    "payment_failed": (402, "The payment did not succeed"),
    "insufficient_scope": (403, "These credentials do not allow this"),
    "not_found": (404, "There is nothing here"),
    "method_not_allowed": (405, "This path does not take this method"),
    "already_shipped": (409, "The order has been shipped"),
    "below_reserved": (409, "More units are reserved than would be left"),
    "cart_checked_out": (409, "The cart has become an order"),
    "checkout_canceled": (409, "The checkout was canceled"),
    "checkout_completed": (409, "The checkout has become an order"),
    "checkout_not_ready": (409, "The checkout lacks something"),
    "completion_in_progress": (409, "The checkout is being paid"),
    "fraud_denied": (409, "The order was refused"),
    "invalid_order_status": (409, "The order's status does not allow this"),
    "order_canceled": (409, "The order was canceled"),
    "out_of_stock": (409, "There are not enough units"),
    "payment_not_pending": (409, "The payment awaits nothing"),
    "request_in_progress": (409, "The first request with this key is still running"),
    "reservation_expired": (409, "The reservation has expired"),
    "total_changed": (409, "The total is no longer what was expected"),
    "cart_expired": (410, "The cart has expired"),
    "version_mismatch": (412, "The resource has changed since it was read"),
    "request_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body's media type is not supported"),
    "card_number_refused": (422, "Card numbers are not accepted"),
    "cart_empty": (422, "The cart has no lines"),
    "country_changed": (422, "The order was priced for another country"),
    "coupon_invalid": (422, "The coupon cannot be used"),
    "idempotency_key_reused": (422, "The Idempotency-Key was used for another request"),
    "item_unavailable": (422, "An item cannot be bought"),
    "payment_amount_mismatch": (422, "The payments do not add up to the total"),
    "quantity_out_of_range": (422, "A quantity is out of range"),
    "too_many_lines": (422, "There are too many lines"),
    "validation_failed": (422, "The request is not valid"),
    "rate_limited": (429, "Too many requests"),
    "internal_error": (500, "Something broke on our side"),
    "busy": (503, "Too much is going on; try again shortly"),
    "identity_provider_unavailable": (503, "Credentials cannot be checked right now"),
}

RETRY_AFTER_S = {
    "request_in_progress": 1,
    "completion_in_progress": 1,
    "rate_limited": 1,
    "busy": 1,
    "identity_provider_unavailable": 5,
}

_CODE_OF_STATUS = {
    400: "malformed_json",
    401: "unauthorized",
    403: "insufficient_scope",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}

# What Pydantic's error types mean here. The placeholders are limits of ours, never the caller's input.
_MEANINGS = {
    "missing": ("missing", "This is required."),
    "extra_forbidden": ("unknown_field", "There is no such field here; remove it."),
    "int_type": ("invalid_type", "Must be an integer, without quotes or decimals."),
    "int_from_float": ("invalid_type", "Must be an integer, without quotes or decimals."),
    "int_parsing": ("invalid_type", "Must be an integer."),
    "int_parsing_size": ("out_of_range", "Must be a smaller integer."),
    "string_type": ("invalid_type", "Must be a string."),
    "bool_type": ("invalid_type", "Must be true or false."),
    "bool_parsing": ("invalid_type", "Must be true or false."),
    "list_type": ("invalid_type", "Must be a list."),
    "dict_type": ("invalid_type", "Must be an object."),
    "model_type": ("invalid_type", "Must be an object."),
    "model_attributes_type": ("invalid_type", "Must be an object."),
    "none_required": ("invalid_type", "Must be null."),
    "greater_than": ("out_of_range", "Must be more than {gt}."),
    "greater_than_equal": ("out_of_range", "Must be at least {ge}."),
    "less_than": ("out_of_range", "Must be less than {lt}."),
    "less_than_equal": ("out_of_range", "Must be at most {le}."),
    "string_too_short": ("too_short", "Must have at least {min_length} characters."),
    "string_too_long": ("too_long", "Must have at most {max_length} characters."),
    "too_short": ("too_short", "Must have at least {min_length} entries."),
    "too_long": ("too_long", "Must have at most {max_length} entries."),
    "literal_error": ("invalid_choice", "Must be {expected}."),
    "string_pattern_mismatch": ("invalid", "Does not have the form that is documented for this field."),
}
_OTHER_MEANING = ("invalid", "Is not what is documented for this field.")

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME_CHARS = 64
_ROOTS = {"body": "$", "query": "query", "path": "path", "header": "header", "cookie": "cookie"}

_encode = msgspec.json.Encoder().encode


class Problem(Exception):
    """An answer other than success. `code` is stable; `extra` adds members such as `checkout_id`.

    `errors` are dicts of `path` (JSONPath; `header.NAME`, `query.NAME`, `path`), `code`, `message`, and more.
    KeyError: a code that is missing in `STATUS_OF_CODE`.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: Iterable[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.status, self.title = STATUS_OF_CODE[code]
        self.code = code
        self.detail = detail or f"{self.title}."
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        if code in RETRY_AFTER_S:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S[code]))
        super().__init__(code)

    def document(self, request_id: str) -> dict[str, Any]:
        """The members of the answer's body."""
        return {
            "type": f"urn:lastunit:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": self.errors,
            "request_id": request_id,
            **self.extra,
        }

    def response(self, request_id: str) -> Response:
        """The answer."""
        body = _encode(self.document(request_id))
        return Response(body, self.status, headers=self.headers, media_type=MEDIA_TYPE)


def field_problem(path: str, code: str, message: str, *, top: str = "validation_failed") -> Problem:
    """One field is wrong: `top` is the answer's code, `code` the field's."""
    return Problem(top, f"{path}: {message}", errors=[{"path": path, "code": code, "message": message}])


def from_refusal(refusal: Refusal, headers: Mapping[str, str] | None = None) -> Problem:
    """The engine's "no" as an answer. KeyError: a code without a status, which is a bug."""
    errors = map(_field_error, refusal.errors)
    return Problem(refusal.code, refusal.detail, errors=errors, headers=headers, extra=refusal.extra)


def from_validation(errors: Sequence[Any]) -> Problem:
    """Pydantic's findings as an answer; none of them repeats the caller's input, save names of fields.

    When all findings have one code that has a status of its own, such as `quantity_out_of_range`, it is the
    answer's code too; otherwise that is `validation_failed`.
    """
    if any(error["type"] == "json_invalid" for error in errors):
        return Problem("malformed_json")
    entries = [_entry(error) for error in errors]
    codes = {entry["code"] for entry in entries}
    code = codes.pop() if len(codes) == 1 else ""
    if STATUS_OF_CODE.get(code, (0,))[0] != 422:
        code = "validation_failed"
    more = f" ({len(entries) - 1} more in `errors`)" if len(entries) > 1 else ""
    return Problem(code, f"{entries[0]['path']}: {entries[0]['message']}{more}", errors=entries)


def json_path(parts: Iterable[str | int]) -> str:
    """The JSONPath below `$` of keys and positions; long keys are cut, so that an answer stays small."""
    return "$" + "".join(map(_step, parts))


def install(app: FastAPI) -> None:
    """Answer problems, refused bodies and unknown paths as problem+json."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.state.request_id)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return from_validation(error.errors()).response(request.state.request_id)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    # Only the framework raises these (no such path, wrong method); its texts are not for callers.
    assert isinstance(error, HTTPException)
    fallback = "internal_error" if error.status_code >= 500 else "bad_request"
    problem = Problem(_CODE_OF_STATUS.get(error.status_code, fallback), headers=error.headers)
    return problem.response(request.state.request_id)


def _field_error(error: FieldError) -> dict[str, Any]:
    return {"path": error.path, "code": error.code, "message": error.message, **error.extra}


def _entry(error: Mapping[str, Any]) -> dict[str, str]:
    kind = error["type"]
    if kind.startswith(RULE_PREFIX):
        code, message = kind.removeprefix(RULE_PREFIX), error["msg"]
    else:
        code, message = _MEANINGS.get(kind, _OTHER_MEANING)
        message = message.format_map(error.get("ctx", {}))
    return {"path": _path(error["loc"]), "code": code, "message": message}


def _path(location: Sequence[str | int]) -> str:
    root, *parts = location
    if root == "body":
        # Pydantic marks a wrong key of a mapping by "[key]"; the key before it names the place.
        return json_path(part for part in parts if part != "[key]")
    return ".".join((_ROOTS.get(str(root), "$"), *(str(part)[:_NAME_CHARS] for part in parts)))


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    if len(part) <= _NAME_CHARS and _PLAIN_NAME.fullmatch(part):
        return f".{part}"
    name = part[:_NAME_CHARS].replace("\\", "\\\\").replace("'", "\\'")
    return f"['{name}']"
