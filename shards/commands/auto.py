"""`shards auto`: keep the load even."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, out, print_json, run_loop
from engine.errors import InputError, TryAgainError
from engine.servers import Addresses
from engine.settings import stream_prefix
from engine.store.operations import open_operations
from engine.streams.streams import Streams
from shards.applying import Bounds, apply_plan
from shards.balancing import Balance
from shards.commands.apply import MaxLag, MaxPause, asker
from shards.draft import draw_plan
from shards.planning import Plan


def auto(
    threshold: Annotated[
        float,
        typer.Option("--threshold", min=1.01, help="Of the skew above which shards are moved."),
    ] = 1.3,
    every: Annotated[
        float, typer.Option("--every", min=0.1, metavar="SECONDS", help="How often to look.")
    ] = 10.0,
    max_pause: MaxPause = None,
    max_lag: MaxLag = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Even out the load whenever it has been uneven for a while.

    Until Ctrl-C or TERM. The skew is the busiest worker's load by the mean; it must be above the
    threshold twice in a row, and after a plan the loads are measured anew.

    Example: shards auto --threshold 1.3 --every 10
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    bounds = Bounds(1, max_pause, max_lag)
    run_loop(_until_signal(_keep_even(addresses, threshold, every, bounds, json=json)))


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    for end in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(end, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


async def _keep_even(
    addresses: Addresses, threshold: float, every: float, bounds: Bounds, *, json: bool
) -> None:
    balance = Balance(threshold)
    while True:
        try:
            made = await draw_plan(addresses.postgres_dsn, {}, [], {})
            acts = balance.should_act(made.skew_before) and bool(made.moves)
            if json:
                print_json({"skew": made.skew_before, "moves": len(made.moves) if acts else 0})
            else:
                out.print(f"skew {made.skew_before:.2f}")
            if acts:
                await _apply(addresses, made, bounds)
                balance.acted()
        except (InputError, TryAgainError) as error:
            # A worker went away meanwhile, or a server: look again.
            out.print(f"not evened out: {error}")
        await asyncio.sleep(every)


async def _apply(addresses: Addresses, made: Plan, bounds: Bounds) -> None:
    streams = Streams(addresses.redis_url, stream_prefix())
    try:
        await streams.open()
        async with open_operations(addresses.postgres_dsn) as operations:
            await apply_plan(operations, streams, made, bounds, f"{asker()} auto", lambda _: None)
    finally:
        await streams.close()
