"""What a flush wrote, as the chain has it, and its digest.

A *form* says which bytes are hashed, in which order: sections, each in the order of the places of
the flush, fixed widths, little-endian, NULL as zero. How rows are kept (runs, their order on disk)
is in none. Forms stay for ever: whoever verifies makes the same content of the tables, and a
migration may change how things are kept only if every form can still be made.

Form 1 is column by column. Form 2 takes what lies in memory as it is: created transfers row by row,
so that parts of a flush need not be joined nor rows be read once for each column, and of the
postings only what is of each of them; stripes and versions follow from what is said of each stripe.
Measured in a worker at full load, form 1 cost 0.10 us of CPU a transfer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3
from msgspec.structs import astuple

from engine.book.columns import SPENT, Decision, Postings, SpentRows
from engine.book.runs import joined, raw
from engine.ledger.nouns import Position
from engine.wire.layout import TRANSFER

FORM: Final = 2
"""The newest, in which flushes are written; statements that write flushes name it."""

FORMS: Final = (1, FORM)
"""All that there ever were."""

Columns: TypeAlias = Sequence[npt.NDArray[Any]]

_CREATED: Final = (
    ("id", "V16"), ("debit_number", "<i8"), ("credit_number", "<i8"), ("amount", "<i8"),
    ("code", "<u2"), ("flags", "<u2"), ("shard", "<i2"), ("timeout", "<u4"), ("expires_at", "<i8"),
    ("pending_id", "V16"), ("user_data_128", "V16"), ("user_data_64", "<u8"),
    ("user_data_32", "<u4"),
)  # fmt: skip
"""Of form 1: created transfers, in the order of deciding."""

_REFUSED: Final = ("V128", "<i2", "u1")

_POSITIONS: Final = ("<i2", "<i4", "<i8", "<i8", "<i8")

_ROW_WORDS: Final = SPENT.itemsize // 8


def _words_of(name: str) -> range:
    """The words of a row that a field lies in."""
    kind, offset, *_ = (SPENT.fields or {})[name]  # type: ignore[index]
    return range(offset // 8, (offset + kind.itemsize + 7) // 8)


_KEPT_WORDS: Final = np.array(sorted({word for name, _ in _CREATED for word in _words_of(name)}))
"""Of form 2: the words of a row that are hashed."""

_CODE_PLACE: Final = int(np.searchsorted(_KEPT_WORDS, _words_of("code").start))
"""Of the one that has code and flags above the ledger, which is that of the accounts."""

_BLOCK_ROWS: Final = 4096
"""Rows that are packed at once: they stay in the cache, and the hash likes long pieces."""

_SMALL_BYTES: Final = 4096
"""Less than that is copied sooner than it is looked at."""


class Letter(NamedTuple):
    """A dead letter, as it is kept."""

    shard: int
    position: Position
    reason: str
    fields: Sequence[bytes]


class Parked(NamedTuple):
    """An entry that waits for a thaw, as it is kept."""

    shard: int
    position: Position
    original: Position | None
    freeze: int
    size: int
    ids: Sequence[bytes]
    digest: bytes
    fields: Sequence[bytes]


class Content(NamedTuple):
    """What a flush wrote, and what waits or waited from then on."""

    created: Sequence[SpentRows]
    """Part by part; neither the accounts' ids and ledger nor the timestamp count."""
    refused: Columns
    """Those whose refusal spent their ids: requests as bytes, shards, outcomes. Their places
    follow those of the created ones."""
    postings: Columns
    """By stripe and version: transfer_id, amount, pending_amount."""
    stripes: Columns
    """Of each: the stripe, its version after the flush, the place behind its last posting, and its
    four counters after that."""
    resolutions: Columns
    """Ends of holds: hold_id, transfer_id, status."""
    positions: npt.NDArray[np.int64]
    """By shard: shard, generation, ms, seq and time of each, shape (n, 5)."""
    letters: Sequence[Letter] = ()
    parked: Sequence[Parked] = ()
    released: Sequence[tuple[int, Position]] = ()


def digest_of(content: Content, form: int = FORM) -> bytes:
    """The digest of what a flush wrote, 32 bytes."""
    hasher = blake3()
    for piece in (_first_form if form == 1 else _second_form)(content):
        hasher.update(piece)
    return hasher.digest()


def _first_form(content: Content) -> Iterator[Any]:
    rows = joined(list(content.created) or [np.empty(0, SPENT)])
    transfers, amounts, pending = content.postings
    stripe, version, ends, *counters = content.stripes
    length = np.diff(ends, prepend=0)
    versions = np.repeat(version - ends + 1, length) + np.arange(len(transfers))
    numbers = (np.repeat(stripe, length), versions, amounts, pending)
    sections: Sequence[Sequence[tuple[npt.NDArray[Any], str]]] = (
        [(rows[name], kind) for name, kind in _CREATED],
        [*zip(content.refused, _REFUSED, strict=True)],
        [(transfers, "V16"), *((column, "<i8") for column in numbers)],
        [(column, "<i8") for column in (stripe, *counters)],
        [*zip(content.resolutions, ("V16", "V16", "u1"), strict=True)],
        [*zip(content.positions.T, _POSITIONS, strict=True)],
    )
    for section in sections:
        yield _number(len(section[0][0]))
        for column, kind in section:
            yield _bytes_of(column if kind.startswith("V") else column.astype(kind))
    yield _number(len(content.letters))
    yield from _letters(content.letters)


