"""The endpoint of a process: /metrics for Prometheus, /livez and /readyz for who starts processes.

A server of a few lines on the workers' own event loop: that it answers is what `/livez` says.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from prometheus_client.exposition import choose_encoder

from engine.errors import ConfigurationError
from engine.operating.metrics import Metrics

REQUEST_BYTES_MAX: Final = 16 * 1024
REQUEST_SECONDS_MAX: Final = 5.0

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@contextlib.asynccontextmanager
async def open_endpoint(metrics: Metrics, listen: tuple[str, int]) -> AsyncIterator[str]:
    """Serve for the length of a block; yields the address, whose port was chosen if it was 0.

    Raises:
        ConfigurationError: The address cannot be listened at.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                async with asyncio.timeout(REQUEST_SECONDS_MAX):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_answer(metrics, head))
                    await writer.drain()
            except TimeoutError:
                pass
        writer.close()

    host, port = listen
    try:
        server = await asyncio.start_server(serve, host, port, limit=REQUEST_BYTES_MAX)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {host}:{port} for --metrics: {error.strerror}; give another address"
        ) from error
    bound = server.sockets[0].getsockname()
    try:
        yield f"{bound[0]}:{bound[1]}"
    finally:
        server.close()


def _answer(metrics: Metrics, head: bytes) -> bytes:
    line, *headers = head.decode("latin-1").split("\r\n")
    method, _, rest = line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if not rest.partition(" ")[2].startswith("HTTP/"):
        return _response(400, b"no HTTP\n")
    if method not in {"GET", "HEAD"}:
        return _response(405, b"GET only\n")
    named = dict(header.lower().partition(": ")[::2] for header in headers)
    if path == "/metrics":
        encode, content_type = choose_encoder(named.get("accept", ""))
        body = encode(metrics.registry)
        return _response(200, body, content_type, is_head=method == "HEAD")
    if path == "/livez":
        return _response(200, b"alive\n", is_head=method == "HEAD")
    if path == "/readyz":
        why = metrics.unready
        body = ("\n".join(why) or "ready").encode() + b"\n"
        return _response(503 if why else 200, body, is_head=method == "HEAD")
    return _response(404, b"/metrics, /livez or /readyz\n")


def _response(
    status: int, body: bytes, content_type: str = "text/plain", *, is_head: bool = False
) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else body)
