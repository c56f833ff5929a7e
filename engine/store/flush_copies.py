"""What a flush copies: its rows table by table, column by column, in the order of their keys."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.book.columns import COUNTERS, Decision, Postings
from engine.book.id_table import words_of
from engine.book.runs import joined, raw, taken
from engine.ledger.page import HoldStatus
from engine.store.copy import Column, Copy, Kind, encode_copy

FLUSH_SHIFT: Final = 20
"""A row's number is its flush's number x 2^20 + its place in the flush."""


def copies_of(decided: Sequence[Decision], posted: Postings, number: int) -> list[tuple[str, Copy]]:
    """All that a flush copies, table by table.

    Args:
        decided: The parts of the flush.
        posted: Its postings.
        number: Of the flush.
    """
    base = number << FLUSH_SHIFT
    copies = [("spent", copy) for copy in copies_of_spent(decided, base)] if decided else []
    if len(posted):
        copies.append(("posted", copy_of_posted(posted, base)))
    copies += [("resolutions", copy) for copy in _copies_of_resolutions(decided, base)]
    return copies


def _copies_of_resolutions(decided: Sequence[Decision], base: int) -> Iterator[Copy]:
    """Ends of holds: those by a transfer, and those that lapsed; each sorted by hold."""
    ends = [one.resolutions for one in decided]
    holds = np.concatenate([one.hold_ids for one in ends] or [np.empty(0, "V16")])
    if not len(holds):
        return
    order = _order_by_id(holds)
    statuses = np.concatenate([one.statuses for one in ends])[order]
    transfers = np.concatenate([one.transfer_ids for one in ends])[order]
    holds, numbers = holds[order], base + np.arange(len(holds))
    ended = statuses != HoldStatus.expired
    if ended.any():
        names = np.where(statuses[ended] == HoldStatus.posted, b"posted", b"voided")
        columns: list[Column] = [
            ("hold_id", "uuid", holds[ended]),
            ("transfer_id", "uuid", transfers[ended]),
            ("status", "text6", names),
            ("number", "i8", numbers[ended]),
        ]
        yield encode_copy(columns, int(ended.sum()))
    if not ended.all():
        columns = [
            ("hold_id", "uuid", holds[~ended]),
            ("status", "text7", np.array([b"expired"])),
            ("number", "i8", numbers[~ended]),
        ]
        yield encode_copy(columns, int((~ended).sum()))


def copies_of_spent(decided: Sequence[Decision], base: int) -> Iterator[Copy]:
    """All ids that a flush spends: the plain ones, those with more to them, the refused.

    Each COPY is sorted by id, so that two flushes with the same ids queue up.

    Args:
        decided: The parts of the flush.
        base: The number of the flush, shifted.
    """
    kept = joined([one.spent for one in decided])
    order = _order_by_id(kept["id"])
    kept, numbers = taken(kept, order), base + order
    more = np.zeros(len(kept), bool)
    for name in ("pending_id", "user_data_128"):
        words = words_of(kept[name])
        more |= (words[:, 0] | words[:, 1]) != 0
    more |= (kept["user_data_64"] != 0) | (kept["user_data_32"] != 0)
    timed = kept["timeout"] != 0
    for mask, names in (
        (~(more | timed), _PLAIN),
        (more & ~timed, _WITH_DATA),
        (timed, _WITH_TIMEOUT),
    ):
        some = np.flatnonzero(mask)
        if len(some):
            rows = kept if len(some) == len(kept) else taken(kept, some)
            columns: list[Column] = [(name, kind, rows[source]) for name, kind, source in names]
            columns += [("number", "i8", numbers[some]), ("outcome", "i2", _CREATED)]
            yield encode_copy(columns, len(rows))
    yield from _copy_of_refused(decided, base + len(order))


_CREATED: Final = np.zeros(1, np.int16)

_PLAIN: Final[list[tuple[str, Kind, str]]] = [
    ("id", "uuid", "id"),
    ("debit_account", "i8", "debit_number"),
    ("credit_account", "i8", "credit_number"),
    ("amount", "i8", "amount"),
    ("code", "i4", "code"),
    ("flags", "i2", "flags"),
    ("shard", "i2", "shard"),
]
_WITH_DATA: Final[list[tuple[str, Kind, str]]] = [
    *_PLAIN,
    ("pending_id", "uuid", "pending_id"),
    ("user_data_128", "uuid", "user_data_128"),
    ("user_data_64", "i8", "user_data_64"),
    ("user_data_32", "i8", "user_data_32"),
]
_WITH_TIMEOUT: Final[list[tuple[str, Kind, str]]] = [
    *_WITH_DATA,
    ("timeout", "i8", "timeout"),
    ("expires_at", "time", "expires_at"),
]


def _copy_of_refused(decided: Sequence[Decision], base: int) -> Iterator[Copy]:
    requests = joined([one.refused.requests for one in decided])
    if not len(requests):
        return
    order = _order_by_id(requests["id"])
    requests = taken(requests, order)
    columns: list[Column] = [
        ("id", "uuid", requests["id"]),
        ("number", "i8", base + order),
        ("flags", "i2", requests["flags"].astype(np.int16)),
        ("shard", "i2", np.concatenate([one.refused.shards for one in decided])[order]),
        ("outcome", "i2", np.concatenate([one.refused.outcomes for one in decided])[order]),
        ("request", "request", raw(requests)),
    ]
    yield encode_copy(columns, len(requests))


def copy_of_posted(posted: Postings, base: int) -> Copy:
    """The postings of a flush; of those columns that may be zero everywhere only what is not."""
    columns: list[Column] = [
        ("number", "i8", base + np.arange(len(posted))),
        ("stripe", "i8", posted.stripe),
        ("version", "i8", posted.version),
        ("transfer_id", "uuid", posted.transfer_id),
        ("amount", "i8", posted.amount),
        ("run", "i4", posted.run),
    ]
    for name, values in (
        ("pending_amount", posted.pending_amount),
        *zip(COUNTERS, posted.counters, strict=True),
    ):
        if values.any():
            columns.append((name, "i8", values))
    return encode_copy(columns, len(posted))


def _order_by_id(ids: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    words = np.ascontiguousarray(ids).view(">u8").reshape(-1, 2)
    high = words[:, 0].astype(np.uint64)
    order = np.argsort(high)
    ascending = high[order]
    same = ascending[1:] == ascending[:-1]
    if same.any():
        # Neighbours with the same upper half, which are few, are put in order by the lower.
        tied = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
        some = order[tied]
        order[tied] = some[np.lexsort((words[some, 1].astype(np.uint64), high[some]))]
    return order
