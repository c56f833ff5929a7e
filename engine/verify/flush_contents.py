"""What a flush wrote, put together again from the rows that are kept of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.book.columns import COUNTERS, SPENT, SpentRows
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
    if not all(map(_fits, created)):
        return None, []
    content = Content(
        [_created(created)],
        (
            _ids([row["request"] or b"" for row in refused], 128),
            _numbers(refused, "shard").astype("<i2"),
            _numbers(refused, "outcome").astype("u1"),
        ),
        posted.postings,
        posted.stripes,
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


def _created(rows: Sequence[Any]) -> SpentRows:
    made = np.zeros(len(rows), SPENT)
    made["id"] = _ids([row["id"].bytes for row in rows])
    made["debit_number"] = _numbers(rows, "debit_account")
    made["credit_number"] = _numbers(rows, "credit_account")
    for name in ("amount", "code", "flags", "shard", "timeout", "expires_at", "user_data_64"):
        made[name] = _numbers(rows, name)
    made["user_data_32"] = _numbers(rows, "user_data_32")
    made["pending_id"] = _ids([_bytes(row["pending_id"]) for row in rows])
    made["user_data_128"] = _ids([_bytes(row["user_data_128"]) for row in rows])
    return made


def _fits(row: Any) -> bool:
    """Whether what is kept in a wider column fits the field of a transfer."""
    return (
        0 <= (row["code"] or 0) < 2**16
        and 0 <= (row["timeout"] or 0) < 2**32
        and 0 <= (row["user_data_32"] or 0) < 2**32
    )


class _Postings:
    """Postings one by one, of rows that hold a run each."""

    def __init__(self, rows: Sequence[Any]) -> None:
        ids: list[bytes] = []
        all_amounts: list[int] = []
        all_pending: list[int] = []
        self.is_dense = True
        stripes: dict[int, list[int]] = {}
        first: set[int] = set()
        follows: tuple[int, int] | None = None
        for row in rows:
            transfers = [*(row["earlier_transfers"] or ()), row["transfer_id"]]
            amounts = [*(row["earlier_amounts"] or ()), row["amount"]]
            pending = [*(row["earlier_pending"] or [0] * (len(amounts) - 1)), row["pending_amount"]]
            self.is_dense &= len(transfers) == len(amounts) == len(pending)
            self.is_dense &= row["place"] == len(ids) + len(transfers) - 1
            ids += [transfer.bytes for transfer in transfers]
            begins = row["version"] - len(transfers) + 1
            if row["stripe"] in stripes:
                # Digests say of a stripe how its last run ends: those before it follow.
                self.is_dense &= (row["stripe"], begins) == follows
            follows = row["stripe"], row["version"] + 1
            if begins == 1:
                first.add(row["stripe"] >> 10)
            all_amounts += amounts
            all_pending += pending
            stripes[row["stripe"]] = [row["version"], len(ids), *(row[name] for name in COUNTERS)]
        self.first = sorted(first)
        self.postings = (_ids(ids), *(np.array(c, np.int64) for c in (all_amounts, all_pending)))
        last = np.array(list(stripes.values()), np.int64).reshape(-1, 6)
        self.stripes = (np.array(list(stripes), np.int64), *last.T)


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
