"""Logs as one JSON object per line on standard error."""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

import structlog

MAX_TEXT_CHARS = 4_000


def _bounded(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """No value longer than a reader can use: a hostile text must not fill the disk."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_TEXT_CHARS and key != "exception":
            event[key] = value[:MAX_TEXT_CHARS] + "…"
    return event


def set_up(level: str) -> None:
    """Sends every logger of the process through one JSON renderer."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _bounded,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
