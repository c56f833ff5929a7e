"""`shards status`: each shard, who has it, how far it is, what waits."""

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, print_json, run_loop
from engine.commands.status import WaitingSecondsMax, show_shards, show_verdict
from engine.operating.health import gather_status


def status(
    waiting_seconds_max: WaitingSecondsMax = 30.0,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show each shard: its worker, its position, what waits.

    It ends with 1 when something is wrong.

    Example: shards status --json
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    found = run_loop(gather_status(addresses, waiting_seconds_max))
    if json:
        print_json(found.shards)
    else:
        show_shards(found.shards)
        show_verdict(found)
    raise typer.Exit(0 if found.healthy else 1)
