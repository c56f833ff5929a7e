"""A client's end of a connection to the simulated Postgres; it stands where asyncpg's stands."""

import asyncio
import contextvars
from functools import cache
from typing import Any

import asyncpg

from engine.store.driver import STATEMENT_SECONDS_MAX
from engine.store.driver_errors import translated
from engine.store.statements import statements
from tests.simulation.backend import CONTROL, Backend
from tests.simulation.database import Database
from tests.simulation.loop import PROCESS, Process, later
from tests.simulation.network import Network
from tests.simulation.statements import STATEMENTS


class UnknownStatementError(Exception):
    """The simulator does not know this statement: give it a function in `statements`."""


@cache
def _names() -> dict[str, str]:
    names = {text: name for name, text in statements().items()}
    # Of the chains of flows it is asked by the same words.
    return names | {statements()["find_flush"].replace("ledger.", "flows."): "flows_find_flush"}


def name_of(text: str) -> str:
    """The name of a statement by its text.

    Raises:
        UnknownStatementError: It is none that the simulator can run.
    """
    if text in CONTROL:
        return text
    name = _names().get(text)
    if name is None or name not in STATEMENTS:
        raise UnknownStatementError(name or text)
    return name


class Connection:
    """The connection.

    Args:
        backend: The other end.
        network: What lies between.
        process: Whose end this is.
        seconds_max: After which a statement is cancelled.
    """

    def __init__(
        self,
        backend: Backend,
        network: Network,
        process: Process | None,
        seconds_max: float | None,
    ) -> None:
        self._backend = backend
        self._network = network
        self._process = process
        self._seconds_max = seconds_max
        self._pid = backend.pid
        self._closed = False
        self._dead = False
        self._number = 0
        self._delivered_at = 0.0
        self._drops = False
        self._pending: asyncio.Future | None = None
        self._unanswered: asyncio.Future | None = None
        backend.on_close = self._closed_by_server
        if process is not None:
            process.sockets[self] = None

    # What asyncpg offers.

    def get_server_pid(self) -> int:
        return self._pid

    def is_closed(self) -> bool:
        return self._closed

    def add_log_listener(self, listener: Any) -> None:
        """Nobody cancels a COMMIT here, so that there is nothing to warn of."""

    def terminate(self) -> None:
        if not self._closed:
            self._close(asyncpg.ConnectionDoesNotExistError("connection was closed"))
            self._send_to_server(None)

    async def execute(self, text: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        return str(await self._call(name_of(text), args, timeout))

    async def fetch(self, text: str, *args: Any, timeout: float | None = None) -> list[Any]:  # noqa: ASYNC109
        rows: list[Any] = await self._call(name_of(text), args, timeout)
        return rows

    async def fetchval(self, text: str, *args: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        rows = await self._call(name_of(text), args, timeout)
        return next(iter(rows[0].values())) if rows else None

    async def copy_to_table(
        self,
        table: str,
        *,
        schema_name: str,
        columns: list[str],
        format: str,  # noqa: A002 - asyncpg's name
        source: Any,
    ) -> str:
        if schema_name not in {"ledger", "flows"} or format != "binary":
            raise UnknownStatementError(f"COPY {schema_name}.{table} ({format})")
        data = b"".join([bytes(piece) async for piece in source])
        name = table if schema_name == "ledger" else f"flows.{table}"
        return str(await self._call(f"COPY {name}", (columns, data), None))

    async def add_listener(self, channel: str, callback: Any) -> None:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()

        def tell() -> None:
            if not self._closed:
                callback(self, 0, channel, "")

        def notify() -> None:
            loop.call_later(self._network.delay(), tell, context=context.copy())

        await self._call("LISTEN", (notify,), None)

    # One call at a time.

    async def _call(self, command: str, args: Any, seconds: float | None) -> Any:
        if self._dead:
            raise asyncio.CancelledError
        if self._pending is not None:
            raise asyncpg.InterfaceError(
                "cannot perform operation: another operation is in progress"
            )
        if self._unanswered is not None:
            await asyncio.shield(self._unanswered)
        if self._closed:
            raise asyncpg.InterfaceError("connection is closed")
        loop = asyncio.get_running_loop()
        self._number += 1
        number = self._number
        future = self._pending = loop.create_future()
        answered = loop.create_future()
        context = contextvars.copy_context()
        self._send(number, command, args, future, answered, context)
        try:
            async with asyncio.timeout(self._seconds_max if seconds is None else seconds):
                return await future
        except (asyncio.CancelledError, TimeoutError):
            if not answered.done() and not self._closed:
                # The driver asks the server to cancel, and waits for that before the next call.
                self._unanswered = answered
                later(self._network.delay(), self._backend.cancel, number)
            raise
        finally:
            self._pending = None

    def _send(
        self, number: int, command: str, args: Any, future: Any, answered: Any, context: Any
    ) -> None:
        fate = self._network.fate(command)

        def deliver(result: Any, error: Exception | None) -> None:
            if not answered.done():
                answered.set_result(None)
                self._unanswered = None
            if self._closed or future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def reply(result: Any, error: Exception | None) -> None:
            if fate == "answer lost":
                self.cut(self._network.linger())
                return
            loop = asyncio.get_running_loop()
            loop.call_later(self._network.delay(), deliver, result, error, context=context.copy())

        if fate == "request lost":
            later(self._network.delay(), self.cut, self._network.linger())
            return
        self._send_to_server((number, command, args, reply))
        if fate == "applied late":
            # The client is cut off, while what it sent is still on its way.
            self._delivered_at += self._network.linger()
            self.cut(0.0, drops=False)

    def _send_to_server(self, message: Any, extra: float = 0.0) -> None:
        now = asyncio.get_running_loop().time()
        at = max(now + self._network.delay() + extra, self._delivered_at + 1e-6)
        self._delivered_at = at
        backend = self._backend

        def arrive() -> None:
            if message is None or not self._drops:
                backend.receive(message)

        later(at - now, arrive)

    # What can happen to it.

    def cut(self, linger: float, *, drops: bool = True) -> None:
        """Lose the connection. The client learns at once, the server after a while.

        Args:
            linger: Seconds until the server learns it, once all on the way has come.
            drops: Whether what is on its way to the server gets lost.
        """
        if self._closed:
            return
        self._drops = drops
        self._close(
            asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        )
        self._send_to_server(None, linger)

    def kill(self) -> None:
        """The process at this end is gone."""
        self._dead = True
        if not self._closed:
            self._drops = self._network.happens(0.5)
            self._close(None)
            self._send_to_server(None, self._network.linger())

    def _closed_by_server(self, reason: Exception) -> None:
        def learn() -> None:
            self._close(reason)

        context = contextvars.Context()
        context.run(PROCESS.set, self._process)
        asyncio.get_running_loop().call_later(self._network.delay(), learn, context=context)

    def _close(self, reason: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._process is not None:
            self._process.sockets.pop(self, None)
        for future in (self._pending, self._unanswered):
            if future is not None and not future.done():
                if future is self._unanswered:
                    future.set_result(None)
                elif reason is None:
                    future.cancel()
                else:
                    future.set_exception(reason)


class Connector:
    """What a store gets in the place of `engine.store.driver.connect`.

    Args:
        database: The server.
        network: The way to it.
    """

    def __init__(self, database: Database, network: Network) -> None:
        self._database = database
        self._network = network

    async def __call__(
        self,
        dsn: str,
        name: str,
        *,
        statement_seconds_max: float | None = STATEMENT_SECONDS_MAX,
        synchronous: bool = True,
    ) -> Any:
        process = PROCESS.get()
        with translated():
            if process is not None and process.dead:
                raise asyncio.CancelledError
            await asyncio.sleep(self._network.delay())
            if process is not None and process.dead:
                raise asyncio.CancelledError
            if not self._database.up:
                raise ConnectionRefusedError(f"{dsn} takes no connections")
            backend = Backend(self._database, name)
            return Connection(backend, self._network, process, statement_seconds_max)
