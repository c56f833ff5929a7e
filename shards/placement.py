"""Which shards a worker takes, asks for and lets go of: rules alone, without a server.

A worker that was told its shards has those and only those. All others share what is left:
each takes free shards up to its share, and one that joins while the others have more asks
the richest of them, until it has its share, once. From then on only an operator moves shards
between living workers. One that is drained takes none, but where all others are gone it takes
over, and gives up all of it to the next that joins.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

MARGIN_SECONDS: Final = 0.02
"""A lease is looked at again so long after its end."""


class OpenMove(msgspec.Struct, frozen=True):
    """A shard that is to go from one worker to another."""

    move: int
    planned: bool
    """Asked for by an operator; else by a worker, for its share."""
    source: bytes
    target: bytes
    state: Literal["asked", "released", "claimed"]


class Holding(msgspec.Struct, frozen=True):
    """A shard, its owner, and for how long the owner's lease still runs: none for nobody."""

    shard: int
    worker: bytes
    seconds_left: float
    move: OpenMove | None = None


class LiveWorker(msgspec.Struct, frozen=True):
    """A worker that is alive."""

    worker: bytes
    listed: frozenset[int] | None
    """The shards it was told to work on; None where it takes its share."""
    drained: bool = False


class Step(msgspec.Struct):
    """What a worker does next about its shards."""

    release: list[int] = []
    claim: list[int] = []
    ask: dict[int, bytes] = {}
    """By shard, the worker to ask."""
    refuse: dict[int, str] = {}
    """By move, why it comes to nothing."""
    owned: set[int] = set()
    """What Postgres says is this worker's."""
    complete: bool = False
    """Whether it has what it is to have."""
    look_again_seconds: float = math.inf
    """When a lease ends, at the earliest."""
    is_moving: bool = False
    """Whether a shard is on its way from or to it."""


def next_step(
    me: bytes, holdings: Sequence[Holding], workers: Sequence[LiveWorker], *, joined: bool
) -> Step:
    """What a worker does next.

    Args:
        me: The worker.
        holdings: All shards.
        workers: All that are alive.
        joined: Whether it had its share before: then it does not ask others for theirs.
    """
    alive = {live.worker: live for live in workers}
    step = Step(owned={holding.shard for holding in holdings if holding.worker == me})
    left = [
        holding.seconds_left
        for holding in holdings
        if holding.worker != me and holding.seconds_left > 0
    ]
    step.look_again_seconds = min(left, default=math.inf) + MARGIN_SECONDS
    step.is_moving = any(
        holding.move and me in (holding.worker, holding.move.target) for holding in holdings
    )
    if me not in alive:  # until the next heartbeat
        return step
    _let_go(step, me, holdings, alive)
    if alive[me].listed is None:
        _take_share(step, me, holdings, alive, joined=joined)
    else:
        _take_listed(step, me, holdings, alive)
    return step


def _let_go(
    step: Step, me: bytes, holdings: Sequence[Holding], alive: Mapping[bytes, LiveWorker]
) -> None:
    for holding in holdings:
        move = holding.move
        if move is None or move.state != "asked" or me not in {holding.worker, move.target}:
            continue
        if holding.worker != me:
            if not may_have(alive[me], holding.shard):
                step.refuse[move.move] = "the target was told to work on other shards"
            continue
        target = alive.get(move.target)
        if move.source != me:
            step.refuse[move.move] = "the shard has another owner by now"
        elif target is None:
            step.refuse[move.move] = "the target is not alive"
        elif not may_have(target, holding.shard):
            step.refuse[move.move] = "the target was told to work on other shards"
        else:
            step.release.append(holding.shard)


def may_have(worker: LiveWorker, shard: int) -> bool:
    """Whether a worker may have a shard."""
    return worker.listed is None or shard in worker.listed


def _is_free(holding: Holding, me: bytes, alive: Mapping[bytes, LiveWorker]) -> bool:
    """Whether a shard is to be had, and not kept free for another."""
    if holding.worker == me or holding.seconds_left > 0:
        return False
    target = alive.get(holding.move.target) if holding.move is not None else None
    return target is None or target.worker == me or not may_have(target, holding.shard)


def _take_listed(
    step: Step, me: bytes, holdings: Sequence[Holding], alive: Mapping[bytes, LiveWorker]
) -> None:
    for holding in holdings:
        if not may_have(alive[me], holding.shard) or holding.worker == me:
            continue
        owner = alive.get(holding.worker)
        if _is_free(holding, me, alive):
            step.claim.append(holding.shard)
        elif owner is not None and owner.listed is None and holding.move is None:
            step.ask[holding.shard] = holding.worker
    listed = alive[me].listed or frozenset()
    step.complete = listed <= step.owned


def _take_share(
    step: Step,
    me: bytes,
    holdings: Sequence[Holding],
    alive: Mapping[bytes, LiveWorker],
    *,
    joined: bool,
) -> None:
    listed = {shard for worker in alive.values() for shard in worker.listed or ()}
    fixed = {
        holding.shard
        for holding in holdings
        if holding.worker in alive and alive[holding.worker].listed
    }
    pool = [holding for holding in holdings if holding.shard not in listed | fixed]
    unlisted = sorted(live.worker for live in alive.values() if live.listed is None)
    sharing = [worker for worker in unlisted if not alive[worker].drained] or unlisted
    mine = len(
        [holding for holding in pool if holding.worker == me and holding.shard not in step.release]
    )
    for_me = [
        holding.shard
        for holding in holdings
        if holding.move and holding.move.target == me != holding.worker
    ]
    free = [holding.shard for holding in holdings if _is_free(holding, me, alive)]
    step.claim = [shard for shard in free if shard in for_me]
    if me not in sharing:  # drained
        step.complete = True
        return
    candidates = [
        holding.shard for holding in pool if holding.shard in free and holding.shard not in for_me
    ]
    # Each begins elsewhere, so that not all try for the same ones.
    start = len(candidates) * sharing.index(me) // len(sharing)
    room = math.ceil(len(pool) / len(sharing)) - mine - len(for_me)
    step.claim += (candidates[start:] + candidates[:start])[: max(room, 0)]
    least = len(pool) // len(sharing)
    step.complete = mine >= least and not step.claim
    planned = any(holding.move is not None and holding.move.planned for holding in holdings)
    missing = least - mine - len(set(step.claim) | set(for_me))
    if not joined and not planned and missing > 0:
        keeps = {worker: least if worker in sharing else 0 for worker in unlisted if worker != me}
        step.ask = _ask_richest(pool, keeps, missing)


def _ask_richest(
    pool: Sequence[Holding], keeps: Mapping[bytes, int], missing: int
) -> dict[int, bytes]:
    """Of whom to ask for which shards: always of who has most, and never below what it keeps."""
    settled = [holding for holding in pool if holding.move is None and holding.worker in keeps]
    has = Counter(holding.worker for holding in settled)
    asked: dict[int, bytes] = {}
    while len(asked) < missing and has:
        richest = max(has, key=lambda worker: (has[worker] - keeps[worker], worker))
        if has[richest] <= keeps[richest]:
            break
        shard = max(s.shard for s in settled if s.worker == richest and s.shard not in asked)
        asked[shard] = richest
        has[richest] -= 1
    return asked
