"""A worker's connections to Postgres: to write, to read meanwhile, and to watch.

The one that watches keeps the worker alive and hears of shards, however long a read takes.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, TypeAlias
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg

from engine.errors import TooMuchError, TryAgainError
from engine.patience import within
from engine.store.address import where_of
from engine.store.driver import STATEMENT_SECONDS_MAX, connect
from engine.store.driver_errors import check_written, translated
from engine.store.statements import statement

SHARDS_CHANNEL: Final = "ledger_shards"
"""Where Postgres tells that an owner or a move has changed."""

CHANGES_PER_SECOND_MAX: Final = 20
"""So often a second a worker looks who owns what because somebody said that it has changed."""

Connect: TypeAlias = Callable[..., Coroutine[Any, Any, asyncpg.Connection]]
"""As `engine.store.driver.connect`."""


class Connections:
    """The connections of one worker, and the named statements that run on them.

    Args:
        dsn: The Postgres server and database.
        worker: The worker's id, 16 bytes.
        connect: How to reach the server.
    """

    def __init__(self, dsn: str, worker: bytes, connect: Connect = connect) -> None:
        self.worker = worker
        self.name = f"engine {UUID(bytes=worker)}"
        """Of the connection that writes, as `pg_stat_activity` shows it."""
        self.lost_commits: Counter[str] = Counter()
        """Commits whose answer was lost, by what had become of them."""
        self._warnings: WeakKeyDictionary[asyncpg.Connection, int] = WeakKeyDictionary()
        self.where = where_of(dsn)
        """Host and port, for messages."""
        self._dsn = dsn
        self._connect = connect
        self._writer: asyncpg.Connection | None = None
        self._reader: asyncpg.Connection | None = None
        self._watcher: asyncpg.Connection | None = None
        self._reading = asyncio.Lock()
        self._watching = asyncio.Lock()
        self.changed = asyncio.Event()
        """Set when an owner or a move has changed, or may have."""
        self._heard_at: deque[float] = deque(maxlen=CHANGES_PER_SECOND_MAX)
        self.waits_since: float | None = None
        """Since when what is written may wait for the locks of others, by the loop's clock."""

    async def open(self) -> None:
        """Connect, again where a connection was lost. Raises as `connect`."""
        if self._writer is None or self._writer.is_closed():
            self._writer = await self.connect()
        if self._reader is None or self._reader.is_closed():
            self._reader = await self._open(f"{self.name} reading")
        if self._watcher is None or self._watcher.is_closed():
            self._watcher = await self._listen()
            self.changed.set()

    async def _listen(self) -> asyncpg.Connection:
        """A connection that watches. It is nobody's before it hears: others may be watching."""
        # What it writes is worth nothing later on: a standby that is away does not end a lease.
        watcher = await self._open(f"{self.name} watching", synchronous=False)
        try:
            with translated(self.where):
                async with bounded("beginning to listen"):
                    await watcher.add_listener(SHARDS_CHANNEL, self._hear)
        except BaseException:
            watcher.terminate()
            raise
        return watcher

    async def wait_for_change(self, seconds_max: float) -> None:
        """Wait until it is heard that something changed, but not for longer than this.

        Whoever may log in to the database may say so, as often as it likes: it is believed
        `CHANGES_PER_SECOND_MAX` times a second.
        """
        try:
            await asyncio.wait_for(self.changed.wait(), seconds_max)
        except TimeoutError:
            return
        now = asyncio.get_running_loop().time()
        if len(self._heard_at) == CHANGES_PER_SECOND_MAX and now - self._heard_at[0] < 1:
            await asyncio.sleep(1 - (now - self._heard_at[0]))
        self._heard_at.append(asyncio.get_running_loop().time())

    def _hear(self, *_: object) -> None:
        self.changed.set()

    async def connect(self) -> asyncpg.Connection:
        """Another connection by the name of the one that writes."""
        return await self._open(self.name)

    async def _open(self, name: str, *, synchronous: bool = True) -> asyncpg.Connection:
        # The driver's own limit counts time in which we were busy, and none may end what commits.
        connection = await self._connect(
            self._dsn, name, statement_seconds_max=None, synchronous=synchronous
        )
        # For good: to listen and to listen no more costs a small flush a twentieth of its time.
        connection.add_log_listener(self._note_warning)
        return connection

    def _note_warning(self, connection: asyncpg.Connection, message: Any) -> None:
        if message.severity_en == "WARNING":
            self._warnings[connection] = self.warnings_of(connection) + 1

    def warnings_of(self, connection: asyncpg.Connection) -> int:
        """How many times Postgres has warned of something on a connection."""
        return self._warnings.get(connection, 0)

    def drop(self) -> None:
        """Cut all connections; whatever was under way in them is rolled back."""
        for connection in (self._writer, self._reader, self._watcher):
            if connection is not None:
                connection.terminate()
        self._writer = self._reader = self._watcher = None

    @property
    def writer(self) -> asyncpg.Connection:
        """The connection that writes. Raises TryAgainError where there is none."""
        return _there(self._writer)

    def text(self, name: str) -> str:
        """The text of a named statement."""
        return statement(name)

    async def read(self, name: str, *args: Any, locked: bool = False) -> list[asyncpg.Record]:
        """Rows of a named statement.

        Args:
            name: Of the statement.
            args: Of the statement.
            locked: Read on the connection that writes, within what it has under way.
        """
        with translated(self.where):
            if locked:
                async with bounded(f"reading {name}"):
                    rows: list[asyncpg.Record] = await self.writer.fetch(self.text(name), *args)
            else:
                async with self._reading, bounded(f"reading {name}"):
                    rows = await _there(self._reader).fetch(self.text(name), *args)
        return rows

    async def write(self, name: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of a named statement on the connection that writes; errors are the driver's."""
        rows: list[asyncpg.Record] = await self.writer.fetch(self.text(name), *args)
        return rows

    async def write_rows(self, table: str, count: int, name: str, *args: Any) -> list[Any]:
        """As `write`, of a statement that returns each row that it writes, which are so many."""
        rows = await self.write(name, *args)
        check_written(table, count, len(rows))
        return rows

    async def watch(self, name: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of a named statement, on the connection that watches."""
        with translated(self.where):
            async with self._watching, bounded(f"watching by {name}"):
                rows: list[asyncpg.Record] = await _there(self._watcher).fetch(
                    self.text(name), *args
                )
        return rows

    async def ask(self, connection: asyncpg.Connection, name: str, *args: Any) -> Any:
        """The one value of a named statement, on a connection of its own."""
        with translated(self.where):
            async with bounded(f"asking {name}"):
                return await connection.fetchval(self.text(name), *args)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """What is done in the block may wait for the locks of others."""
        self.waits_since = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self.waits_since = None

    async def reserve_number(self) -> int:
        """A number for a flush, above that of everything written before."""
        rows = await self.read("reserve_number", locked=True)
        number: int = rows[0]["number"]
        return number

    async def roll_back(self) -> None:
        """Roll back; where even that cannot be sent, cut the connection, which does it too."""
        if self._writer is None:
            return
        try:
            await self._writer.execute("ROLLBACK", timeout=5)
        except Exception:  # noqa: BLE001 - the error that led here is being raised
            self._writer.terminate()


@contextlib.asynccontextmanager
async def bounded(what: str) -> AsyncIterator[None]:
    """A wait for Postgres that is no COMMIT has an end, and says what it was for.

    Raises:
        TooMuchError: It took over `STATEMENT_SECONDS_MAX`.
    """
    try:
        async with within(STATEMENT_SECONDS_MAX):
            yield
    except TimeoutError as error:
        raise TooMuchError(
            f"Postgres did not answer in time: {what} took over {STATEMENT_SECONDS_MAX:.0f} s"
        ) from error


def _there(connection: asyncpg.Connection | None) -> asyncpg.Connection:
    if connection is None:
        raise TryAgainError("the store is not open")
    return connection
