"""`engine init`: make the ledger."""

from typing import Annotated, TypeAlias

import typer

from engine.commands.addresses import Data, OwnerDsn, find_owner_postgres
from engine.commands.screen import Json, out, print_json, run_loop
from engine.ledger.nouns import SHARD_COUNT_MAX
from engine.store.migrate import migrate
from engine.store.reports import open_reports


def check_shard_count(count: int | None) -> int | None:
    """Refuse what can never be a number of shards."""
    if count is not None and (not 1 <= count <= SHARD_COUNT_MAX or count & (count - 1)):
        raise typer.BadParameter(f"{count}: give a power of two from 1 to {SHARD_COUNT_MAX}")
    return count


ShardCount: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--shards",
        callback=check_shard_count,
        help="Into how many shards a new ledger is cut: a power of two up to 1024; 16 if not "
        "given. It never changes afterwards.",
    ),
]


def init(
    shards: ShardCount = None,
    postgres_dsn: OwnerDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make the ledger in Postgres, or bring it up to date.

    Safe to repeat. Only the role that owns the ledger may: that which made it.

    Example: engine init --shards 16
    """
    applied, shard_count = run_loop(make_ledger(find_owner_postgres(postgres_dsn, data), shards))
    if json:
        print_json({"applied": applied, "shards": shard_count})
    elif applied:
        out.print(f"The ledger is up to date, with {shard_count} shards. Applied now:")
        for name in applied:
            out.print(f"  {name}")
    else:
        out.print(f"Nothing to do: the ledger is up to date, with {shard_count} shards.")


async def make_ledger(postgres_dsn: str, shards: int | None) -> tuple[list[str], int]:
    """Apply what is not applied yet.

    Returns:
        The migrations applied now, and how many shards there are.
    """
    applied = await migrate(postgres_dsn, shards)
    async with open_reports(postgres_dsn) as reports:
        return applied, await reports.shard_count()
