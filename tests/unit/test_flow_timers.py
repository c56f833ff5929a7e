"""Timers of flows: one a flow, its newest; what is far ahead sleeps in Postgres."""

import asyncio
from collections.abc import Collection
from typing import cast

from engine.flows.store import FlowStore
from engine.flows.timers import DUE_MAX, HORIZON, Timers

NOW = 1_700_000_000_000_000
A, B = b"a" * 16, b"b" * 16


class Asleep:
    """What Postgres says is due, within the times that it is asked for."""

    def __init__(self, *timers: tuple[int, bytes]) -> None:
        self.timers = timers

    async def due(self, _: Collection[int], after: int, until: int) -> list[tuple[int, bytes]]:
        return [timer for timer in self.timers if after < timer[0] <= until]


def loaded(*timers: tuple[int, bytes]) -> Timers:
    made = Timers(cast("FlowStore", Asleep(*timers)))
    asyncio.run(made.load([0], NOW))
    return made


def test_a_flow_is_looked_at_at_its_newest_time_alone() -> None:
    timers = loaded()
    timers.set(A, NOW + 5)
    timers.set(A, NOW + 9)
    timers.set(B, NOW + 7)
    assert timers.pop_due(NOW + 8) == [B]
    assert timers.pop_due(NOW + 9) == [A]
    assert timers.pop_due(NOW + 99) == []


def test_an_earlier_time_counts_when_it_is_the_newest() -> None:
    timers = loaded()
    timers.set(A, NOW + 9)
    timers.set(A, NOW + 5)
    assert timers.pop_due(NOW + 5) == [A]
    assert timers.pop_due(NOW + 99) == []


def test_a_flow_that_has_ended_is_not_looked_at() -> None:
    timers = loaded()
    timers.set(A, NOW + 5)
    timers.drop(A)
    timers.drop(B)
    assert timers.pop_due(NOW + 99) == []


def test_a_time_set_again_after_it_was_dropped_comes_once() -> None:
    timers = loaded()
    timers.set(A, NOW + 5)
    timers.drop(A)
    timers.set(A, NOW + 5)
    assert timers.pop_due(NOW + 99) == [A]
    assert timers.pop_due(NOW + 99) == []


def test_what_is_far_ahead_is_found_in_postgres_when_it_comes_nearer() -> None:
    far = NOW + HORIZON + 10
    timers = loaded((far, A))
    timers.set(B, far)
    assert timers.pop_due(far) == []
    asyncio.run(timers.load_more([0], NOW + HORIZON // 2 + 1))
    assert timers.pop_due(far) == [A]


def test_what_is_loaded_makes_no_known_time_later() -> None:
    timers = loaded((NOW + 5, A), (NOW + 9, A))
    assert timers.pop_due(NOW + 5) == [A]
    assert timers.pop_due(NOW + 99) == []


def test_a_round_looks_at_so_many_and_no_more() -> None:
    timers = loaded()
    flows = [number.to_bytes(16, "big") for number in range(DUE_MAX + 1)]
    for flow in flows:
        timers.set(flow, NOW + 1)
    assert timers.pop_due(NOW + 1) == flows[:DUE_MAX]
    assert timers.pop_due(NOW + 1) == flows[DUE_MAX:]
