"""Logs: to standard error, for people on a terminal, else a JSON object a line."""

import logging
import os
import sys
from typing import Annotated, Any, Final, TypeAlias

import structlog
import typer

LEVELS: Final = ("debug", "info", "warning", "error")
VARIABLE: Final = "ENGINE_LOG_LEVEL"


def _check_level(level: str) -> str:
    if level.lower() not in LEVELS:
        raise typer.BadParameter(f"{level!r} is none of {', '.join(LEVELS)}")
    return level.lower()


LogLevel: TypeAlias = Annotated[
    str,
    typer.Option(
        "--log-level",
        envvar=VARIABLE,
        metavar="LEVEL",
        callback=_check_level,
        help=f"What is logged to standard error: {', '.join(LEVELS)}.",
    ),
]


def default_level(otherwise: str) -> str:
    """The level of the environment, where that is one."""
    level = os.environ.get(VARIABLE, "").lower()
    return level if level in LEVELS else otherwise


def configure_logs(level: str) -> None:
    """Set up structlog for this process.

    Args:
        level: One of `LEVELS`.
    """
    terminal = sys.stderr.isatty()
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
    ]
    if terminal:
        processors.append(structlog.dev.ConsoleRenderer())
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()],
        ),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
