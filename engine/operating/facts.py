"""The facts of `doctor`: everything an operator would look at, gathered from both servers."""

import asyncio
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from shutil import disk_usage
from typing import Final

import msgspec

from engine.addresses import without_password
from engine.errors import EngineError
from engine.ledger.nouns import Position
from engine.operating.hot_accounts import HotAccount, find_hot_account
from engine.store.inspection import Inspection, open_inspection
from engine.store.migrate import migrations
from engine.store.reports import ServerReport, ShardReport
from engine.store.server_facts import ServerFacts, TransactionFacts, WorkerFacts
from engine.streams.inspection import RedisFacts, StreamsInspection
from engine.streams.streams import StreamEnds, Waiting

TRANSACTION_SECONDS_MIN = 60.0
"""A transaction that is open for longer is a fact."""
WAITS_LOOKS: Final = 10
WAITS_LOOK_SECONDS: Final = 0.05
WAITS_WORTH_SECONDS: Final = 0.25
"""A commit that took longer is worth to see what it waits for."""


class Disk(msgspec.Struct, frozen=True):
    """A disk of this machine on which a server keeps its data."""

    path: str
    free_bytes: int
    total_bytes: int


class Facts(msgspec.Struct, kw_only=True):
    """All that was found; what could not be had is None or empty."""

    postgres_address: str
    """Without its password, as commands take it."""
    redis_address: str
    postgres_error: str | None = None
    redis_error: str | None = None
    server: ServerFacts | None = None
    report: ServerReport | None = None
    migration_known: int
    """The newest that this program knows."""
    workers: list[WorkerFacts] = []
    shards: list[ShardReport] = []
    transactions: list[TransactionFacts] = []
    redis: list[RedisFacts] = []
    """Of each node."""
    waiting: Mapping[int, Waiting] = {}
    ends: Mapping[int, StreamEnds] = {}
    hot_accounts: Mapping[int, HotAccount] = {}
    """Of the busiest shard, where entries wait in it."""
    strays: Mapping[str, int] = {}
    """Streams of transfers that no worker reads, and how long they are."""
    postgres_skew_seconds: float | None = None
    """By how much its clock is ahead of this machine's."""
    redis_skew_seconds: float | None = None
    disks: list[Disk] = []


async def gather(postgres_dsn: str, redis_url: str, prefix: str) -> Facts:
    """Ask both servers; what cannot be had is a fact, not an error.

    Args:
        postgres_dsn: The ledger.
        redis_url: The streams.
        prefix: Of the names of the streams.
    """
    facts = Facts(
        postgres_address=without_password(postgres_dsn),
        redis_address=without_password(redis_url),
        migration_known=max(number for number, _, _ in migrations()),
    )
    await asyncio.gather(_ask_postgres(facts, postgres_dsn), _ask_redis(facts, redis_url, prefix))
    if facts.redis_error is None and facts.shards:
        await _ask_streams(facts, redis_url, prefix)
    facts.disks = _disks(facts)
    return facts


async def _ask_postgres(facts: Facts, dsn: str) -> None:
    try:
        async with open_inspection(dsn) as inspection:
            began = time.time()
            facts.server = await inspection.server_facts()
            facts.postgres_skew_seconds = _skew(facts.server.clock, began)
            facts.report = await inspection.server()
            facts.workers = await _ask_workers(inspection)
            facts.shards = await inspection.shards()
            facts.transactions = await inspection.transaction_facts(TRANSACTION_SECONDS_MIN)
    except EngineError as error:
        facts.postgres_error = str(error)


async def _ask_workers(inspection: Inspection) -> list[WorkerFacts]:
    """All workers; where commits are slow, looked at until it is seen what they wait for."""
    workers = await inspection.worker_facts()
    for _ in range(WAITS_LOOKS):
        if all(w.waits_for is not None or w.commit_seconds < WAITS_WORTH_SECONDS for w in workers):
            break
        await asyncio.sleep(WAITS_LOOK_SECONDS)
        workers = await inspection.worker_facts()
    return workers


async def _ask_redis(facts: Facts, url: str, prefix: str) -> None:
    streams = StreamsInspection(url, prefix)
    try:
        await streams.open()
        began = time.time()
        now = await streams.now()
        facts.redis_skew_seconds = _skew(now, began)
        facts.redis = [await streams.facts()]
    except EngineError as error:
        facts.redis_error = str(error)
    finally:
        await streams.close()


async def _ask_streams(facts: Facts, url: str, prefix: str) -> None:
    """What waits: after Postgres, whose positions say what is decided."""
    streams = StreamsInspection(url, prefix)
    try:
        await streams.open()
        positions = {s.shard: Position(s.generation, s.ms, s.seq) for s in facts.shards}
        frozen = {shard.shard for shard in facts.shards if shard.frozen_by}
        facts.waiting = without_age(await streams.waiting(positions), frozen)
        facts.ends = await streams.ends(list(positions))
        facts.strays = await streams.strays(len(positions))
        busiest = max(facts.shards, key=lambda shard: shard.transfers_per_second).shard
        if facts.waiting[busiest].entries:
            hot = await find_hot_account(streams, busiest, positions[busiest])
            facts.hot_accounts = {} if hot is None else {busiest: hot}
    except EngineError as error:
        facts.redis_error = str(error)
    finally:
        await streams.close()


def _skew(clock: float, began: float) -> float:
    """How far a clock is ahead, when it was read between `began` and now."""
    now = time.time()
    if began <= clock <= now:
        return 0.0
    return clock - now if clock > now else clock - began


def _disks(facts: Facts) -> list[Disk]:
    """The disks that both servers write to, as far as these are of this machine."""
    paths = [facts.server.data_directory] if facts.server is not None else []
    paths += [node.settings.get("dir") for node in facts.redis]
    disks = {}
    for path in paths:
        if path is not None and is_local(path, facts):
            usage = disk_usage(path)
            disks[path] = Disk(path, usage.free, usage.total)
    return list(disks.values())


def is_local(path: str, facts: Facts) -> bool:
    """Whether a directory that a server names is one of this machine."""
    hosts = facts.postgres_address, facts.redis_address
    named_here = all("@localhost" in h or "127.0.0.1" in h or "//localhost" in h for h in hosts)
    return named_here and Path(path).is_dir()


def without_age(waiting: Mapping[int, Waiting], frozen: Collection[int]) -> dict[int, Waiting]:
    """What waits in streams; of those of frozen shards nobody is told for how long."""
    return {
        shard: msgspec.structs.replace(found, oldest_seconds=None) if shard in frozen else found
        for shard, found in waiting.items()
    }
