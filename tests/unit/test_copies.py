"""Columns laid out for COPY, and read back as Postgres would read them."""

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
    counters = np.array([[0, 0, 0], [5, 0, 9], [0, 0, 0], [0, 7, 0]])
    posted = Postings(
        stripe=np.array([1024, 1025, 2048]),
        version=np.array([1, 1, 2]),
        run=np.array([0, 1, 2]),
        transfer_id=np.zeros(3, "V16"),
        amount=np.array([-5, 7, 0]),
        pending_amount=np.array([0, 0, -3]),
        counters=counters,
    )
    copy = copy_of_posted(posted, 0)
    assert {"debits_pending", "credits_pending"}.isdisjoint(copy.columns)
    rows = read_copy("posted", copy.columns, b"".join(copy.pieces))
    for place, row in enumerate(rows):
        assert [row[name] for name in COUNTERS] == counters[:, place].tolist()
        assert (row["amount"], row["pending_amount"]) == (
            posted.amount[place],
            posted.pending_amount[place],
        )
