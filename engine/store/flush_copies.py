"""What a flush copies: its rows table by table, column by column, in the order of their keys."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.book.columns import COUNTERS, Decision, Postings
from engine.book.id_table import words_of
from engine.book.runs import Ints, joined, raw, taken
from engine.ledger.page import HoldStatus
from engine.store.copy import Column, Copy, Kind, copy_of_pieces, encode_copy, encode_rows

FLUSH_SHIFT: Final = 20
"""A row's number is its flush's number x 2^20 + its place in the flush."""

_NO_VALUES: Final = np.empty(1)


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
    ends = [decision.resolutions for decision in decided]
    holds = np.concatenate([end.hold_ids for end in ends] or [np.empty(0, "V16")])
    if not len(holds):
        return
    order = _order_by_id(holds)
    statuses = np.concatenate([end.statuses for end in ends])[order]
    transfers = np.concatenate([end.transfer_ids for end in ends])[order]
    holds, numbers = holds[order], base + order
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
    kept = joined([decision.spent for decision in decided])
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
    requests = joined([decision.refused.requests for decision in decided])
    if not len(requests):
        return
    order = _order_by_id(requests["id"])
    requests = taken(requests, order)
    columns: list[Column] = [
        ("id", "uuid", requests["id"]),
        ("number", "i8", base + order),
        ("flags", "i2", requests["flags"].astype(np.int16)),
        ("shard", "i2", np.concatenate([decision.refused.shards for decision in decided])[order]),
        (
            "outcome",
            "i2",
            np.concatenate([decision.refused.outcomes for decision in decided])[order],
        ),
        ("request", "request", raw(requests)),
    ]
    yield encode_copy(columns, len(requests))


def copy_of_posted(posted: Postings, base: int) -> Copy:
    """The runs of a flush, those of one length together, since their rows are of one length."""
    starts = posted.starts
    length = posted.ends - starts
    holds = np.logical_or.reduceat(posted.pending_amount != 0, starts) & (length > 1)
    # Of those columns that may be zero everywhere only what is not.
    last = posted.ends - 1
    more = [
        (name, values)
        for name, values in (
            ("pending_amount", posted.pending_amount[last]),
            *zip(COUNTERS, posted.counters, strict=True),
        )
        if values.any()
    ]
    arrays = int((length > 1).any()) + int(holds.any())
    columns: list[Column] = []
    pieces: list[bytes] = []
    count = 0
    kinds = 2 * length + holds
    for kind in np.unique(kinds).tolist():
        runs = np.flatnonzero(kinds == kind)
        ends = last[runs]
        columns = [
            ("number", "i8", base + ends),
            ("stripe", "i8", posted.stripe[runs]),
            ("version", "i8", posted.version[runs]),
            ("transfer_id", "uuid", posted.transfer_id[ends]),
            ("amount", "i8", posted.amount[ends]),
            ("run", "i4", length[runs]),
            *((name, "i8", values[runs]) for name, values in more),
        ]
        places = ends[:, None] + np.arange(1 - kind // 2, 1)
        columns += _arrays_of(posted, places, holds=bool(kind & 1))[: 2 * arrays]
        pieces += encode_rows(columns, len(runs))
        count += len(runs)
    return copy_of_pieces(columns, pieces, count)


def _arrays_of(posted: Postings, places: Ints, *, holds: bool) -> list[Column]:
    """What is kept of the postings of runs beside the last.

    Args:
        posted: The postings.
        places: Theirs, shape (runs, postings of each).
        holds: Whether one of each run has a pending amount.
    """
    earlier, none = places[:, :-1], places[:, :0]
    return [
        _array("earlier_transfers", "uuid[]", posted.transfer_id, earlier),
        _array("earlier_amounts", "i8[]", posted.amount, earlier),
        _array("earlier_pending", "i8[]", posted.pending_amount, earlier if holds else none),
        _array("debit", "bool[]", posted.is_debit, places if holds else none),
    ]


def _array(name: str, kind: Kind, values: npt.NDArray[Any], places: Ints) -> Column:
    return (name, kind, values[places]) if places.shape[1] else (name, "null", _NO_VALUES)


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
