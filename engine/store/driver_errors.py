"""What the driver's errors are to us: the one door that they leave by."""

import contextlib
from collections.abc import Iterator
from typing import Final

import asyncpg

from engine.errors import (
    BookStandsError,
    ChainMovedError,
    ClockError,
    ConfigurationError,
    ConflictError,
    EngineError,
    InputError,
    LockHeldError,
    LoginRefusedError,
    RefusedError,
    TooMuchError,
    TryAgainError,
)

LOCK_SECONDS_MAX: Final = 10
"""For a lock; whoever would wait longer is told that another holds it."""


def is_connection_lost(error: BaseException) -> bool:
    """Whether the server may not have heard, or we its answer."""
    if isinstance(error, asyncpg.InterfaceError):
        return "closed" in str(error) or "closing" in str(error)
    return isinstance(
        error,
        OSError
        | TimeoutError
        | asyncpg.InternalClientError  # its driver, where the server ends a COPY in the middle
        | asyncpg.PostgresConnectionError
        | asyncpg.OperatorInterventionError
        | asyncpg.CannotConnectNowError
        | asyncpg.IdleInTransactionSessionTimeoutError
        | asyncpg.TransactionTimeoutError,
    )


@contextlib.contextmanager
def translated(where: str = "") -> Iterator[None]:
    """Translate the driver's errors into ours: the only door that they leave by.

    Args:
        where: Host and port of the server, for messages.

    Raises:
        ChainMovedError: Another wrote in this worker's chain.
        ConflictError: Another flush came first.
        ClockError: What was written is ahead of Postgres's clock.
        TooMuchError: The server cannot do it, and perhaps can do less.
        TryAgainError: The connection is lost or cannot be had.
        InputError: The ledger refuses a row that was given to it.
        ConfigurationError: There is no ledger in this database.
        RefusedError: A value cannot be written.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        found = _translate(error, where)
        if found is None:
            raise
        raise found from error


_CAME_FIRST: Final = {
    "flushes_pkey": (ChainMovedError, "another wrote in this worker's chain of flushes"),
    "spent_pkey": (BookStandsError, "an id was spent by another flush"),
    "posted_run": (ConflictError, "another flush wrote to an account of this one"),
    "resolutions_pkey": (ConflictError, "a hold was ended by another flush"),
}
"""By the key that was taken already, what that means."""


def _translate(error: Exception, where: str) -> EngineError | None:
    """What an error of the driver is to us; None where it is no business of ours."""
    if isinstance(error, asyncpg.UniqueViolationError):
        kind, words = _CAME_FIRST.get(
            error.constraint_name or "", (ConflictError, f"{error.table_name} has such a row")
        )
        return kind(words)
    if isinstance(error, asyncpg.LockNotAvailableError):
        return LockHeldError(f"another held a lock for over {LOCK_SECONDS_MAX} s")
    if isinstance(error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError):
        return LockHeldError("another flush wanted the same rows in another order")
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name == "flushes_time":
        return ClockError(f"{_sentence(error)}: nothing was written")
    if isinstance(error, asyncpg.InvalidTextRepresentationError) and ROWS_GONE in str(error):
        return _gone(str(error).rpartition(ROWS_GONE)[2].rstrip('"'))
    if isinstance(error, asyncpg.RestrictViolationError):
        return InputError(_sentence(error))
    if isinstance(error, asyncpg.CheckViolationError):
        if error.table_name == "accounts":
            return InputError(f"the ledger refuses the account: {error.args[0]}")
        return RefusedError(f"the ledger refuses what was decided: {error.args[0]}")
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return TryAgainError(
            f"Postgres takes no writes now, as after a failover: {error.args[0]}; if it stays so, "
            "name the primary in ENGINE_POSTGRES_DSN"
        )
    if isinstance(error, asyncpg.OutOfMemoryError):
        return TooMuchError(f"Postgres has too little memory for it: {error.args[0]}")
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return TryAgainError(f"Postgres has too little of something: {error.args[0]}")
    if isinstance(error, asyncpg.PostgresSystemError | asyncpg.PostgresIOError):
        return TooMuchError(f"the machine of Postgres has trouble: {error.args[0]}")
    if is_connection_lost(error):
        at = f" at {where}" if where else ""
        return TryAgainError(f"Postgres{at} is out of reach: {_reason(error)}")
    return _misconfigured(error, where) or _trouble(error)


def _trouble(error: Exception) -> EngineError | None:
    """What concerns the server as a whole, or a value alone."""
    if isinstance(error, asyncpg.PostgresError):
        kind = (error.sqlstate or "")[:2]
        if kind in _SERVER_CLASSES and error.sqlstate not in _DAMAGED:
            return TooMuchError(f"Postgres cannot do it now: {error.args[0]}")
        if kind in _SCHEMA_CLASSES and not _is_of_a_strangers_function(error):
            return ConfigurationError(
                f"the ledger is not as this program knows it: {error.args[0]}; undo what was "
                "changed in its schema, or run `engine init`"
            )
        return RefusedError(f"Postgres does not take it: {error.args[0]}")
    if isinstance(error, asyncpg.DataError | UnicodeError | OverflowError):
        # The driver's own, before anything is sent.
        return RefusedError(f"Postgres does not take it: {error}")
    return None


def check_written(table: str, sent: int, there: int) -> None:
    """See that each row that was sent is there, before it is committed.

    Raises:
        ConfigurationError: Some are not.
    """
    if there != sent:
        raise _gone(f"{table} ({sent} were sent, {there} are there)")


ROWS_GONE: Final = "rows are gone: "
"""As `flush_small` and `flush_one` say it."""


def _gone(tables: str) -> ConfigurationError:
    return ConfigurationError(
        f"rows that were written are not in {tables}, as where a trigger returns NULL or a rule "
        "does something instead: nothing of it is committed. Remove what was added to the table"
    )


_SERVER_CLASSES: Final = {
    "55",  # not in the state for it, as a database that takes no connections
    "58",  # its disk, or another part of its system
    "XX",  # its own defect
}

_DAMAGED: Final = {"XX001", "XX002"}
"""A row or an entry of an index, which what is written needs; others do not."""

_SCHEMA_CLASSES: Final = {
    "0A",  # not supported, as of a table with a rule
    "2B", "2F", "3D", "3F", "42",  # names, types, privileges
}  # fmt: skip
"""All others are of what is written, whatever a stranger's trigger calls them: a value out of
range (22), a check (23), a limit (54), what a trigger raises (P0, or anything)."""


def _is_of_a_strangers_function(error: Exception) -> bool:
    """Whether it was raised by a function that is none of the ledger's, as of a trigger."""
    context = getattr(error, "context", None) or ""
    return "PL/pgSQL function " in context and "PL/pgSQL function ledger." not in context


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or "it did not answer in time"
    return " ".join(str(error).split()) or type(error).__name__


def _misconfigured(error: Exception, where: str) -> EngineError | None:
    if _is_of_a_strangers_function(error):
        return None
    if isinstance(
        error,
        asyncpg.UndefinedTableError
        | asyncpg.UndefinedColumnError
        | asyncpg.UndefinedFunctionError
        | asyncpg.InvalidSchemaNameError,
    ):
        return ConfigurationError(f"{error.args[0]}; run `engine init` first")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return ConfigurationError(
            f"the role that Postgres is asked by may not do that: {error.args[0]}; grant it, or "
            "name another role in ENGINE_POSTGRES_DSN"
        )
    at = f" at {where}" if where else ""
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return LoginRefusedError(f"Postgres{at} refuses: {error.args[0]}")
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return ConfigurationError(f"Postgres{at} refuses: {error.args[0]}")
    return None


def _sentence(error: asyncpg.PostgresError) -> str:
    """What Postgres said, and its hint, in one line."""
    hint = getattr(error, "hint", None)
    message = str(error.args[0])
    return f"{message}: {hint}" if hint else message
