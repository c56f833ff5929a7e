"""Every recorded history replays exactly through stream, worker and Postgres, in each format.

The entries are written from the contract alone, and the results read with SQL alone.
"""

import asyncio
from collections.abc import Sequence

import pytest

from tests.histories import History, load_histories
from tests.ledgers import make_ledger
from tests.replaying import assert_as_recorded, create_accounts, replay

HISTORIES = load_histories()


async def check(dsn: str, redis_url: str, form: str, histories: Sequence[History]) -> None:
    """Histories through one ledger, side by side."""
    ledger = await make_ledger(dsn, redis_url, shard_count=1)
    await create_accounts(ledger, histories)
    async with ledger.working():
        await asyncio.gather(*(replay(ledger, history, form) for history in histories))
    await assert_as_recorded(ledger, histories)


@pytest.mark.parametrize("form", ["json", "mp", "bin"])
async def test_histories_replay_exactly(form: str, postgres_dsn: str, redis_url: str) -> None:
    await check(postgres_dsn, redis_url, form, [h for h in HISTORIES if h.profile != "expiry"])


async def test_histories_in_which_holds_lapse_replay_exactly(
    postgres_dsn: str, redis_url: str
) -> None:
    lapsing = [history for history in HISTORIES if history.profile == "expiry"]
    # Side by side: each waits for twelve seconds in all.
    await asyncio.gather(
        *(check(postgres_dsn, redis_url, form, lapsing) for form in ("json", "mp", "bin"))
    )
