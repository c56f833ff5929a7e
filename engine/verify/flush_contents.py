"""What a flush wrote, put together again from the rows that are kept of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.book.content import Content, Letter, Parked, positions_of
from engine.ledger.nouns import Position
from engine.ledger.page import HoldStatus

_NO_ID = bytes(16)


class FlushRows(NamedTuple):
    """The rows of one flush, by table."""

    spent: Sequence[Any]
    posted: Sequence[Any]
    resolutions: Sequence[Any]
    positions: Sequence[Any]
    letters: Sequence[Any]
    changes: Sequence[Any]
    parked: Sequence[Any] = ()
    released: Sequence[Any] = ()


def content_of_rows(rows: FlushRows) -> tuple[Content | None, list[int]]:
    """Its columns, and the accounts of which it wrote the first posting of a stripe.

    Returns:
        No columns where its places have gaps, or a row is of none.
    """
    posted = _Postings(rows.posted)
    dense = [row["place"] for row in rows.spent] == list(range(len(rows.spent)))
    ends = [row["place"] for row in rows.resolutions] == list(range(len(rows.resolutions)))
    if not dense or not ends or not posted.is_dense:
        return None, []
    created = [row for row in rows.spent if row["outcome"] == 0]
    refused = rows.spent[len(created) :]
    if any(row["outcome"] == 0 for row in refused):
        return None, []
    if not all(map(_is_its_request, refused)):
        return None, []
    if any(row["transfers"] != len(row["ids"]) for row in rows.parked):
        return None, []
    content = Content(
        _created(created),
        (
            _ids([row["request"] or b"" for row in refused], 128),
            _numbers(refused, "shard"),
            _numbers(refused, "outcome"),
        ),
        posted.postings,
        posted.balances,
        (
            _ids([row["hold_id"].bytes for row in rows.resolutions]),
            _ids([_bytes(row["transfer_id"]) for row in rows.resolutions]),
            np.array([HoldStatus[row["status"]] for row in rows.resolutions], np.uint8),
        ),
        positions_of(
            (r["shard"], r["generation"], r["ms"], r["seq"], r["time"]) for r in rows.positions
        ),
        [Letter(row["shard"], _at(row), row["reason"], row["fields"]) for row in rows.letters],
        [_parked(row) for row in rows.parked],
        [(row["shard"], _at(row)) for row in rows.released],
    )
    return content, posted.first


def _parked(row: Any) -> Parked:
    original = None if row["original_ms"] is None else _at(row, "original_")
    ids = [id_.bytes for id_ in row["ids"]]
    kept = row["freeze_number"], row["size"], ids, row["digest"], row["fields"]
    return Parked(row["shard"], _at(row), original, *kept)


def _at(row: Any, prefix: str = "") -> Position:
    return Position(*(row[f"{prefix}{name}"] for name in ("generation", "ms", "seq")))


def _created(rows: Sequence[Any]) -> tuple[npt.NDArray[Any], ...]:
    return (
        _ids([row["id"].bytes for row in rows]),
        *(_numbers(rows, name) for name in ("debit_account", "credit_account", "amount", "code")),
        _numbers(rows, "flags"),
        _numbers(rows, "shard"),
        _numbers(rows, "timeout"),
        _numbers(rows, "expires_at"),
        _ids([_bytes(row["pending_id"]) for row in rows]),
        _ids([_bytes(row["user_data_128"]) for row in rows]),
        _numbers(rows, "user_data_64"),
        _numbers(rows, "user_data_32"),
    )


class _Postings:
    """Postings one by one, of rows that hold a run each."""

    def __init__(self, rows: Sequence[Any]) -> None:
        ids: list[bytes] = []
        columns: list[list[int]] = [[] for _ in range(4)]
        self.is_dense = True
        balances: dict[int, list[int]] = {}
        first: set[int] = set()
        for row in rows:
            transfers = [*(row["earlier_transfers"] or ()), row["transfer_id"]]
            amounts = [*(row["earlier_amounts"] or ()), row["amount"]]
            pending = [*(row["earlier_pending"] or [0] * (len(amounts) - 1)), row["pending_amount"]]
            self.is_dense &= len(transfers) == len(amounts) == len(pending)
            self.is_dense &= row["place"] == len(ids) + len(transfers) - 1
            ids += [transfer.bytes for transfer in transfers]
            begins = row["version"] - len(transfers) + 1
            if begins == 1:
                first.add(row["stripe"] >> 10)
            columns[0] += [row["stripe"]] * len(transfers)
            columns[1] += range(begins, row["version"] + 1)
            columns[2] += amounts
            columns[3] += pending
            balances[row["stripe"]] = [
                row[name]
                for name in ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
            ]
        self.first = sorted(first)
        self.postings: tuple[npt.NDArray[Any], ...] = ()
        self.balances: tuple[npt.NDArray[Any], ...] = ()
        if self.is_dense:
            stripes = np.array(list(balances), np.int64)
            counters = np.array(list(balances.values()), np.int64).reshape(len(balances), 4)
            self.postings = (_ids(ids), *(np.array(column, np.int64) for column in columns))
            self.balances = (stripes, *(counters[:, place] for place in range(4)))


def _ids(values: Sequence[bytes], width: int = 16) -> npt.NDArray[np.void]:
    return np.frombuffer(b"".join(v.ljust(width, b"\0")[:width] for v in values), f"V{width}")


def _is_its_request(row: Any) -> bool:
    """Whether what stands beside a request that was refused is what stands in it."""
    request = row["request"] or b""
    flags = int.from_bytes(request[118:120], "little")
    return bool(request[:16] == row["id"].bytes and flags == row["flags"] & 0xFFFF)


def _bytes(value: Any) -> bytes:
    return _NO_ID if value is None else bytes(value.bytes)


def _numbers(rows: Sequence[Any], name: str) -> npt.NDArray[np.int64]:
    return np.array([row[name] or 0 for row in rows], np.int64)
