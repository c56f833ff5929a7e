"""Reading as one who may only read: the role of the ledger's readers, in read-only transactions."""

import re
from typing import Final
from urllib.parse import quote

import msgspec

from engine.store.address import read_address, where_of
from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.statements import statement

_READ_ONLY: Final = "-c default_transaction_read_only=on"


class ReadingAddress(msgspec.Struct, frozen=True):
    """Where to read, and as whom."""

    dsn: str
    role: str
    """As whom is read."""
    is_reader: bool
    """Whether that role only reads. Else it is one that may write, in sessions that do not."""


async def find_reader(dsn: str) -> ReadingAddress:
    """The same Postgres, as the reader's role where this login may take it on.

    Args:
        dsn: Of any login of the ledger.

    Raises:
        TryAgainError: Postgres is out of reach.
        ConfigurationError: There is no ledger in it.
    """
    connection = await connect(dsn, "engine reports")
    try:
        with translated(where_of(dsn)):
            may_write = await connection.fetchval(statement("sees_tables"))
            role = await connection.fetchval(statement("reader_role")) if may_write else None
            me: str = await connection.fetchval("SELECT current_user")
    finally:
        connection.terminate()
    options = _READ_ONLY if role is None else f"-c role={_word(role)} {_READ_ONLY}"
    return ReadingAddress(
        _with_options(dsn, options), role or me, role is not None or not may_write
    )


def _word(name: str) -> str:
    """A name as a word of `options`."""
    return "".join(f"\\{letter}" if letter in " \\" else letter for letter in name)


def _with_options(dsn: str, options: str) -> str:
    """An address with more options of the server, behind those that it has."""
    given = read_address(dsn).options
    wanted = options if given is None else f"{given} {options}"
    if "://" in dsn:
        return f"{dsn}{'&' if '?' in dsn else '?'}options={quote(wanted, safe='')}"
    escaped = re.sub(r"(['\\\\])", r"\\\1", wanted)
    return f"{dsn} options='{escaped}'"
