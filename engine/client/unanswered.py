"""Why no outcome came within the time limit: something may be frozen, and then it is told which."""

import asyncio
from collections.abc import Sequence
from typing import Final

from engine.errors import OutcomeUnknownError, TryAgainError, WaitsForThawError
from engine.ledger.freezes import WaitingForThaw
from engine.store.client_store import ClientStore

IDS_MAX: Final = 10_000
"""So many ids of a call are looked up."""
LOOK_SECONDS_MAX: Final = 5.0


async def explain_unanswered(
    store: ClientStore, ids: Sequence[bytes], error: OutcomeUnknownError
) -> OutcomeUnknownError:
    """The error to raise: that they wait for a thaw, where some do; else the one given.

    Args:
        store: The ledger.
        ids: Of the transfers that were sent.
        error: That no outcome came.
    """
    try:
        async with asyncio.timeout(LOOK_SECONDS_MAX):
            waiting = await store.waiting(ids[:IDS_MAX])
    except (TryAgainError, TimeoutError):
        return error
    if not waiting:
        return error
    return WaitsForThawError(
        f"{len(waiting)} of {len(ids)} transfers wait: {_describe(next(iter(waiting.values())))}. "
        "They are decided once that is thawed, and `outcome(id)` tells how; until then sending "
        f"them again changes nothing ({error})"
    )


def _describe(freeze: WaitingForThaw) -> str:
    return f"{freeze.kind} {freeze.what} is frozen, by {freeze.by} ({freeze.reason})"
