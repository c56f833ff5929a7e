"""Bringing in what a batch needs before it can be decided."""

import numpy as np

from engine.book.book import Book
from engine.book.columns import Decision
from engine.deciding.decider import Decider
from engine.store.worker_store import WorkerStore


async def look_up(
    deciding: Decider, book: Book, store: WorkerStore, *, locked: bool = False
) -> int:
    """Advance until all is decided, or until the locks of others turn out to be needed.

    Args:
        deciding: The batch.
        book: Its book, which takes in accounts.
        store: Where to look.
        locked: Read within the locked flush that is under way.

    Returns:
        When the newest of what was read of other workers' stripes was written. What is decided
        on it must be later, so that an account's history is in order.
    """
    newest = 0
    owned = np.flatnonzero(book.owned).tolist()
    while (needs := deciding.advance()) is not None:
        if needs.accounts:
            rows = await store.load_accounts(
                needs.accounts, owned, book.writing_shard, locked=locked
            )
            book.add_accounts(rows)
            newest = max([newest, *(row.others_time for row in rows)])
        if needs.refresh:
            numbers, others, written = await store.load_others(needs.refresh, locked=locked)
            newest = max(newest, written)
            book.refresh(np.array(numbers, np.int64), np.array(others, np.int64).T)
        if needs.ids:
            deciding.supply(needs.ids, await store.load_records(needs.ids, locked=locked))
    return newest


async def finish_in_parts(
    deciding: Decider, book: Book, store: WorkerStore, decided: list[Decision]
) -> None:
    """Decide a batch for good, cut where it asks for it; it has been looked up.

    Args:
        deciding: The batch.
        book: Its book.
        store: Where to look.
        decided: What is decided is added to it, part by part.
    """
    if not deciding.cuts:
        decided.append(deciding.finish())
        return
    for part in deciding.parts():
        await look_up(part, book, store)
        await finish_in_parts(part, book, store, decided)
