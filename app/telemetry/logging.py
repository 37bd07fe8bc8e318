"""Logs: one event a line, as JSON for machines or in colour for people, from our code and from the libraries alike."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from app.characters import spelled

_QUIET = {"uvicorn.access": logging.WARNING, "httpx": logging.WARNING, "asyncio": logging.WARNING}

_STYLES = ("json", "console")


def configure(level: str = "INFO", style: str = "json") -> None:
    """Set up structlog and the standard library's loggers. `level` is a name of theirs, `style` json or console.

    Raises ValueError for another level or style. Everything goes to standard error; calling again replaces the set-up.
    """
    if style not in _STYLES:
        message = f"there is no log style {style!r}"
        raise ValueError(message)
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        message = f"there is no log level {level!r}"
        raise ValueError(message)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(style)))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(number, least))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _rendering(style: str) -> list[Processor]:
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if style == "console":
        return [
            without_meta,
            _spelled_out,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback),
        ]
    return [without_meta, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _spelled_out(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What is logged may be what a stranger has sent: it steers no terminal. JSON spells it out by itself."""
    return {name: spelled(value, lines=True) if isinstance(value, str) else value for name, value in event.items()}


def _plain_traceback(out: TextIO, exc_info: ExcInfo) -> None:
    """Not the pretty ones: these print local variables, and those may hold secrets."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    out.write(spelled(text.getvalue(), lines=True))
