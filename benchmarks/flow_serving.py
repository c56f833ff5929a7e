"""A flow worker over a ledger, and a client of it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence

import asyncpg

from benchmarks.serving import Ledger
from engine.flows import Flow
from engine.flows.client import FlowClient, connect_flows


@contextlib.contextmanager
def flow_worker(ledger: Ledger) -> "Iterator[subprocess.Popen[str]]":
    """A flow worker, a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.commands.main", "flows", "worker", "--json",
         "--log-level", "error"],
        env={**os.environ, "ENGINE_POSTGRES_DSN": ledger.dsn, "ENGINE_REDIS_URL": ledger.url},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@contextlib.asynccontextmanager
async def opened(
    ledger: Ledger, definitions: Sequence[Flow]
) -> AsyncIterator[tuple[FlowClient, asyncpg.Connection]]:
    """A client, and a connection to look with."""
    connection = await asyncpg.connect(ledger.dsn)
    async with connect_flows(ledger.dsn, ledger.url, timeout_seconds=120) as client:
        for flow in definitions:
            await client.define(flow.table())
        yield client, connection
    await connection.close()
