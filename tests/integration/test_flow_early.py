"""Signals of flows that have not started, poisoned streams, and a late that comes too soon."""

import asyncio
import uuid
from collections.abc import Collection
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.errors import EngineError
from engine.flows import early, session
from engine.flows.streams import FlowEntry, flow_stream
from tests.flow_desks import FlowDesk, flow_desk
from tests.flow_examples import payout
from tests.ledgers import until

MAXIMAL = "18446744073709551615-18446744073709551615"


def of_shard(shard: int) -> str:
    """An id of a flow that is at home in a shard of four."""
    return str(uuid.UUID(int=uuid.uuid4().int & ~3 | shard))


async def kept(desk: FlowDesk) -> tuple[int, int]:
    """How many signals are in the inbox, and how many of them are early."""
    [row] = await desk.ledger.sql(
        "SELECT (SELECT count(*) FROM flows.inbox) AS inbox, count(*) AS early FROM flows.early"
    )
    return row["inbox"], row["early"]


async def test_signals_of_flows_that_never_start_are_bounded_by_shard(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early, "EARLY_MAX", 5)
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        flows = [of_shard(1) for _ in range(8)]
        async with desk.working():
            outcomes = [await desk.signal(flow, "settled") for flow in flows]
            assert outcomes == ["created"] * 5 + ["flow_not_found"] * 3
            assert await kept(desk) == (5, 5)
            [refused] = await desk.ledger.sql("SELECT count(*) AS n FROM flows.misfits")
            assert await desk.signal(of_shard(2), "settled") == "created", "another shard has room"
        # The next worker counts what is there.
        async with desk.working():
            assert await desk.signal(flows[7], "settled") == "flow_not_found"
            assert await desk.signal(flows[0], "settled") == "exists"
            assert await desk.start(id=flows[0]) == flows[0]
            await desk.ends(flows[0], "paid")
            assert await kept(desk) == (6, 5)
            assert await desk.signal(flows[7], "settled") == "created", "one has started"
            assert await desk.signal(flows[6], "settled") == "flow_not_found"
        assert refused["n"] <= 3, "what is refused for want of room is not kept without bound"


