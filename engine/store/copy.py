"""Rows for Postgres's binary COPY, made column by column.

A row on the wire is the number of its fields, then each field's length and bytes, all
big-endian: with fixed lengths that is a structured array, sent as it lies in memory.
"""

from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from engine.store.driver import POSTGRES_EPOCH

PIECE_ROWS: Final = 2048
"""Rows that are laid out at once, column by column, while they stay in the processor's cache."""

Kind = Literal["i8", "i4", "i2", "time", "uuid", "request", "text6", "text7"]

_INTEGERS: Final = {"i8", "i4", "i2", "time"}
_KINDS: Final = {
    "i8": "i8",
    "i4": "i4",
    "i2": "i2",
    "time": "i8",
    "uuid": "V16",
    "request": "V128",
    "text6": "S6",
    "text7": "S7",
}
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"

Column = tuple[str, Kind, npt.NDArray[Any]]
"""Name, kind, and a value for each row, or one for all."""


class Copy(NamedTuple):
    """One COPY: its columns in the order of the rows, and the rows as bytes, piece by piece."""

    columns: list[str]
    pieces: list[bytes]


async def send_copy(
    connection: asyncpg.Connection, table: str, copy: Copy, *, schema: str | None = "ledger"
) -> None:
    """Copy into a table, of the ledger where no other schema is named."""
    await connection.copy_to_table(
        table,
        schema_name=schema,
        columns=copy.columns,
        format="binary",
        source=_each(copy.pieces),
    )


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    """One after the other, as the driver wants it."""
    for piece in pieces:
        yield piece


class _Sheet:
    """Room for rows of one layout, whose field counts and lengths stand there already."""

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        fields: list[tuple[str, str]] = [("fields", ">i2")]
        for place, kind in enumerate(kinds):
            fields += [(f"length{place}", ">i4"), (f"value{place}", _KINDS[kind])]
        self._rows = np.zeros(PIECE_ROWS, np.dtype(fields))
        self._rows["fields"] = len(kinds)
        self._columns = [self._rows[f"value{place}"] for place in range(len(kinds))]
        for place, column in enumerate(self._columns):
            self._rows[f"length{place}"] = column.itemsize

    def fill(self, columns: Sequence[Column], count: int) -> list[bytes]:
        """The rows as COPY takes them."""
        pieces = [_HEADER]
        for start in range(0, count, PIECE_ROWS):
            length = min(PIECE_ROWS, count - start)
            for room, (_, kind, values) in zip(self._columns, columns, strict=True):
                # One value stands for all rows.
                part = values if len(values) == 1 else values[start : start + length]
                room[:length] = _as_sent(kind, part)
            pieces.append(self._rows[:length].tobytes())
        return [*pieces, _TRAILER]


def _as_sent(kind: Kind, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # Integers are swapped before they are laid down: in place numpy takes ten times as long.
    if kind == "time":
        values = values - POSTGRES_EPOCH
    if kind in _INTEGERS:
        return values.astype(_KINDS[kind], copy=False).byteswap()
    return values


@cache
def _sheet(kinds: tuple[Kind, ...]) -> _Sheet:
    return _Sheet(kinds)


def encode_copy(columns: Sequence[Column], count: int) -> Copy:
    """Lay out `count` rows of some columns for COPY ... WITH (FORMAT binary)."""
    kinds = tuple(kind for _, kind, _ in columns)
    return Copy([name for name, _, _ in columns], _sheet(kinds).fill(columns, count))
