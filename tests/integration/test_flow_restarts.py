"""Flows, clocks, versions and a restart, on real servers."""

import asyncio
import uuid

import pytest

from engine.flows import Flow
from tests.flow_desks import flow_desk
from tests.flow_examples import Payout
from tests.ledgers import until

SECOND = 1_000_000


async def test_a_clock_an_hour_back_and_then_forward_fires_no_timer_twice_or_early(
    postgres_dsn: str, redis_url: str
) -> None:
    flow = Flow("nap", version=1, input=Payout, ledger=1)
    nap = flow.sleep("3s")
    move = flow.move(debit=Payout.wallet, credit="a", amount=Payout.amount, code=1)
    nap.done.go(move)
    move.created.end("moved")
    move.declined.end("declined")
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(flow)
        worker = desk.worker(lease_seconds=0.5)
        heartbeat = worker.store.ownership.heartbeat
        offset, beats = 0, 0

        async def clock(lease_seconds: float) -> int:
            nonlocal beats
            beats += 1
            return await heartbeat(lease_seconds) + offset

        async def shown(hours: int) -> None:
            nonlocal offset, beats
            offset, beats = hours * 3600 * SECOND, 0
            await until(lambda: beats >= 3, "the clock to be read")

        worker.store.ownership.heartbeat = clock  # type: ignore[method-assign]
        async with desk.working(worker):
            await shown(0)
            ids = [await desk.start("nap", amount=1) for _ in range(3)]
            await shown(-1)
            ids += [await desk.start("nap", amount=1) for _ in range(3)]
            await asyncio.sleep(1)
            assert await desk.ledger.sql("SELECT FROM flows.steps WHERE seq > 1") == []
            await shown(0)
            ids += [await desk.start("nap", amount=1) for _ in range(3)]
            await shown(1)
            for flow_id in ids:
                await desk.ends(flow_id, "moved")
            await shown(0)
            await shown(1)
        rows = await desk.ledger.sql(
            "SELECT d.at - w.due_at AS late FROM flows.steps w"
            " JOIN flows.steps d ON d.flow = w.flow AND d.seq = 2 WHERE w.seq = 1"
        )
        assert len(rows) == 9
        assert min(row["late"].total_seconds() for row in rows) > -1
        assert await desk.balance("wallet") == (0, 9, 0, 0)
        await desk.verify()


def napping(version: int, end: str, duration: str = "4s") -> Flow:
    """Sleeps, then waits for the bank; how it ends says which version it is."""
    flow = Flow("napping", version=version, input=Payout, ledger=1)
    hold = flow.hold(debit=Payout.wallet, credit="in-transit", amount=Payout.amount, code=1)
    nap, bank = flow.sleep(duration), flow.wait("bank")
    post = flow.post(hold)
    hold.created.go(nap)
    hold.declined.end("declined")
    nap.done.go(bank)
    bank.on("settled").go(post)
    post.done.end(end)
    return flow


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_open_flows_a_new_version_a_kill_and_a_restart(
    postgres_dsn: str, redis_url: str
) -> None:
    """Old ones end by the old table, new ones by the new; timers fire soon after the restart."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(napping(1, "old"))
        killed = desk.worker(lease_seconds=1.0)
        task = asyncio.create_task(killed.run())
        await until(killed.ready.is_set, "the first worker")
        old = [{"id": str(uuid.uuid4()), "wallet": "wallet", "amount": 1} for _ in range(600)]
        assert set(await desk.client.start("napping", old)) == {"created"}
        await desk.define(napping(2, "new", "1s"))
        killed.abandon()
        task.cancel()
        await asyncio.wait([task])
        async with desk.working(desk.worker(lease_seconds=1.0)):
            new = [{"id": str(uuid.uuid4()), "wallet": "wallet", "amount": 1} for _ in range(50)]
            assert set(await desk.client.start("napping", new)) == {"created"}
            signals = [
                {"flow": i["id"], "name": "bank", "event": "settled", "message_id": "1"}
                for i in [*old, *new]
            ]
            assert set(await desk.client.signal(signals)) == {"created"}

            async def over() -> bool:
                return await desk.ledger.sql("SELECT FROM flows.open") == []

            await until(over, "all flows to end")
        ends = await desk.ledger.sql(
            'SELECT version, "end", count(*) AS n FROM flows.current GROUP BY 1, 2 ORDER BY 1'
        )
        assert [tuple(row) for row in ends] == [(1, "old", 600), (2, "new", 50)]
        assert await desk.balance("wallet") == (0, 650, 0, 0)
        await desk.verify()
