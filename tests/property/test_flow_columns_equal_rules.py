"""Flows that are decided in columns are what the rules make of them one by one, row by row.

Definitions, states and arrivals are drawn; compared at every round are the rows as Postgres gets
them, what is asked of others, timers, reviews, and the flows as they are kept in memory.
"""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.flows import Flow
from engine.flows.happenings import Happening, Looked, Settled, Started
from engine.flows.money import CREATED, Verdict, seq_of
from engine.ledger.outcomes import Outcome
from tests.flow_columns import ByRules, Twins
from tests.flow_programs import Drawn

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


def two_holds() -> Flow:
    """What is left of a hold whose void failed is asked at the end."""
    flow = Flow("two holds", version=1, input=Drawn, ledger=1)
    legs = [
        flow.hold(debit=Drawn.payer, credit="transit", amount=Drawn.amount, code=code)
        for code in (1, 2)
    ]
    voids = [flow.void(hold) for hold in legs]
    over = flow.end("over")
    legs[0].created.go(legs[1])
    legs[0].declined.go(over)
    legs[1].created.go(voids[1])
    legs[1].declined.go(voids[0])
    voids[1].done.go(voids[0])
    voids[1].failed.go(voids[0])
    voids[0].done.go(over)
    return flow


def void_some_by_hand(twin: ByRules, _: random.Random) -> Happening:
    """All goes well, but for the second void: some holds were posted by hand, others are there."""
    if not twin.rows:
        return Started()
    last = twin.rows[-1]
    if last.state != "asked":
        return Looked()
    verdict = CREATED
    if last.step == 3:
        by_hand = twin.flow.id[0] % 2
        over, there = Outcome.pending_transfer_already_posted, Outcome.frozen
        verdict = Verdict("declined", (over if by_hand else there).name)
    return Settled(seq_of(last.request), verdict)


def test_a_hold_that_may_be_open_and_one_that_is_over_are_told_apart() -> None:
    chance = random.Random(1)
    twins = Twins(chance, two_holds(), flows=60)
    for _ in range(8):
        twins.run_round(chance, void_some_by_hand)
    assert {twin.rows[-1].event for twin in twins.rules.values()} >= {"over", "open_hold"}


def late() -> Flow:
    """Too late is only what is looked at after its stream was read to the end."""
    flow = Flow("late", version=1, input=Drawn, ledger=1)
    waits = [flow.wait(f"partner {n}", within="1m", nothing_sent=True) for n in range(6)]
    for wait, following in zip(waits, [*waits[1:], flow.end("over")], strict=True):
        wait.on("yes").go(following)
        wait.late.go(following)
    return flow


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("define", [two_holds, late])
def test_flows_that_differ_in_little_are_told_apart(define: Callable[[], Flow], seed: int) -> None:
    chance = random.Random(seed)
    twins = Twins(chance, define(), flows=40)
    for _ in range(12):
        twins.run_round(chance)


def test_many_flows_are_mostly_decided_in_columns() -> None:
    planned = rows = 0
    for seed in range(20):
        chance = random.Random(seed)
        twins = Twins(chance, flows=60)
        for _ in range(12):
            twins.run_round(chance)
        planned += twins.planned
        rows += sum(len(twin.rows) for twin in twins.rules.values())
    assert planned > rows / 8, (planned, rows)
