"""Columns laid out for COPY, and read back as Postgres would read them."""

from collections.abc import Sequence

import numpy as np
import pytest

from engine.book.columns import (
    COUNTERS,
    SPENT,
    Assumptions,
    Decision,
    Postings,
    Refusals,
    Resolutions,
)
from engine.store.copy import PIECE_ROWS, encode_copy
from engine.store.flush_copies import copies_of_spent, copy_of_posted
from engine.wire.layout import TRANSFER
from tests.simulation.copies import read_copy
from tests.simulation.runs import ARRAYS, postings_of

_NUMBERS = np.empty(0, np.int64)


def decided(ids: list[bytes]) -> Decision:
    """Created transfers of these ids, and nothing else."""
    spent = np.zeros(len(ids), SPENT)
    spent["id"] = np.frombuffer(b"".join(ids), "V16")
    spent["amount"] = np.arange(len(ids))
    nothing = np.empty(0, "V16")
    return Decision(
        spent=spent,
        refused=Refusals(np.empty(0, TRANSFER), np.empty(0, np.uint8), np.empty(0, np.int16)),
        slots=_NUMBERS,
        deltas=np.empty((4, 0), np.int64),
        spenders=_NUMBERS,
        expiries=nothing,
        resolutions=Resolutions(nothing, nothing, np.empty(0, np.uint8)),
        closings={},
        outcomes=np.zeros(len(ids), np.uint8),
        assumptions=Assumptions(_NUMBERS, np.empty(0, bool), _NUMBERS, _NUMBERS),
    )


@pytest.mark.parametrize("count", [1, PIECE_ROWS, PIECE_ROWS + 1, 2 * PIECE_ROWS + 5])
def test_every_row_is_in_its_place_whatever_piece_it_is_in(count) -> None:
    ids = np.random.default_rng(count).integers(0, 256, (count, 16), dtype=np.uint8)
    copy = encode_copy(
        [
            ("id", "uuid", ids.view("V16").ravel()),
            ("number", "i8", np.arange(count) - 7),
            ("code", "i4", np.arange(count)),
            ("outcome", "i2", np.array([-3], np.int16)),
        ],
        count,
    )
    assert max(map(len, copy.pieces)) <= PIECE_ROWS * 48
    found = read_copy("spent", copy.columns, b"".join(copy.pieces))
    assert [row["id"] for row in found] == [one.tobytes() for one in ids]
    assert [row["number"] for row in found] == list(range(-7, count - 7))
    assert [row["code"] for row in found] == list(range(count))
    assert {row["outcome"] for row in found} == {-3}


def test_spent_ids_are_sorted_also_where_their_upper_halves_are_the_same() -> None:
    draw = np.random.default_rng(1)
    halves = [bytes([upper]) + bytes(7) for upper in (200, 3, 3, 3, 90, 200)]
    ids = [half + draw.bytes(8) for half in halves for _ in range(5)]
    [copy] = copies_of_spent([decided(ids)], 1 << 20)
    rows = read_copy("spent", copy.columns, b"".join(copy.pieces))
    assert [row["id"] for row in rows] == sorted(ids)
    assert all(ids[row["amount"]] == row["id"] for row in rows)
    assert all(row["number"] == (1 << 20) + row["amount"] for row in rows)


def test_of_postings_a_column_is_left_out_where_it_is_zero_everywhere() -> None:
    posted = postings([1, 1], pending=[0, 0])
    copy = copy_of_posted(posted, 0)
    absent = {"debits_pending", "credits_pending", "pending_amount", *ARRAYS}
    assert absent.isdisjoint(copy.columns)
    rows = read_copy("posted", copy.columns, b"".join(copy.pieces))
    for run, row in enumerate(rows):
        assert [row[name] for name in COUNTERS] == posted.counters[:, run].tolist()


def postings(lengths: Sequence[int], pending: Sequence[int]) -> Postings:
    """Runs of these lengths; what is pending of each posting."""
    count, runs = sum(lengths), len(lengths)
    counters = np.zeros((4, runs), np.int64)
    counters[1::2] = np.arange(1, runs + 1)
    return Postings(
        transfer_id=np.arange(1, 2 * count + 1).view("V16"),
        amount=np.arange(count) - 3,
        pending_amount=np.array(pending),
        is_debit=np.arange(count) % 3 == 0,
        ends=np.cumsum(lengths),
        stripe=1024 * np.arange(1, runs + 1),
        version=np.arange(runs) + 50,
        counters=counters,
    )


@pytest.mark.parametrize("holds", ["nowhere", "last", "first", "drawn", "alone"])
def test_a_run_is_a_row_whatever_its_length(holds: str) -> None:
    draw = np.random.default_rng(5)
    lengths = [1, 48, 2, 1, 2, 48, 7, 3, 1, 5]
    ends = np.cumsum(lengths)
    pending = np.zeros(ends[-1], np.int64)
    if holds == "alone":  # in a run of one, which needs no arrays
        pending[0] = 9
    elif holds != "nowhere":
        pending[{"last": ends - 1, "first": ends - lengths}.get(holds, draw.integers(0, 99, 9))] = 9
    posted = postings(lengths, pending.tolist())
    copy = copy_of_posted(posted, 7 << 20)
    assert ("debit" in copy.columns) == (holds not in {"nowhere", "alone"})
    rows = read_copy("posted", copy.columns, b"".join(copy.pieces))
    found = sorted((leg for row in rows for leg in postings_of(row)), key=lambda leg: leg["number"])
    assert [leg["number"] - (7 << 20) for leg in found] == list(range(ends[-1]))
    assert [leg["transfer_id"] for leg in found] == posted.transfer_id.tolist()
    assert [leg["amount"] for leg in found] == posted.amount.tolist()
    assert [leg["pending_amount"] for leg in found] == posted.pending_amount.tolist()
    for leg, side in zip(found, posted.is_debit.tolist(), strict=True):
        assert leg["is_debit"] in {None, side}
    for row in rows:
        run = row["stripe"] // 1024 - 1
        assert row["run"] == lengths[run]
        assert row["version"] == posted.version[run]
        assert [row[name] for name in COUNTERS] == posted.counters[:, run].tolist()
        places = range(ends[run] - lengths[run], ends[run])
        wanted = lengths[run] > 1 and any(pending[place] for place in places)
        assert (row["debit"] is not None) == wanted


def test_of_a_long_run_rows_are_below_two_thousand_bytes() -> None:
    """Nothing is moved out of them, nor compressed."""
    posted = postings([48], [1] * 48)
    copy = copy_of_posted(posted, 0)
    lengths = 4 * (2 + 48 * 3)  # of the elements, which Postgres does not keep
    assert len(b"".join(copy.pieces)) - lengths < 2000
