"""Connecting to Postgres: what is set, and what is asked of the server before it is used."""

import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Final

import asyncpg

from engine.errors import ConfigurationError, TryAgainError
from engine.patience import within
from engine.store.address import CONNECT_SECONDS_MAX, Address, read_address, where_of
from engine.store.driver_errors import LOCK_SECONDS_MAX, translated

POSTGRES_VERSION_MIN: Final = 15
STATEMENT_SECONDS_MAX: Final = 60.0
KEEPALIVE_SECONDS: Final = 5
KEEPALIVES_MAX: Final = 3

# Postgres counts microseconds from 2000.
POSTGRES_EPOCH: Final = 946_684_800 * 1_000_000
_INT8: Final = struct.Struct(">q")

_COMMON: Final = {
    # Whatever the role or the database is set to: nothing but us ends a session or a statement,
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "exit_on_error": "off",
    # our words mean what they mean,
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    # a row that a policy hides is an error, and no row that is not there,
    "row_security": "off",
    # and plans are made as they are meant.
    "jit": "off",
    "plan_cache_mode": "auto",
    "enable_indexscan": "on",
    "enable_nestloop": "on",
}
"""Of every session."""

_COMMON_SINCE: Final = {"transaction_timeout": "0", "restrict_nonsystem_relation_kind": ""}
"""The same, where the server knows them: not in every version that is supported."""

_unknown: dict[str, set[str]] = {}
"""Those that a server, by host and port, does not know."""

