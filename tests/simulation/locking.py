"""Row locks, waits for transactions, deadlocks: who waits for whom."""

from collections import deque
from typing import Any, Literal

import asyncpg

from tests.simulation.tables import Transaction

Mode = Literal["update", "key share"]


class RowLock:
    """The lock of one row, with its queue, first come first served."""

    def __init__(self) -> None:
        self.holders: dict[Transaction, Mode] = {}
        self.queue: deque[tuple[Transaction, Mode, Any]] = deque()

    def _fits(self, transaction: Transaction, mode: Mode) -> bool:
        others = [held for holder, held in self.holders.items() if holder is not transaction]
        return not others or (mode == "key share" and "update" not in others)

    def take(self, transaction: Transaction, mode: Mode) -> bool:
        """Take it, if that needs no waiting."""
        mine = self.holders.get(transaction)
        if mine in ("update", mode):
            return True
        if self._fits(transaction, mode) and (not self.queue or mine is not None):
            self._give(transaction, mode)
            return True
        return False

    def _give(self, transaction: Transaction, mode: Mode) -> None:
        self.holders[transaction] = mode
        transaction.locks[self] = None

    def enqueue(self, transaction: Transaction, mode: Mode, future: Any) -> None:
        """Wait in the queue; the future is done once the lock is the transaction's."""
        self.queue.append((transaction, mode, future))

    def leave(self, future: Any) -> None:
        """Wait no longer."""
        self.queue = deque(one for one in self.queue if one[2] is not future)
        self._serve()

    def release(self, transaction: Transaction) -> None:
        """Give it to whoever waits."""
        self.holders.pop(transaction, None)
        self._serve()

    def _serve(self) -> None:
        while self.queue:
            transaction, mode, future = self.queue[0]
            if future.done():
                self.queue.popleft()
                continue
            if not self._fits(transaction, mode):
                return
            self.queue.popleft()
            self._give(transaction, mode)
            future.set_result(None)

    def blockers(self, future: Any) -> list[Transaction]:
        """Whom a waiter waits for: holders and those before it in the queue."""
        mine = next((one[0] for one in self.queue if one[2] is future), None)
        found = [holder for holder in self.holders if holder is not mine]
        for transaction, _, other in self.queue:
            if other is future:
                break
            found.append(transaction)
        return found


def is_deadlocked(transaction: Transaction) -> bool:
    """Whether a transaction waits for itself, through others."""
    seen: set[int] = set()
    stack = [transaction]
    while stack:
        waiting = stack.pop()
        for blocker in waiting.blockers() if waiting.blockers is not None else ():
            if blocker is transaction:
                return True
            if blocker.number not in seen:
                seen.add(blocker.number)
                stack.append(blocker)
    return False


def unique_violation(constraint: str, table: str) -> asyncpg.UniqueViolationError:
    """What Postgres says about a key that is taken."""
    error = asyncpg.UniqueViolationError(
        f'duplicate key value violates unique constraint "{constraint}"'
    )
    error.constraint_name = constraint
    error.table_name = table
    return error


def time_refused() -> asyncpg.CheckViolationError:
    """What the ledger says about a flush that is ahead of its clock."""
    error = asyncpg.CheckViolationError("a flush is ahead of the clock of Postgres")
    error.constraint_name = "flushes_time"
    error.table_name = "flushes"
    return error
