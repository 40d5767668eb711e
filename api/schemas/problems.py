"""Problems in the API's description: their shape, and which of them an operation answers.

Owns the OpenAPI side of `api/errors.py`. Promises that every operation documents its errors as
application/problem+json, with the codes it may answer. Never runs while a request is served. Called by the
routers' declarations and once by the application.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from api.errors import MEDIA_TYPE, STATUS_OF_CODE
from api.schemas.common import Resource

_REFERENCE = {"$ref": "#/components/schemas/Problem"}
_ALWAYS = ("internal_error", "busy")
_WITH_BODY = (
    "malformed_json",
    "request_too_large",
    "unsupported_media_type",
    "validation_failed",
    "card_number_refused",
)


class ProblemError(Resource):
    """What is wrong with one field; some codes add members, such as `available`."""

    model_config = ConfigDict(extra="allow")

    path: str = Field(description="JSONPath into the body, or `header.NAME`, `query.NAME`, `path`.")
    code: str
    message: str = Field(description="What to do, in English.")


class Problem(Resource):
    """RFC 9457. `code` is stable; some codes add members, such as `checkout_id` or `current_total`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:lastunit:problem:validation_failed"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["validation_failed"])
    errors: list[ProblemError]
    request_id: str


def problems(*codes: str, body: bool = False) -> dict[int | str, dict[str, Any]]:
    """`responses` of an operation that may answer these codes; `body`: it takes one."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, *(_WITH_BODY if body else ("validation_failed",)), *_ALWAYS)):
        by_status.setdefault(STATUS_OF_CODE[code][0], []).append(code)
    return {status: _response(codes) for status, codes in sorted(by_status.items())}


def describe(openapi: dict[str, Any]) -> dict[str, Any]:
    """Complete a generated OpenAPI document with the shape of problems, in place of the framework's own."""
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs"), Problem=schema)
    return openapi


def _response(codes: list[str]) -> dict[str, Any]:
    examples = {code: {"value": _example(code)} for code in codes}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "content": {MEDIA_TYPE: {"schema": _REFERENCE, "examples": examples}},
    }


def _example(code: str) -> dict[str, Any]:
    status, title = STATUS_OF_CODE[code]
    return {
        "type": f"urn:lastunit:problem:{code}",
        "title": title,
        "status": status,
        "detail": f"{title}.",
        "code": code,
        "errors": [],
        "request_id": "3f2a77c05e7d4f0b9b0c2a51d0a4e6f1",
    }