_SETTINGS: Final = _COMMON | {
    "lock_timeout": f"{LOCK_SECONDS_MAX}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS_MAX:.0f}s",
    # A statement sees what was committed before it, and Postgres tells of a COMMIT cut short. A
    # database that was set to be read only, as services do where a disk is full, is waited for.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "client_min_messages": "warning",
    # A link that is down without a word is noticed by both ends.
    "tcp_keepalives_idle": f"{KEEPALIVE_SECONDS}",
    "tcp_keepalives_interval": f"{KEEPALIVE_SECONDS}",
    "tcp_keepalives_count": f"{KEEPALIVES_MAX}",
    "tcp_user_timeout": f"{KEEPALIVE_SECONDS * (KEEPALIVES_MAX + 1)}s",
    # The queries are single probes many times over: a sequential scan is never the plan.
    "enable_seqscan": "off",
}


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
        dsn: As `address` reads it; straight to a server, not through a transaction pooler.
        name: Shown in `pg_stat_activity`.
        statement_seconds_max: After which a statement is cancelled.
        synchronous: Whether a commit waits for a synchronous standby too.

    Raises:
        TryAgainError: The server cannot be reached.
        ConfigurationError: The address cannot be read; the server is too old, does not keep what
            it commits, or is not as the ledger needs it; or a pooler stands before it.
    """
    commit = "on" if synchronous else "local"
    connection = await connect_plain(
        dsn,
        name,
        _SETTINGS | {"synchronous_commit": commit},
        statement_seconds_max=statement_seconds_max,
    )
    try:
        with translated(where_of(dsn)):
            async with within(CONNECT_SECONDS_MAX):
                await _check_server(connection, commit)
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


async def connect_plain(
    dsn: str,
    name: str,
    settings: Mapping[str, str],
    *,
    statement_seconds_max: float | None = None,
) -> asyncpg.Connection:
    """Connect with the settings of every session and some more; types are the driver's own.

    Raises: As `connect`, but for what is asked of the server.
    """
    address = read_address(dsn)
    wanted = {"application_name": name, **_COMMON, **_COMMON_SINCE, **settings}
    if address.options is not None:
        wanted["options"] = address.options
    for setting in _unknown.get(address.where, ()):
        wanted.pop(setting, None)
    with translated(address.where):
        connection = await _connect(address, wanted, statement_seconds_max)
    _keep_alive(connection, address.keepalives)
    return connection


async def _connect(
    address: Address, wanted: dict[str, str], statement_seconds_max: float | None
) -> asyncpg.Connection:
    """Connect; a server of a version before is not told what it does not know."""
    while True:
        try:
            async with within(address.connect_seconds_max):
                return await asyncpg.connect(
                    **address.arguments,
                    timeout=None,
                    command_timeout=statement_seconds_max,
                    server_settings=wanted,
                )
        except asyncpg.UndefinedObjectError as error:
            unknown = [name for name in _COMMON_SINCE if name in wanted and name in str(error)]
            if not unknown:
                raise ConfigurationError(
                    f"Postgres at {address.where} refuses: {error.args[0]}"
                ) from error
            _unknown.setdefault(address.where, set()).update(unknown)
            for name in unknown:
                del wanted[name]
        except asyncpg.ProtocolViolationError as error:
            raise ConfigurationError(
                f"what answers at {address.where} does not speak as Postgres does, as a pooler; "
                f"name the server itself in ENGINE_POSTGRES_DSN: {error.args[0]}"
            ) from error
        except ssl.SSLCertVerificationError as error:
            # As with Redis: a certificate that has expired is renewed, and a worker waits for it.
            raise TryAgainError(
                f"Postgres at {address.where} is not the one that it should be: "
                f"{error.verify_message or error}; see its certificate, sslrootcert and the host "
                "in ENGINE_POSTGRES_DSN"
            ) from error
        except (asyncpg.ClientConfigurationError, ValueError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"Postgres at {address.where} cannot be reached by its address: {error}"
            ) from error


async def _check_server(connection: asyncpg.Connection, commit: str) -> None:
    version = connection.get_server_version().major
    if version < POSTGRES_VERSION_MIN:
        raise ConfigurationError(
            f"Postgres {version} is too old; use {POSTGRES_VERSION_MIN} or newer",
        )
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database has the encoding {encoding}, which cannot hold every name and every "
            "entry; make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
        )
    wanted = {
        "fsync": ("on", "may lose what it has committed"),
        "full_page_writes": ("on", "may lose what it has committed"),
        "synchronous_commit": (commit, "may lose what it has committed"),
        "session_replication_role": ("origin", "guards nothing"),
    }
    names = list(wanted)
    found = await connection.fetch(
        "SELECT name, pg_catalog.current_setting(name) AS value"
        " FROM pg_catalog.unnest($1::pg_catalog.text[]) AS name",
        names,
    )
    for name, value in found:
        if value != wanted[name][0]:
            raise ConfigurationError(
                f"Postgres runs with {name} not {wanted[name][0]} and {wanted[name][1]}; "
                f"set {name} = {wanted[name][0]}",
            )
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    if pid != connection.get_server_pid():
        raise ConfigurationError(
            "A transaction pooler stands before Postgres; name the server itself in "
            "ENGINE_POSTGRES_DSN",
        )


def _keep_alive(connection: asyncpg.Connection, wanted: Mapping[str, int]) -> None:
    """Notice a link that is down without a word, as soon as the address says, else as we do."""
    found = connection._transport.get_extra_info("socket")  # noqa: SLF001 - there is no other way
    if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    on = wanted.get("keepalives", 1) != 0
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(on))
    idle = wanted.get("keepalives_idle", KEEPALIVE_SECONDS)
    interval = wanted.get("keepalives_interval", KEEPALIVE_SECONDS)
    count = wanted.get("keepalives_count", KEEPALIVES_MAX)
    milliseconds_max = KEEPALIVE_SECONDS * (KEEPALIVES_MAX + 1) * 1000
    for name, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPALIVE", idle),  # as macOS calls it
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", count),
        ("TCP_USER_TIMEOUT", wanted.get("tcp_user_timeout", milliseconds_max)),
    ):
        # Nothing, or less, is what the system does by itself.
        if value > 0 and hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _same(value: bytes) -> bytes:
    return value


def _encode_time(microseconds: int) -> bytes:
    return _INT8.pack(microseconds - POSTGRES_EPOCH)


def _decode_time(value: bytes) -> int:
    microseconds: int = _INT8.unpack(value)[0]
    return microseconds + POSTGRES_EPOCH
