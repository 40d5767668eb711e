"""With what options Ray creates our actors."""

from __future__ import annotations

from typing import Any, cast

import pytest
import ray

from cluster import actor_classes


class Remote:
    """What Ray makes of a class, and what it was asked for."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def __call__(self, actor_class: type) -> Remote:
        return self

    def options(self, **given: Any) -> Remote:
        self.given = given
        return self

    def remote(self, config: bytes) -> Remote:
        return self


class Config:
    namespace = "ours"

    def encoded(self) -> bytes:
        return b""


@pytest.mark.parametrize("kind", actor_classes.CLASSES)
def test_ray_brings_an_actor_back_and_repeats_none_of_its_calls(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that Ray repeats by itself would execute twice, and nobody who deals in copies would know of this one."""
    asked = Remote()
    monkeypatch.setattr(ray, "remote", asked)
    actor_classes.create(kind, f"{kind}-0", cast(actor_classes.ActorConfig, Config()))
    assert asked.given["max_task_retries"] == 0
    assert asked.given["max_restarts"] == -1
    assert asked.given["lifetime"] == "detached"
