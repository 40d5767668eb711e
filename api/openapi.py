"""The API's description: what each operation takes and answers, and the document that says so.

Owns `operation`, with which routes declare themselves, and `document`, which the application serves. Promises
that a body is described by the very model that parses it. Answers are declared, never validated at run time:
that would cost more than making them. Never runs while a request is served, but for the document's first.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.openapi_examples import EXAMPLES
from api.schemas import batches, carts, checkouts, common, operations, orders, stock, tables
from api.schemas.problems import describe, problems

Auth = Literal["buyer", "new_buyer", "declared"]
Key = Literal["required", "honoured", "none"]

_REF = "#/components/schemas/{model}"
# The framework describes the models it parses itself; these it never sees.
_BODIES: tuple[type[BaseModel], ...] = (
    batches.BatchProduct,
    batches.BatchStock,
    batches.ProductBatch,
    batches.StockBatch,
    carts.ChangeItem,
    carts.CreateCart,
    checkouts.CheckoutFields,
    checkouts.CompleteCheckout,
    checkouts.ExpressCheckout,
    checkouts.StartCheckout,
    common.AddressFields,
    common.LineItem,
    common.NoFields,
    operations.ResolvePayment,
    operations.SetSandbox,
    orders.CancelOrder,
    orders.LookUpOrder,
    orders.ReviewOrder,
    orders.ShipOrder,
    stock.AdjustStock,
    stock.PutProduct,
    tables.PutShipping,
    tables.PutTax,
)

_SECURITY: dict[Auth, list[dict[str, list[str]]]] = {
    "buyer": [{"GuestToken": []}, {"CustomerToken": []}],
    "new_buyer": [{}, {"GuestToken": []}, {"CustomerToken": []}],
}
_TAGS = (
    ("Carts", "What a buyer has put aside. Nothing is reserved, prices are those of now."),
    ("Checkouts", "Frozen prices, reserved stock, and the way to an order."),
    ("Orders", "What was confirmed, and what became of it."),
    ("Stock", "What there is to buy."),
    ("Operators", "The shop's own side. Takes a JWT with the scope `ops`."),
    ("Sandbox", "The payment gateway for development, steered and read by operators."),
    ("Machines", "Health and figures."),
)
_DESCRIPTION = """Lastunit sells the last unit exactly once: carts, stock, payment and orders.

**Amounts** are integers of minor units beside an ISO 4217 currency. **Ids** are opaque. **Times** are
RFC 3339 in UTC. **Errors** are RFC 9457 problems with a stable `code`.

**Guests** get a secret `token` once and send it as `Cart-Token`; **customers** and **operators** send a JWT.

Send an `Idempotency-Key` with whatever must not happen twice, and after a lost connection, a 202 or a 503 the
same key again: the work is never done a second time.
"""


def operation(
    *,
    answers: dict[int, type[BaseModel] | None],
    refusals: tuple[str, ...] = (),
    body: type[BaseModel] | None = None,
    key: Key = "none",
    auth: Auth = "declared",
    versioned: bool = False,
    waits: bool = False,
) -> dict[str, Any]:
    """Arguments for a route's decorator; the endpoint's docstring is the operation's description.

    `answers`: models by status, the first being the usual one; None is a stream of events. `auth` "declared":
    by the dependencies. `versioned`: gives an ETag and, unless it only reads, takes If-Match. `waits`: takes
    `Prefer: wait=N`.
    """
    codes = list(refusals)
    parameters = []
    if key != "none":
        codes += ["idempotency_key_invalid", "idempotency_key_reused", "request_in_progress", "rate_limited"]
        parameters.append(_idempotency_key(required=key == "required"))
    if key == "required":
        codes.append("idempotency_key_required")
    if auth != "declared":
        codes.append("unauthorized")
    if waits:
        parameters.append(_PREFER)
    extra: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if auth != "declared":
        extra["security"] = _SECURITY[auth]
    if body is not None:
        extra["requestBody"] = _request_body(body)
    responses: dict[int | str, Any] = {
        status: _success(status, model, versioned=versioned, keyed=key != "none") for status, model in answers.items()
    }
    return {
        "status_code": next(iter(answers)),
        "responses": problems(*codes, body=body is not None) | responses,
        "openapi_extra": extra,
    }


def plain_operation(meanings: dict[int, str], media_type: str = "application/json") -> dict[str, Any]:
    """Arguments for the decorator of a route outside the contract's conventions; `meanings` by status."""
    content = {media_type: {"schema": {"type": "object" if media_type.endswith("json") else "string"}}}
    return {"responses": {status: {"description": text, "content": content} for status, text in meanings.items()}}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the application's routes."""
    openapi = get_openapi(
        title=app.title,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS],
    )
    _, definitions = models_json_schema([(model, "validation") for model in _BODIES], ref_template=_REF)
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions.get("$defs", {}))
    describe(openapi)
    _take_if_match(openapi)
    for name, example in EXAMPLES.items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    return openapi


def _take_if_match(openapi: dict[str, Any]) -> None:
    """Whatever changes a thing that has versions takes If-Match; only here is the method known."""
    refusal = problems("version_mismatch")[412]
    for item in openapi["paths"].values():
        for method, described in item.items():
            responses = described["responses"]
            if method != "get" and any("ETag" in response.get("headers", ()) for response in responses.values()):
                described.setdefault("parameters", []).append(_IF_MATCH)
                responses["412"] = refusal


def _request_body(model: type[BaseModel]) -> dict[str, Any]:
    # A body that is left out counts as an empty one.
    required = any(field.is_required() for field in model.model_fields.values())
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _success(status: int, model: type[BaseModel] | None, *, versioned: bool, keyed: bool) -> dict[str, Any]:
    headers = {}
    if versioned:
        headers["ETag"] = _header("The version, for `If-Match`.")
    if keyed and status != 202:
        headers["Idempotent-Replayed"] = _header("`true` when this is the kept answer of an earlier request.")
    if status == 202:
        headers["Retry-After"] = _header("Seconds after which asking again makes sense.")
    response: dict[str, Any] = {"description": _MEANINGS[status]}
    if headers:
        response["headers"] = headers
    if model is not None:
        response["model"] = model
    else:
        response["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    return response


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _idempotency_key(*, required: bool) -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": required,
        "description": "1-255 visible characters, a new UUID per attempt; at least 16 without credentials.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "example": "7f9c24e8-3b1a-4f6e-9d2c-0a5b8e7d6c4f",
    }


_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": 'Refuse with 412 unless this is the version that `ETag` gave, such as `"3"`.',
    "schema": {"type": "string"},
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N`: answer 202 after N seconds if there is no result yet (default 30, at most 60).",
    "schema": {"type": "string"},
    "example": "wait=10",
}
_MEANINGS = {
    200: "Done.",
    201: "Made.",
    202: "Under way: poll, listen, or ask again with the same key.",
}
