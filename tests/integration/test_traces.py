"""A span a flush, linked to the contexts that its producers sent along."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.errors import ConfigurationError
from engine.operating.traces import FIELD, FlushTraces
from engine.settings import TRACES_VARIABLE, traced_share
from tests.desks import Desk, desk_over, transfer
from tests.ledgers import Ledger, until
from tests.told import start

export = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
sdk = pytest.importorskip("opentelemetry.sdk.trace")
sending = pytest.importorskip("opentelemetry.sdk.trace.export")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def send_traced(desk: Desk, *contexts: str) -> None:
    """An entry for each context."""
    for context in contexts:
        fields = {"json": json.dumps([transfer()]), "reply": desk.reply}
        await desk.redis.xadd(desk.stream(), {**fields, FIELD: context})


@contextlib.asynccontextmanager
async def traced(ledger: Ledger, share: float) -> AsyncIterator[Any]:
    exporter = export.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(sending.SimpleSpanProcessor(exporter))
    worker = ledger.worker()
    FlushTraces(provider, share).follow(worker)
    async with ledger.working(worker):
        yield exporter


async def test_a_flush_is_a_span_with_links_to_its_producers(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, traced(ledger, 1.0) as exporter:
        good = f"00-{TRACE}-{SPAN}-01"
        none = f"00-{'0' * 32}-{SPAN}-01"
        await send_traced(desk, good, good, none, "garbage", "")
        await desk.answers(5)
        spans = exporter.get_finished_spans()
    rows = await ledger.sql("SELECT number, sequence FROM ledger.flushes WHERE transfers > 0")
    assert {span.attributes["engine.flush"] for span in spans} >= {row["number"] for row in rows}
    links = [link.context for span in spans for link in span.links]
    assert {(f"{link.trace_id:032x}", f"{link.span_id:016x}") for link in links} == {(TRACE, SPAN)}
    assert sum(span.attributes["engine.created"] for span in spans) == 5
    for span in spans:
        moments = [span.start_time, *(event.timestamp for event in span.events), span.end_time]
        assert moments == sorted(moments)


async def test_a_share_of_flushes_is_traced(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, traced(ledger, 0.1) as exporter:
        for _ in range(40):
            await desk.ask()
        spans = exporter.get_finished_spans()
    assert 3 <= len(spans) <= 5


@pytest.mark.parametrize("share", ["nan", "-1", "2", "all"])
def test_what_is_no_share_is_refused(monkeypatch: pytest.MonkeyPatch, share: str) -> None:
    monkeypatch.setenv(TRACES_VARIABLE, share)
    with pytest.raises(ConfigurationError, match=TRACES_VARIABLE):
        traced_share()


async def test_spans_are_sent_by_otlp(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real `engine worker`, to something that takes what OTLP sends."""
    taken: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        taken.append(head.split()[1] + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    traces = {
        TRACES_VARIABLE: "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    async with desk_over(ledger) as desk, server:
        worker = await start(ledger, "worker", "--json", **traces)
        await desk.ask()
        await until(lambda: any(b"engine flush" in body for body in taken), "a span")
        worker.terminate()
        await worker.communicate()
    assert taken[0].startswith(b"/v1/traces")


def test_without_traces_nothing_of_them_is_loaded() -> None:
    code = "import sys, engine.commands.worker; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in found.stdout.split() if name.startswith("opentelemetry")]
