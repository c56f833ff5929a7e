"""The table of ids gives each its own slot, whatever the ids look like."""

import numpy as np
import pytest

from engine.book.id_table import FEW_IDS_MAX, IdTable, hash_words


def random_words(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2**64, (count, 2), dtype=np.uint64)


def counted_words(count: int) -> np.ndarray:
    words = np.zeros((count, 2), np.uint64)
    words[:, 1] = np.arange(count)
    return words


def words_with_equal_low_bits(count: int) -> np.ndarray:
    words = np.full((count, 2), 5, np.uint64)
    words[:, 0] = np.arange(count, dtype=np.uint64) << np.uint64(40)
    return words


@pytest.mark.parametrize("make", [random_words, counted_words, words_with_equal_low_bits])
@pytest.mark.parametrize("piece", [1, 7, 5000])
def test_ids_are_found_where_they_were_added(make, piece: int) -> None:
    words = make(5000 if piece > 1 else 300)
    table = IdTable(8)
    for start in range(0, len(words), piece):
        part = words[start : start + piece]
        assert (table.find(part) == -1).all()
        table.add(part)
    assert (table.find(words) == np.arange(len(words))).all()
    assert (table.words(np.arange(len(words))) == words).all()
    assert (table.find(words ^ np.uint64(1 << 63)) == -1).all()


def test_an_empty_table_finds_nothing() -> None:
    assert IdTable().find(random_words(10)).tolist() == [-1] * 10
    assert IdTable().find(random_words(0)).tolist() == []


def test_a_few_ids_hash_as_many_do() -> None:
    drawn = np.random.default_rng(16).integers(0, 2**64, (1000, 2), np.uint64)
    edges = np.array([[0, 0], [2**64 - 1, 2**64 - 1], [2**63, 2**31]], np.uint64)
    words = np.concatenate([drawn, edges])
    many = hash_words(words)
    for count in (1, FEW_IDS_MAX):
        starts = range(0, len(words), count)
        few = np.concatenate([hash_words(words[start : start + count]) for start in starts])
        assert few.tolist() == many.tolist()
