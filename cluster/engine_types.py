"""The engine as its callers see it: one port, its answers, and how it says "later" and "not now".

Owns no behaviour and imports no Ray: `cluster.engine` implements it, a test may do so in memory. Commands and
replies are those of the pure cores; personal data passes sealed. The API calls it; nothing below does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from domain.checkout_model import CheckoutView, PutRules, Rules
from domain.messages import Command
from domain.stock_model import Offer
from gateways.sandbox import Mode

DEFAULT_WAIT_S = 30.0


class Answer(NamedTuple):
    """A core's reply, a `Refusal` included; `replayed`: it is the kept answer of an earlier request."""

    reply: Any
    replayed: bool = False


class StillPending(Exception):
    """The reply is not there yet. The work goes on; the same command asks for the reply again."""


class Busy(Exception):
    """Refused as overloaded, or the owner could not be reached: ask again with the same command.

    Nothing is known about the effect; command ids make the repeat safe. `retry_after_s` is a hint.
    """

    def __init__(self, retry_after_s: float = 1.0) -> None:
        super().__init__("the engine is busy")
        self.retry_after_s = retry_after_s


class SetSandbox(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Change the sandbox gateway's mode or latency; None leaves it. Reply: `SandboxSettings`."""

    mode: Mode | None = None
    latency_ms: str | None = None


class ResolvePayment(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Stand for the buyer's step.

    Reply: `Retrieved`, `Declined` ("not_pending" or "not_found"), `Unknown` or `NotNow`.
    """

    payment_id: str
    outcome: Literal["succeed", "fail"]


class ReadBook(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One page of the sandbox's book: entries beyond `after`. Reply: a list of `BookEntry`."""

    after: int
    limit: int


SandboxRequest = SetSandbox | ResolvePayment | ReadBook


class Engine(Protocol):
    """Every method may raise `Busy`."""

    async def ask(self, command: Command, wait_s: float = DEFAULT_WAIT_S) -> Answer:
        """Send a command to whoever owns its key; `ReadRules` goes to any checkout shard.

        A `Replayed` comes decoded. StillPending: the reply is deferred for longer than `wait_s` seconds; with
        0 the command is sent all the same.
        """
        ...

    async def quote(self, skus: Sequence[str]) -> list[Offer]:
        """Facts and availability of SKUs in the order asked, over all shards. May be stale."""
        ...

    def watch(self, checkout_id: str) -> AsyncIterator[CheckoutView]:
        """The checkout as it is, then at every change, until it ends. The caller has checked whose it is."""
        ...

    async def put_rules(self, command: PutRules) -> Rules:
        """Replace tables on every checkout shard; the rules as they are then."""
        ...

    async def sandbox(self, request: SandboxRequest) -> Any:
        """Speak to the sandbox gateway; replies as its requests say."""
        ...

    async def audit(self) -> dict[str, Any]:
        """The audit's finding in the shape of `GET /v1/ops/audit`."""
        ...

    async def stock_owner(self, sku: str) -> tuple[str, int]:
        """Who owns the SKU's stock, and that owner's epoch."""
        ...

    async def ready(self) -> dict[str, Any]:
        """`{"ready": bool, …}`: whether every shard answers, and what else is worth knowing."""
        ...
