"""`shards abort`: move no more."""

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, out, print_json, run_loop
from engine.operating.phrases import describe_shards
from engine.servers import Addresses
from engine.store.operations import open_operations
from shards.commands.apply import asker


def abort(
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """End all plans that are being applied.

    What is half moved is moved, the rest stays.

    Example: shards abort
    """
    plans, shards = run_loop(_abort(find_addresses(postgres_dsn, redis_url, data)))
    if json:
        print_json({"plans": plans, "shards": shards})
    else:
        out.print(f"{len(plans)} plans are aborted.")
        if shards:
            out.print(f"Asked for and not moved: {describe_shards(shards)}")


async def _abort(addresses: Addresses) -> tuple[list[str], list[int]]:
    async with open_operations(addresses.postgres_dsn) as operations:
        return await operations.abort(f"aborted by {asker()}")
