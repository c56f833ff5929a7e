"""Drawn definitions in a world that misbehaves: journals and money are judged independently."""

import pytest

from tests.flow_judge import judge, judge_calls
from tests.flow_seeds import faults_of
from tests.flow_world import live

SEEDS = 500
PIECES = 10


@pytest.mark.parametrize("piece", range(PIECES))
def test_drawn_flows_end_once_and_money_is_where_journals_say(piece: int) -> None:
    for seed in range(piece, SEEDS, PIECES):
        assert (seed, faults_of(seed)) == (seed, [])


def test_the_judge_sees_what_is_wrong() -> None:
    world = live(1)
    journal = {flow: list(rows) for flow, rows in world.journal.items()}
    flow = next(f for f, rows in journal.items() if any(r.state == "asked" for r in rows))
    for broken in (journal[flow][1:], journal[flow][:-1], [*journal[flow], journal[flow][-1]]):
        assert judge(world.table, journal | {flow: broken}, world.ledger.spent, {})
    assert judge(world.table, journal, {}, {})
    called = [*world.called, *world.called]
    assert not called or judge_calls(called, world.table, {})


def test_the_same_seed_is_the_same_world() -> None:
    first, second = live(7), live(7)
    assert first.journal == second.journal
    assert first.called == second.called
