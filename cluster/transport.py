"""How a mailbox's bytes reach a Ray actor.

Owns the translation of Ray's errors: whatever means "may have executed" is `Unreachable`. Nothing is retried
here: a retry by Ray would execute twice without anybody knowing; the mailbox repeats with the same ids.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from actors.mailbox import Mailbox, Unreachable
from actors.routing import Router, SlotTable
from cluster.messages import REPLIES, SANDBOX

NAMESPACE = "lastunit"


class RayTransport:
    """Calls of one named actor. The handle is looked up again after a failure: the actor may be a new one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._handle: Any = None

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self._call("deliver", client, blob)

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self._call("drain", client, incarnation, acknowledged, wait_s)

    async def _call(self, method: str, *arguments: Any) -> bytes:
        try:
            if self._handle is None:
                self._handle = ray.get_actor(self._name, namespace=NAMESPACE)
            reply: bytes = await getattr(self._handle, method).remote(*arguments)
        except (RayActorError, GetTimeoutError, ValueError) as error:
            self._handle = None
            raise Unreachable(f"{self._name}: {type(error).__name__}") from error
        except RayError as error:
            raise Unreachable(f"{self._name}: {error}") from error
        return reply


def mailbox(kind: str, name: str) -> Mailbox:
    return Mailbox(RayTransport(name), REPLIES[kind])


def routers(tables: dict[str, SlotTable]) -> dict[str, Router]:
    """A router for each kind, with a mailbox of this process to every shard."""
    return {
        kind: Router(table, {shard: mailbox(kind, shard) for shard in table.shards}) for kind, table in tables.items()
    }


def sandbox_mailbox() -> Mailbox:
    return mailbox(SANDBOX, SANDBOX)
