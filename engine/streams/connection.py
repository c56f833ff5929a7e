"""One connection to Redis for producers: commands packed by hand, pipelined, never repeated.

redis-py serves one caller of a connection at a time and packs commands in pure Python. Here a
command is bytes and a function that gets its reply; many may be under way. Whoever sends
decides what to do when the connection is lost: a command may have been executed or not.

Measured, an XADD of 60 transfers, all of the client's CPU time, 16 at a time: redis-py 77 us,
this 19 us; one by one: 250 us and 95 us.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

import hiredis
from redis.asyncio.connection import parse_url

from engine.errors import BackpressureError, ConfigurationError, EngineError, TryAgainError

CONNECT_SECONDS_MAX: Final = 5.0

OnReply: TypeAlias = Callable[[Any], None]
"""Gets the reply, or the EngineError that says why there is none."""


class LostError(TryAgainError):
    """The connection was lost before the reply came: executed or not, nobody knows."""


class NotNowError(TryAgainError):
    """Redis does not take it now (it loads, fails over, is busy); it was not executed."""


class ElsewhereError(ConfigurationError):
    """Another node of a cluster has the key; the command was not executed.

    Args:
        message: What Redis said: MOVED or ASK, slot and node.
    """

    def __init__(self, message: str) -> None:
        self.where = message
        super().__init__(
            f"Redis refuses: {message}; where it is a cluster, name it as "
            "redis+cluster://HOST:PORT,HOST:PORT"
        )


_NOT_NOW: Final = ("LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN")
_MISCONFIGURED: Final = ("NOAUTH", "NOPERM", "WRONGPASS", "WRONGTYPE", "ERR")


def refusal_of(message: str) -> EngineError:
    """What an error reply of Redis means to whoever sent the command: it was not executed."""
    word = message.partition(" ")[0]
    if word == "OOM":
        return BackpressureError(
            f"Redis is out of memory and took nothing ({message}); wait until the backlog is "
            "worked off, or raise its maxmemory"
        )
    if word in {"MOVED", "ASK"}:
        return ElsewhereError(message)
    if word in _NOT_NOW:
        return NotNowError(f"Redis takes nothing now: {message}")
    if word in _MISCONFIGURED:
        return ConfigurationError(f"Redis refuses: {message}")
    return TryAgainError(f"Redis refuses: {message}")


def pack_command(*words: bytes) -> bytes:
    """A command as Redis reads it. Source: the Redis serialization protocol, RESP2."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts += (b"$%d\r\n" % len(word), word, b"\r\n")
    return b"".join(parts)


