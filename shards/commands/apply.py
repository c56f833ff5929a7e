"""`shards apply`: move shards as planned, while traffic flows."""

import getpass
import os
import socket
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.progress import Bar, progress_bar
from engine.commands.screen import Json, err, out, print_json, run_loop
from engine.errors import InputError
from engine.ledger.nouns import SHARD_COUNT_MAX
from engine.servers import Addresses
from engine.settings import stream_prefix
from engine.store.operations import MoveRecord, open_operations
from engine.streams.streams import Streams
from shards.applying import Bounds, PlanResult, apply_plan, read_plan
from shards.commands.plan import short
from shards.planning import Plan

Parallel: TypeAlias = Annotated[
    int,
    typer.Option(
        "--parallel", min=1, max=SHARD_COUNT_MAX, help="How many shards are moved at the same time."
    ),
]
MaxPause: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--max-pause",
        min=0,
        metavar="SECONDS",
        help="Stop once a shard stood still for longer.",
    ),
]
MaxLag: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--max-lag",
        min=0,
        metavar="SECONDS",
        help="Move no shard while an entry of it has waited for longer.",
    ),
]


def apply(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="From `shards plan --out PLAN`.")],
    parallel: Parallel = 2,
    max_pause: MaxPause = None,
    max_lag: MaxLag = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Move shards as planned, while traffic flows.

    It ends when all are moved, with 1 when one is not. A plan of another topology is
    refused. The workers do the moving: when this command dies, run it again with the
    same plan.

    Example: shards apply plan.json --parallel 4
    """
    try:
        made = read_plan(plan.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {plan}: {error}") from error
    addresses = find_addresses(postgres_dsn, redis_url, data)
    show_applied(apply_now(addresses, made, Bounds(parallel, max_pause, max_lag)), json=json)


def apply_now(addresses: Addresses, made: Plan, bounds: Bounds) -> PlanResult:
    """Apply a plan, with progress."""
    with progress_bar("moving shards", len(made.moves)) as bar:
        return run_loop(_apply(addresses, made, bounds, bar))


async def _apply(addresses: Addresses, made: Plan, bounds: Bounds, bar: Bar) -> PlanResult:
    def tell(record: MoveRecord) -> None:
        if not record.is_open:
            bar.advance(1)
        pause = record.pause_seconds
        stood = f", stood still for {pause * 1000:.0f} ms" if pause is not None else ""
        why = f": {record.why}" if record.why else ""
        where = f"{short(record.source)} to {short(record.target)}"
        err.print(f"shard {record.shard} from {where}: {record.state}{stood}{why}")

    streams = Streams(addresses.redis_url, stream_prefix())
    try:
        if bounds.lag_seconds_max is not None:
            await streams.open()
        async with open_operations(addresses.postgres_dsn) as operations:
            return await apply_plan(operations, streams, made, bounds, asker(), tell)
    finally:
        await streams.close()


def asker() -> str:
    """Who asks, for the record: by name, or by number where the machine does not know it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def show_applied(applied: PlanResult, *, json: bool) -> None:
    """Print what was done."""
    if json:
        print_json(applied)
    elif applied.pause_median_ms is None:
        out.print(f"{len(applied.moved)} shards are moved.")
    else:
        out.print(
            f"{len(applied.moved)} shards are moved. They stood still for "
            f"{applied.pause_median_ms:.0f} ms (median), {applied.pause_max_ms:.0f} ms at most."
        )
