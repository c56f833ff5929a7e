"""Logs: to standard error, for people on a terminal, else a JSON object a line.

Most commands log nothing, and structlog takes longer to import than they take to answer: it is
imported where it is used.
"""

import logging
import sys
from typing import Annotated, Any, Final, TypeAlias

import typer

from engine.commands.log_writer import LogWriter
from engine.settings import LOG_LEVEL_VARIABLE, LOG_LEVELS, read_variable

LEVEL_OF_COMMANDS: Final = "warning"
"""Of those that do not say another."""


def _check_level(level: str) -> str:
    if level.lower() not in LOG_LEVELS:
        raise typer.BadParameter(f"{level!r} is none of {', '.join(LOG_LEVELS)}")
    return level.lower()


LogLevel: TypeAlias = Annotated[
    str,
    typer.Option(
        "--log-level",
        envvar=LOG_LEVEL_VARIABLE,
        metavar="LEVEL",
        callback=_check_level,
        help=f"What is logged to standard error: {', '.join(LOG_LEVELS)}.",
    ),
]


def configure_by_default() -> None:
    """Set up what logs, where something does and nobody has set it up."""
    if "structlog" not in sys.modules:
        return
    import structlog  # noqa: PLC0415 - as the module says

    if not structlog.is_configured():
        level = (read_variable(LOG_LEVEL_VARIABLE) or "").lower()
        configure_logs(level if level in LOG_LEVELS else LEVEL_OF_COMMANDS)


def configure_logs(level: str) -> None:
    """Set up structlog for this process.

    Args:
        level: One of `LOG_LEVELS`.
    """
    import structlog  # noqa: PLC0415 - as the module says

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
        logger_factory=structlog.WriteLoggerFactory(_destination()),
    )


def _destination() -> Any:
    """Standard error, by a thread of its own; whatever stands in its place, as in tests, itself."""
    try:
        return LogWriter(sys.stderr.fileno())
    except (AttributeError, OSError):
        return sys.stderr
