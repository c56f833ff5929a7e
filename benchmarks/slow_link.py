"""A link to a server that carries so many bytes a second and no more."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from urllib.parse import urlsplit, urlunsplit

PIECE = 64 * 1024

_spawning = multiprocessing.get_context("spawn")


@contextmanager
def slow_link(url: str, bytes_per_second: float | None) -> Iterator[str]:
    """The address of a server over such a link, until the block ends; its own where None."""
    if bytes_per_second is None:
        yield url
        return
    parts = urlsplit(url)
    ours, theirs = _spawning.Pipe()
    place = parts.hostname, parts.port
    process = _spawning.Process(target=_serve, args=(theirs, *place, bytes_per_second), daemon=True)
    process.start()
    try:
        user, at, _ = parts.netloc.rpartition("@")
        yield urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{ours.recv()}"))
    finally:
        process.kill()
        process.join()


def _serve(words: Connection, host: str, port: int, bytes_per_second: float) -> None:
    async def serve() -> None:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(PIECE):
                    await asyncio.sleep(len(data) / bytes_per_second)
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, to = await asyncio.open_connection(host, port)
            await asyncio.gather(carry(reader, to), carry(there, writer))

        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        words.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())
