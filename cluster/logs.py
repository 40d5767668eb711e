"""How our processes log: to standard error, with plain tracebacks.

A traceback that shows its frames' variables would show commands, tokens and connection strings (structlog's own
does where Rich is installed), and those are in no log. Called first thing in every process.
"""

from __future__ import annotations

import logging
import sys

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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
