"""How a mailbox's bytes reach a Ray actor.

Owns the way from an actor's name to its handle, and the translation of Ray's errors: whatever means "may have
executed" is `Unreachable`. Nothing is retried here: a retry by Ray would execute twice without anybody knowing;
the mailbox repeats with the same ids. Is told the namespace, which is that of the installation.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from actors.mailbox import Mailbox, Unreachable
from actors.routing import Router, SlotTable
from cluster.messages import REPLIES, SANDBOX

# Few threads of their own: lookups that wait for Ray's control store must not use up everybody's.
_LOOKUPS = ThreadPoolExecutor(2, "actor-lookup")


async def find_actor(name: str, namespace: str) -> Any:
    """The handle of a named actor; ValueError when there is none, RayError when Ray cannot say.

    In a thread: Ray's call is synchronous and waits up to a minute for its control store, and so would the loop.
    """
    return await asyncio.get_running_loop().run_in_executor(_LOOKUPS, partial(ray.get_actor, name, namespace=namespace))


class RayTransport:
    """Calls of one named actor. The handle is looked up again after a failure: the actor may be a new one."""

    def __init__(self, name: str, namespace: str) -> None:
        self._name = name
        self._namespace = namespace
        self._handle: Any = None

    async def deliver(self, client: str, blob: bytes) -> bytes:
        return await self._call("deliver", client, blob)

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        return await self._call("drain", client, incarnation, acknowledged, wait_s)

    async def _call(self, method: str, *arguments: Any) -> bytes:
        try:
            handle = self._handle
            if handle is None:
                handle = self._handle = await find_actor(self._name, self._namespace)
            reply: bytes = await getattr(handle, method).remote(*arguments)
        except (RayActorError, GetTimeoutError, ValueError) as error:
            self._handle = None
            raise Unreachable(f"{self._name}: {type(error).__name__}") from error
        except RayError as error:
            raise Unreachable(f"{self._name}: {error}") from error
        return reply


def mailbox(kind: str, name: str, namespace: str) -> Mailbox:
    return Mailbox(RayTransport(name, namespace), REPLIES[kind])


def routers(tables: dict[str, SlotTable], namespace: str) -> dict[str, Router]:
    """A router for each kind, with a mailbox of this process to every shard."""
    return {
        kind: Router(table, {shard: mailbox(kind, shard, namespace) for shard in table.shards})
        for kind, table in tables.items()
    }


def sandbox_mailbox(namespace: str) -> Mailbox:
    return mailbox(SANDBOX, SANDBOX, namespace)
