"""A Postgres in memory, as far as a worker can tell: READ COMMITTED, waits, backends."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from engine.ledger.nouns import ID_ZERO, shard_of
from engine.store.driver_errors import LOCK_SECONDS_MAX
from tests.simulation.locking import RowLock
from tests.simulation.loop import later
from tests.simulation.network import Network
from tests.simulation.statements_flows import begin_flows, make_flow_tables
from tests.simulation.statements_owning import new_move
from tests.simulation.tables import Row, Snapshot, Transaction, Version, make_tables

START = 1_700_000_000_000_000
"""When the simulated time begins, in microseconds since 1970."""

IDENTITY = b"the same ledger!"
"""Which ledger it is."""

DEADLOCK_SECONDS = 1.0

NOTIFYING = ("owners", "moves", "freezes")
"""Tables whose triggers tell the workers."""


class Commit(msgspec.Struct, gc=False):
    """What one transaction committed, for whoever judges the run."""

    number: int
    time: float
    """Seconds since the loop began."""
    name: str
    """Of the connection that committed."""
    pid: int
    made: list[tuple[str, Row]]
    locked: set[bytes]
    """The workers whose rows it had locked."""
    owners: dict[int, bytes]
    """Who owned each shard just before."""
    seen: int
    """The last commit that its last statement saw."""


class Gate:
    """Holds whoever comes to a statement until it is opened.

    Args:
        statement: Its name.
        name: Part of the connection's name.
        after: Whether it stands behind the statement instead of before it.
    """

    def __init__(self, statement: str, name: str, *, after: bool) -> None:
        self.statement = statement
        self.name = name
        self.after = after
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.backend: Any = None

    def open(self) -> None:
        """Let it go on, and whoever else comes."""
        self.opened.set()


class Database:
    """The server.

    Args:
        shard_count: Of the ledger in it.
        network: Draws pauses within statements.
        trace: Called with each thing that happens.
    """

    def __init__(
        self, shard_count: int, network: Network, trace: Callable[..., None] = lambda *_: None
    ) -> None:
        self.shard_count = shard_count
        self.network = network
        self.trace = trace
        self.tables = make_tables() | {table.name: table for table in make_flow_tables()}
        self.commits: list[Commit] = []
        self.backends: dict[int, Any] = {}
        self.up = True
        self.owner_changed = asyncio.Event()
        """Set with each change of owner."""
        self.lock_seconds_max = float(LOCK_SECONDS_MAX)
        self.gates: list[Gate] = []
        self.triggers: list[Callable[[str, Any], None]] = []
        """Called with each statement and its arguments before it is executed; may raise."""
        self.row_locks: dict[tuple[str, Any], RowLock] = {}
        self.flush_numbers = itertools.count(1)
        self.flow_numbers = itertools.count(1)
        self.move_numbers = itertools.count(1)
        self._pids = itertools.count(101)
        self._transactions = itertools.count(1)
        self._account_numbers = itertools.count(1)
        made = self.begin(None)
        nobody = {"worker": ID_ZERO, "host": "nobody", "process": 0, "shards": None}
        self.put("workers", nobody, made)
        settings = {"one": True, "shard_count": shard_count, "identity": IDENTITY}
        self.put("settings", settings, made)
        for shard in range(shard_count):
            self.put("owners", {"shard": shard, "worker": ID_ZERO}, made)
        begin_flows(self, made)
        self.commit(made, "init")

    def put(self, table: str, row: Row, transaction: Transaction) -> None:
        """A row of a transaction that meets nobody."""
        version = Version(row, transaction)
        for index in self.tables[table].unique:
            index.add(version)
        self.tables[table].keep(version)

    # What tests do to it.

    def create_account(
        self, account_id: bytes, ledger: int = 1, flags: tuple[str, ...] = ()
    ) -> int:
        """INSERT INTO ledger.accounts; returns the account's number."""
        number = next(self._account_numbers)
        row = {
            "id": account_id,
            "number": number,
            "shard": shard_of(account_id, self.shard_count),
            "ledger": ledger,
            "code": 1,
            "flags": list(flags),
            "closed": False,
        }
        transaction = self.begin(None)
        self.put("accounts", row, transaction)
        self.commit(transaction, "accounts")
        return number

    def ask_move(self, shard: int, target: bytes) -> None:
        """As an operator asks for a move, where none is open for the shard."""
        now = self.snapshot()
        [owner] = self.tables["owners"].find(now, "owners_pkey", shard)
        source = owner["worker"]
        if source == target or self.tables["moves"].one(now, "moves_open", shard) is not None:
            return
        transaction = self.begin(None)
        self.put("moves", new_move(self, ID_ZERO, shard, source, target), transaction)
        self.commit(transaction, "moves")

    def gate(self, statement: str, name: str = "", *, after: bool = False) -> Gate:
        """Hold whoever comes to a statement next."""
        made = Gate(statement, name, after=after)
        self.gates.append(made)
        return made

    def snapshot(self) -> Snapshot:
        """What is committed now."""
        return Snapshot(len(self.commits), None)

    def stop(self) -> None:
        """As `pg_ctl stop -m immediate`: whatever is not committed is gone."""
        self.up = False
        for backend in list(self.backends.values()):
            backend.terminate()
        self.trace("postgres", "down")

    def start(self) -> None:
        """Take connections again."""
        self.up = True
        self.trace("postgres", "up")

    # What backends do.

    def clock(self) -> int:
        """Microseconds since 1970, by the server's clock."""
        return START + round(asyncio.get_running_loop().time() * 1_000_000)

    def new_pid(self) -> int:
        """The number of the next backend."""
        return next(self._pids)

    def begin(self, backend: Any) -> Transaction:
        """A new transaction."""
        return Transaction(next(self._transactions), backend)

    def commit(self, transaction: Transaction, name: str, pid: int = 0, seen: int = 0) -> None:
        """Make visible what a transaction made, and let go of its locks."""
        if transaction.made or transaction.ended:
            locked = {
                key
                for (table, key), lock in self.row_locks.items()
                if table == "workers" and lock.holders.get(transaction) == "update"
            }
            before = self.snapshot()
            owners = {row["shard"]: row["worker"] for row in self.tables["owners"].all(before)}
            made = [(table.name, version.row) for table, version in transaction.made]
            time = self._time()
            self.commits.append(
                Commit(len(self.commits) + 1, time, name, pid, made, locked, owners, seen)
            )
            transaction.commit = len(self.commits)
            if any(table.endswith("owners") for table, _ in made):
                self.owner_changed.set()
            if any(table in NOTIFYING for table, _ in made):
                for backend in self.backends.values():
                    if backend.listener is not None:
                        backend.listener()
        transaction.state = "committed"
        self._end(transaction)

    def abort(self, transaction: Transaction) -> None:
        """Undo what a transaction made, and let go of its locks."""
        for table, version in transaction.made:
            table.forget(version)
        for _, version in transaction.ended:
            version.ended = None
        transaction.state = "aborted"
        self._end(transaction)

    def _time(self) -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return 0.0

    def _end(self, transaction: Transaction) -> None:
        for lock in list(transaction.locks):
            lock.release(transaction)
        transaction.locks.clear()
        for future in transaction.waiters:
            if not future.done():
                future.set_result(None)
        transaction.waiters.clear()

    def row_lock(self, table: str, key: Any) -> RowLock:
        """The lock of a row."""
        lock = self.row_locks.get((table, key))
        if lock is None:
            lock = self.row_locks[table, key] = RowLock()
        return lock

    def terminate_backend(self, pid: int) -> bool:
        """As pg_terminate_backend: the signal is on its way."""
        backend = self.backends.get(pid)
        if backend is None:
            return False
        later(self.network.delay(), backend.terminate)
        return True

    def blocking_pids(self, pid: int) -> list[int]:
        """As pg_blocking_pids."""
        backend = self.backends.get(pid)
        transaction = backend.transaction if backend is not None else None
        if transaction is None or transaction.blockers is None:
            return []
        return sorted({one.backend.pid for one in transaction.blockers() if one.backend})
