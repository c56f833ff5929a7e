"""Connecting to Postgres: what is set, what is checked, and errors translated at the door."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
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
    InvariantBroken,
    LockHeldError,
    TryAgainError,
)

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


@cache
def statements() -> dict[str, str]:
    """All named statements: the stems of the files in the folders of `queries`, and their texts."""
    found: dict[str, str] = {}
    for folder in (files("engine.store") / "queries").iterdir():
        if not folder.is_dir():
            continue
        for file in folder.iterdir():
            name = file.name.removesuffix(".sql")
            if name in found:
                raise InvariantBroken(f"two statements have the name {name}")
            if name != file.name:
                found[name] = file.read_text()
    return found


def statement(name: str) -> str:
    """The text of a named statement in `queries`, whichever folder it is in."""
    return statements()[name]


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
    """Translate the driver's errors into ours: the only door that they leave by.

    Raises:
        ChainMovedError: Another wrote in this worker's chain.
        ConflictError: Another flush came first.
        ClockError: What was written is ahead of Postgres's clock.
        TryAgainError: The connection is lost or cannot be had.
        InputError: The ledger refuses a row that was given to it.
        ConfigurationError: There is no ledger in this database.
        InvariantBroken: The ledger refuses what must not be.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        found = _translate(error)
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


def _translate(error: Exception) -> EngineError | None:
    """What an error of the driver is to us; None where it is no business of ours."""
    if isinstance(error, asyncpg.UniqueViolationError):
        kind, words = _CAME_FIRST.get(
            error.constraint_name or "", (ConflictError, f"{error.table_name} has such a row")
        )
        return kind(words)
    if isinstance(error, asyncpg.LockNotAvailableError):
        return LockHeldError(f"another held a lock for over {LOCK_SECONDS_MAX} s")
    if isinstance(error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError):
        return BookStandsError("another flush wanted the same rows in another order")
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name == "flushes_time":
        return ClockError(f"{_sentence(error)}: nothing was written")
    if isinstance(error, asyncpg.RestrictViolationError):
        return InputError(_sentence(error))
    if isinstance(error, asyncpg.CheckViolationError):
        if error.table_name == "accounts":
            return InputError(f"the ledger refuses the account: {error.args[0]}")
        return InvariantBroken(f"the ledger refuses what was decided: {error.args[0]}")
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return TryAgainError(
            f"Postgres takes no writes now, as after a failover: {error.args[0]}; if it stays so, "
            "name the primary in ENGINE_POSTGRES_DSN"
        )
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return TryAgainError(f"Postgres has too little of something: {error.args[0]}")
    if isinstance(error, asyncpg.PostgresSystemError | asyncpg.PostgresIOError):
        return TryAgainError(f"the machine of Postgres has trouble: {error.args[0]}")
    if is_connection_lost(error):
        reason = str(error) or type(error).__name__
        return TryAgainError(f"Postgres is out of reach: {reason}")
    return _misconfigured(error)


def _misconfigured(error: Exception) -> EngineError | None:
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
    if isinstance(
        error, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError
    ):
        return ConfigurationError(f"Postgres refuses: {error.args[0]}")
    return None


def _sentence(error: asyncpg.PostgresError) -> str:
    """What Postgres said, and its hint, in one line."""
    hint = getattr(error, "hint", None)
    message = str(error.args[0])
    return f"{message}: {hint}" if hint else message
