"""Which shards a worker takes, asks for and lets go of."""

import random

from shards.placement import Holding, LiveWorker, OpenMove, Step, next_step

A, B, C, NOBODY = b"a" * 16, b"b" * 16, b"c" * 16, bytes(16)
LEASE = 5.0


def holdings(owners: list[bytes], alive: set[bytes]) -> list[Holding]:
    return [
        Holding(shard, owner, LEASE if owner in alive else 0.0)
        for shard, owner in enumerate(owners)
    ]


def step(
    me: bytes,
    owners: list[bytes],
    workers: list[LiveWorker],
    moves: dict[int, OpenMove] | None = None,
    *,
    joined: bool = False,
) -> Step:
    found = holdings(owners, {one.worker for one in workers})
    for shard, move in (moves or {}).items():
        one = found[shard]
        found[shard] = Holding(one.shard, one.worker, one.seconds_left, move)
    return next_step(me, found, workers, joined=joined)


def sharing(*workers: bytes) -> list[LiveWorker]:
    return [LiveWorker(worker, None) for worker in workers]


def asked(source: bytes, target: bytes, *, planned: bool = True) -> OpenMove:
    return OpenMove(1, planned, source, target, "asked")


def test_one_worker_takes_all_that_is_free() -> None:
    assert step(A, [NOBODY] * 4, sharing(A)).claim == [0, 1, 2, 3]


def test_two_workers_begin_at_different_shards_and_take_their_share() -> None:
    assert step(A, [NOBODY] * 4, sharing(A, B)).claim == [0, 1]
    assert step(B, [NOBODY] * 4, sharing(A, B)).claim == [2, 3]


def test_what_a_dead_worker_had_is_free() -> None:
    assert step(A, [A, A, B, B], sharing(A)).claim == [2, 3]


def test_a_living_worker_is_not_robbed() -> None:
    assert not step(A, [A, B, B, B], sharing(A, B), joined=True).claim


def test_who_joins_asks_the_richest_down_to_the_share() -> None:
    found = step(C, [A, A, A, A, B, B], sharing(A, B, C))
    assert sorted(found.ask.items()) == [(2, A), (3, A)]


def test_who_has_joined_asks_no_more() -> None:
    assert not step(C, [A, A, A, A, B, B], sharing(A, B, C), joined=True).ask


def test_nobody_asks_while_an_operator_moves_shards() -> None:
    moves = {0: asked(A, B)}
    assert not step(C, [A, A, A, A, B, B], sharing(A, B, C), moves).ask


def test_what_was_asked_for_counts() -> None:
    moves = {3: asked(A, C, planned=False)}
    assert step(C, [A, A, A, A, B, B], sharing(A, B, C), moves).ask == {2: A}


def test_a_worker_with_listed_shards_takes_those_and_only_those() -> None:
    workers = [LiveWorker(A, frozenset({1, 2})), LiveWorker(B, None)]
    assert step(A, [NOBODY] * 4, workers).claim == [1, 2]
    assert step(B, [NOBODY] * 4, workers).claim == [0, 3]


def test_listed_shards_are_asked_of_those_that_share_and_of_nobody_else() -> None:
    workers = [
        LiveWorker(A, frozenset({0, 1})),
        LiveWorker(B, None),
        LiveWorker(C, frozenset({0, 1})),
    ]
    assert step(A, [B, C, B, B], workers).ask == {0: B}
    assert not step(B, [A, A, C, C], workers).ask


def test_a_shard_is_let_go_for_a_living_target_only() -> None:
    assert step(A, [A, A], sharing(A, B), {0: asked(A, B)}).release == [0]
    assert not step(A, [A, A], sharing(A), {0: asked(A, B)}).release
    assert step(A, [A, A], sharing(A), {0: asked(A, B)}).refuse == {1: "the target is not alive"}


def test_a_move_from_a_former_owner_comes_to_nothing() -> None:
    found = step(A, [A, A], sharing(A, B, C), {0: asked(C, B)})
    assert not found.release
    assert found.refuse == {1: "the shard has another owner by now"}


def test_a_move_to_a_worker_with_other_listed_shards_comes_to_nothing() -> None:
    workers = [LiveWorker(A, None), LiveWorker(B, frozenset({1}))]
    assert not step(A, [A, B], workers, {0: asked(A, B)}).release


def test_a_shard_on_its_way_is_kept_for_its_target_while_that_one_lives() -> None:
    moves = {0: OpenMove(1, planned=True, source=A, target=B, state="released")}
    owners = [NOBODY, A, B, C]
    assert not step(C, owners, sharing(A, B, C), moves).claim
    assert step(B, owners, sharing(A, B, C), moves).claim == [0]
    assert 0 in step(C, [NOBODY, A, A, C], sharing(A, C), moves).claim


def test_a_shard_is_not_kept_for_who_may_not_have_it() -> None:
    workers = [LiveWorker(A, None), LiveWorker(B, frozenset({1}))]
    moves = {0: asked(NOBODY, B)}
    assert step(A, [NOBODY, B], workers, moves).claim == [0]
    assert step(B, [NOBODY, B], workers, moves).refuse == {
        1: "the target was told to work on other shards"
    }


def test_a_drained_worker_takes_nothing_by_itself() -> None:
    workers = [LiveWorker(A, None), LiveWorker(B, None, drained=True)]
    assert not step(B, [NOBODY] * 4, workers).claim
    assert step(A, [NOBODY] * 4, workers).claim == [0, 1, 2, 3]


def test_whoever_is_not_alive_does_nothing() -> None:
    found = step(A, [NOBODY, NOBODY], sharing(B))
    assert not found.claim
    assert not found.ask


def test_from_any_beginning_every_shard_finds_an_owner_and_joiners_their_share() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(300):
        count = chance.choice([1, 2, 8, 16])
        everyone = [bytes([65 + n]) * 16 for n in range(5)]
        alive = chance.sample(everyone, chance.randint(1, 5))
        joined = {one: chance.random() < 0.5 for one in alive}
        owners = [chance.choice([NOBODY, *everyone]) for _ in range(count)]
        for _ in range(60):
            me = chance.choice(alive)
            found = step(me, owners, sharing(*alive), joined=joined[me])
            for shard, owner in found.ask.items():
                assert owners[shard] == owner
                owners[shard] = me
            for shard in found.claim:
                assert owners[shard] not in alive
                owners[shard] = me
            joined[me] |= found.complete
        for me in alive * 2:
            found = step(me, owners, sharing(*alive), joined=joined[me])
            for shard in [*found.claim, *found.ask]:
                owners[shard] = me
        assert set(owners) <= set(alive)
        least = count // len(alive)
        assert all(owners.count(me) >= least for me in alive if not joined[me])


def test_a_drained_worker_takes_over_where_nobody_else_is_alive() -> None:
    assert step(B, [A] * 4, [LiveWorker(B, None, drained=True)], joined=True).claim == [0, 1, 2, 3]


def test_who_joins_asks_a_drained_worker_for_all_that_it_has() -> None:
    workers = [LiveWorker(A, None), LiveWorker(B, None, drained=True)]
    assert step(A, [B] * 4, workers).ask == dict.fromkeys(range(4), B)
    workers.append(LiveWorker(C, None))
    assert step(A, [B] * 4, workers).ask == dict.fromkeys((2, 3), B)
