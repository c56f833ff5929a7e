"""A TCP proxy between a worker and a server: it loses, delays or holds back what it is told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import hiredis

Loss = Literal["request", "answer", "late"]


class _Trap(NamedTuple):
    """What happens, once, to the next message with a marker in it."""

    marker: bytes
    what: Loss | Literal["hold", "mute"]
    passing: int = 0


class _Late(NamedTuple):
    """A message that its sender believes lost, and the server it is to reach."""

    data: bytes
    server_in: asyncio.StreamReader
    server_out: asyncio.StreamWriter


class Proxy:
    """Passes bytes on, until a message with a marker in it comes by.

    `lose("request", marker)`: the message never reaches the server, and the connection is
    cut. `lose("answer", marker)`: the server acts on it, and the connection is cut instead
    of its answer being passed on. `lose("late", marker)`: the client is cut off, the server
    is not, and gets the message by `deliver`. `hold(marker)`: it is kept until `release`,
    and nobody is cut off. `mute(marker)`: the server acts on it, and nothing of that connection
    passes back any more, which nobody is told. `silent`: nothing passes at all, and nobody is
    told.
    `bytes_per_second`: how fast answers pass, over all connections. `refusal`: what Redis says to
    every command, which does not reach it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._trap: _Trap | None = None
        self._late: _Late | None = None
        self.bytes_per_second: float | None = None
        self.refusal: str | None = None
        self._link = asyncio.Lock()
        self._serving: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._released = asyncio.Event()
        self.lost = asyncio.Event()
        self.held = asyncio.Event()

    def lose(self, loss: Loss, marker: bytes) -> None:
        """Lose, once, what concerns the next message with `marker`."""
        self._trap = _Trap(marker, loss)
        self.lost.clear()

    def hold(self, marker: bytes, passing: int = 0) -> None:
        """Keep the next message with `marker` back, but for its first bytes, until `release`."""
        self._trap = _Trap(marker, "hold", passing)
        self.held.clear()
        self._released.clear()

    def mute(self, marker: bytes) -> None:
        """Pass on the next message with `marker`, and never an answer: the link is dead."""
        self._trap = _Trap(marker, "mute")
        self.lost.clear()

    def release(self) -> None:
        """Let go of what is held back."""
        self._released.set()

    async def deliver(self) -> bool:
        """Give Postgres what came too late; whether it was there to take it, and did it."""
        assert self._late is not None
        late, self._late = self._late, None
        answer = b""
        with contextlib.suppress(OSError):
            late.server_out.write(late.data)
            await late.server_out.drain()
            answer = await late.server_in.read(65536)
        late.server_out.close()
        kinds = []
        while answer:
            kinds.append(answer[:1])
            answer = answer[1 + int.from_bytes(answer[1:5], "big") :]
        return b"C" in kinds  # CommandComplete

    async def end(self) -> None:
        """Cut all connections."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def point_at(self, url: str) -> None:
        """Lead to the server of another DSN or address from now on; whoever is connected is cut."""
        self._host, self._port = _place_of(url)
        await self.end()

    @staticmethod
    def _refuse(data: bytes, refusal: str) -> bytes:
        commands = hiredis.Reader()
        commands.feed(data)
        count = 0
        while commands.gets() is not False:
            count += 1
        return f"-{refusal}\r\n".encode() * count

    @property
    def silent(self) -> bool:
        """Whether nothing passes, without anybody being told."""
        return not self._passing.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        (self._passing.clear if silent else self._passing.set)()

    async def serve(
        self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # Cut off by `end`, also while it connects: no socket is left open.
        with contextlib.suppress(asyncio.CancelledError), contextlib.closing(client_out):
            await self._serve(client_in, client_out)

    async def _serve(
        self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter
    ) -> None:
        try:
            server_in, server_out = await asyncio.open_connection(self._host, self._port)
        except OSError:  # the server is away, and so are we
            client_out.close()
            return
        losing = muted = False
        kept: set[asyncio.StreamWriter] = set()
        tail = b""

        async def to_server() -> None:
            nonlocal losing, muted, tail
            while data := await client_in.read(65536):
                await self._passing.wait()
                if self.refusal is not None:
                    client_out.write(self._refuse(data, self.refusal))
                    continue
                trap = self._trap
                # A marker may come in two pieces, but not wholly from before the trap was set.
                if trap is not None and trap.marker in tail[1 - len(trap.marker) :] + data:
                    self._trap = None
                    if trap.what == "hold":
                        server_out.write(data[: trap.passing])
                        await server_out.drain()
                        self.held.set()
                        await self._released.wait()
                        server_out.write(data[trap.passing :])
                        continue
                    if trap.what == "late":
                        self._late = _Late(data, server_in, server_out)
                        kept.add(server_out)
                    if trap.what == "mute":
                        muted = True
                    elif trap.what != "answer":
                        self.lost.set()
                        return
                    else:
                        losing = True
                tail = data[-64:]
                server_out.write(data)
                await server_out.drain()

        async def to_client() -> None:
            while data := await server_in.read(65536):
                await self._passing.wait()
                if muted:
                    self.lost.set()
                    continue
                if losing:
                    self.lost.set()
                    return
                if self.bytes_per_second is not None:
                    async with self._link:
                        await asyncio.sleep(len(data) / self.bytes_per_second)
                client_out.write(data)
                await client_out.drain()

        ways = [asyncio.ensure_future(to_server()), asyncio.ensure_future(to_client())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Closed before anything is waited for: `end` may cut the waiting short.
            for way in ways:
                way.cancel()
            for writer in {client_out, server_out} - kept:
                writer.close()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in {client_out, server_out} - kept:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server of a DSN or an address, and the same through it."""
    parts = urlsplit(url)
    proxy = Proxy(*_place_of(url))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    userinfo, at, _ = parts.netloc.rpartition("@")
    through = urlunsplit(parts._replace(netloc=f"{userinfo}{at}127.0.0.1:{port}"))
    try:
        yield proxy, through
    finally:
        server.close()
        await proxy.end()


def _place_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
