"""Streams on the nodes of a real Redis Cluster: workers and clients follow them where they are."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

import engine
from engine.client.client import Client
from engine.errors import ConfigurationError
from engine.ledger.outcomes import Outcome
from engine.settings import WorkerSettings
from engine.streams.streams import Streams
from tests.clusters import Cluster, ask, clustered
from tests.desks import account, transfer
from tests.ledgers import Ledger, make_ledger, until
from tests.verifying import assert_verified

SHARDS = 16
ACCOUNTS = [account(shard) for shard in range(SHARDS)]


async def make(dsn: str, cluster: Cluster) -> Ledger:
    ledger = await make_ledger(dsn, cluster.url, SHARDS)
    for one in ACCOUNTS:
        await ledger.sql(
            "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)", uuid.UUID(one)
        )
    return ledger


def everywhere(count: int) -> list[dict[str, Any]]:
    """Transfers whose debit accounts are in all shards."""
    return [
        transfer(ACCOUNTS[at % SHARDS], ACCOUNTS[(at + 1) % SHARDS]) for at in range(count * SHARDS)
    ]


async def all_created(client: Client, count: int) -> list[dict[str, Any]]:
    transfers = everywhere(count)
    outcomes = await client.create_transfers(transfers)
    assert set(outcomes) == {Outcome.created}
    return transfers


async def test_streams_on_three_nodes(postgres_dsn: str, tmp_path: Path) -> None:
    """Two workers and a client over all nodes; a slot moves while they work."""
    async with clustered(tmp_path) as cluster:
        ledger = await make(postgres_dsn, cluster)
        streams = [f"{ledger.prefix}:transfers:{{{shard:04d}}}" for shard in range(SHARDS)]
        assert len({id(cluster.primary_of(name)) for name in streams}) == 3
        workers = ledger.worker(range(0, SHARDS, 2)), ledger.worker(range(1, SHARDS, 2))
        async with (
            ledger.working(*workers),
            engine.connect(ledger.dsn, ledger.redis_url, prefix=ledger.prefix) as client,
        ):
            sent = await all_created(client, 20)
            sent += [transfer(ACCOUNTS[n], ACCOUNTS[n - 1]) for n in range(SHARDS)]
            singles = [client.create_transfer(one) for one in sent[-SHARDS:]]
            assert set(await asyncio.gather(*singles)) == {Outcome.created}

            moving = streams[0]
            source = cluster.primary_of(moving)
            target = next(node for node in cluster.nodes[:3] if node is not source)
            await cluster.move(moving, target)
            sent += await all_created(client, 20)

            # By anything that speaks Redis, with the answer on whichever node it belongs.
            for n in range(6):
                reply = f"{ledger.prefix}:answers:{n}"
                body = json.dumps(transfer(ACCOUNTS[1], ACCOUNTS[0]))
                at = cluster.primary_of(streams[1])
                await ask(at, "XADD", streams[1], "*", "json", body, "reply", reply)
                await answered(cluster, reply)
        assert [worker.statistics.sessions for worker in workers] == [1, 1]
        count = await ledger.sql("SELECT count(*) AS n FROM ledger.transfers")
        assert count[0]["n"] == len(sent) + 6
        await an_operator_asks(ledger)
    await assert_verified(ledger)


async def an_operator_asks(ledger: Ledger) -> None:
    streams = Streams(ledger.redis_url, ledger.prefix)
    await streams.open()
    ends = await streams.ends(range(SHARDS))
    assert [ends[shard].length for shard in range(SHARDS)] == [0] * SHARDS
    positions = {shard: ends[shard].last for shard in range(SHARDS)}
    waiting = await streams.waiting(positions)
    assert {one.entries for one in waiting.values()} == {0}
    looks = await streams.recovery.look(positions)
    assert all(look.is_in_step for look in looks.values())
    assert "used_memory" in await streams.describe()
    await streams.close()


async def answered(cluster: Cluster, reply: str) -> None:
    async def there() -> bool:
        return await ask(cluster.primary_of(reply), "XLEN", reply) == 1

    await until(there, "an answer on its node")


async def test_a_failover_that_loses_the_last_writes(postgres_dsn: str, tmp_path: Path) -> None:
    """A replica that lacks the last entries is promoted: all goes on, nothing answered is lost."""
    async with clustered(tmp_path) as cluster:
        ledger = await make(postgres_dsn, cluster)
        workers = [ledger.worker(range(SHARDS), WorkerSettings(lease_seconds=2.0))]
        async with (
            ledger.working(*workers),
            engine.connect(ledger.dsn, ledger.redis_url, prefix=ledger.prefix) as client,
        ):
            sent = await all_created(client, 5)
            await cluster.forget_the_replica()
            sent += await all_created(client, 5)
            await cluster.fail_over()
            sent += await all_created(client, 5)
        rows = await ledger.sql("SELECT id::text FROM ledger.transfers")
        assert {row["id"] for row in rows} == {one["id"] for one in sent}
    await assert_verified(ledger)


async def test_a_cluster_named_as_one_redis_is_refused(postgres_dsn: str, tmp_path: Path) -> None:
    """With what to do: a node alone has not all streams."""
    async with clustered(tmp_path) as cluster:
        ledger = await make(postgres_dsn, cluster)
        url = cluster.nodes[0].url
        with pytest.raises(ConfigurationError, match=r"redis\+cluster://"):
            async with engine.connect(ledger.dsn, url, prefix=ledger.prefix) as client:
                await client.create_transfers(everywhere(1))


async def test_a_node_that_is_away_takes_its_own_streams_along(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """The others are decided meanwhile; its own are once it is back."""
    async with clustered(tmp_path) as cluster:
        ledger = await make(postgres_dsn, cluster)
        streams = [f"{ledger.prefix}:transfers:{{{shard:04d}}}" for shard in range(SHARDS)]
        away = cluster.nodes[1]
        [there, *_] = [s for s in range(SHARDS) if cluster.primary_of(streams[s]) is not away]
        [gone, *_] = [s for s in range(SHARDS) if cluster.primary_of(streams[s]) is away]
        worker = ledger.worker()
        async with ledger.working(worker):
            await asyncio.to_thread(away.kill)
            await ask_one(cluster, ledger, there)
            await until(lambda: gone in worker.statistics.unread, "its shards to be set aside")
            assert there not in worker.statistics.unread
            await asyncio.to_thread(away.start)
            await until(lambda: not worker.statistics.unread, "all shards to be read")
            await ask_one(cluster, ledger, gone)
        # And where it is away when a worker starts.
        await asyncio.to_thread(away.kill)
        worker = ledger.worker()
        async with ledger.working(worker):
            await ask_one(cluster, ledger, there)
            assert gone in worker.statistics.unread
            await asyncio.to_thread(away.start)
            await ask_one(cluster, ledger, gone)
    await assert_verified(ledger)


async def ask_one(cluster: Cluster, ledger: Ledger, shard: int) -> None:
    """Send a transfer to a shard whose node is there, and see it created."""
    body = transfer(ACCOUNTS[shard], ACCOUNTS[0 if shard else 1])
    stream = f"{ledger.prefix}:transfers:{{{shard:04d}}}"

    async def added() -> bool:
        try:
            await ask(cluster.primary_of(stream), "XADD", stream, "*", "json", json.dumps(body))
        except (RedisError, OSError):
            return False
        return True

    await until(added, "the node to take an entry")

    async def created() -> bool:
        rows = await ledger.sql("SELECT FROM ledger.transfers WHERE id = $1", uuid.UUID(body["id"]))
        return bool(rows)

    await until(created, "the transfer to be created")
