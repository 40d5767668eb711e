"""What our processes write to their logs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import structlog

from cluster.logs import log_to_stderr


@pytest.fixture
def as_a_process() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("as_a_process")
def test_a_traceback_names_the_error_and_shows_no_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """A frame's variables are commands, payment tokens, connection strings."""
    log_to_stderr()

    def pay(token: str) -> None:
        raise RuntimeError("the gateway is gone")

    try:
        pay("tok_" + "secret")
    except RuntimeError:
        structlog.get_logger().exception("payment failed", leg=1)
    logged = capsys.readouterr().err
    assert "payment failed" in logged
    assert "the gateway is gone" in logged
    assert "tok_secret" not in logged


class Full:
    """A file on a full disk."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        raise OSError(28, "No space left on device")

    def isatty(self) -> bool:
        return False


@pytest.mark.usefixtures("as_a_process")
def test_a_line_that_cannot_be_written_is_nobodys_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tells that a part has died is about to start it again."""
    monkeypatch.setattr(sys, "stderr", Full())
    log_to_stderr()
    structlog.get_logger().error("a part has died")
