"""Plans: what is moved where, and when the load is evened out by itself."""

import pytest

from engine.errors import InputError
from shards.balancing import Balance
from shards.planning import Plan, make_plan, name_worker
from shards.seats import NOBODY, LiveSeat, ShardSeat

A, B, C = ("aaaaaaaa-0", "bbbbbbbb-0", "bbbbcccc-0")


def seats(owners: str, loads: list[float] | None = None) -> list[ShardSeat]:
    ids = {"a": A, "b": B, "c": C, "-": NOBODY}
    return [
        ShardSeat(shard, ids[owner], owner != "-", (loads or [0.0] * 99)[shard], 0, 0, 0)
        for shard, owner in enumerate(owners)
    ]


def alive(*workers: str, listed: dict[str, list[int]] | None = None) -> list[LiveSeat]:
    return [LiveSeat(one, "host", 1, (listed or {}).get(one), drained=False) for one in workers]


def targets(plan: Plan) -> dict[int, str]:
    return {move.shard: move.target for move in plan.moves}


def test_without_any_load_shards_are_shared_by_their_number() -> None:
    plan = make_plan(seats("aaaaaaaa"), alive(A, B), made_at="")
    assert len(plan.moves) == 4
    assert (plan.skew_before, plan.skew_after) == (2.0, 1.0)


def test_load_counts_and_not_the_number_of_shards() -> None:
    loads = [90.0, 10.0, 10.0, 10.0, 10.0, 50.0]
    plan = make_plan(seats("aaaaab", loads), alive(A, B), made_at="")
    assert targets(plan) == {1: B, 2: B, 3: B, 4: B}
    assert plan.skew_after < plan.skew_before


def test_one_hot_shard_is_not_carried_about() -> None:
    assert not make_plan(seats("ab", [100.0, 1.0]), alive(A, B), made_at="").moves


def test_what_is_even_enough_stays() -> None:
    assert not make_plan(seats("aabb", [10.0, 10.0, 10.0, 9.5]), alive(A, B), made_at="").moves


def test_weights_count_instead_of_what_was_measured() -> None:
    measured = seats("aab", [1.0, 1.0, 1.0])
    plan = make_plan(measured, alive(A, B), made_at="", weights={2: 50.0})
    assert not plan.moves
    plan = make_plan(measured, alive(A, B), made_at="", weights={0: 50.0, 1: 50.0})
    assert len(plan.moves) == 1


def test_a_drained_worker_gives_its_shards_to_the_idlest() -> None:
    plan = make_plan(seats("aabbbc"), alive(A, B, C), made_at="", drain=[A])
    assert targets(plan) == {0: C, 1: C}
    assert plan.drain == [A]
    with pytest.raises(InputError, match="no other worker"):
        make_plan(seats("aa"), alive(A), made_at="", drain=[A])


def test_what_is_asked_for_is_planned_and_nothing_else() -> None:
    plan = make_plan(seats("aaaa"), alive(A, B), made_at="", moves={3: B})
    assert targets(plan) == {3: B}


def test_shards_that_nobody_has_are_given_to_somebody() -> None:
    assert targets(make_plan(seats("ab--"), alive(A, B), made_at="")) == {2: A, 3: B}


def test_workers_that_were_told_their_shards_are_left_alone() -> None:
    workers = alive(A, B, C, listed={C: [4]})
    assert not make_plan(seats("aabbc", [1, 1, 1, 1, 90]), workers, made_at="").moves
    with pytest.raises(InputError, match="would take it back"):
        make_plan(seats("aabbc"), workers, made_at="", moves={4: A})
    with pytest.raises(InputError, match="other shards"):
        make_plan(seats("aabbc"), workers, made_at="", moves={0: C})


def test_a_worker_is_named_by_what_tells_it_apart() -> None:
    workers = alive(A, B, C)
    assert name_worker("bbbbcc", workers).worker == C
    for name in ("bbbb", "aaa", "dddddd"):
        with pytest.raises(InputError):
            name_worker(name, workers)


def test_the_load_is_evened_out_when_it_is_uneven_twice_in_a_row() -> None:
    balance = Balance(1.3)
    assert [balance.should_act(skew) for skew in (1.4, 1.2, 1.4, 1.4)] == [False] * 3 + [True]
    balance.acted()
    assert [balance.should_act(skew) for skew in (1.9, 1.9, 1.9, 1.9)] == [False] * 3 + [True]