def _second_form(content: Content) -> Iterator[Any]:
    columns = (content.refused, content.postings, content.stripes, content.resolutions)
    counts = [sum(map(len, content.created)), *(len(section[0]) for section in columns)]
    yield b"".join(map(_number, (*counts, len(content.positions), len(content.letters))))
    for rows in content.created:
        yield from _packed(rows)
    for section, count in zip(columns, counts[1:], strict=True):
        if count:
            yield from map(_bytes_of, section)
    yield _bytes_of(content.positions)
    yield from _letters(content.letters)
    yield from _waiting(content)


def _packed(rows: SpentRows) -> Iterator[Any]:
    """The words of rows that are kept."""
    words = np.ascontiguousarray(raw(rows)).view(np.uint64).reshape(-1, _ROW_WORDS)
    room = np.empty((min(len(rows), _BLOCK_ROWS), len(_KEPT_WORDS)), np.uint64)
    for start in range(0, len(words), _BLOCK_ROWS):
        block = words[start : start + _BLOCK_ROWS]
        packed = block.take(_KEPT_WORDS, axis=1, out=room[: len(block)], mode="clip")
        packed[:, _CODE_PLACE] >>= 32
        yield packed.view(np.uint8).reshape(-1)


def _letters(letters: Sequence[Letter]) -> Iterator[bytes]:
    for letter in sorted(letters, key=lambda letter: (letter.shard, letter.position)):
        numbers = [letter.shard, *astuple(letter.position)]
        yield from _entry(numbers, [letter.reason.encode(), *letter.fields])


def _waiting(content: Content) -> Iterator[bytes]:
    """What waits for a thaw from then on, and what waited; in the order of entries."""
    if not content.parked and not content.released:
        return
    yield _number(len(content.parked)) + _number(len(content.released))
    for entry in sorted(content.parked, key=lambda entry: (entry.shard, entry.position)):
        numbers = [entry.shard, *astuple(entry.position), *astuple(entry.original or Position())]
        numbers += [entry.freeze, entry.size, len(entry.ids)]
        yield from _entry(numbers, [entry.digest, *entry.ids, *entry.fields])
    for shard, position in sorted(content.released):
        yield from _entry([shard, *astuple(position)], [])


def _entry(numbers: Sequence[int], parts: Sequence[bytes]) -> Iterator[bytes]:
    """An entry of a stream: numbers, and parts of any length."""
    yield b"".join(map(_number, (*numbers, len(parts))))
    for part in parts:
        yield _number(len(part)) + part


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)


def _bytes_of(column: npt.NDArray[Any]) -> Any:
    if column.nbytes < _SMALL_BYTES:
        return column.tobytes()
    return np.ascontiguousarray(column).view(np.uint8).reshape(-1)


def digest_of_change(shards: Iterable[int], former: bytes, worker: bytes) -> bytes:
    """The digest of a change of owner, which is all that a claim or a release wrote."""
    return blake3(former + worker + np.array(sorted(shards), "<i2").tobytes()).digest()


def content_of(
    decided: Sequence[Decision],
    posted: Postings,
    positions: Mapping[int, Position],
    resolved_until: Mapping[int, int],
    letters: Sequence[Letter],
) -> Content:
    """What is about to be written, in columns.

    Args:
        decided: The parts of the flush.
        posted: Its postings.
        positions: How far the shards touched got.
        resolved_until: Of the same shards, the time stored with the position.
        letters: Dead letters.
    """
    return Content(
        [decision.spent for decision in decided],
        _refused(decided),
        (posted.transfer_id, posted.amount, posted.pending_amount),
        _stripes(posted),
        _resolutions(decided),
        positions_of(
            (s, positions[s].generation, positions[s].ms, positions[s].seq, resolved_until[s])
            for s in sorted(positions)
        ),
        letters,
    )


def first_used(posted: Postings) -> list[int]:
    """Numbers of accounts of which a flush writes the first posting of a stripe."""
    is_first = posted.version == posted.ends - posted.starts
    numbers: list[int] = np.unique(posted.stripe[is_first] >> 10).tolist()
    return numbers


def positions_of(rows: Iterable[tuple[int, int, int, int, int]]) -> npt.NDArray[np.int64]:
    """Positions by shard: shard, generation, ms, seq and time of each."""
    return np.array([*rows], np.int64).reshape(-1, 5)


def _stripes(posted: Postings) -> Columns:
    """Of each stripe what its last run says."""
    columns = (posted.stripe, posted.version, posted.ends, *posted.counters)
    is_last = np.ones(len(posted.stripe), bool)
    np.not_equal(posted.stripe[1:], posted.stripe[:-1], out=is_last[:-1])
    return columns if is_last.all() else [column[is_last] for column in columns]


def _refused(decided: Sequence[Decision]) -> Columns:
    requests = joined([d.refused.requests for d in decided] or [np.empty(0, TRANSFER)])
    shards = np.concatenate([d.refused.shards for d in decided] or [np.empty(0, np.int16)])
    outcomes = np.concatenate([d.refused.outcomes for d in decided] or [np.empty(0, np.uint8)])
    return raw(requests), shards, outcomes


def _resolutions(decided: Sequence[Decision]) -> Columns:
    ends = [d.resolutions for d in decided]
    return (
        np.concatenate([end.hold_ids for end in ends] or [np.empty(0, "V16")]),
        np.concatenate([end.transfer_ids for end in ends] or [np.empty(0, "V16")]),
        np.concatenate([end.statuses for end in ends] or [np.empty(0, np.uint8)]),
    )
