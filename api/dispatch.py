"""From a request to a command, and from the engine's "no" to an answer.

Owns what all routes do alike: bodies as models, preconditions, preferences, intents, whose a thing is.
Promises that a command never carries an owner that the caller's credentials do not prove. Never renders.
Routes call it; what the engine raises (`Busy`, `StillPending`) becomes an answer in `api/app.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.auth import Caller
from api.context import AppContext, context_of
from api.errors import Problem, field_problem, from_refusal, from_validation
from api.idempotency import HEADER as KEY_HEADER
from api.idempotency import MIN_CHARS_WITHOUT_CALLER, Intent
from api.personal import seal_customer_id
from cluster.engine_types import DEFAULT_WAIT_S, Answer
from domain import cart, checkout_refusals, ids
from domain.cart_model import CartCommandBase
from domain.checkout_model import CheckoutCommand
from domain.messages import Command, Refusal
from persistence.sealing import GUEST_PREFIX, owner_of_token

MAX_WAIT_S = 60
REPLAYED = {"Idempotent-Replayed": "true"}

_ETAG = re.compile(r'\s*"?([0-9]{1,9})"?\s*')
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)
_NOT_FOUND = (cart.NOT_FOUND, checkout_refusals.NOT_FOUND)
_TOKEN_MAC_CHARS = 33  # "_" and the code: what follows the root in a guest's token

Model = TypeVar("Model", bound=BaseModel)


class Party(NamedTuple):
    """Whose a new thing is. `token` is set for a guest who came without one, and must be told."""

    owner: str
    root: str
    token: str | None

    @property
    def told(self) -> dict[str, str]:
        """The token as a member of the answer."""
        return {} if self.token is None else {"token": self.token}


def parse(request: Request, model: type[Model]) -> Model:
    """The body as the request guard decoded it, as a model; no body is an empty one. Problem: 422."""
    return validated(_body_of(request), model)


def _body_of(request: Request) -> Any:
    value = request.state.json
    return {} if value is None and request.headers.get("content-length", "0") == "0" else value


def validated(value: Any, model: type[Model]) -> Model:
    """A decoded value as a model. Problem: 422 with every finding."""
    try:
        return model.model_validate(value)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False)
        raise from_validation([{**error, "loc": ("body", *error["loc"])} for error in errors]) from None


def intent_of(request: Request, caller: Caller, *, required: bool = False) -> Intent:
    """What the request means to do. Problem: its Idempotency-Key is missing or cannot be used."""
    return context_of(request).keys.intent(
        request.headers.get(KEY_HEADER),
        operation=f"{request.method} {request.scope['path']}",
        body=_body_of(request),
        owner=caller.owner,
        required=required,
    )


def maker_of(request: Request, caller: Caller, prefix: str) -> Caller:
    """Who makes a new thing of this kind.

    A guest who repeats the very request that made the guest, now with the token of its answer, is once more
    nobody: it is the same request, and must not do its work (or charge) twice.
    """
    key = request.headers.get(KEY_HEADER, "")
    if caller.guest_token is None or len(key) < MIN_CHARS_WITHOUT_CALLER:
        return caller
    nobody = Caller()
    first = intent_of(request, nobody)
    return nobody if ids.derive_body(first.command_id, prefix) == root_of(caller.guest_token) else caller


def expected_version(request: Request) -> int | None:
    """The version that `If-Match` demands. Problem: 412 for one that no resource of ours can have."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    match = _ETAG.fullmatch(header)
    if match is None:
        raise Problem("version_mismatch", 'If-Match takes one version as ETag gave it, such as "3".')
    return int(match[1])


def wait_s(request: Request, default_s: float) -> float:
    """How long the caller lets us work before an interim answer: `Prefer: wait=N`, at most 60 seconds."""
    match = _WAIT.search(request.headers.get("prefer", ""))
    return default_s if match is None else min(int(match[1]), MAX_WAIT_S)


def party_of(context: AppContext, caller: Caller, new_id: str) -> Party:
    """Whose the thing called `new_id` is to be.

    A new guest's root is the id's body: it follows from the request's key alone, so that a repeat is the same
    guest at any time.
    """
    if caller.customer_id is not None:
        return Party(caller.owners[0], "", None)
    if caller.guest_token is not None:
        return Party(owner_of_token(caller.guest_token), root_of(caller.guest_token), None)
    root = ids.body(new_id)
    token = context.master_key.guest_token(root)
    return Party(owner_of_token(token), root, token)


async def sealed_customer(context: AppContext, caller: Caller, party: Party) -> bytes | None:
    """The customer who is calling, sealed with the key of whose the thing is to be; None for a guest."""
    if caller.customer_id is None:
        return None
    return seal_customer_id(await context.key_ring.key(party.owner), caller.customer_id)


def root_of(token: str) -> str:
    """The root that a guest's token, known to be genuine, was made for."""
    return token[len(GUEST_PREFIX) : -_TOKEN_MAC_CHARS]


def new_id(context: AppContext, prefix: str, intent: Intent) -> str:
    """The id of the thing that the intent creates: for one intent always the same but for its time."""
    return ids.make(prefix, context.now_ms(), ids.derive_body(intent.command_id, prefix))


async def ask(
    context: AppContext,
    command: Command,
    wait_s: float = DEFAULT_WAIT_S,
    told: Mapping[str, Any] | None = None,
) -> Answer:
    """The engine's yes. Problem: its no, with the members `told` added. StillPending, Busy: see `Engine`."""
    return accepted(await context.engine.ask(command, wait_s), told)


async def ask_as_owner(
    context: AppContext,
    caller: Caller,
    command: CartCommandBase | CheckoutCommand,
    wait_s: float = DEFAULT_WAIT_S,
    told: Mapping[str, Any] | None = None,
) -> Answer:
    """`ask` as whichever of the caller's owners the thing belongs to. Problem: 404 when to none of them."""
    answer = None
    for owner in caller.owners:
        answer = await context.engine.ask(msgspec.structs.replace(command, owner=owner), wait_s)
        if not is_not_found(answer.reply):
            return accepted(answer, told)
    if answer is None:
        raise not_found()
    return accepted(answer)


def accepted(answer: Answer, told: Mapping[str, Any] | None = None) -> Answer:
    """The answer, unless it is a no: then it is raised as a `Problem`, with the members `told` added."""
    if isinstance(answer.reply, Refusal):
        problem = from_refusal(answer.reply, REPLAYED if answer.replayed else None)
        problem.extra = {**(told or {}), **problem.extra}
        raise problem
    return answer


def is_not_found(reply: Any) -> bool:
    """Whether the engine knows no such thing, or will not say so to this owner.

    Only the whole thing: that there is no such line or payment in it is an answer like any other.
    """
    return reply in _NOT_FOUND


def not_found() -> Problem:
    """Nothing that these credentials open."""
    return Problem("not_found", "There is no such resource, or the credentials do not open it.")


def false_cursor() -> Problem:
    """A cursor that no page of ours gave."""
    return field_problem("query.cursor", "invalid", "Send next_cursor of the page before, or leave it out.")


def number_cursor(cursor: str | None, *, most_digits: int) -> int:
    """The number that the page before ended with, 0 for the first page. Problem: a false cursor."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= most_digits):
        raise false_cursor()
    return int(cursor)


def replay_headers(answer: Answer) -> dict[str, str]:
    """What tells a kept answer from a new one."""
    return REPLAYED if answer.replayed else {}


def require_id(prefix: str, identifier: str) -> str:
    """The id, if it has the shape of one. Problem: 404."""
    if not ids.is_id(prefix, identifier):
        raise not_found()
    return identifier
