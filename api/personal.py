"""Personal data at the edge: sealed on its way in, opened on its way out.

Owns the shape of what is sealed (one JSON object a field) and the findings that are made while it can still
be read: what a buyer or an address lacks. Promises that nothing behind it sees a name, an address or an
e-mail in clear, and that what belonged to an erased person shows as `[erased]`. Called by routes and
renderers.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from api.addresses import check_address
from domain.checkout_model import Address, Buyer, Problem
from persistence.sealing import ERASED, DataKey, ErasedError, MasterKey

BUYER = "buyer"
SHIPPING_ADDRESS = "shipping_address"
BILLING_ADDRESS = "billing_address"

_CUSTOMER_ID = "customer_id"
_TEXT = "text"
_SEALED_TEXT = "sealed:"
_NEEDED_OF_BUYER = ("email", "name")
_ERASED_FIELDS = {
    BUYER: ("email", "name"),
    SHIPPING_ADDRESS: ("name", "line1"),
    BILLING_ADDRESS: ("name", "line1"),
}
_ERASED_DOCUMENTS = {
    field: msgspec.Raw(msgspec.json.encode(dict.fromkeys(names, ERASED))) for field, names in _ERASED_FIELDS.items()
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def seal_buyer(key: DataKey, master: MasterKey, fields: Mapping[str, str]) -> Buyer | None:
    """The buyer for the engine; None when no field is filled in."""
    filled = as_kept(BUYER, fields)
    if not filled:
        return None
    problems = tuple(
        Problem(name, "missing", f"Give the buyer's {name}.") for name in _NEEDED_OF_BUYER if name not in filled
    )
    email = filled.get("email")
    email_hash = master.email_hash(email) if email else ""
    return Buyer(key.seal(BUYER, _encode(filled)), email_hash, problems)


def seal_address(key: DataKey, field: str, fields: Mapping[str, str]) -> Address | None:
    """The address for the engine, normalized and checked; None when no field is filled in."""
    if not any(fields.values()):
        return None
    checked = check_address(fields)
    sealed = key.seal(field, _encode(checked.normalized))
    return Address(sealed, checked.country, checked.region, checked.postal_code, checked.problems)


def as_kept(field: str, fields: Mapping[str, str]) -> dict[str, str]:
    """What `seal_buyer` or `seal_address` would seal: the fields that are filled in, an address normalized."""
    if field == BUYER:
        return {name: text for name, text in fields.items() if text}
    return check_address(fields).normalized


def seal_customer_id(key: DataKey, customer_id: str) -> bytes:
    """The identity provider's `sub` as the engine keeps it."""
    return key.seal(_CUSTOMER_ID, customer_id.encode())


def seal_text(key: DataKey, text: str) -> str:
    """Somebody's own words (a `reason`) for a place where the engine keeps text; empty stays empty."""
    if not text:
        return ""
    return _SEALED_TEXT + urlsafe_b64encode(key.seal(_TEXT, text.encode())).decode()


class Opened:
    """What one owner's key opens; without the key everything is erased. TamperedError: damaged rows."""

    __slots__ = ("_key",)

    def __init__(self, key: DataKey | None) -> None:
        self._key = key

    def document(self, field: str, sealed: bytes | None) -> msgspec.Raw | None:
        """A sealed object as the JSON it was, to be put into an answer as it is."""
        if sealed is None:
            return None
        plaintext = self._open(field, sealed)
        return _ERASED_DOCUMENTS[field] if plaintext is None else msgspec.Raw(plaintext)

    def fields(self, field: str, sealed: bytes | None) -> dict[str, Any]:
        """A sealed object to be merged with; empty where there is none any more."""
        plaintext = self._open(field, sealed) if sealed is not None else None
        return _decode(plaintext) if plaintext is not None else {}

    def customer_id(self, sealed: bytes | None) -> str | None:
        """Who the customer is to the identity provider."""
        if sealed is None:
            return None
        plaintext = self._open(_CUSTOMER_ID, sealed)
        return ERASED if plaintext is None else plaintext.decode()

    def detail(self, detail: dict[str, Any]) -> dict[str, Any]:
        """An audit entry's detail with its `reason` opened, the one text in it that people write."""
        reason = detail.get("reason")
        if not isinstance(reason, str) or not reason.startswith(_SEALED_TEXT):
            return detail
        plaintext = self._open(_TEXT, urlsafe_b64decode(reason.removeprefix(_SEALED_TEXT)))
        return detail | {"reason": ERASED if plaintext is None else plaintext.decode()}

    def _open(self, field: str, sealed: bytes) -> bytes | None:
        if self._key is None:
            return None
        try:
            return self._key.open(field, sealed)
        except ErasedError:
            return None
