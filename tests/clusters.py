"""A Redis Cluster of embedded servers: each node a process, slots dealt evenly."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio

from engine.servers import ValkeyServer
from engine.servers.ports import choose_port
from engine.streams.slots import SLOT_COUNT, slot_of
from tests.ledgers import until

NODE_TIMEOUT_MS = 60_000
"""Failing over is the tests' to do, not that of a busy machine."""


MIGRATE_MS_MAX = 5000

PASSWORD = "of-all-nodes"


class Cluster:
    """Three primaries, and a replica of the first.

    Args:
        directory: For all of them.
    """

    def __init__(self, directory: Path) -> None:
        self.nodes = [self._node(directory / str(at)) for at in range(4)]
        self._moved: dict[int, ValkeyServer] = {}

    @staticmethod
    def _node(directory: Path) -> ValkeyServer:
        directory.mkdir(parents=True)
        settings = {
            "cluster-enabled": "yes",
            "cluster-port": str(choose_port(directory / "bus", None)),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "repl-diskless-sync-delay": "0",
        }
        return ValkeyServer(directory, settings=settings, password=PASSWORD)

    @property
    def url(self) -> str:
        hosts = [f"127.0.0.1:{_port(node)}" for node in self.nodes[:3]]
        return f"redis+cluster://:{PASSWORD}@{','.join(hosts)}"

    def primary_of(self, key: str) -> ValkeyServer:
        """The node that holds a key, as long as none fails over."""
        slot = slot_of(key.encode())
        return self._moved.get(slot, self.nodes[slot * 3 // SLOT_COUNT])

    async def move(self, key: str, target: ValkeyServer, seconds: float = 0.0) -> None:
        """Move the slot of a key to another node, as an operator does.

        Args:
            key: Whatever else is in its slot moves too.
            target: Where to.
            seconds: For so long it is on its way: who asks for what is not there is told to ASK.
        """
        slot, source = slot_of(key.encode()), self.primary_of(key)
        from_id = (await ask(source, "CLUSTER", "MYID")).decode()
        to_id = (await ask(target, "CLUSTER", "MYID")).decode()
        await ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", from_id)
        await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
        await asyncio.sleep(seconds / 2)
        to = "127.0.0.1", _port(target), "", 0, MIGRATE_MS_MAX, "AUTH", PASSWORD, "KEYS"
        while keys := await ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            await ask(source, "MIGRATE", *to, *keys)
        await asyncio.sleep(seconds / 2)
        # What was made there meanwhile goes too; after that whoever makes any is told to ASK.
        while keys := await ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            await ask(source, "MIGRATE", *to, *keys)
        await ask(target, "CLUSTER", "SETSLOT", slot, "NODE", to_id)
        await ask(source, "CLUSTER", "SETSLOT", slot, "NODE", to_id)
        self._moved[slot] = target

    async def redirections(self) -> Counter[str]:
        """How often all nodes together said ASK and MOVED."""
        said: Counter[str] = Counter()
        for node in self.nodes[:3]:
            for line in (await ask(node, "INFO", "errorstats")).decode().splitlines():
                name, _, count = line.removeprefix("errorstat_").partition(":count=")
                if name in {"ASK", "MOVED"}:
                    said[name] += int(count)
        return said

    async def start(self) -> None:
        for node in self.nodes:
            await asyncio.to_thread(node.start)
        for at, node in enumerate(self.nodes[:3]):
            # Slot s is of node s * 3 // SLOT_COUNT.
            first, last = -(-at * SLOT_COUNT // 3), -(-(at + 1) * SLOT_COUNT // 3) - 1
            await ask(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            bus = (node.directory / "bus").read_text().strip()
            await ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", _port(node), bus)
        for node in self.nodes:
            await self._agrees(node)
        first = (await ask(self.nodes[0], "CLUSTER", "MYID")).decode()
        await ask(self.nodes[3], "CLUSTER", "REPLICATE", first)

        async def follows() -> bool:
            return b"master_link_status:up" in await ask(self.nodes[3], "INFO", "replication")

        await until(follows, "the replica to follow")

    async def _agrees(self, node: ValkeyServer) -> None:
        async def agrees() -> bool:
            info = await ask(node, "CLUSTER", "INFO")
            return b"cluster_state:ok" in info and b"cluster_known_nodes:4" in info

        await until(agrees, "the nodes to know each other")

    async def fail_over(self) -> None:
        """Let the replica, as far as it got, be what the first node was."""
        await asyncio.to_thread(self.nodes[0].kill)
        await ask(self.nodes[3], "CLUSTER", "FAILOVER", "TAKEOVER")

        async def known() -> bool:
            port = str(_port(self.nodes[3])).encode()
            return all(
                [
                    any(
                        port in line and b"master" in line
                        for line in (await ask(node, "CLUSTER", "NODES")).splitlines()
                    )
                    for node in self.nodes[1:]
                ]
            )

        await until(known, "the nodes to know the new primary")

    async def forget_the_replica(self) -> None:
        """Let the replica hear of no more writes."""
        await ask(self.nodes[0], "ACL", "SETUSER", "default", "-psync", "-sync")
        await ask(self.nodes[0], "CLIENT", "KILL", "TYPE", "replica")

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


def _port(node: ValkeyServer) -> int:
    port = urlsplit(node.url).port
    assert port is not None
    return port


async def ask(node: ValkeyServer, *words: str | int | bytes) -> Any:
    """A command to one node, with its answer as it comes."""
    client = redis.asyncio.Redis.from_url(node.url, protocol=2)
    client.response_callbacks.clear()
    async with client:
        return await client.execute_command(*words)


@contextlib.asynccontextmanager
async def clustered(directory: Path) -> AsyncIterator[Cluster]:
    """A cluster that is running."""
    cluster = Cluster(directory)
    try:
        await cluster.start()
        yield cluster
    finally:
        cluster.stop()
