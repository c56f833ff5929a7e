"""Flows that are decided in columns are what the rules make of them one by one, row by row.

Definitions, states and arrivals are drawn; compared at every round are the rows as Postgres gets
them, what is asked of others, timers, reviews, and the flows as they are kept in memory.
"""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.flow_columns import Twins

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=300)
@given(SEEDS, st.integers(1, 12), st.lists(SEEDS, max_size=20))
def test_drawn_flows_in_columns_equal_the_rules(
    definition: int, flows: int, rounds: list[int]
) -> None:
    """A failure is shrunk to few flows and few rounds."""
    twins = Twins(random.Random(definition), flows=flows)
    for seed in rounds:
        twins.run_round(random.Random(seed))


def test_many_flows_are_mostly_decided_in_columns() -> None:
    planned = rows = 0
    for seed in range(20):
        chance = random.Random(seed)
        twins = Twins(chance, flows=60)
        for _ in range(12):
            twins.run_round(chance)
        planned += twins.planned
        rows += sum(len(twin.rows) for twin in twins.rules.values())
    assert planned > rows / 4, (planned, rows)
