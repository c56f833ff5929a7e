"""What a flush wrote, as the chain has it: values in columns, and their digest.

A *form* is a list of sections, each a number of rows and its columns one after the other: fixed
widths, little-endian, NULL as zero, in the order of their places in the flush. How rows are kept
(runs, their order on disk) is in none. Forms stay for ever: whoever verifies makes the same columns
of the tables, and a migration may change how things are kept only if every form can still be made.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3
from msgspec.structs import astuple

from engine.book.columns import SPENT, Decision, Postings
from engine.book.runs import joined, raw
from engine.ledger.nouns import Position
from engine.wire.layout import TRANSFER

FORM: Final = 2
"""The newest, in which flushes are written: form 1, and then what waits for a thaw."""

FORMS: Final = (1, FORM)
"""All that there ever were."""

Columns: TypeAlias = Sequence[npt.NDArray[Any]]

CREATED: Final = (
    ("id", "V16"), ("debit_account", "<i8"), ("credit_account", "<i8"), ("amount", "<i8"),
    ("code", "<u2"), ("flags", "<u2"), ("shard", "<i2"), ("timeout", "<u4"), ("expires_at", "<i8"),
    ("pending_id", "V16"), ("user_data_128", "V16"), ("user_data_64", "<u8"),
    ("user_data_32", "<u4"),
)  # fmt: skip
"""Created transfers, in the order of deciding."""

REFUSED: Final = (("request", "V128"), ("shard", "<i2"), ("outcome", "<u1"))
"""Those whose refusal spent their ids; their places follow those of the created ones."""

POSTINGS: Final = (
    ("transfer_id", "V16"), ("stripe", "<i8"), ("version", "<i8"), ("amount", "<i8"),
    ("pending_amount", "<i8"),
)  # fmt: skip

BALANCES: Final = (
    ("stripe", "<i8"), ("debits_pending", "<i8"), ("debits_posted", "<i8"),
    ("credits_pending", "<i8"), ("credits_posted", "<i8"),
)  # fmt: skip
"""The counters of each stripe after the flush."""

RESOLUTIONS: Final = (("hold_id", "V16"), ("transfer_id", "V16"), ("status", "<u1"))

POSITIONS: Final = (
    ("shard", "<i2"), ("generation", "<i4"), ("ms", "<i8"), ("seq", "<i8"), ("time", "<i8"),
)  # fmt: skip
"""By shard."""

SECTIONS: Final = (CREATED, REFUSED, POSTINGS, BALANCES, RESOLUTIONS, POSITIONS)


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
    """What a flush wrote: the columns of each section, dead letters, and what waits or waited."""

    created: Columns
    refused: Columns
    postings: Columns
    balances: Columns
    resolutions: Columns
    positions: Columns
    letters: Sequence[Letter] = ()
    parked: Sequence[Parked] = ()
    released: Sequence[tuple[int, Position]] = ()


def digest_of(content: Content, form: int = FORM) -> bytes:
    """The digest of what a flush wrote, 32 bytes.

    Args:
        content: All of it.
        form: The form to make it in: form 1 has nothing of what waits.
    """
    hasher = blake3()
    for columns, section in zip(content[:6], SECTIONS, strict=True):
        hasher.update(len(columns[0]).to_bytes(8, "little"))
        for column, (_, kind) in zip(columns, section, strict=True):
            hasher.update(_bytes_of(column, kind))
    letters = sorted(content.letters, key=lambda letter: (letter.shard, letter.position))
    _add_entries(
        hasher,
        [
            ([letter.shard, *astuple(letter.position)], [letter.reason.encode(), *letter.fields])
            for letter in letters
        ],
    )
    if form > 1:
        _add_waiting(hasher, content)
    return hasher.digest()


def _add_waiting(hasher: Any, content: Content) -> None:
    """What waits from then on, and what waited; in the order of entries."""
    parked = sorted(content.parked, key=lambda entry: (entry.shard, entry.position))
    _add_entries(
        hasher,
        [
            (
                [
                    *(entry.shard, *astuple(entry.position)),
                    *astuple(entry.original or Position()),
                    *(entry.freeze, entry.size, len(entry.ids)),
                ],
                [entry.digest, *entry.ids, *entry.fields],
            )
            for entry in parked
        ],
    )
    released = sorted(content.released)
    _add_entries(hasher, [([shard, *astuple(at)], []) for shard, at in released])


def _add_entries(hasher: Any, entries: Sequence[tuple[list[int], list[bytes]]]) -> None:
    """Entries of streams, each numbers and parts of any length."""
    hasher.update(len(entries).to_bytes(8, "little"))
    for numbers, parts in entries:
        hasher.update(np.array(numbers, "<i8").tobytes() + len(parts).to_bytes(8, "little"))
        for part in parts:
            hasher.update(len(part).to_bytes(8, "little") + part)


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
        _created(decided),
        _refused(decided),
        postings_of(posted),
        balances_of(posted),
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


def postings_of(posted: Postings) -> Columns:
    """Postings one by one, whatever runs they are in."""
    length = posted.ends - posted.starts
    versions = np.repeat(posted.version - posted.ends + 1, length) + np.arange(len(posted))
    stripes = np.repeat(posted.stripe, length)
    return (posted.transfer_id, stripes, versions, posted.amount, posted.pending_amount)


def balances_of(posted: Postings) -> Columns:
    """The counters of each stripe after its last run."""
    is_last = np.ones(len(posted.stripe), bool)
    is_last[:-1] = posted.stripe[1:] != posted.stripe[:-1]
    return (posted.stripe[is_last], *posted.counters[:, is_last])


def positions_of(rows: Iterable[tuple[int, int, int, int, int]]) -> Columns:
    """Positions by shard: shard, generation, ms, seq and time of each."""
    found = list(rows)
    columns = np.array(found, np.int64).reshape(len(found), 5)
    return tuple(columns[:, place] for place in range(5))


def _created(decided: Sequence[Decision]) -> Columns:
    rows = joined([d.spent for d in decided] or [np.empty(0, SPENT)])
    return (
        rows["id"], rows["debit_number"], rows["credit_number"], rows["amount"], rows["code"],
        rows["flags"], rows["shard"], rows["timeout"], rows["expires_at"], rows["pending_id"],
        rows["user_data_128"], rows["user_data_64"], rows["user_data_32"],
    )  # fmt: skip


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


def _bytes_of(column: npt.NDArray[Any], kind: str) -> Any:
    values = np.ascontiguousarray(
        column if kind.startswith("V") else column.astype(kind, copy=False)
    )
    return values.view(np.uint8) if len(values) else np.empty(0, np.uint8)
