"""Flushes on their way to Postgres: one in flight, and another made ready meanwhile."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

from engine.book.book import Book
from engine.book.postings import post_decisions
from engine.errors import ChainMovedError, ConflictError, InvariantBroken
from engine.ledger.nouns import Position
from engine.store.rows import Flush, ShardProgress
from engine.store.worker_store import WorkerStore
from engine.worker.open_flush import OpenFlush
from engine.worker.replies import Reply, positions_of


class Chain:
    """The end of a worker's chain, and what is about to be added to it.

    Args:
        store: The ledger.
        on_committed: Called with each flush that is committed, and what is to be told of it.
    """

    def __init__(
        self, store: WorkerStore, on_committed: Callable[[Flush, list[Reply]], None]
    ) -> None:
        self._store = store
        self._on_committed = on_committed
        self._numbers: deque[int] = deque()
        self._sealed: tuple[OpenFlush, Flush] | None = None
        self._sent: OpenFlush | None = None
        self.in_flight: asyncio.Task[None] | None = None
        self.sequence = 0
        """The next number in the worker's chain."""
        self.reached: dict[int, Position] = {}
        """How far each shard gets by all that is on its way."""

    async def begin(self, sequence: int, number: int, owned: Mapping[int, ShardProgress]) -> None:
        """Go on from here; nothing is under way.

        Args:
            sequence: The next number in the chain.
            number: Reserved, above that of everything written.
            owned: The shards of the worker.
        """
        self.sequence = sequence
        # One flush may be made ready while another is in flight.
        self._numbers = deque([number, await self._store.reserve_number()])
        self.reached = {shard: one.position for shard, one in owned.items()}
        self._sealed = None

    @property
    def are_under_way(self) -> bool:
        """Whether anything is made ready or in flight."""
        return self._sealed is not None or self.in_flight is not None

    @property
    def is_one_ready(self) -> bool:
        """Whether one is made ready."""
        return self._sealed is not None

    def uncommitted(self) -> list[OpenFlush]:
        """What is under way, the oldest first."""
        sealed = [self._sealed[0]] if self._sealed is not None else []
        return [self._sent, *sealed] if self._sent is not None else sealed

    def seal(self, opened: OpenFlush, book: Book) -> None:
        """Make a flush ready to be sent."""
        posted = post_decisions(book, opened.decided)
        positions = positions_of(posted, opened.arrivals, self.reached)
        flush = Flush(
            self.sequence,
            self._numbers.popleft(),
            opened.time,
            opened.decided,
            posted,
            positions,
            opened.dead_letters,
        )
        self._store.prepare(flush)
        self.sequence += 1
        self.reached |= positions
        book.begin_flush()
        self._sealed = opened, flush

    def send(self) -> None:
        """Send the one that is ready."""
        if self._sealed is None or self.in_flight is not None:
            raise InvariantBroken("there is nothing ready to be sent, or something in flight")
        self._sent, flush = self._sealed
        self._sealed = None
        self.in_flight = asyncio.create_task(self._write(flush, self._sent.replies))

    async def _write(self, flush: Flush, replies: list[Reply]) -> None:
        self._numbers.append(await self._store.flush(flush))
        self._on_committed(flush, replies)

    async def await_commit(self, book: Book) -> None:
        """Wait for the one in flight and take its failure, if it failed."""
        if self.in_flight is None:
            return
        flight = self.in_flight
        await asyncio.wait([flight])
        self.in_flight = None
        await flight
        self._sent = None
        book.end_flush()

    @contextlib.asynccontextmanager
    async def recheck_ownership(self, book: Book) -> AsyncIterator[None]:
        """Deciding by a book that may be out of date, which what is read anew may contradict.

        Raises:
            ChainMovedError: What cannot be was found, and it is no wonder, since another has
                written in this worker's chain.
            ConflictError: What was in flight was not committed; or what is made ready may be what
                cannot be, as where an id stands in two flushes, of which only one is committed.
        """
        try:
            yield
        except InvariantBroken as error:
            await self.await_commit(book)
            ownership = await self._store.load_ownership()
            if ownership.sequence + 1 + self.is_one_ready != self.sequence:
                raise ChainMovedError(f"another wrote in this worker's chain: {error}") from error
            if self.is_one_ready:
                raise ConflictError(f"what was decided ahead cannot be: {error}") from error
            raise

    async def take_back(self) -> list[OpenFlush]:
        """Give up all that is under way; returns what of it is not committed, in order."""
        await self.close()
        if self.in_flight is not None and self.in_flight.exception() is None:
            self._sent = None
        self.in_flight = None
        given_up = self.uncommitted()
        self._sent = self._sealed = None
        return given_up

    async def close(self) -> None:
        """Wait for the one in flight, whatever becomes of it: it may be committed."""
        if self.in_flight is not None:
            await asyncio.wait([self.in_flight])
            self.in_flight.exception()
