"""Open holds are found until they end, are forgotten with their shard, or are too many."""

import numpy as np

from engine.book.columns import SPENT, SpentRows
from engine.book.id_table import words_of
from engine.book.open_holds import OpenHolds


def holds(first: int, count: int, shard: int = 0) -> SpentRows:
    rows = np.zeros(count, SPENT)
    ids = b"".join((first + n).to_bytes(16, "big") for n in range(count))
    rows["id"] = np.frombuffer(ids, "V16")
    rows["amount"] = np.arange(first, first + count)
    rows["shard"] = shard
    return rows


def test_what_was_added_is_found_with_its_row() -> None:
    book = OpenHolds(half=4000)
    book.add_holds(holds(1, 3000))
    found, rows = book.find_holds(words_of(holds(2999, 4)["id"]))
    assert found.tolist() == [True, True, False, False]
    assert rows["amount"][:2].tolist() == [2999, 3000]


def test_what_ended_is_not_found_and_can_come_back() -> None:
    book = OpenHolds()
    book.add_holds(holds(1, 10))
    book.end_holds(words_of(holds(5, 3)["id"]))
    found, _ = book.find_holds(words_of(holds(1, 10)["id"]))
    assert np.flatnonzero(~found).tolist() == [4, 5, 6]
    book.add_holds(holds(5, 1))
    assert book.find_holds(words_of(holds(5, 2)["id"]))[0].tolist() == [True, False]


def test_a_shard_that_is_lost_takes_its_holds_along() -> None:
    book = OpenHolds()
    book.add_holds(holds(1, 10, shard=1))
    book.add_holds(holds(11, 10, shard=2))
    book.forget_shards({1})
    found, _ = book.find_holds(words_of(holds(1, 20)["id"]))
    assert np.flatnonzero(found).tolist() == list(range(10, 20))


def test_memory_is_bounded_by_forgetting_the_oldest() -> None:
    book = OpenHolds(half=100)
    for first in range(0, 1000, 50):
        book.add_holds(holds(first, 50))
    found, _ = book.find_holds(words_of(holds(0, 1000)["id"]))
    assert found[-100:].all()
    assert 100 <= found.sum() <= 200
    book.end_holds(words_of(holds(0, 1000)["id"]))
    assert not book.find_holds(words_of(holds(0, 1000)["id"]))[0].any()
