"""A worker that is cancelled ends, whatever else happens on the way out."""

import asyncio
from typing import Any

from engine.errors import TryAgainError
from tests.bounds import CONDITION_SECONDS_MAX
from tests.ledgers import make_ledger, until


async def test_a_worker_that_is_cancelled_ends(postgres_dsn: str, redis_url: str) -> None:
    """Also where a server is found away in the same moment: it begins no other session."""
    ledger = await make_ledger(postgres_dsn, redis_url)
    worker = ledger.worker()
    wait = worker.store.ownership.wait_for_changes

    async def away(*args: Any) -> Any:
        try:
            return await wait(*args)
        except asyncio.CancelledError:
            raise TryAgainError("the connection is gone") from None

    worker.store.ownership.wait_for_changes = away  # type: ignore[method-assign]
    task = asyncio.create_task(worker.run())
    await until(worker.ready.is_set, "the worker")
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.wait([task], timeout=CONDITION_SECONDS_MAX)
    was_done = task.done()
    worker.stop()
    await asyncio.wait([task], timeout=CONDITION_SECONDS_MAX)
    assert was_done, "it began another session"
    assert task.cancelled()