async def test_early_signals_are_forgotten_after_ninety_days_and_no_others(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FORGET_SECONDS", 0.05)
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        old, young, started = (of_shard(1) for _ in range(3))
        async with desk.working(desk.worker(lease_seconds=0.5)):
            for flow in (old, young, started):
                assert await desk.signal(flow, "settled") == "created"
            await desk.start(id=started)
            await desk.ends(started, "paid")
            await desk.ledger.sql(
                "UPDATE flows.early SET received_at = received_at - interval '91 days'"
                " WHERE flow = $1",
                uuid.UUID(old),
            )

            async def forgotten() -> bool:
                return await kept(desk) == (2, 1)

            await until(forgotten, "the old signal to be forgotten")
            # It is as if it had never come.
            assert await desk.signal(old, "rejected") == "created"
            await desk.start(id=old)
            await desk.ends(old, "not paid")
            await desk.start(id=young)
            await desk.ends(young, "paid")
        await desk.verify()


async def test_the_engine_can_forget_nothing_that_is_young_or_whose_flow_has_started(
    postgres_dsn: str, redis_url: str, connected: Any
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        young, started = of_shard(1), of_shard(1)
        async with desk.working():
            for flow in (young, started):
                assert await desk.signal(flow, "settled") == "created"
            await desk.start(id=started)
            await desk.ends(started, "paid")
        connection = await connected(desk.ledger.engine_dsn)
        numbers = [
            row["number"] for row in await connection.fetch("SELECT number FROM flows.inbox")
        ]
        await connection.execute("SELECT flows.forget_early($1)", numbers)
        await connection.execute("SELECT flows.end_early($1)", [uuid.UUID(young)])
        assert await kept(desk) == (2, 1)


@pytest.mark.parametrize("kind", ["flows", "signals"])
async def test_a_flow_stream_with_a_maximal_id_goes_on(
    postgres_dsn: str, redis_url: str, kind: str
) -> None:
    """It takes no more entries: it is renamed, and what it holds is decided, once."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        early_start, flow = of_shard(1), of_shard(1)
        name = flow_stream(desk.ledger.prefix, kind, 1)
        async with desk.ledger.redis() as redis:
            if kind == "flows":
                written = f'{{"id":"{early_start}","wallet":"wallet","amount":5}}'
                fields = {"flow": "payout", "json": written}
            else:
                written = f'{{"flow":"{flow}","name":"bank","event":"settled","message_id":"m"}}'
                fields = {"json": written}
            await redis.xadd(name, fields)
            await redis.xadd(name, {"json": "{"}, id=MAXIMAL)
            async with desk.working(desk.worker(lease_seconds=0.5)):

                async def takes_entries() -> bool:
                    try:
                        await desk.start(id=flow)
                    except (EngineError, AssertionError):
                        return (await desk.current(flow)) != {}
                    return True

                await until(takes_entries, "the stream to take entries again")
                if kind == "flows":
                    await desk.waits(early_start, "signal bank")
                    assert await desk.signal(early_start, "settled") == "created"
                    assert await desk.signal(flow, "settled") == "created"
                    await desk.ends(early_start, "paid")
                await desk.ends(flow, "paid")

                async def gone() -> bool:
                    return not await redis.exists(f"{name}:poisoned:1")

                await until(gone, "the renamed stream to be empty")
        [letters] = await desk.ledger.sql("SELECT count(*) AS n FROM flows.dead_letters")
        assert letters["n"] >= 1
        await desk.verify()


async def test_a_key_that_is_no_stream_holds_up_no_other_shard(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        name = flow_stream(desk.ledger.prefix, "signals", 1)
        with capture_logs() as logs:
            async with desk.ledger.redis() as redis:
                await redis.set(name, "mine")
                async with desk.working(desk.worker(lease_seconds=0.5)):
                    other, mine = of_shard(2), of_shard(1)
                    await desk.start(id=other)
                    assert await desk.signal(other, "settled") == "created"
                    await desk.ends(other, "paid")
                    await desk.start(id=mine)
                    await redis.delete(name)
                    assert await desk.signal(mine, "settled") == "created"
                    await desk.ends(mine, "paid")
        assert "flow_session_ended" not in {line["event"] for line in logs}


async def test_after_a_claim_nothing_is_late_before_its_stream_was_read(
    postgres_dsn: str, redis_url: str
) -> None:
    """Who takes a shard over has read others' streams after the deadline, and not this one."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout(within="3s"))
        second = desk.worker(lease_seconds=1.0)
        first = desk.worker(lease_seconds=1.0)
        task = asyncio.create_task(first.run())
        await until(first.ready.is_set, "the first worker")
        async with desk.working(second):

            async def shared() -> bool:
                rows = await desk.ledger.sql("SELECT DISTINCT worker FROM flows.owners")
                return len(rows) == 2

            await until(shared, "both to have shards")
            rows = await desk.ledger.sql("SELECT shard, worker FROM flows.owners")
            me = uuid.UUID(bytes=first.store.worker)
            theirs = {row["shard"] for row in rows if row["worker"] == me}
            flows = [of_shard(shard) for shard in sorted(theirs)]
            for flow in flows:
                await desk.start(id=flow)
                await desk.waits(flow, "signal bank")
            names = {flow_stream(desk.ledger.prefix, "signals", shard) for shard in theirs}
            read = second.streams.read

            async def deaf(*_: Any) -> tuple[list[FlowEntry], set[str]]:
                await asyncio.sleep(0.1)
                return [], set()

            async def slow(streams: Collection[str], ms: int) -> tuple[list[FlowEntry], set[str]]:
                if names & set(streams):
                    await asyncio.sleep(0.5)
                return await read(streams, ms)

            first.streams.read = deaf  # type: ignore[method-assign]
            second.streams.read = slow  # type: ignore[method-assign]
            await asyncio.sleep(0.2)  # what it was reading is over
            signals = [asyncio.create_task(desk.signal(flow, "settled")) for flow in flows]
            due = "SELECT FROM flows.open WHERE wake_at > clock_timestamp() - interval '0.3 s'"

            async def are_due() -> bool:
                return await desk.ledger.sql(due) == []

            await until(are_due, "the deadline to be over")
            first.abandon()
            task.cancel()
            await asyncio.wait([task])
            assert set(await asyncio.gather(*signals)) == {"created"}
            for flow in flows:
                await desk.ends(flow, "paid")
            assert await desk.ledger.sql("SELECT FROM flows.steps WHERE event = 'late'") == []
