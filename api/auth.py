"""Who is calling: a guest with a token, a customer or an operator with a JWT, or nobody in particular.

Owns the reading of `Authorization` and `Cart-Token`. Promises that a bearer token that is sent is valid or
refused, on public routes too, and that a guest token counts only if it was made here. Finds the verifier and
the master key in `app.state`. Never decides what a caller may see beyond "operator": routes compare owners.
Routes depend on `current_caller`, `require_customer`, `require_operator`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from api.errors import Problem
from api.tokens import KeysUnavailableError, Rejection, Verifier
from persistence.sealing import MasterKey, owner_of_token

_REALM = 'Bearer realm="lastunit"'
_MAX_CART_TOKEN_CHARS = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, as far as credentials tell.

    `owners` is what the caller is to the engine: whatever belongs to one of them opens. The first is whom new
    things belong to and whose idempotency keys these are; empty: a guest who has no token yet.
    """

    customer_id: str | None = None
    guest_token: str | None = None
    is_operator: bool = False
    owners: tuple[str, ...] = ()

    @property
    def owner(self) -> str | None:
        """Whom new things belong to; None: make a guest token for them."""
        return self.owners[0] if self.owners else None

    @property
    def guest_owner(self) -> str | None:
        """The owner that the guest token stands for, also when a customer sends it along."""
        return None if self.guest_token is None else self.owners[-1]

    def opens(self, owner: str) -> bool:
        """Whether what belongs to `owner` is this caller's; if not, it does not exist for them (404)."""
        return owner in self.owners


_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="CustomerToken",
    bearerFormat="JWT",
    description="A customer's JWT from the shop's identity provider.",
)
_OPERATOR_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="OperatorToken",
    bearerFormat="JWT",
    description="A JWT with the scope `ops`.",
)
_CART_TOKEN = APIKeyHeader(
    name="Cart-Token",
    auto_error=False,
    scheme_name="GuestToken",
    description="The secret `token` that creating a cart or checkout without credentials answered with.",
)


async def current_caller(
    request: Request,
    _bearer: Annotated[Any, Security(_BEARER)] = None,
    _cart_token: Annotated[Any, Security(_CART_TOKEN)] = None,
) -> Caller:
    """The caller, whoever it is. Problem: 401 for a bearer token that is not valid."""
    return await identify(request)


async def require_customer(request: Request, _bearer: Annotated[Any, Security(_BEARER)] = None) -> Caller:
    """The customer who is calling. Problem: 401 for anybody else."""
    caller = await identify(request)
    if caller.customer_id is None:
        raise _unauthorized("Send a customer's token as Authorization: Bearer.")
    return caller


async def require_operator(request: Request, _bearer: Annotated[Any, Security(_OPERATOR_BEARER)] = None) -> Caller:
    """The operator who is calling. Problem: 401 without a valid token, 403 for a customer."""
    caller = await identify(request)
    if caller.customer_id is None:
        raise _unauthorized("Send an operator's token as Authorization: Bearer.")
    if not caller.is_operator:
        challenge = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="ops"'}
        raise Problem("insufficient_scope", "This takes a token with the scope ops.", headers=challenge)
    return caller


AnyCaller = Annotated[Caller, Depends(current_caller)]
Customer = Annotated[Caller, Depends(require_customer)]
Operator = Annotated[Caller, Depends(require_operator)]
OPERATOR_REFUSALS = ("unauthorized", "insufficient_scope")


async def identify(request: Request) -> Caller:
    """The caller by the two headers. Problem: 401 not valid, 503 cannot be checked now."""
    master: MasterKey = request.app.state.master_key
    authorization = request.headers.get("authorization")
    guest_token = request.headers.get("cart-token")
    # A token not made here opens nothing; were it believed, a caller could choose a secret others can guess.
    if guest_token is not None and not (
        len(guest_token) <= _MAX_CART_TOKEN_CHARS and master.is_guest_token(guest_token)
    ):
        guest_token = None
    guest_owners = () if guest_token is None else (owner_of_token(guest_token),)
    if authorization is None:
        return Caller(guest_token=guest_token, owners=guest_owners)
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise _unauthorized("Authorization takes the scheme Bearer.", invalid=True)
    verifier: Verifier = request.app.state.verifier
    try:
        claims = await verifier.verify(token.strip())
    except KeysUnavailableError:
        raise Problem("identity_provider_unavailable") from None
    if isinstance(claims, Rejection):
        raise _unauthorized(claims.reason, invalid=True)
    owners = (master.owner_of_customer(claims.sub), *guest_owners)
    return Caller(claims.sub, guest_token, claims.is_operator, owners)


def _unauthorized(detail: str, *, invalid: bool = False) -> Problem:
    error = f', error="invalid_token", error_description="{detail}"' if invalid else ""
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": _REALM + error})
