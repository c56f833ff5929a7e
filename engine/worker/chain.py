"""Flushes on their way to Postgres: one in flight, and another made ready meanwhile.

Theory of operation
-------------------
A worker's flushes are a chain: each takes the next number, `ledger.flushes` has (worker, sequence)
as its key, and whoever changes what this worker's memory rests on takes that number first. So a
flush that is committed proves that nobody came between; one that is not proves nothing, and all
that was decided after it goes with it.

A flush is in one of these states. At most one is in each of the first three.

    state       what there is of it                      what comes next, and what triggers it
    ---------   --------------------------------------   ------------------------------------------
    open        `OpenFlush`: decisions in the book,      sealed: it is full, or nothing is in
                replies; it may still grow               flight (`seal`); taken back
    sealed      `Flush`: postings with their versions,   sent: the one before it is committed
                a number, COPY laid out; it is final     (`send`); taken back
    sent        a task that writes it and waits for      committed, unknown; or refused by Postgres:
                COMMIT; the connection is its own        taken back (`await_commit` raises)
    committed   a row in the chain                       its report, answers, trimming
    unknown     COMMIT was sent, no answer came          committed or refused: found out within the
                                                         task (`store.commit`), by nobody else
    taken back  its entries, in order (`take_back`)      they are decided again, as if just read

What is awkward:

- A flush that was sent may be committed though we were told that it failed, or told nothing.
  `take_back` therefore asks the task whether it ended well before it gives anything up.
- Numbers are reserved beforehand, one for each flush that can be under way, since to ask for one
  takes the connection on which the flush in flight is being written.
- What is sealed is built on what was sent. It cannot outlive it, and needs no rule of its own: its
  number in the chain would be one too high.
- A decision can be impossible only because the book is out of date: see `attempts`.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from engine.book.book import Book
from engine.book.postings import post_decisions
from engine.errors import InvariantBroken
from engine.store.rows import Flush
from engine.store.worker_store import WorkerStore
from engine.worker.flush_report import Phases
from engine.worker.membership import Membership
from engine.worker.open_flush import OpenFlush
from engine.worker.replies import Reply, positions_of, released_of, resolved_of, waiting_of
from engine.worker.seal_checks import check_flush


class Chain:
    """The end of a worker's chain, and what is about to be added to it.

    Args:
        store: The ledger.
        membership: How far the worker's shards get is noted in it.
        on_committed: Called with each flush that is committed, what is to be told of it, and when
            it passed from state to state.
        on_landed: Called when the one in flight has ended, however it did.
    """

    def __init__(
        self,
        store: WorkerStore,
        membership: Membership,
        on_committed: Callable[[Flush, list[Reply], Phases], None],
        on_landed: Callable[[object], None],
    ) -> None:
        self._store = store
        self._on_landed = on_landed
        self._membership = membership
        self._on_committed = on_committed
        self._numbers: deque[int] = deque()
        self._sealed: tuple[OpenFlush, Flush] | None = None
        self._sent: OpenFlush | None = None
        self.in_flight: asyncio.Task[None] | None = None
        self.sequence = 0
        """The next number in the worker's chain."""

    async def begin(self, sequence: int, number: int) -> None:
        """Go on from here; nothing is under way.

        Args:
            sequence: The next number in the chain.
            number: Reserved, above that of everything written.
        """
        self.sequence = sequence
        # One flush may be made ready while another is in flight.
        self._numbers = deque([number, await self._store.reserve_number()])
        self._membership.forget_uncommitted()
        self._sealed = None

    @property
    def is_under_way(self) -> bool:
        """Whether anything is made ready or in flight."""
        return self._sealed is not None or self.in_flight is not None

    @property
    def is_ready(self) -> bool:
        """Whether a flush is made ready."""
        return self._sealed is not None

    def uncommitted(self) -> list[OpenFlush]:
        """What is under way, the oldest first."""
        sealed = [self._sealed[0]] if self._sealed is not None else []
        return [self._sent, *sealed] if self._sent is not None else sealed

    def seal(self, opened: OpenFlush, book: Book) -> None:
        """Make a flush ready to be sent. Raises InvariantBroken as `check_flush`."""
        posted = post_decisions(book, opened.decided)
        check_flush(opened.decided, posted)
        positions = positions_of(posted, opened.arrivals, self._membership.reached)
        flush = Flush(
            self.sequence,
            self._numbers.popleft(),
            opened.time,
            opened.decided,
            posted,
            positions,
            resolved_of(positions, opened.resolved_until, self._membership.shards),
            opened.dead_letters,
        )
        if opened.gathers_waiting:
            flush.waiting = waiting_of(opened.arrivals)
            flush.released = released_of(opened.arrivals)
        self._store.prepare(flush)
        self.sequence += 1
        self._membership.reach(positions)
        book.begin_flush()
        opened.phases.sealed = asyncio.get_running_loop().time()
        self._sealed = opened, flush

    def send(self) -> None:
        """Send the one that is ready."""
        if self._sealed is None or self.in_flight is not None:
            raise InvariantBroken("there is nothing ready to be sent, or something in flight")
        self._sent, flush = self._sealed
        self._sealed = None
        self._sent.phases.sent = asyncio.get_running_loop().time()
        self.in_flight = asyncio.create_task(self._write_flush(flush, self._sent))
        self.in_flight.add_done_callback(self._on_landed)

    async def _write_flush(self, flush: Flush, opened: OpenFlush) -> None:
        self._numbers.append(await self._store.flush(flush))
        self._on_committed(flush, opened.replies, opened.phases)

    async def await_commit(self, book: Book) -> None:
        """Wait for the one in flight and take its failure, if it failed."""
        if self.in_flight is None:
            return
        flight = self.in_flight
        if not flight.done():
            await asyncio.wait([flight])
        self.in_flight = None
        await flight
        self._sent = None
        book.end_flush()

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
            if not self.in_flight.cancelled():
                self.in_flight.exception()

    def abandon(self) -> None:
        """Wait for the one in flight no longer; its connection is about to be cut."""
        if self.in_flight is not None:
            self.in_flight.cancel()
