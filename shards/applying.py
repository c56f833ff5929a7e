"""Applying a plan: a few moves at a time, each asked for in a row that the workers act upon.

The workers do the moving, so a command that dies in between leaves nothing half done: what was
asked for is finished, and applying the plan once more goes on with the rest.
"""

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from engine.errors import InputError, TryAgainError
from engine.store.operations import MoveRecord, Operations
from engine.streams.streams import Streams
from shards.planning import Plan, PlannedMove
from shards.seats import NOBODY, ShardSeat

LOOK_SECONDS: Final = 0.02
STALLED_SECONDS_MAX: Final = 30.0
"""Where nothing moves for so long, the plan is given up."""


class Bounds(msgspec.Struct, frozen=True):
    """How careful to be."""

    parallel: int = 2
    """Shards on their way at the same time."""
    pause_seconds_max: float | None = None
    """No more is asked for once a shard stood still for longer."""
    lag_seconds_max: float | None = None
    """Nothing is asked for while an entry of the shard waits for longer."""


class PlanResult(msgspec.Struct, frozen=True):
    """What came of a plan."""

    plan: str
    moved: list[MoveRecord]
    pause_median_ms: float | None
    pause_max_ms: float | None


def read_plan(text: bytes) -> Plan:
    """A plan from its file.

    Raises:
        InputError: It is none.
    """
    try:
        return msgspec.json.decode(text, type=Plan)
    except msgspec.DecodeError as error:
        raise InputError(f"this is no plan: {error}; make one with `shards plan`") from error


def check_topology(
    plan: Plan, shards: Sequence[ShardSeat], records: Mapping[int, MoveRecord]
) -> None:
    """See that all shards are where the plan has them, but for its own moves.

    Raises:
        InputError: One is not: the plan is of another topology.
    """
    planned = {place.shard: place.worker for place in plan.topology}
    if planned.keys() != {seat.shard for seat in shards}:
        raise InputError("the plan is for another ledger: it has other shards")
    for seat in shards:
        record = records.get(seat.shard)
        right = {planned[seat.shard]}
        if record is not None and record.state == "done":
            right = {record.target}
        elif record is not None and record.is_open:
            right |= {NOBODY, record.target}
        if seat.worker not in right:
            raise InputError(
                f"the plan is of another topology: shard {seat.shard} was worker "
                f"{planned[seat.shard]}'s and is {seat.worker}'s by now; make a new plan"
            )


async def apply_plan(
    operations: Operations,
    streams: Streams,
    plan: Plan,
    bounds: Bounds,
    by: str,
    on_move: Callable[[MoveRecord], None],
) -> PlanResult:
    """Move what is to be moved, and return when all is.

    Args:
        operations: The ledger.
        streams: Open, where `bounds` limit the lag.
        plan: What to do; what was done of it before is not done again.
        bounds: How careful to be.
        by: Who asks, for the record.
        on_move: Called with each move whenever it got further.

    Raises:
        InputError: The plan is of another topology, or it is over.
        TryAgainError: It came to nothing in the middle, for the reason that is given.
    """
    records = await operations.moves(plan.plan)
    check_topology(plan, await operations.shards(), records)
    await _check_targets(operations, plan, records)
    document = msgspec.json.encode(plan).decode()
    if not await operations.begin_plan(plan.plan, document, by):
        state = await operations.plan_state(plan.plan)
        if state != "done":
            raise InputError(f"this plan was {state}; make a new one")
        return _applied(plan, records)
    try:
        return await _move_all(operations, streams, plan, bounds, by, on_move)
    except TryAgainError as error:
        await operations.end_plan(plan.plan, "failed", str(error))
        raise


async def _check_targets(
    operations: Operations, plan: Plan, records: Mapping[int, MoveRecord]
) -> None:
    alive = {live.worker for live in await operations.workers()}
    for step in plan.moves:
        record = records.get(step.shard)
        if step.target not in alive and (record is None or record.state != "done"):
            raise InputError(f"worker {step.target} is not alive any more; make a new plan")


async def _move_all(
    operations: Operations,
    streams: Streams,
    plan: Plan,
    bounds: Bounds,
    by: str,
    on_move: Callable[[MoveRecord], None],
) -> PlanResult:
    if plan.drain:
        await operations.drain(plan.drain)
    loop = asyncio.get_running_loop()
    moved_at = loop.time()
    seen = await operations.moves(plan.plan)
    tried = {shard for shard, record in seen.items() if record.is_open or record.state == "done"}
    while True:
        records = await operations.moves(plan.plan)
        for shard, record in records.items():
            if seen.get(shard) != record:
                moved_at = loop.time()
                on_move(record)
        seen = records
        _check_moves(records, tried, bounds)
        if await operations.plan_state(plan.plan) == "aborted":
            raise TryAgainError("the plan was aborted; what was half moved is moved")
        on_their_way = [record for record in records.values() if record.is_open]
        waiting = [step for step in plan.moves if step.shard not in tried]
        if not waiting and not on_their_way:
            await operations.end_plan(plan.plan, "done", None)
            return _applied(plan, records)
        room = bounds.parallel - len(on_their_way)
        if waiting and room > 0:
            ready = await _not_behind(operations, streams, waiting, bounds.lag_seconds_max)
            steps = [(step.shard, step.source, step.target) for step in ready[:room]]
            await operations.ask(plan.plan, steps, by)
            tried |= {shard for shard, _, _ in steps}
            continue
        if loop.time() - moved_at > STALLED_SECONDS_MAX:
            await operations.abort(f"nothing moved for {STALLED_SECONDS_MAX:.0f} s", plan.plan)
            raise TryAgainError(
                f"nothing moved for {STALLED_SECONDS_MAX:.0f} s: look at the logs of the workers; "
                "the plan is aborted"
            )
        await asyncio.sleep(LOOK_SECONDS)


def _check_moves(records: Mapping[int, MoveRecord], tried: set[int], bounds: Bounds) -> None:
    for shard, record in records.items():
        if shard in tried and record.state in {"failed", "aborted"}:
            raise TryAgainError(f"shard {shard} was not moved: {record.why}")
        pause, most = record.pause_seconds, bounds.pause_seconds_max
        if record.state == "done" and pause is not None and most is not None and pause > most:
            raise TryAgainError(
                f"shard {shard} stood still for {pause * 1000:.0f} ms, longer than allowed; "
                "apply the plan again with a longer --max-pause to go on"
            )


async def _not_behind(
    operations: Operations,
    streams: Streams,
    steps: Sequence[PlannedMove],
    lag_seconds_max: float | None,
) -> list[PlannedMove]:
    """The steps whose shards' entries do not wait for too long."""
    if lag_seconds_max is None:
        return list(steps)
    wanted = {step.shard for step in steps}
    seats = [seat for seat in await operations.shards() if seat.shard in wanted]
    waiting = await streams.waiting({seat.shard: seat.position for seat in seats})
    ready = [
        step for step in steps if (waiting[step.shard].oldest_seconds or 0.0) <= lag_seconds_max
    ]
    if not ready:
        await asyncio.sleep(LOOK_SECONDS)
    return ready


def _applied(plan: Plan, records: Mapping[int, MoveRecord]) -> PlanResult:
    moved = [records[step.shard] for step in plan.moves if step.shard in records]
    pauses = [record.pause_seconds * 1000 for record in moved if record.pause_seconds is not None]
    median = statistics.median(pauses) if pauses else None
    return PlanResult(plan.plan, moved, median, max(pauses, default=None))
