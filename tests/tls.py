"""Servers that end TLS before a Redis or a Postgres, as proxies of services do."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import trustme

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""What a client of Postgres sends first, to ask for TLS. Source: its documentation, SSLRequest."""

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def expired(ca: trustme.CA, host: str = "localhost") -> trustme.LeafCert:
    """A certificate that was good until yesterday."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return ca.issue_cert(host, not_before=yesterday - timedelta(days=9), not_after=yesterday)


def context_of(certificate: trustme.LeafCert, ca: trustme.CA | None = None) -> ssl.SSLContext:
    """What a server is known by; with `ca` it asks its clients who they are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def over_tls(
    url: str, certificate: trustme.LeafCert, ca: trustme.CA | None = None
) -> AsyncIterator[str]:
    """A server that ends TLS before a Redis.

    Yields:
        Its address, of host `localhost`.
    """
    parts = urlsplit(url)

    async def serve(client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        await _join(client_in, client_out, parts.hostname or "", parts.port or 0)

    async with _served(serve, context_of(certificate, ca)) as port:
        yield f"rediss://:{parts.password}@localhost:{port}/0"


@contextlib.asynccontextmanager
async def postgres_over_tls(
    dsn: str, certificate: trustme.LeafCert, ca: trustme.CA | None = None
) -> AsyncIterator[str]:
    """The same before a Postgres, whose clients ask for TLS in the clear."""
    parts = urlsplit(dsn)
    context = context_of(certificate, ca)

    async def serve(client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        assert await client_in.readexactly(8) == SSL_REQUEST, "nothing goes in the clear"
        client_out.write(b"S")
        await client_out.drain()
        await client_out.start_tls(context)
        await _join(client_in, client_out, parts.hostname or "", parts.port or 0)

    async with _served(serve, None) as port:
        user = parts.netloc.rpartition("@")[0]
        yield urlunsplit(parts._replace(netloc=f"{user}@localhost:{port}"))


@contextlib.asynccontextmanager
async def _served(serve: Serve, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[Any]] = set()

    async def run(client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # Cancelled at the end of a test, after which nobody asks for what became of it.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(client_in, client_out)
        client_out.transport.abort()

    server = await asyncio.start_server(run, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _join(
    client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter, host: str, port: int
) -> None:
    server_in, server_out = await asyncio.open_connection(host, port)
    await asyncio.gather(
        _pump(client_in, server_out), _pump(server_in, client_out), return_exceptions=True
    )


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    finally:
        target.close()
