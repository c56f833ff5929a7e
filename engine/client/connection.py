"""Opening a client."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from engine.addresses import find_addresses
from engine.client.backpressure import Backpressure
from engine.client.client import Client
from engine.client.delivery import Delivery
from engine.client.routes import Routes
from engine.errors import ConfigurationError
from engine.patience import Patience
from engine.settings import ClientSettings, WhenFull, stream_prefix
from engine.store.client_store import ClientStore

_DEFAULT = ClientSettings()


@contextlib.asynccontextmanager
async def connect(
    postgres_dsn: str | None = None,
    redis_url: str | None = None,
    *,
    prefix: str | None = None,
    data: Path | str | None = None,
    timeout_seconds: float = _DEFAULT.timeout_seconds,
    backlog_entries_max: int = _DEFAULT.backlog_entries_max,
    when_full: WhenFull = _DEFAULT.when_full,
) -> AsyncIterator[Client]:
    """Open a client for the length of an `async with`.

    What is not given is read from the environment, as the commands do: the addresses from
    `ENGINE_POSTGRES_DSN` and `ENGINE_REDIS_URL`, else those of the `engine up` that runs in
    `ENGINE_DATA`; the prefix from `ENGINE_PREFIX`.

    Args:
        postgres_dsn: Where the ledger is.
        redis_url: Where the streams are.
        prefix: Of the names of the streams.
        data: The data directory of a running `engine up`, instead of both addresses.
        timeout_seconds: Longest wait for the outcome of what was sent, or for a look-up.
        backlog_entries_max: Most entries that may wait in the stream of a shard.
        when_full: With more, whether to raise BackpressureError at once, or to wait for room.

    Raises:
        ConfigurationError: An address is missing, wrong or given twice, a server refuses us, or
            there is no ledger.
        TryAgainError: A server is out of reach.
    """
    if timeout_seconds <= 0 or backlog_entries_max < 1 or when_full not in {"error", "wait"}:
        raise ConfigurationError(
            "Expected timeout_seconds > 0, backlog_entries_max >= 1 and when_full error or wait"
        )
    directory = None if data is None else Path(data)
    addresses = find_addresses(postgres_dsn, redis_url, directory)
    prefix = stream_prefix(prefix)
    store = ClientStore(addresses.postgres_dsn, timeout_seconds)
    try:
        routes = Routes(await store.shard_count())
        ledger_id = str(UUID(bytes=await store.ledger_identity()))
        patience = Patience()
        backpressure = Backpressure(
            prefix, routes.shard_count, backlog_entries_max, when_full, patience
        )
        delivery = Delivery(addresses.redis_url, prefix, backpressure, routes, patience, ledger_id)
        client = Client(store, routes, backpressure, delivery, patience, timeout_seconds)
        async with client.opened():
            yield client
    finally:
        await store.close()
