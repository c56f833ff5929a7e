"""A TCP proxy that loses what it is told to lose: between a worker and its Postgres."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Loss = Literal["request", "answer"]


class Proxy:
    """Passes bytes on, until a message with a marker in it comes by.

    `lose("request", marker)`: the message never reaches the server, and the connection is
    cut. `lose("answer", marker)`: the server acts on it, and the connection is cut instead
    of its answer being passed on.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._marker: bytes | None = None
        self._loss: Loss = "answer"
        self.lost = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def lose(self, loss: Loss, marker: bytes) -> None:
        """Lose, once, what concerns the next message with `marker`."""
        self._loss, self._marker = loss, marker
        self.lost.clear()

    async def serve(
        self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter
    ) -> None:
        server_in, server_out = await asyncio.open_connection(self._host, self._port)
        losing = False
        tail = b""

        async def to_server() -> None:
            nonlocal losing, tail
            while data := await client_in.read(65536):
                seen = tail + data
                if self._marker is not None and self._marker in seen:
                    self._marker = None
                    if self._loss == "request":
                        self.lost.set()
                        return
                    losing = True
                tail = seen[-64:]
                server_out.write(data)
                await server_out.drain()

        async def to_client() -> None:
            while data := await server_in.read(65536):
                if losing:
                    self.lost.set()
                    return
                client_out.write(data)
                await client_out.drain()

        ways = [asyncio.ensure_future(to_server()), asyncio.ensure_future(to_client())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for writer in (client_out, server_out):
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await asyncio.gather(*ways, return_exceptions=True)


@contextlib.asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server of a DSN, and the DSN through it."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    userinfo = parts.netloc.rpartition("@")[0]
    through = urlunsplit(parts._replace(netloc=f"{userinfo}@127.0.0.1:{port}"))
    try:
        yield proxy, through
    finally:
        server.close()
