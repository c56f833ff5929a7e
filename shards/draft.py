"""Drawing a plan from what the ledger says now; changes nothing."""

import datetime as dt
from collections.abc import Mapping, Sequence

from engine.store.operations import open_operations
from shards.planning import Plan, make_plan, name_worker


async def draw_plan(
    postgres_dsn: str,
    moves: Mapping[int, str],
    drain: Sequence[str],
    weights: Mapping[int, float],
) -> Plan:
    """Ask the ledger and plan.

    Args:
        postgres_dsn: The ledger.
        moves: Shards that are to go to a worker of this name.
        drain: Workers that are to have none, by name.
        weights: Of shards, instead of what was measured.

    Raises:
        InputError: A name is that of no living worker, or there is none.
        TryAgainError: Postgres is out of reach.
    """
    async with open_operations(postgres_dsn) as operations:
        workers = await operations.workers()
        return make_plan(
            await operations.shards(),
            workers,
            made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            moves={shard: name_worker(name, workers).worker for shard, name in moves.items()},
            drain={name_worker(name, workers).worker for name in drain},
            weights=dict(weights),
            pause_seconds=await operations.pause_seconds(),
        )
