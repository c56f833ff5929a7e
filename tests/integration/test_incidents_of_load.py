"""Three nights on which more is sent than is decided: by one account, by a disk, by everybody.

As in `test_incidents`: on real servers the alert fires, the doctor names the cause first, and the
command that he says next mends it.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from engine.servers import Servers
from engine.settings import WorkerSettings
from tests.desks import A, Desk, account, desk_over, transfer
from tests.ledgers import Ledger, make_ledger, until
from tests.machines import Machine
from tests.on_call import Watch

SHORT = WorkerSettings(lease_seconds=1.0)
SLOW = WorkerSettings(lease_seconds=1.0, flush_transfers_max=64, inbox_transfers_max=128)
"""Of a worker that decides much less than producers send."""
LATE_MS = 60_000


async def fill(desk: Desk, shard: int, entries: int, transfers: int, debit: str = A) -> None:
    """Many entries that were taken a minute ago."""
    began = int(time.time() * 1000) - LATE_MS
    pipeline = desk.redis.pipeline(transaction=False)
    for number in range(entries):
        payload = json.dumps([transfer(debit) for _ in range(transfers)])
        pipeline.xadd(desk.stream(shard), {"json": payload}, id=f"{began}-{number + 1}")
    await pipeline.execute()


async def left(desk: Desk, shards: Sequence[int]) -> int:
    return sum([await desk.redis.xlen(desk.stream(shard)) for shard in shards])


PLANS_MAX = 10
HOT_ENTRIES = 600


@pytest.mark.long
async def test_a_hot_account_is_told_named_and_mended(ledger: Ledger, watch: Watch) -> None:
    """Most of the load is one account's, and its worker has other shards beside."""
    hot, idle = ledger.worker(settings=SLOW), ledger.worker(settings=SHORT)
    others = [account(shard) for shard in range(1, 16)]
    async with desk_over(ledger, *others) as desk, ledger.working(hot, idle):
        await until(lambda: len(hot.owned) == len(idle.owned) == 8, "the shards to be shared")
        mine = sorted(hot.owned)
        first, *rest = mine
        debits = [account(shard) for shard in mine]
        await ledger.sql(
            "INSERT INTO ledger.accounts (id, ledger, code) SELECT unnest($1::uuid[]), 1, 1"
            " ON CONFLICT DO NOTHING",
            [uuid.UUID(debit) for debit in debits],
        )
        async with watch(ledger, hot, idle) as night:
            beside = asyncio.create_task(_trickle(desk, dict(zip(rest, debits[1:], strict=True))))
            filling = asyncio.create_task(_keep_full(desk, first, debits[0]))
            found = await night.is_called("hot account")
            assert debits[0] in found.finding
            await until(lambda: _are_loaded(ledger, mine), "the others' load to be measured")
            # A plan is drawn from what was measured lately: where that says little, once more.
            for _ in range(PLANS_MAX):
                await night.run(found.command)
                await night.run("shards apply plan.json")
                if not set(mine) <= hot.owned:
                    break
            assert not set(mine) <= hot.owned, "the hot shard and those beside it are parted"
            beside.cancel()
            filling.cancel()
            await until(lambda: _is_zero(desk, mine), "all to be decided")
            await night.is_mended()


async def _keep_full(desk: Desk, shard: int, debit: str) -> None:
    """More than is decided, until cancelled: however slow the machine, the shard stays hot."""
    while True:
        if await left(desk, [shard]) < HOT_ENTRIES:
            await fill(desk, shard, HOT_ENTRIES, 100, debit)
        await asyncio.sleep(0.1)


async def _trickle(desk: Desk, debits: Mapping[int, str]) -> None:
    """A few transfers for each shard, all the time."""
    while True:
        for shard, debit in debits.items():
            await desk.send([transfer(debit) for _ in range(150)], shard)
        await asyncio.sleep(0.1)


async def _are_loaded(ledger: Ledger, shards: Sequence[int]) -> bool:
    """By more than a hundredth of all; less is not worth a move."""
    rows = await ledger.sql(
        "SELECT shard FROM ledger.loads WHERE transfers_per_second > 0.02 *"
        " (SELECT sum(transfers_per_second) FROM ledger.loads)"
    )
    return {row["shard"] for row in rows} >= set(shards)


async def _is_zero(desk: Desk, shards: Sequence[int]) -> bool:
    return await left(desk, shards) == 0


async def test_a_slow_disk_is_told_named_and_mended(
    machine: Machine, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        for name, value in machine.environment.items():
            patched.setenv(name, value)
        servers = Servers(tmp_path / "servers", postgres_settings={"shared_buffers": "32MB"})
        servers.start()
    try:
        ledger = await make_ledger(servers.postgres.dsn, servers.valkey.url)
        worker = ledger.worker(settings=SHORT)
        async with desk_over(ledger) as desk, ledger.working(worker):
            await desk.ask()
            async with watch(ledger, worker) as night:
                machine.disk_slower_seconds = 1.5
                sending = asyncio.create_task(_go_on(desk))
                found = await night.is_called("slow disk")
                assert "disk" in found.finding
                machine.disk_slower_seconds = 0
                sending.cancel()
                await desk.ask()
                await night.is_mended()
    finally:
        machine.disk_slower_seconds = 0
        servers.stop()


async def _go_on(desk: Desk) -> None:
    while True:
        await desk.ask()


async def test_a_backlog_is_told_named_and_mended(ledger: Ledger, watch: Watch) -> None:
    slow = ledger.worker(settings=SLOW)
    shards = range(ledger.shard_count)
    async with desk_over(ledger) as desk, ledger.working(slow), watch(ledger, slow) as night:
        for shard in shards:
            await fill(desk, shard, 1000, 4, account(shard))
        found = await night.is_called("backlog")
        assert found.command == "engine worker"
        async with night.running(found.command) as said:
            assert said["workers"][0]["shards"], "it takes its share"
            await until(lambda: _is_zero(desk, shards), "the backlog to be gone")
            await night.is_mended()
