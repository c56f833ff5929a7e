"""`verify` on a ledger that is at work, and against its streams."""

import asyncio
import json
import uuid
from typing import Any

import pytest

from engine.streams.streams import Streams
from engine.verify.run import verify
from tests.everything import id_of, send, transfer
from tests.ledgers import make_ledger
from tests.verifying import failed, results_of


async def test_nothing_stops_and_nothing_fails_while_transfers_flow(
    postgres_dsn: str, redis_url: str
) -> None:
    live = await make_ledger(postgres_dsn, redis_url)
    for name in ("a", "b"):
        insert = "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)"
        await live.sql(insert, uuid.UUID(id_of(name)))
    streams = Streams(redis_url, live.prefix)
    await streams.open()
    async with live.working(), live.redis() as redis:
        stopping = asyncio.Event()

        async def flow() -> None:
            count = 0
            while not stopping.is_set():
                batch = [transfer(f"{live.prefix} {count + n}", "a", "b", 1) for n in range(20)]
                count += len(batch)
                stream = f"{live.prefix}:transfers:{{0001}}"
                await redis.xadd(stream, {"json": json.dumps(batch)})
                await asyncio.sleep(0)

        flowing = asyncio.create_task(flow())
        counts = []
        for _ in range(3):
            report = await verify(
                live.app_dsn, streams.ends, entries_below=streams.read_below, prefix=live.prefix
            )
            results = results_of(report)
            assert failed(results) == set(), [results[n].offenders for n in failed(results)]
            counts.append(results["postings"].counted["transfers"])
        stopping.set()
        await flowing
    await streams.close()
    assert counts[0] < counts[1] < counts[2]


async def test_streams_are_compared_with_positions(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.verify.streams.DELETED_SECONDS_MAX", 0.2)
    small = await make_ledger(postgres_dsn, redis_url)
    for name in ("a", "b"):
        insert = "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)"
        await small.sql(insert, uuid.UUID(id_of(name)))
    events = [transfer("decided", "a", "b", 1)]
    async with small.working():
        await send(small, 1, {"json": json.dumps(events)})
        await send(small, 1, {"json": "unreadable"})
    streams = Streams(redis_url, small.prefix)
    await streams.open()
    stream = f"{small.prefix}:transfers:{{0001}}"

    async def look() -> Any:
        report = await verify(
            small.dsn, streams.ends, entries_below=streams.read_below, prefix=small.prefix
        )
        assert failed(results_of(report)) <= {"streams"}
        return report.checks[-1]

    async with small.redis() as redis:
        await redis.xadd(stream, {"json": "[]"})
        result = await look()
        assert result.passed
        assert result.counted["entries waiting in shard 1"] == 1
        position = (await streams.ends([1]))[1].last

        # A Redis that came back older: it has given no such id yet.
        await redis.delete(stream)
        assert (await look()).passed  # what is added will be decided in the next generation
        await redis.xadd(stream, {"json": json.dumps(events)}, id="1-1")
        result = await look()
        assert [(one["what"], one["shard"]) for one in result.offenders] == [("streams", 1)]
        assert "came back older" in result.offenders[0]["fault"]

        # What was decided and only not deleted is no fault; what nobody decided is.
        await redis.xadd(stream, {"json": json.dumps([transfer("new", "a", "b", 1)])}, id="1-2")
        await redis.xadd(stream, {"json": "unreadable too"}, id="1-3")
        await redis.xadd(stream, {"json": "[]"}, id=position.entry_id)
        result = await look()
        assert [(one["what"], one["entry"]) for one in result.offenders] == [
            ("entries", "1-3"),
            ("entries", "1-2"),
        ]
        assert result.counted["entries not deleted yet"] == 3
        assert result.counted["entries waiting"] == 1
        without = await verify(small.dsn, streams.ends)
        assert without.passed
    await streams.close()
