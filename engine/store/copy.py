"""Rows for Postgres's binary COPY, made column by column.

A row on the wire is the number of its fields, then each field's length and bytes, all
big-endian: with fixed lengths that is a structured array, sent as it lies in memory.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from engine.store.driver import POSTGRES_EPOCH
from engine.store.driver_errors import check_written

PIECE_ROWS: Final = 2048
PIECE_BYTES: Final = 256 * 1024
"""Rows that are laid out at once, column by column, while they stay in the processor's cache."""

SHEETS_MAX: Final = 256
"""Layouts that are kept ready."""

Kind = Literal[
    "i8",
    "i4",
    "i2",
    "time",
    "uuid",
    "request",
    "text6",
    "text7",
    "uuid[]",
    "i8[]",
    "bool[]",
    "null",
]

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
    "bool": "?",
}
_ELEMENT_OIDS: Final = {"uuid": 2950, "i8": 20, "bool": 16}
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = -1

Column = tuple[str, Kind, npt.NDArray[Any]]
"""Name, kind, and a value for each row, or one for all; of an array, its elements in a row."""


class Copy(NamedTuple):
    """One COPY: its columns in the order of the rows, and the rows as bytes, piece by piece."""

    columns: list[str]
    pieces: list[bytes]
    rows: int


async def send_copy(
    connection: asyncpg.Connection, table: str, copy: Copy, *, schema: str | None = "ledger"
) -> None:
    """Copy into a table, of the ledger where no other schema is named.

    Raises:
        ConfigurationError: Rows that were sent are not there.
    """
    status = await connection.copy_to_table(
        table,
        schema_name=schema,
        columns=copy.columns,
        format="binary",
        source=_each(copy.pieces),
    )
    check_written(f"{schema}.{table}", copy.rows, int(status.rpartition(" ")[2]))


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    """One after the other, as the driver wants it."""
    for piece in pieces:
        yield piece


class _Sheet:
    """Room for rows of one layout, whose field counts and lengths stand there already."""

    def __init__(self, kinds: tuple[Kind, ...], lengths: tuple[int, ...]) -> None:
        fields: list[tuple[Any, ...]] = [("fields", ">i2")]
        for place, (kind, length) in enumerate(zip(kinds, lengths, strict=True)):
            fields.append((f"length{place}", ">i4"))
            if kind.endswith("[]"):
                element = np.dtype([("length", ">i4"), ("value", _KINDS[kind[:-2]])])
                fields += [(f"head{place}", ">i4", 5), (f"value{place}", element, (length,))]
            elif kind != "null":
                fields.append((f"value{place}", _KINDS[kind]))
        layout = np.dtype(fields)
        self._rows = np.zeros(max(1, min(PIECE_ROWS, PIECE_BYTES // layout.itemsize)), layout)
        self._rows["fields"] = len(kinds)
        self._columns = [self._prepare(place, kind) for place, kind in enumerate(kinds)]

    def _prepare(self, place: int, kind: Kind) -> npt.NDArray[Any] | None:
        """What stands in every row of a column; returns where its values go."""
        if kind == "null":
            self._rows[f"length{place}"] = _NULL
            return None
        room = self._rows[f"value{place}"]
        if not kind.endswith("[]"):
            self._rows[f"length{place}"] = room.itemsize
            return room
        elements = room.shape[1]
        oid = _ELEMENT_OIDS[kind[:-2]]
        # Dimensions, whether there are nulls, of what, how many, counted from.
        self._rows[f"head{place}"] = [1, 0, oid, elements, 1]
        self._rows[f"length{place}"] = 20 + elements * room.itemsize
        room["length"] = room.itemsize - 4
        values: npt.NDArray[Any] = room["value"]
        return values

    def fill(self, columns: Sequence[Column], count: int) -> list[bytes]:
        """The rows as COPY takes them."""
        pieces = []
        for start in range(0, count, len(self._rows)):
            length = min(len(self._rows), count - start)
            for room, (_, kind, values) in zip(self._columns, columns, strict=True):
                if room is not None:
                    # One value stands for all rows.
                    part = values if len(values) == 1 else values[start : start + length]
                    room[:length] = _as_sent(kind, part)
            pieces.append(self._rows[:length].tobytes())
        return pieces


def _as_sent(kind: Kind, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # Integers are swapped before they are laid down: in place numpy takes ten times as long.
    if kind == "time":
        values = values - POSTGRES_EPOCH
    if kind in _INTEGERS:
        return values.astype(_KINDS[kind], copy=False).byteswap()
    return values.byteswap() if kind == "i8[]" else values


@lru_cache(SHEETS_MAX)
def _sheet(kinds: tuple[Kind, ...], lengths: tuple[int, ...]) -> _Sheet:
    return _Sheet(kinds, lengths)


def encode_rows(columns: Sequence[Column], count: int) -> list[bytes]:
    """Lay out `count` rows of some columns, whose arrays are of one length each."""
    kinds = tuple(kind for _, kind, _ in columns)
    lengths = tuple(v.shape[1] if kind.endswith("[]") else 0 for _, kind, v in columns)
    return _sheet(kinds, lengths).fill(columns, count)


def copy_of_pieces(columns: Sequence[Column], pieces: Iterable[bytes], count: int) -> Copy:
    """A COPY ... WITH (FORMAT binary) of `count` rows that are laid out."""
    return Copy([name for name, _, _ in columns], [_HEADER, *pieces, _TRAILER], count)


def encode_copy(columns: Sequence[Column], count: int) -> Copy:
    """Lay out `count` rows of some columns for COPY ... WITH (FORMAT binary)."""
    return copy_of_pieces(columns, encode_rows(columns, count), count)
