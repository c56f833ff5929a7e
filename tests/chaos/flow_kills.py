"""Kill -9 of every process that takes part in flows, under load; then an independent reading.

Ledger worker, flow workers, sender, Postgres and Valkey are killed in turn, in an order drawn from
the seed, and started again. At the end every started flow has one end, the one that its signals
and its partner give; the money is where the ends say; and `verify` passes.
"""

import asyncio
import itertools
import random
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.flows.client import connect_flows
from engine.servers import Servers
from engine.settings import WorkerSettings
from tests.chaos.flow_load import LEASE_SECONDS, is_done, item_of, paying
from tests.ledgers import Ledger, make_ledger, until
from tests.processes import WorkerProcess
from tests.verifying import assert_verified

KINDS: Final = ("ledger worker", "flow worker 0", "flow worker 1", "sender", "postgres", "valkey")
SETTLE_SECONDS_MAX: Final = 400.0


class FlowKills:
    """One run.

    Args:
        directory: For the servers.
        seed: Of what is killed when, and of the load.
        flows: How many are started.
        kills: How many there are.
        pause_seconds: Between two kills, about.
        say: Gets a line for each thing that happens.
    """

    def __init__(
        self,
        directory: Path,
        seed: int,
        flows: int,
        kills: int,
        pause_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._seed = seed
        self._chance = random.Random(seed)
        self._flows = flows
        self._kills = kills
        self._pause = pause_seconds
        self._say = say
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._ledger_worker: WorkerProcess | None = None

    async def run(self) -> None:
        """Raises AssertionError where something is wrong."""
        with Servers(
            self._directory / "servers", postgres_settings={"shared_buffers": "128MB"}
        ) as servers:
            self._servers = servers
            self._ledger = await make_ledger(servers.postgres.dsn, servers.valkey.url)
            for name in ("wallet", "in-transit"):
                await self._ledger.sql(
                    "INSERT INTO ledger.accounts (id, ledger, code, name) VALUES ($1, 1, 1, $2)",
                    uuid.uuid4(),
                    name,
                )
            async with connect_flows(
                self._ledger.app_dsn, self._ledger.redis_url, prefix=self._ledger.prefix
            ) as client:
                await client.define(paying().table())
            try:
                for kind in KINDS[:4]:
                    await self._start(kind)
                await until(self._count, "the first flow")
                await self._kill_in_turn()
                await until(self._is_over, "all flows to end", SETTLE_SECONDS_MAX)
                await check_ends(self._ledger, self._seed, self._flows)
                self._say("every flow ended once, as its signals say")
            finally:
                await self._end()
            await assert_verified(self._ledger)
            self._say("verify passes")

    async def _start(self, kind: str) -> None:
        if kind == "ledger worker":
            settings = WorkerSettings(lease_seconds=LEASE_SECONDS)
            self._ledger_worker = WorkerProcess(
                self._ledger, settings=settings, log=self._directory / "workers.log"
            )
            await self._ledger_worker.start()
            return
        what, dsn = ("send", self._ledger.app_dsn)
        if kind != "sender":
            what, dsn = ("work", self._ledger.engine_dsn)
        chunks = self._flows / 250
        words = {
            "postgres-dsn": dsn,
            "redis-url": self._ledger.redis_url,
            "prefix": self._ledger.prefix,
            "seed": self._seed,
            "flows": self._flows,
            "pause": self._kills * self._pause / chunks / 2,
            "record": self._directory / "sent",
        }
        arguments = [text for name, value in words.items() for text in (f"--{name}", str(value))]
        self._processes[kind] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.flow_load", what, *arguments
        )

    async def _kill_in_turn(self) -> None:
        order = itertools.chain.from_iterable(
            self._chance.sample(KINDS, len(KINDS)) for _ in itertools.count()
        )
        for number, kind in enumerate(itertools.islice(order, self._kills), 1):
            await asyncio.sleep(self._pause * (0.5 + self._chance.random()))
            self._say(f"kill {number}: {kind}; {await self._count()} flows open")
            if kind in {"postgres", "valkey"}:
                server = getattr(self._servers, kind)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                continue
            await self._kill(kind)
            await asyncio.sleep(self._chance.choice([0.0, LEASE_SECONDS * 1.5]))
            await self._start(kind)

    async def _kill(self, kind: str) -> None:
        if kind == "ledger worker":
            assert self._ledger_worker is not None
            await self._ledger_worker.kill()
            return
        process = self._processes[kind]
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def _end(self) -> None:
        for kind in KINDS[:4]:
            if kind in self._processes or (kind == "ledger worker" and self._ledger_worker):
                await self._kill(kind)

    async def _count(self) -> int:
        [row] = await self._ledger.sql("SELECT count(*) AS n FROM flows.open")
        return int(row["n"])

    async def _is_over(self) -> bool:
        sender = self._processes["sender"]
        assert sender.returncode in {None, 0}, "the sender broke"
        return sender.returncode == 0 and await self._count() == 0


async def check_ends(ledger: Ledger, seed: int, flows: int) -> None:
    """Every flow has the one end that an independent reading of what came for it gives."""
    said: dict[uuid.UUID, dict[str, str]] = {}
    for row in await ledger.sql(
        "SELECT flow, name, event FROM flows.inbox"
        " WHERE name = 'bank' OR (name = ':decide' AND answer = 'decided')"
    ):
        assert row["name"] not in said.setdefault(row["flow"], {}), "said twice"
        said[row["flow"]][row["name"]] = row["event"]
    ends: dict[uuid.UUID, list[str]] = {}
    for row in await ledger.sql("SELECT flow, event FROM flows.steps WHERE state = 'ended'"):
        ends.setdefault(row["flow"], []).append(row["event"])
    paid = 0
    for number in range(flows):
        item = item_of(seed, number)
        flow = uuid.UUID(item["id"])
        # What came after the end is no signal of the flow any more.
        words = said.get(flow, {})
        is_refused = words.get(":decide") == "refused"
        is_paid = not is_refused and is_done(flow) and words["bank"] == "settled"
        assert ends.pop(flow) == ["paid" if is_paid else "not paid"], flow
        paid += item["amount"] if is_paid else 0
    assert ends == {}, "flows that nobody started"
    [row] = await ledger.sql(
        "SELECT b.debits_pending, b.debits_posted FROM ledger.balances b"
        " JOIN ledger.accounts a ON a.id = b.account_id WHERE a.name = 'wallet'"
    )
    assert (row["debits_pending"], row["debits_posted"]) == (0, paid)
