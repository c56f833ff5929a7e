"""Bringing in what a batch needs before it can be decided."""

import numpy as np

from engine.book.book import Book
from engine.book.columns import Decision
from engine.deciding.decider import Decider
from engine.deciding.missing import Found
from engine.store.worker_store import WorkerStore


async def look_up(decider: Decider, book: Book, store: WorkerStore, *, locked: bool = False) -> int:
    """Advance until all is decided, or until the locks of others turn out to be needed.

    Args:
        decider: The batch.
        book: Its book, which says what is owned.
        store: Where to look.
        locked: Read within the locked flush that is under way.

    Returns:
        When the newest of what was read of other workers' stripes was written. What is decided
        on it must be later, so that an account's history is in order.
    """
    newest = 0
    owned = np.flatnonzero(book.owned).tolist()
    while (missing := decider.advance()) is not None:
        found = Found(ids=missing.ids)
        if missing.accounts:
            accounts = await store.load_accounts(
                missing.accounts, owned, book.writing_shard, locked=locked
            )
            found = found._replace(accounts=accounts)
            newest = max(newest, accounts.others_time)
        if missing.refresh:
            numbers, others, written = await store.load_others(missing.refresh, locked=locked)
            found = found._replace(refreshed=numbers, others=others)
            newest = max(newest, written)
        if missing.ids:
            records = await store.load_records(missing.ids, locked=locked)
            found = found._replace(records=records)
        decider.supply(found)
    return newest


async def finish_in_parts(
    decider: Decider, book: Book, store: WorkerStore, decided: list[Decision]
) -> None:
    """Decide a batch for good, cut where it asks for it; it has been looked up.

    Args:
        decider: The batch.
        book: Its book.
        store: Where to look.
        decided: What is decided is added to it, part by part.
    """
    if not decider.cuts:
        decided.append(decider.finish_batch())
        return
    for part in decider.parts():
        await look_up(part, book, store)
        await finish_in_parts(part, book, store, decided)
