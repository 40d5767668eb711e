"""A process in reserve: Ray starts one ahead, and whoever is constructed next gets it.

Owns nothing. To bring up a process takes half a second, which is a quarter of the time that a large shard is away
when its actor dies. Ray's own pool is asked for it, by the call that Ray's libraries use; should that change, an
actor comes back half a second later, and the log says why.
"""

from __future__ import annotations

from threading import Thread
from typing import Any

import psutil
import ray
import structlog

log = structlog.get_logger()

IDLE = "ray::IDLE"  # what Ray calls a process that nobody has
KEPT_S = 365 * 86_400
ANSWER_S = 5.0


def keep() -> None:
    """Have one started unless there is one. Returns at once: Ray may be slow to answer, or not answer."""
    try:
        Thread(target=_keep, name="spare", daemon=True).start()
    except RuntimeError as error:  # no thread to be had
        log.warning("no process in reserve", error=repr(error))


def _keep() -> None:
    try:
        if any(process.name() == IDLE for process in psutil.Process().children(recursive=True)):
            return
        for node in ray.nodes():
            if node["Alive"]:
                _ask(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
    except Exception as error:  # a recovery takes longer then, that is all
        log.warning("no process in reserve", error=repr(error))


def _ask(address: str) -> None:
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

    messages: Any = node_manager_pb2  # made when it is imported: its types know nothing of what is in it
    languages: Any = common_pb2
    request = messages.PrestartWorkersRequest(language=languages.PYTHON, num_workers=1, keep_alive_duration_secs=KEPT_S)
    with init_grpc_channel(address) as channel:
        node_manager_pb2_grpc.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=ANSWER_S)
