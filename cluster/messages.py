"""What travels between processes: per kind of actor, its commands and its replies."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.checkout_coordinator import CoordinatorCommand
from cluster.engine_types import SandboxRequest
from domain import cart_model, stock
from domain import checkout_model as model
from domain.payments import BookEntry, GatewayRequest, Outcome


class SandboxState(msgspec.Struct, frozen=True, array_like=True, tag=True):
    mode: str
    latency_ms: str


class BookPage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    entries: list[BookEntry]


class SandboxProblem(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The request to the sandbox's own controls was wrong; ``detail`` says how."""

    detail: str


COMMANDS: dict[str, Any] = {
    "stock": stock.StockCommand,
    "cart": cart_model.CartCommand,
    "checkout": CoordinatorCommand,
    "sandbox": GatewayRequest | SandboxRequest,
}
REPLIES: dict[str, Any] = {
    "stock": stock.StockReply,
    "cart": cart_model.CartReplyType,
    "checkout": model.Reply,
    "sandbox": Outcome | SandboxState | BookPage | SandboxProblem,
}
SANDBOX = "sandbox"  # the sandbox gateway's actor; it has no shards