class FastConnection(asyncio.Protocol):
    """A connection; make one with `open`. Used by one event loop."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[OnReply] = deque()
        self._unsent: list[bytes] = []
        self._heard_at = 0.0
        self.is_lost = False

    @classmethod
    async def open(cls, url: str, on_lost: Callable[[], None] = lambda: None) -> "FastConnection":
        """Connect, log in, select the database.

        Args:
            url: `redis://`, `rediss://` or `unix://`.
            on_lost: Called once when the connection is lost, after all that waited for a
                reply was told.

        Raises:
            ConfigurationError: The address cannot be read, or Redis refuses us.
            TryAgainError: Redis is out of reach.
        """
        try:
            address = dict[str, Any](parse_url(url))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{error}; give redis://HOST:PORT/DATABASE") from None
        connection = cls(lambda: None)
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await _open_transport(connection, url, address)
                await connection._greet(address)
        except (OSError, TimeoutError) as error:
            connection.abort()
            reason = str(error) or f"no answer within {CONNECT_SECONDS_MAX:.0f} s"
            raise TryAgainError(f"Redis is out of reach: {reason}") from error
        except BaseException:
            connection.abort()
            raise
        if connection.is_lost:
            raise TryAgainError("Redis is out of reach: it closed the connection")
        connection._on_lost = on_lost
        return connection

    async def _greet(self, address: dict[str, Any]) -> None:
        if address.get("password") or address.get("username"):
            names = [address[key] for key in ("username", "password") if address.get(key)]
            await self.ask(b"AUTH", *(name.encode() for name in names))
        if address.get("db"):
            await self.ask(b"SELECT", b"%d" % address["db"])
        await self.ask(b"PING")

    def send(self, command: bytes, on_reply: OnReply) -> None:
        """Send a packed command; `on_reply` is called once, perhaps before this returns.

        What is sent in one turn of the event loop leaves in one write, which costs far more
        than the packing.
        """
        if self.is_lost:
            on_reply(LostError("the connection to Redis is lost"))
            return
        if not self._waiting:
            self._heard_at = self._loop.time()
        self._waiting.append(on_reply)
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(command)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self.is_lost and self._transport is not None:
            self._transport.writelines(unsent)

    async def ask(self, *words: bytes) -> Any:
        """Send a command and return its reply.

        Raises:
            LostError: The connection was lost before the reply.
            EngineError: Redis refuses the command, as `refusal_of` says.
        """
        reply: asyncio.Future[Any] = self._loop.create_future()
        self.send(pack_command(*words), lambda value: _resolve(reply, value))
        return await reply

    def silent_seconds(self) -> float:
        """For how long something has waited for a reply without any reply coming."""
        return self._loop.time() - self._heard_at if self._waiting else 0.0

    def close(self) -> None:
        """Close the connection once what was sent has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection; what waits for a reply is told that it is lost."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are complete, in the order of the commands."""
        self._heard_at = self._loop.time()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if isinstance(reply, hiredis.ReplyError):
                    if str(reply).startswith("READONLY"):
                        self.abort()  # A primary no more; the address may lead to the new one.
                    reply = refusal_of(str(reply))
                if self._waiting:
                    self._waiting.popleft()(reply)
        except hiredis.ProtocolError:
            self.abort()  # What talks there is no Redis.

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who waits."""
        self.is_lost = True
        reason = str(exc or "") or "closed"
        while self._waiting:
            self._waiting.popleft()(LostError(f"the connection to Redis is lost: {reason}"))
        self._on_lost()


class Sender:
    """Commands that go together and their replies, over a connection of its own.

    Args:
        url: As for `FastConnection.open`.
        seconds_max: Longest wait for the replies.
    """

    def __init__(self, url: str, seconds_max: float) -> None:
        self._url = url
        self._seconds_max = seconds_max
        self._connection: FastConnection | None = None

    async def send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands, and return their replies in order; a refusal is a value among them.

        Raises:
            TryAgainError: Redis is out of reach or does not answer; what was executed is unknown.
        """
        if not commands:
            return []
        replies: list[Any] = []
        done = asyncio.get_running_loop().create_future()

        def on_reply(reply: Any) -> None:
            replies.append(reply)
            if len(replies) == len(commands) and not done.done():
                done.set_result(None)

        if self._connection is None or self._connection.is_lost:
            self._connection = await FastConnection.open(self._url)
        for command in commands:
            self._connection.send(hiredis.pack_command(command), on_reply)
        try:
            async with asyncio.timeout(self._seconds_max):
                await done
        except TimeoutError as error:
            self.close()
            raise TryAgainError(f"Redis does not answer for {self._seconds_max:.0f} s") from error
        lost = next((reply for reply in replies if isinstance(reply, LostError)), None)
        if lost is not None:
            raise lost
        return replies

    def close(self) -> None:
        """Cut the connection; the next `send` makes another."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


def _resolve(future: "asyncio.Future[Any]", reply: Any) -> None:
    if future.done():
        return
    if isinstance(reply, EngineError):
        future.set_exception(reply)
    else:
        future.set_result(reply)


async def _open_transport(protocol: FastConnection, url: str, address: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    if path := address.get("path"):
        await loop.create_unix_connection(lambda: protocol, path)
        return
    context: ssl.SSLContext | None = None
    if url.startswith("rediss:"):
        context = ssl.create_default_context(cafile=address.get("ssl_ca_certs"))
        if address.get("ssl_certfile"):
            context.load_cert_chain(address["ssl_certfile"], address.get("ssl_keyfile"))
    host, port = address.get("host") or "localhost", address.get("port") or 6379
    await loop.create_connection(lambda: protocol, host, port, ssl=context)
