"""A client of the simulated Redis, in place of a `Sender`; and of redis-py's client, for tests."""

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Any

import redis.exceptions

from engine.errors import TryAgainError
from engine.streams.bounds import SILENT_SECONDS_MAX
from engine.streams.refusals import LostError, refusal_of
from tests.simulation.log_server import LogServer
from tests.simulation.loop import PROCESS, later, spawn
from tests.simulation.network import Network


class LogClient:
    """One connection, connected again by itself when it was lost; commands queue up.

    Args:
        server: The server.
        network: The way to it.
    """

    def __init__(self, server: LogServer, network: Network) -> None:
        self._server = server
        self._network = network
        self._process = PROCESS.get()
        self._queue = asyncio.Lock()
        self._pending: asyncio.Future | None = None
        self._epoch = 0
        self._is_new = True
        server.clients[self] = None
        self._number = server.new_client()
        if self._process is not None:
            self._process.sockets[self] = None

    async def ping(self) -> Any:
        return await self.execute_command("PING")

    async def client_id(self) -> int:
        await self.execute_command("PING")
        return self._number

    async def aclose(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._server.clients.pop(self, None)
        if self._process is not None:
            self._process.sockets.pop(self, None)

    async def execute_command(self, *command: Any) -> Any:
        (answer,) = await self._send([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    # As a `Sender`.

    is_cluster = False
    reply_seconds = 0.0

    async def open(self) -> bool:
        is_new, self._is_new = self._is_new, False
        if is_new:
            await self.send([("PING",)])
        return is_new

    def close(self) -> None:
        self._forget()

    async def send(
        self, commands: Sequence[tuple[Any, ...]], _reply_bytes_max: int | None = None
    ) -> list[Any]:
        if not commands:
            return []
        try:
            replies = await self._send([*commands])
        except redis.exceptions.ConnectionError as error:
            raise LostError(str(error)) from error
        except redis.exceptions.TimeoutError as error:
            raise TryAgainError(str(error)) from error
        return [
            refusal_of(str(reply)) if isinstance(reply, Exception) else reply for reply in replies
        ]

    try_to_send = send
    send_apart = send

    async def _send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if self._process is not None and self._process.dead:
            raise asyncio.CancelledError
        async with self._queue:
            if not self._server.up:
                await asyncio.sleep(self._network.delay())
                raise redis.exceptions.ConnectionError("connection refused")
            future = self._pending = asyncio.get_running_loop().create_future()
            context = contextvars.copy_context()
            fate = self._network.fate(str(commands[0][0]))
            self._epoch += 1
            later(self._network.delay(), self._arrive, commands, future, fate, context, self._epoch)
            try:
                async with asyncio.timeout(SILENT_SECONDS_MAX):
                    answers: list[Any] = await future
            except TimeoutError:
                raise redis.exceptions.TimeoutError("Timeout reading from socket") from None
            finally:
                self._pending = None
                self._epoch += 1
        return answers

    def _arrive(self, commands: Any, future: Any, fate: str, context: Any, epoch: int) -> None:
        if not self._server.up or (epoch != self._epoch and self._network.happens(0.5)):
            return  # The client went away before; it may have come through all the same.
        if fate == "request lost":
            self.cut()
            return
        if str(commands[0][0]).upper() == "XREAD" and "BLOCK" in commands[0]:
            spawn(self._read(commands[0], future, fate, context))
            return
        self._reply([self._run(command) for command in commands], future, fate, context)

    def _run(self, command: tuple[Any, ...]) -> Any:
        try:
            is_id = tuple(command[:2]) == ("CLIENT", "ID")
            answer = self._number if is_id else self._server.run(*command)
        except redis.exceptions.ResponseError as error:
            answer = error
        name = self._process.name if self._process is not None else "-"
        self._server.trace(name, "redis", *command[:3], answer if command[0] != "XRANGE" else "")
        return answer

    async def _read(self, command: tuple[Any, ...], future: Any, fate: str, context: Any) -> None:
        words = list(command)
        options = dict(zip(words[1:5:2], words[2:5:2], strict=True))
        names = words[words.index("STREAMS") + 1 :]
        half = len(names) // 2
        try:
            answer = await self._server.read(
                self._number, options["COUNT"], options["BLOCK"], names[:half], names[half:]
            )
        except redis.exceptions.ResponseError as error:
            answer = error
        self._reply([answer], future, fate, context)

    def _reply(self, answers: list[Any], future: Any, fate: str, context: Any) -> None:
        if fate != "arrives":
            self.cut()
            return

        def deliver() -> None:
            if not future.done():
                future.set_result(answers)

        loop = asyncio.get_running_loop()
        loop.call_later(self._network.delay(), deliver, context=context.copy())

    def cut(self) -> None:
        """Lose the connection."""
        if self._pending is not None and not self._pending.done():
            error = redis.exceptions.ConnectionError("Connection closed by server.")
            self._pending.set_exception(error)

    def kill(self) -> None:
        """The process at this end is gone."""
        self._server.clients.pop(self, None)
        if self._pending is not None:
            self._pending.cancel()
