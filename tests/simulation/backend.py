"""A backend of the simulated Postgres: it runs one client's statements, one after the other."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from engine.store.ledger_checks import CLOCK_SECONDS_MAX
from tests.simulation.copies import BadCopyError, read_copy
from tests.simulation.database import DEADLOCK_SECONDS, Database
from tests.simulation.locking import Mode, is_deadlocked, time_refused, unique_violation
from tests.simulation.loop import later, spawn
from tests.simulation.statements import STATEMENTS
from tests.simulation.tables import Index, Row, Snapshot, Table, Transaction, Version

CLOCK_MICROSECONDS_MAX = round(CLOCK_SECONDS_MAX * 1_000_000)

CONTROL = ("BEGIN", "COMMIT", "ROLLBACK")


class Execution:
    """One statement under way: what it sees, and what it may do."""

    def __init__(self, backend: "Backend", transaction: Transaction) -> None:
        self.backend = backend
        self.database = backend.database
        self.transaction = transaction
        self.snapshot = Snapshot(len(self.database.commits), transaction)

    def table(self, name: str) -> Table:
        return self.database.tables[name]

    def find(self, table: str, index: str, key: Any) -> list[Row]:
        return self.table(table).find(self.snapshot, index, key)

    def one(self, table: str, index: str, key: Any) -> Row | None:
        return self.table(table).one(self.snapshot, index, key)

    async def lock(self, table: str, key: Any, mode: Mode = "update") -> None:
        """Lock a row, once nobody else has it."""
        lock = self.database.row_lock(table, key)
        if lock.take(self.transaction, mode):
            return
        future = asyncio.get_running_loop().create_future()
        lock.enqueue(self.transaction, mode, future)
        try:
            await self.backend.wait(self.transaction, future, lambda: lock.blockers(future))
        finally:
            lock.leave(future)

    async def insert(self, name: str, row: Row, *, or_nothing: bool = False) -> bool:
        """Insert a row; waits for others that are inserting its keys.

        Returns:
            Whether it was inserted.

        Raises:
            UniqueViolationError: The key is taken, and not `or_nothing`.
        """
        if name == "flushes":
            self._refuse_time(row["time"])
        table = self.table(name)
        version = Version(row, self.transaction)
        entered: list[Index] = []
        refused: Exception | None = None
        try:
            for index in table.unique:
                if await self._is_taken(index, row):
                    bare = index.name.rpartition(".")[2]
                    refused = None if or_nothing else unique_violation(bare, name)
                    break
                index.add(version)
                entered.append(index)
        finally:
            if len(entered) < len(table.unique):
                for index in entered:
                    index.remove(version)
        if refused is not None:
            raise refused
        if len(entered) < len(table.unique):
            return False
        table.keep(version)
        return True

    def _refuse_time(self, time: int) -> None:
        """As the trigger of that name: ahead of the clock, and of all that was written before."""
        if time <= self.database.clock() + CLOCK_MICROSECONDS_MAX:
            return
        now = Snapshot(len(self.database.commits), self.transaction)
        newest = max((row["time"] for row in self.table("flushes").all(now)), default=0)
        if time - 1_000_000 > newest:
            raise time_refused()

    async def _is_taken(self, index: Index, row: Row) -> bool:
        """Whether a key is taken, once those who are inserting it are through."""
        while (other := self._conflicting(index.entries.get(index.key(row), ()))) is not None:
            if other.made is self.transaction or other.made.state == "committed":
                return True
            await self._wait_for(other.made)
        return False

    @staticmethod
    def _conflicting(versions: Any) -> Version | None:
        for version in versions:
            if version.ended is None or version.ended.state == "active":
                return version
        return None

    async def _wait_for(self, other: Transaction) -> None:
        future = asyncio.get_running_loop().create_future()
        other.waiters.append(future)
        await self.backend.wait(self.transaction, future, lambda: [other])

    async def update(
        self, name: str, key: Any, changes: Row, when: Callable[[Row], bool] = lambda _: True
    ) -> bool:
        """Change the row of a primary key, as it is once its lock is had, if it still fits."""
        seen = self.one(name, f"{name}_pkey", key)
        if seen is None or not when(seen):
            return False
        await self.lock(name, key)
        if not when(self._newest(name, key).row):
            return False
        self._replace(name, key, changes)
        return True

    async def change(self, name: str, key: Any, changes: Row) -> None:
        """Change the row of a primary key, whether or not the statement's snapshot sees it."""
        await self.lock(name, key)
        self._replace(name, key, changes)

    async def delete(self, name: str, key: Any) -> bool:
        """Delete the row of a primary key, if it is there once its lock is had."""
        if self.one(name, f"{name}_pkey", key) is None:
            return False
        await self.lock(name, key)
        versions = self.table(name).by[f"{name}_pkey"].entries.get(key, ())
        newest = next((version for version in versions if version.ended is None), None)
        if newest is None:
            return False
        newest.ended = self.transaction
        self.transaction.ended.append((self.table(name), newest))
        return True

    def _replace(self, name: str, key: Any, changes: Row) -> None:
        table = self.table(name)
        newest = self._newest(name, key)
        newest.ended = self.transaction
        self.transaction.ended.append((table, newest))
        version = Version(newest.row | changes, self.transaction)
        for index in table.unique:
            index.add(version)
        table.keep(version)

    def _newest(self, name: str, key: Any) -> Version:
        versions = self.table(name).by[f"{name}_pkey"].entries[key]
        return next(version for version in versions if version.ended is None)

    async def breathe(self) -> None:
        """Between two parts of a statement others may get ahead."""
        pause = self.database.network.hiccup()
        if pause:
            await asyncio.sleep(pause)


