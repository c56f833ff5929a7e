"""Plans: which shards should go where, so that no worker has much more to do than another.

Nothing here speaks to a server. What a shard weighs is what its owner measured of it, in
transfers a second, or what the operator says; where nothing is measured all weigh the same.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from engine.errors import InputError
from shards.seats import NOBODY, LiveSeat, ShardSeat

GAIN_MIN: Final = 0.02
"""A move must take this share of the mean load off the busiest worker."""

IDLE_SHARE: Final = 0.01
"""What a shard without load weighs, in shares of the mean one, so that such are spread too."""

PREFIX_MIN: Final = 4
"""A worker may be named by the first characters of its id, at least so many."""


class PlannedMove(msgspec.Struct, frozen=True):
    """One step: a shard goes from one worker to another."""

    shard: int
    source: str
    target: str
    weight: float


class Place(msgspec.Struct, frozen=True):
    """Who owned a shard when the plan was made."""

    shard: int
    worker: str


class Plan(msgspec.Struct, frozen=True):
    """A plan, as it is written to a file."""

    plan: str
    made_at: str
    topology: list[Place]
    moves: list[PlannedMove]
    drain: list[str]
    """Workers that take no shards by themselves from then on."""
    skew_before: float
    """The busiest worker's load by the mean load: 1 is even."""
    skew_after: float
    expected_pause_ms: float | None
    """Of each moved shard, as it was lately; None where none was moved yet."""


def name_worker(name: str, workers: Sequence[LiveSeat]) -> LiveSeat:
    """The living worker of a name: its id, or the beginning of it.

    Raises:
        InputError: There is none, or there are several.
    """
    found = [live for live in workers if live.worker.startswith(name.lower())]
    if len(name) < PREFIX_MIN or len(found) != 1:
        known = ", ".join(live.worker for live in workers) or "none"
        raise InputError(f"{name!r} names {len(found)} living workers; there are: {known}")
    return found[0]


def weigh(shards: Sequence[ShardSeat], weights: Mapping[int, float]) -> dict[int, float]:
    """What each shard weighs.

    Args:
        shards: All, as measured.
        weights: Said by an operator, which count instead.
    """
    measured = {seat.shard: seat.transfers_per_second for seat in shards} | dict(weights)
    mean = sum(measured.values()) / max(len(measured), 1)
    least = mean * IDLE_SHARE if mean else 1.0
    return {shard: max(weight, least) for shard, weight in measured.items()}


def skew_of(owners: Mapping[int, str], weights: Mapping[int, float], among: Sequence[str]) -> float:
    """The load of the busiest worker by the mean of all of them."""
    loads = _loads(owners, weights, among)
    mean = sum(loads.values()) / max(len(loads), 1)
    return max(loads.values(), default=0.0) / mean if mean else 1.0


def _loads(
    owners: Mapping[int, str], weights: Mapping[int, float], among: Sequence[str]
) -> dict[str, float]:
    loads = dict.fromkeys(among, 0.0)
    for shard, owner in owners.items():
        if owner in loads:
            loads[owner] += weights[shard]
    return loads


def make_plan(
    shards: Sequence[ShardSeat],
    workers: Sequence[LiveSeat],
    *,
    made_at: str,
    moves: Mapping[int, str] | None = None,
    drain: Collection[str] = (),
    weights: Mapping[int, float] | None = None,
    skew_max: float = 1.05,
    pause_seconds: float | None = None,
) -> Plan:
    """Plan moves: those that are asked for, else those that even out the load.

    Args:
        shards: All.
        workers: Those that are alive.
        made_at: When.
        moves: By shard, the id of the worker to move it to.
        drain: Ids of workers to take all shards from.
        weights: Of shards, where those measured are not to count.
        skew_max: Where the skew is not above it, nothing is evened out.
        pause_seconds: Of a move lately.

    Raises:
        InputError: What is asked for cannot be done.
    """
    weighed = weigh(shards, weights or {})
    before = {seat.shard: seat.worker for seat in shards}
    owners = dict(before)
    alive = {live.worker: live for live in workers}
    sharing = [live.worker for live in workers if live.shards is None and not live.drained]
    takers = [worker for worker in sharing if worker not in drain]
    for shard, target in (moves or {}).items():
        _check_move(shard, target, before, alive)
        owners[shard] = target
    leaving = [shard for shard in owners if owners[shard] in drain]
    for shard in sorted(leaving, key=lambda place: -weighed[place]):
        if not takers:
            raise InputError("no other worker could take the shards; start one, then drain")
        loads = _loads(owners, weighed, takers)
        owners[shard] = min(takers, key=lambda worker: (loads[worker], worker))
    if not moves and not drain:
        _even_out(owners, weighed, takers, skew_max)
    return Plan(
        str(uuid.uuid4()),
        made_at,
        [Place(shard, worker) for shard, worker in before.items()],
        [
            PlannedMove(shard, before[shard], owners[shard], weighed[shard])
            for shard in before
            if owners[shard] != before[shard]
        ],
        sorted(drain),
        skew_of(before, weighed, sharing),
        skew_of(owners, weighed, takers or sharing),
        None if pause_seconds is None else pause_seconds * 1000,
    )


def _check_move(
    shard: int, target: str, before: Mapping[int, str], alive: Mapping[str, LiveSeat]
) -> None:
    if shard not in before:
        raise InputError(f"there is no shard {shard}")
    listed = alive[target].shards
    if listed is not None and shard not in listed:
        raise InputError(
            f"worker {target} was told to work on other shards (--shards); start it without"
        )
    owner = alive.get(before[shard])
    if owner is not None and owner.shards is not None and listed is None:
        raise InputError(
            f"shard {shard} is worker {owner.worker}'s, which was told to work on it (--shards) "
            "and would take it back; drain that worker, or start it without"
        )


def _even_out(
    owners: dict[int, str], weights: Mapping[int, float], takers: Sequence[str], skew_max: float
) -> None:
    """Move shards from the busiest worker to the idlest as long as that is worth it."""
    for shard, owner in sorted(owners.items()):
        if owner == NOBODY and takers:
            loads = _loads(owners, weights, takers)
            owners[shard] = min(takers, key=lambda worker: (loads[worker], worker))
    for _ in range(len(owners)):
        loads = _loads(owners, weights, takers)
        if len(loads) < 2 or skew_of(owners, weights, takers) <= skew_max:
            return
        busiest = max(loads, key=lambda worker: (loads[worker], worker))
        idlest = min(loads, key=lambda worker: (loads[worker], worker))
        mean = sum(loads.values()) / len(loads)

        def after(shard: int, high: float = loads[busiest], low: float = loads[idlest]) -> float:
            return max(high - weights[shard], low + weights[shard])

        best = min(
            (shard for shard, owner in owners.items() if owner == busiest),
            key=lambda shard: (after(shard), shard),
        )
        if after(best) > loads[busiest] - GAIN_MIN * mean:
            return
        owners[best] = idlest
