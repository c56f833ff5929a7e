"""Bringing in what a batch needs before it can be decided."""

import numpy as np

from engine.book import Book
from engine.deciding import Deciding
from engine.store.postgres import PostgresStore


async def look_up(
    deciding: Deciding, book: Book, store: PostgresStore, *, locked: bool = False
) -> None:
    """Advance until all is decided, or until the locks of others turn out to be needed.

    Args:
        deciding: The batch.
        book: Its book, which takes in accounts.
        store: Where to look.
        locked: Read within the locked flush that is under way.
    """
    owned = np.flatnonzero(book.owned).tolist()
    while (needs := deciding.advance()) is not None:
        if needs.accounts:
            rows = await store.load_accounts(
                needs.accounts, owned, book.writing_shard, locked=locked
            )
            book.add_accounts(rows)
        if needs.ids:
            deciding.supply(needs.ids, await store.load_known(needs.ids, locked=locked))
        if needs.refresh:
            numbers, others = await store.load_others(needs.refresh, locked=locked)
            book.refresh(np.array(numbers, np.int64), np.array(others, np.int64).T)
