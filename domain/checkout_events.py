"""What happens to a checkout: the events of its journal.

A checkout's journal is the sequence of its phases (`Moved`), the pivot (`OrderPlaced`) and what followed, and
the answers owed and given. Stored as arrays: a new field goes last and has a default.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from domain.catalog import Product
from domain.checkout_state import (
    Address,
    Asked,
    Buyer,
    Change,
    Checkout,
    Message,
    Phase,
    Rules,
    Undo,
    Wanted,
)
from domain.order import Order
from domain.payment_leg import PaymentLeg
from domain.pricing import PricedLine, Total
from domain.shipping import OfferedOption


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """Fields of the state that an event sets; UNSET ones stay."""

    hold: str | UnsetType = UNSET
    wanted: tuple[Wanted, ...] | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    previous: str | UnsetType | None = UNSET
    revision: int | UnsetType = UNSET
    expires_at_ms: int | UnsetType = UNSET
    shortages: int | UnsetType = UNSET
    products: dict[str, Product] | UnsetType = UNSET
    lines: tuple[PricedLine, ...] | UnsetType = UNSET
    totals: tuple[Total, ...] | UnsetType = UNSET
    total: int | UnsetType = UNSET
    offers: tuple[OfferedOption, ...] | UnsetType = UNSET
    selected: str | UnsetType | None = UNSET
    chosen: str | UnsetType | None = UNSET
    deliverable: bool | UnsetType = UNSET
    buyer: Buyer | UnsetType | None = UNSET
    shipping_address: Address | UnsetType | None = UNSET
    billing_address: Address | UnsetType | None = UNSET
    messages: tuple[Message, ...] | UnsetType = UNSET
    legs: tuple[PaymentLeg, ...] | UnsetType = UNSET
    attempt_start: int | UnsetType = UNSET
    declines: int | UnsetType = UNSET
    action_deadline_ms: int | UnsetType = UNSET
    undo: Undo | UnsetType | None = UNSET
    change: Change | UnsetType | None = UNSET
    dropped: tuple[str, ...] | UnsetType = UNSET


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    checkout: str  # the storage key (an id's body)


class Started(Event, frozen=True):
    state: Checkout


class Moved(Event, frozen=True):
    """The saga goes to ``phase``, or stays there; ``changes`` are the other fields that change with it."""

    at_ms: int
    phase: Phase
    changes: Changes


class OrderPlaced(Event, frozen=True):
    """The pivot."""

    at_ms: int
    order: Order
    legs: tuple[PaymentLeg, ...]


class OrderChanged(Event, frozen=True):
    at_ms: int
    order: Order


class AskedFor(Event, frozen=True):
    asked: Asked


class Answered(Event, frozen=True):
    """The final answer to a command. An empty body stands for "completed", rebuilt from the pivot's facts."""

    command_id: bytes
    fingerprint: bytes
    at_ms: int
    body: bytes


class AnsweredForNow(Event, frozen=True):
    """A reply that is not final was given: nothing is owed any more, and nothing is remembered."""

    command_id: bytes


class StepDone(Event, frozen=True):
    """A step that is retried forward is done."""

    step: str


class RulesPut(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    rules: Rules


CheckoutEvent = (
    Started | Moved | OrderPlaced | OrderChanged | AskedFor | Answered | AnsweredForNow | StepDone | RulesPut
)
