"""Flows in doubt on real servers: what is lost, refused, or to be decided elsewhere."""

import asyncio
import uuid
from typing import Any

import msgspec
import pytest

from engine.errors import TryAgainError
from engine.flows import rounds, session, turn
from engine.flows.flush import FlowFlush
from engine.ledger.nouns import shard_of, stream_name
from tests.flow_desks import FlowDesk, flow_desk
from tests.flow_examples import payout
from tests.ledgers import until

SECOND = 1_000_000


async def queued(desk: FlowDesk) -> list[bytes]:
    """Ids of entries that wait for the ledger's workers."""
    async with desk.ledger.redis() as redis:
        names = [stream_name(desk.ledger.prefix, shard) for shard in range(4)]
        return [entry for name in names for entry, _ in await redis.xrange(name)]


async def test_what_is_asked_and_lost_is_sent_again_and_what_is_queued_is_waited_for(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (turn, rounds):
        monkeypatch.setattr(module, "LOOK_AGAIN", SECOND // 5)
    async with flow_desk(postgres_dsn, redis_url, working=False) as desk, desk.working() as workers:
        await desk.define(payout())
        looks = 0
        are_queued = workers[0].streams.are_queued

        async def counted(entries: Any) -> list[bool]:
            nonlocal looks
            looks += 1
            return await are_queued(entries)

        workers[0].streams.are_queued = counted  # type: ignore[method-assign]
        flow = await desk.start()
        await desk.waits(flow, "ledger")
        await until(lambda: looks >= 3, "a few looks")
        [entry] = await queued(desk)
        async with desk.ledger.redis() as redis:
            for shard in range(4):
                await redis.delete(stream_name(desk.ledger.prefix, shard))

            async def again() -> bool:
                return await queued(desk) not in ([], [entry])

            await until(again, "the same request, once more")
        async with desk.ledger.working():
            await desk.waits(flow, "signal bank")
        assert await desk.balance("wallet") == (500, 0, 0, 0)
        await desk.verify()


async def test_nothing_is_sent_before_its_flush_and_a_failed_flush_drops_what_rested_on_it(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        worker = desk.worker()
        flush = worker.store.flush
        sent: list[Any] = []
        answered: list[Any] = []
        refused = 0

        async def refusing(written: FlowFlush, *args: Any) -> int:
            nonlocal refused
            if written.flows and refused < 3:
                refused += 1
                await asyncio.sleep(0.05)
                assert (sent, answered) == ([], [])
                raise TryAgainError("the flush was not committed")
            return await flush(written, *args)

        def noted(name: str, kept: list[Any]) -> None:
            call = getattr(worker.streams, name)

            async def note(entries: Any) -> Any:
                kept.extend(entries)
                return await call(entries)

            setattr(worker.streams, name, note)

        noted("send", sent)
        noted("answer", answered)
        worker.store.flush = refusing  # type: ignore[method-assign]
        async with desk.working(worker):
            flow = await desk.start()
            await desk.waits(flow, "signal bank")
            assert refused == 3
            assert (len(sent), len(answered)) == (1, 1)
            rows = await desk.client.steps(uuid.UUID(flow).bytes)
            assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        await desk.verify()


async def test_an_entry_on_the_wrong_stream_is_decided_by_the_owners_of_its_flows(
    postgres_dsn: str, redis_url: str
) -> None:
    """Starts and signals of four shards in one entry, answered together and in order."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        async with desk.working(desk.worker(), desk.worker()):

            async def shared() -> bool:
                rows = await desk.ledger.sql("SELECT DISTINCT worker FROM flows.owners")
                return len(rows) == 2

            await until(shared, "both to have shards")
            ids = [str(uuid.UUID(int=uuid.uuid4().int & ~3 | n % 4)) for n in range(8)]
            starts = [{"id": flow, "wallet": "wallet", "amount": 1} for flow in ids]
            starts[5]["amount"] = -1
            signals = [
                {"flow": flow, "name": "bank", "event": "settled", "message_id": "1"}
                for flow in ids[:5]
            ]
            reply = f"{desk.ledger.prefix}:answers:me"
            async with desk.ledger.redis() as redis:

                async def answer(kind: str, **fields: Any) -> list[str]:
                    name = f"{desk.ledger.prefix}:{kind}:{{0002}}"
                    await redis.delete(reply)
                    await redis.xadd(name, fields | {"reply": reply, "request": "r"})

                    async def is_answered() -> bool:
                        return bool(await redis.xlen(reply))

                    await until(is_answered, "the answer")
                    [(_, found)] = await redis.xrange(reply)
                    assert found[b"request"] == b"r"
                    return msgspec.json.decode(found[b"outcomes"])

                packed = msgspec.json.encode(starts)
                outcomes = await answer("flows", json=packed, flow="payout")
                expected = ["created"] * 8
                expected[5] = "invalid_input"
                assert outcomes == expected
                assert await answer("signals", json=msgspec.json.encode(signals)) == ["created"] * 5
            for flow in ids[:5]:
                await desk.ends(flow, "paid")
        written = await desk.ledger.sql(
            "SELECT i.flow, count(*) AS n FROM flows.inbox i GROUP BY i.flow"
        )
        assert [row["n"] for row in written] == [1] * 5


async def test_accounts_are_those_that_a_flow_started_with(
    postgres_dsn: str, redis_url: str
) -> None:
    """Names that mean another account by now, or several, change nothing in what has begun."""
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = await desk.start()
        await desk.waits(flow, "signal bank")
        rows = await desk.ledger.sql("SELECT id, name FROM ledger.accounts")
        first = {row["name"]: row["id"] for row in rows}
        insert = "INSERT INTO ledger.accounts (id, ledger, code, name) VALUES ($1, 1, 1, $2)"
        for name in ("wallet", "in-transit"):
            await desk.ledger.sql(insert, uuid.uuid4(), name)
        assert await desk.signal(flow, "settled") == "created"
        await desk.ends(flow, "paid")
        # What the definition names was resolved when it was defined, what the input names is now.
        ambiguous = {"id": str(uuid.uuid4()), "wallet": "wallet", "amount": 1}
        assert await desk.client.start("payout", [ambiguous]) == ["account_ambiguous"]
        other = await desk.start(wallet=str(first["wallet"]))
        await desk.waits(other, "signal bank")
        moved = await desk.ledger.sql(
            "SELECT DISTINCT debit_account_id AS debit, credit_account_id AS credit"
            " FROM ledger.transfers"
        )
        assert [tuple(row) for row in moved] == [(first["wallet"], first["in-transit"])]


async def test_a_flow_whose_account_is_closed_meanwhile_is_never_silent(
    postgres_dsn: str, redis_url: str
) -> None:
    """A post into a closed account fails: into a review, the hold open, until a person decides."""
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = await desk.start()
        await desk.waits(flow, "signal bank")
        rows = await desk.ledger.sql("SELECT id, name FROM ledger.accounts")
        ids = {row["name"]: str(row["id"]) for row in rows}
        closing = {
            "id": str(uuid.uuid4()), "debit_account_id": ids["in-transit"],
            "credit_account_id": ids["a"], "amount": 0, "ledger": 1, "code": 1,
            "flags": ["pending", "closing_debit"],
        }  # fmt: skip
        async with desk.ledger.redis() as redis:
            name = stream_name(desk.ledger.prefix, shard_of(uuid.UUID(ids["in-transit"]).bytes, 4))
            await redis.xadd(name, {"json": msgspec.json.encode(closing)})

        async def closed() -> bool:
            return bool(await desk.ledger.sql("SELECT FROM ledger.accounts WHERE closed"))

        await until(closed, "the account to be closed")
        declined = await desk.start()
        await desk.ends(declined, "declined")
        assert await desk.signal(flow, "settled") == "created"
        await desk.waits(flow, "review")
        [failed] = await desk.ledger.sql("SELECT detail FROM flows.steps WHERE event = 'failed'")
        assert '"credit_account_already_closed"' in failed["detail"]
        assert await desk.balance("wallet") == (500, 0, 0, 0), "still held"
        assert await desk.ask(flow, "decide", "acknowledged", by="ben") == "decided"

        async def stopped() -> bool:
            return (await desk.current(flow))["state"] == "stopped"

        await until(stopped, "the flow to stop for its open hold")
        assert (await desk.current(flow))["reason"] == "open_hold"
        assert await desk.ask(flow, "resume", by="ben") == "hold_open"
        await desk.verify()


async def test_a_full_backlog_stops_starts_and_nothing_else(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        async with desk.working(desk.worker(lease_seconds=0.5)) as [worker]:
            flow = await desk.start()
            await desk.waits(flow, "signal bank")
            backlog = worker.streams.backlog
            full = True

            async def of_ledger(shards: Any) -> int:
                return session.BACKLOG_ENTRIES_MAX if full else await backlog(shards)

            worker.streams.backlog = of_ledger  # type: ignore[method-assign]
            asked = []
            read = worker.streams.read

            async def noted(streams: Any, block_ms: int) -> Any:
                asked.append(set(streams))
                return await read(streams, block_ms)

            worker.streams.read = noted  # type: ignore[method-assign]
            await until(lambda: asked and not any(":flows:" in n for n in asked[-1]), "no starts")
            starting = asyncio.create_task(desk.start())
            assert await desk.signal(flow, "settled") == "created"
            await desk.ends(flow, "paid")
            assert not starting.done()
            full = False
            await desk.waits(await starting, "signal bank")
