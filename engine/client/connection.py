"""Opening a client."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Final

from engine.client.backpressure import Backpressure, WhenFull
from engine.client.client import Client
from engine.client.delivery import Delivery
from engine.client.routes import Routes
from engine.errors import ConfigurationError
from engine.store.client_store import ClientStore

BACKLOG_ENTRIES_MAX: Final = 1000
"""Most entries that may wait in the stream of a shard, unless told otherwise."""


@contextlib.asynccontextmanager
async def connect(
    postgres_dsn: str | None = None,
    redis_url: str | None = None,
    *,
    prefix: str = "engine",
    timeout_seconds: float = 30.0,
    backlog_entries_max: int = BACKLOG_ENTRIES_MAX,
    when_full: WhenFull = "error",
) -> AsyncIterator[Client]:
    """Open a client for the length of an `async with`.

    Args:
        postgres_dsn: Where the ledger is; None for `ENGINE_POSTGRES_DSN`.
        redis_url: Where the streams are; None for `ENGINE_REDIS_URL`.
        prefix: Of the names of the streams.
        timeout_seconds: Longest wait for the outcome of what was sent, or for a look-up.
        backlog_entries_max: Most entries that may wait in the stream of a shard.
        when_full: With more, whether to raise BackpressureError at once, or to wait for room.

    Raises:
        ConfigurationError: An address is missing or wrong, a server refuses us, or there is
            no ledger.
        TryAgainError: A server is out of reach.
    """
    if timeout_seconds <= 0 or backlog_entries_max < 1 or when_full not in {"error", "wait"}:
        raise ConfigurationError(
            "Expected timeout_seconds > 0, backlog_entries_max >= 1 and when_full error or wait"
        )
    dsn = _address(postgres_dsn, "ENGINE_POSTGRES_DSN", "postgres_dsn")
    url = _address(redis_url, "ENGINE_REDIS_URL", "redis_url")
    store = ClientStore(dsn, timeout_seconds)
    try:
        routes = Routes(await store.shard_count())
        backpressure = Backpressure(prefix, routes.shard_count, backlog_entries_max, when_full)
        delivery = Delivery(url, prefix, backpressure, routes)
        client = Client(store, routes, backpressure, delivery, timeout_seconds)
        async with client.opened():
            yield client
    finally:
        await store.close()


def _address(given: str | None, variable: str, argument: str) -> str:
    found = given or os.environ.get(variable)
    if not found:
        raise ConfigurationError(f"Set {variable}, or give {argument}: the address is not known")
    return found
