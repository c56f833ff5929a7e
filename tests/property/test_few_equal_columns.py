"""A few plain transfers by the rules alone are what columns make of them: same rows, same places.

Compared at every batch of `tests/worlds` that is few enough; here are worlds of nothing else.
"""

import random

import pytest

from tests.comparing import compare
from tests.worlds import ByColumns, Profile, World


@pytest.mark.parametrize("seed", range(16))
def test_few_transfers_are_decided_as_columns_decide_them(seed: int) -> None:
    chance = random.Random(seed)
    profile = Profile(
        accounts=chance.choice([4, 12, 40]),
        limited=chance.choice([0, 0.3, 1]),
        special=chance.choice([0, 0.05, 0.3]),
        amount_max=chance.choice([5, 60]),
        kinds=chance.choice([10, 20]),
    )
    compare(World(chance, profile), steps=80, size=chance.choice([1, 4, 20]))


def test_most_small_batches_are_few() -> None:
    chance = random.Random(1)
    profile = Profile(accounts=40, limited=0, special=0, amount_max=60, kinds=10)
    by_columns = compare(World(chance, profile), steps=100, size=8)
    assert isinstance(by_columns, ByColumns)
    assert by_columns.few > 40
