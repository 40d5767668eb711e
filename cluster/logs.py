"""How our processes log: to standard error, with plain tracebacks.

A traceback that shows its frames' variables would show commands, tokens and connection strings (structlog's own
does where Rich is installed), and those are in no log. Called first thing in every process.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO

import structlog


def log_to_stderr() -> None:
    """For everything that is logged from here on."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(_Unfailing(sys.stderr)),  # type: ignore[arg-type]
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


class _Unfailing:
    """A stream whose disk may be full and whose reader may be gone: what cannot be written is dropped.

    Else the line about what has died would end whoever was about to start it again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()