class Backend:
    """One backend.

    Args:
        database: The server.
        name: The connection's `application_name`.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.name = name
        self.pid = database.new_pid()
        self.transaction: Transaction | None = None
        self.listener: Any = None
        """Called with each notification, once it listens."""
        self.on_close: Any = None
        """Called with an exception when the server ends this backend by itself."""
        self._block = False
        self._failed = False
        self._running = -1
        self._waiting: asyncio.Future | None = None
        self._idle_since = 0.0
        self._seen = 0
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        database.backends[self.pid] = self
        self._task = spawn(self._serve())

    def receive(self, message: Any) -> None:
        """A message has come: (number, command, arguments, callback), or None for the end."""
        self._inbox.put_nowait(message)

    def terminate(self) -> None:
        """As SIGTERM."""
        if self.pid in self.database.backends and self._task is not None:
            self._task.cancel()

    def is_at_work(self, seconds_idle_max: float) -> bool:
        """Whether it runs a statement, or did a moment ago."""
        idle = asyncio.get_running_loop().time() - self._idle_since
        return self._running != -1 or idle < seconds_idle_max

    def cancel(self, number: int) -> None:
        """A cancel request for a statement, in case it is still the one that runs."""
        if self._running == number and self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(
                asyncpg.QueryCanceledError("canceling statement due to user request")
            )

    async def _serve(self) -> None:
        reason = None
        try:
            while (message := await self._inbox.get()) is not None:
                number, command, arguments, reply = message
                self._running = number
                try:
                    result, error = await self._answer(command, arguments), None
                except Exception as caught:  # noqa: BLE001 - the client gets it
                    result, error = None, caught
                self._running = -1
                self._idle_since = asyncio.get_running_loop().time()
                reply(result, error)
        except asyncio.CancelledError:
            reason = asyncpg.AdminShutdownError(
                "terminating connection due to administrator command"
            )
        self._abort()
        del self.database.backends[self.pid]
        self.database.trace(self.name, self.pid, "gone")
        if reason is not None and self.on_close is not None:
            self.on_close(reason)

    async def _answer(self, command: str, arguments: Any) -> Any:
        await self._pass_gates(command, after=False)
        try:
            result = await self._run(command, arguments)
        except Exception as error:
            self.database.trace(self.name, self.pid, command, type(error).__name__, str(error))
            raise
        self.database.trace(self.name, self.pid, command)
        await self._pass_gates(command, after=True)
        return result

    async def _pass_gates(self, command: str, *, after: bool) -> None:
        # A small flush is one, however few rows it has.
        command = "flush_small" if command == "flush_one" else command
        for gate in self.database.gates:
            if gate.statement == command and gate.after is after and gate.name in self.name:
                if not gate.opened.is_set():
                    gate.backend = self
                    gate.reached.set()
                await gate.opened.wait()

    async def _run(self, command: str, arguments: Any) -> Any:
        if command == "ROLLBACK":
            self._abort()
            return command
        if self._failed:
            if command == "COMMIT":
                self._abort()
                return "ROLLBACK"
            raise asyncpg.InFailedSQLTransactionError(
                "current transaction is aborted, commands ignored until end of transaction block"
            )
        if command == "BEGIN":
            self._block = True
            self.transaction = self.database.begin(self)
            return command
        if command == "COMMIT":
            self._commit()
            return command
        if self.transaction is None:
            self.transaction = self.database.begin(self)
        try:
            result = await self._execute(command, arguments, self.transaction)
        except BaseException:
            self.database.abort(self.transaction)
            self.transaction = None
            self._failed = self._block
            raise
        if not self._block:
            self._commit()
        return result

    def _commit(self) -> None:
        if self.transaction is not None:
            self.database.commit(self.transaction, self.name, self.pid, self._seen)
        self.transaction, self._block = None, False

    def _abort(self) -> None:
        if self.transaction is not None:
            self.database.abort(self.transaction)
        self.transaction, self._block, self._failed = None, False, False

    async def _execute(self, command: str, arguments: Any, transaction: Transaction) -> Any:
        execution = Execution(self, transaction)
        self._seen = execution.snapshot.commit
        for trigger in self.database.triggers:
            trigger(command, arguments)
        if command.startswith("COPY "):
            return await self._copy(execution, command.removeprefix("COPY "), *arguments)
        return await STATEMENTS[command](execution, *arguments)

    async def _copy(self, execution: Execution, table: str, columns: list[str], data: bytes) -> str:
        try:
            rows = read_copy(table, columns, data)
        except BadCopyError as error:
            raise asyncpg.BadCopyFileFormatError(str(error)) from error
        for row in rows:
            await execution.breathe()
            await execution.insert(table, row)
        return f"COPY {len(rows)}"

    async def wait(self, transaction: Transaction, future: Any, blockers: Any) -> None:
        """Wait until the future is done, unless that takes too long, or for ever."""
        database = self.database

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        def check() -> None:
            if not future.done() and is_deadlocked(transaction):
                transaction.blockers = None  # It is out of it, before it has run again.
                fail(asyncpg.DeadlockDetectedError("deadlock detected"))

        timed_out = asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
        timers = [
            later(database.lock_seconds_max, fail, timed_out),
            later(DEADLOCK_SECONDS, check),
        ]
        transaction.blockers = blockers
        self._waiting = future
        try:
            await future
        finally:
            for timer in timers:
                timer.cancel()
            transaction.blockers = None
            self._waiting = None
