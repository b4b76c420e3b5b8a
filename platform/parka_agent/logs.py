"""Structured logs of agent and platform: one event with fields a line, secrets scrubbed."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

SECRET = re.compile(r"\b(pk[a-z]?_)[A-Za-z0-9_-]{8,}")


def scrub(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut tokens out of every text field."""
    return {key: SECRET.sub(r"\1…", value) if isinstance(value, str) else value for key, value in event.items()}


def processors() -> list[structlog.typing.Processor]:
    """What every event passes through, whichever logger made it."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrub,
    ]


def configure(level: str = "INFO", *, as_json: bool | None = None) -> None:
    """Send every log line of this process to standard error: JSON, or coloured text on a terminal."""
    plain = not sys.stderr.isatty() if as_json is None else as_json
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer() if plain else structlog.dev.ConsoleRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=processors(), processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
    output = logging.StreamHandler()
    output.setFormatter(formatter)
    logging.basicConfig(handlers=[output], level=level, force=True)
    for noisy in ("httpx", "httpcore", "kombu", "amqp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
