"""Connecting to Postgres: what is set, what is checked, and errors translated at the door."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

import asyncpg

from engine.errors import ChainMovedError, ConfigurationError, EngineError, TryAgainError

POSTGRES_VERSION_MIN: Final = 15
CONNECT_SECONDS_MAX: Final = 10.0
STATEMENT_SECONDS_MAX: Final = 60.0
LOCK_SECONDS_MAX: Final = 10
KEEPALIVE_SECONDS: Final = 5
KEEPALIVES_MAX: Final = 3

# Postgres counts microseconds from 2000.
POSTGRES_EPOCH: Final = 946_684_800 * 1_000_000
_INT8: Final = struct.Struct(">q")

_SETTINGS: Final = {
    "lock_timeout": f"{LOCK_SECONDS_MAX}s",
    "jit": "off",
    "timezone": "UTC",
    # Whatever the role or the database is set to: nothing but us ends what commits, a statement
    # sees what was committed before it, and Postgres tells us of a COMMIT that was cut short.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS_MAX:.0f}s",
    "default_transaction_isolation": "read committed",
    "client_min_messages": "warning",
    # A link that is down without a word is noticed by both ends.
    "tcp_keepalives_idle": f"{KEEPALIVE_SECONDS}",
    "tcp_keepalives_interval": f"{KEEPALIVE_SECONDS}",
    "tcp_keepalives_count": f"{KEEPALIVES_MAX}",
    "tcp_user_timeout": f"{KEEPALIVE_SECONDS * (KEEPALIVES_MAX + 1)}s",
    # The queries are single probes many times over: a sequential scan is never the plan.
    "enable_seqscan": "off",
}


class ConflictError(TryAgainError):
    """Another flush came first (a version, an id, a hold, a deadlock): decide again."""


class BookStandsError(ConflictError):
    """A conflict about an id or a lock: what the book rests on is as it was."""


class LockWaitError(BookStandsError):
    """A lock could not be had in time, or not without a deadlock: wait, and decide again."""


class RefusedError(TryAgainError):
    """Postgres refuses a value of what was to be written, or what follows from it."""


class FundsArrivedError(BookStandsError):
    """What was declined for want of funds need not be: others have brought some since."""


@cache
def statement(name: str) -> str:
    """The text of a named statement in `queries`."""
    return (files("engine.store") / "queries" / f"{name}.sql").read_text()


async def connect(
    dsn: str,
    name: str,
    *,
    statement_seconds_max: float | None = STATEMENT_SECONDS_MAX,
    synchronous: bool = True,
) -> asyncpg.Connection:
    """Connect for reading and writing rows that decide.

    Ids are 16 bytes, times microseconds since 1970.

    Args:
        dsn: `postgresql://...`, straight to a server, not through a transaction pooler.
        name: Shown in `pg_stat_activity`.
        statement_seconds_max: After which a statement is cancelled.
        synchronous: Whether a commit waits for a synchronous standby too.

    Raises:
        TryAgainError: The server cannot be reached.
        ConfigurationError: The server is too old, does not keep what it commits, or a pooler
            stands before it.
    """
    commit = "on" if synchronous else "local"
    settings = {"application_name": name, **_SETTINGS, "synchronous_commit": commit}
    with translated():
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=statement_seconds_max,
            server_settings=settings,
        )
        try:
            _keep_alive(connection)
            await _check(connection, commit)
            await connection.set_type_codec(
                "uuid", schema="pg_catalog", encoder=_same, decoder=_same, format="binary"
            )
            await connection.set_type_codec(
                "timestamptz",
                schema="pg_catalog",
                encoder=_encode_time,
                decoder=_decode_time,
                format="binary",
            )
        except BaseException:
            connection.terminate()
            raise
    return connection


async def _check(connection: asyncpg.Connection, commit: str) -> None:
    version = connection.get_server_version().major
    if version < POSTGRES_VERSION_MIN:
        raise ConfigurationError(
            f"Postgres {version} is too old; use {POSTGRES_VERSION_MIN} or newer",
        )
    wanted = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": commit}
    for setting, value in wanted.items():
        if await connection.fetchval("SELECT current_setting($1)", setting) != value:
            raise ConfigurationError(
                f"Postgres runs with {setting} not {value} and may lose what it has committed; "
                f"set {setting} = {value}",
            )
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    if pid != connection.get_server_pid():
        raise ConfigurationError(
            "A transaction pooler stands before Postgres; name the server itself in "
            "ENGINE_POSTGRES_DSN",
        )


def _keep_alive(connection: asyncpg.Connection) -> None:
    """Notice a link that is down without a word: a COMMIT is waited for without a limit."""
    found = connection._transport.get_extra_info("socket")  # noqa: SLF001 - there is no other way
    if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds_max = KEEPALIVE_SECONDS * (KEEPALIVES_MAX + 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
        ("TCP_KEEPALIVE", KEEPALIVE_SECONDS),  # as macOS calls it
        ("TCP_KEEPINTVL", KEEPALIVE_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVES_MAX),
        ("TCP_USER_TIMEOUT", seconds_max * 1000),
    ):
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _same(value: bytes) -> bytes:
    return value


def _encode_time(microseconds: int) -> bytes:
    return _INT8.pack(microseconds - POSTGRES_EPOCH)


def _decode_time(value: bytes) -> int:
    microseconds: int = _INT8.unpack(value)[0]
    return microseconds + POSTGRES_EPOCH


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
def translated() -> Iterator[None]:
    """Translate the driver's errors into ours.

    Raises:
        ChainMovedError: Another wrote in this worker's chain.
        ConflictError: Another flush came first.
        RefusedError: A value cannot be written.
        TryAgainError: The connection is lost or cannot be had.
        ConfigurationError: There is no ledger in this database.
    """
    try:
        yield
    except EngineError:
        raise
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name == "flushes_pkey":
            raise ChainMovedError(f"another wrote in this worker's chain: {error}") from error
        if error.constraint_name == "spent_pkey":
            raise BookStandsError(f"an id was spent by another flush: {error}") from error
        raise ConflictError(str(error)) from error
    except (
        asyncpg.DeadlockDetectedError,
        asyncpg.LockNotAvailableError,
        asyncpg.SerializationError,
    ) as error:
        raise LockWaitError(str(error)) from error
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise ConfigurationError(f"{error}; run `engine init` first") from error
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(f"Postgres refuses: {error}") from error
    except asyncpg.InsufficientResourcesError as error:
        raise TryAgainError(f"Postgres has too little of something: {error}") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise TryAgainError(
            f"Postgres takes no writes now, as after a failover: {error}; if it stays so, name the "
            "primary in ENGINE_POSTGRES_DSN",
        ) from error
    except Exception as error:
        if is_connection_lost(error):
            reason = str(error) or type(error).__name__
            raise TryAgainError(f"Postgres is out of reach: {reason}") from error
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate[:2] in _SERVER_CLASSES:
            raise TryAgainError(f"Postgres cannot do it now: {error}") from error
        if _is_about_values(error):
            raise RefusedError(f"Postgres does not take it: {error}") from error
        raise


def _is_about_values(error: Exception) -> bool:
    """Whether an error comes from what is in a row, and would not come with other rows."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in _VALUE_CLASSES
    # The driver's own, before anything is sent.
    return isinstance(error, asyncpg.DataError | UnicodeError | OverflowError)


_SERVER_CLASSES: Final = {
    "55",  # not in the state for it, as a database that takes no connections
    "58",  # its disk, or another part of its system
    "XX",  # its own defect, or damaged data
}

_VALUE_CLASSES: Final = {
    "22",  # data: out of range, not in the encoding
    "23",  # integrity: a check, a foreign key, NULL
    "54",  # a limit of Postgres, as the length of an index entry
    "P0",  # raised by a trigger
}
