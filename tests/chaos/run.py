"""One run: faults one after the other, under load; after each, every shard must answer again.

Meanwhile Jepsen's bank reads all balances in one snapshot, again and again: the total is constant
and limits hold. At the end every answer is held against the ledger, the times of flushes against
Postgres's clock, what hostile producers sent against the dead letters, and `verify` passes.
"""

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any, Final

import asyncpg

import tests.chaos.failover_faults
import tests.chaos.outer_faults
import tests.chaos.storage_faults  # noqa: F401 - they add their own to FAULTS
from engine.ledger.nouns import stream_name
from engine.servers import Servers
from engine.verify.chain import verify_chain
from tests.bounds import CONDITION_SECONDS_MAX
from tests.chaos.bank import Bank
from tests.chaos.checker import Checker
from tests.chaos.cluster_faults import OF_CLUSTERS, WITH_ONE_REDIS
from tests.chaos.crew import Crew
from tests.chaos.faults import FAULTS, World
from tests.chaos.fleet import Fleet
from tests.chaos.report import Injection, Report
from tests.chaos.small_disk import small_disk
from tests.clusters import clustered
from tests.desks import account
from tests.fuzz.attack import HONEST_ACCOUNTS, HOSTILE_ACCOUNTS, PLAIN_ACCOUNTS
from tests.fuzz.honest import HonestProducer
from tests.ledgers import make_ledger, until
from tests.producers import Producers
from tests.proxies import proxied
from tests.standbys import SETTINGS
from tests.verifying import assert_verified

PRODUCERS: Final = 2
TELLERS: Final = 2
ANSWERS_BETWEEN_MAX: Final = 60
LOOK_SECONDS: Final = 0.2
CLOCK_SECONDS_MAX: Final = 60
"""How far ahead of Postgres's clock the time of a flush may be."""


class Chaos:
    """One run.

    Args:
        directory: For the servers.
        seed: Of what happens, and of the load.
        tell: Gets a line for each thing that happens, and the report.
        faults: Names of those to draw from.
        log: A file that gets what workers log; None for one in `directory`.
        bulk: Transfers of an entry of plain ones, sent all the time; 0 for none.
        disk_mib: Of a disk in memory for the servers, which is filled at times; 0 for none.
        clustered: Whether the streams are on a cluster, whose slots move.
    """

    def __init__(
        self,
        directory: Path,
        seed: int,
        tell: Callable[[str], None],
        faults: Collection[str] = tuple(FAULTS),
        log: Path | None = None,
        bulk: int = 0,
        disk_mib: int = 0,
        *,
        clustered: bool = False,
    ) -> None:
        self._clustered = clustered
        self.redirections: Counter[str] = Counter()
        """What the nodes of a cluster said, how often."""
        self._disk_mib = disk_mib
        self._bulk = bulk
        self._log = log or directory / "workers.log"
        self._directory = directory
        self._chance = random.Random(seed)
        self._seed = seed
        self.report = Report(tell)
        impossible = WITH_ONE_REDIS if clustered else OF_CLUSTERS
        self._weights = {
            name: weight
            for name, (_, weight) in FAULTS.items()
            if name in faults and name not in impossible
        }
        if not disk_mib:
            self._weights.pop("disk_full", None)

    async def run(self, seconds: float) -> None:
        """Let things happen for so long, then see that nothing is wrong.

        Raises:
            AssertionError: Something is.
        """
        servers_at = self._directory / "servers"
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(small_disk(servers_at, self._disk_mib))
            servers = stack.enter_context(Servers(servers_at, postgres_settings=SETTINGS))
            front, dsn = await stack.enter_async_context(proxied(servers.postgres.dsn))
            cluster = None
            if self._clustered:
                cluster = await stack.enter_async_context(clustered(servers_at / "cluster"))
            url = servers.valkey.url if cluster is None else cluster.url
            self._ledger = await make_ledger(dsn, url)
            shards = range(self._ledger.shard_count)
            self._probes = [HonestProducer(self._ledger, s, CONDITION_SECONDS_MAX) for s in shards]
            self._crew = Crew(self._ledger, servers.postgres.dsn, self.report.say, self._log)
            self._fleet = Fleet(
                self._ledger, self._directory, self._seed, self._bulk, self.report.say
            )
            self._world = World(
                servers,
                self._ledger,
                self._crew,
                self._fleet,
                self._chance,
                self.report.say,
                front,
                cluster,
            )
            self._world.is_on_small_disk = bool(self._disk_mib)
            mixed = Producers(self._ledger, self._seed)
            bank = Bank(self._ledger, self._seed + 1)
            self._load = mixed, bank
            await self._create_accounts()
            async with self._crew.working():
                await bank.open()
                async with self._loaded(mixed, bank) as load:
                    await self._go_on(seconds, load)
                await self._drained()
                self.report.say("all is decided; stopping")
                if cluster is not None:
                    self.redirections = await cluster.redirections()
            await self._check(mixed, bank)
            await self._tell_what_was_counted(bank)

    async def _create_accounts(self) -> None:
        for producers in (*self._load, self._fleet):
            await producers.create_accounts()
        for shard in range(self._ledger.shard_count):
            for number in HONEST_ACCOUNTS + HOSTILE_ACCOUNTS + PLAIN_ACCOUNTS:
                await self._ledger.sql(
                    "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)",
                    uuid.UUID(account(shard, number)),
                )

    @contextlib.asynccontextmanager
    async def _loaded(self, mixed: Producers, bank: Bank) -> AsyncIterator["asyncio.Future[Any]"]:
        """Under load for the length of the block, which gets what fails of it."""
        work = [mixed.produce(f"mixed{n}") for n in range(PRODUCERS)]
        work += [bank.produce(f"teller{n}") for n in range(TELLERS)]
        load = asyncio.gather(*work, bank.read())
        collecting = asyncio.create_task(self._world.sent.collect())
        try:
            async with self._fleet.producing():
                yield load
        finally:
            mixed.stopping = bank.stopping = True
            collecting.cancel()
            await asyncio.wait_for(load, CONDITION_SECONDS_MAX)

    async def _go_on(self, seconds: float, load: "asyncio.Future[Any]") -> None:
        ends_at = time.monotonic() + seconds
        names, weights = list(self._weights), list(self._weights.values())
        while time.monotonic() < ends_at and not load.done():
            await self._injected(self._chance.choices(names, weights)[0])
            await self._answers(self._chance.randint(1, ANSWERS_BETWEEN_MAX), load)
        self.report.say("no more of it; waiting for what was sent")
        await self._crew.complete()
        await self._answers(ANSWERS_BETWEEN_MAX, load)

    async def _injected(self, kind: str) -> None:
        """One fault, and how long it takes until each shard has answered again."""
        at_seconds = self.report.now()
        await FAULTS[kind][0](self._world)
        over_seconds = self.report.now()
        await self._all_answer()
        recovered_seconds = self.report.now()
        self.report.add(
            Injection(kind, at_seconds, over_seconds - at_seconds, recovered_seconds - over_seconds)
        )

    async def _all_answer(self) -> None:
        """Have each shard answer, as long as no worker has ended by itself."""
        async with self._ledger.redis() as connection:
            asking = asyncio.gather(*(probe.send(connection, again=True) for probe in self._probes))
            try:
                while not asking.done():
                    self._crew.check()
                    await asyncio.wait([asking], timeout=LOOK_SECONDS)
            finally:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking

    async def _answers(self, count: int, load: "asyncio.Future[Any]") -> None:
        """Wait until so many more transfers are answered, or something failed."""
        goal = count + self._answered()

        async def answered() -> bool:
            return load.done() or self._answered() >= goal

        await until(answered, "answers after what happened")

    def _answered(self) -> int:
        return sum(len(producers.answered) for producers in self._load)

    async def _drained(self) -> None:
        async with self._ledger.redis() as connection:

            async def drained() -> bool:
                names = [
                    stream_name(self._ledger.prefix, shard)
                    for shard in range(self._ledger.shard_count)
                ]
                return sum([await connection.xlen(name) for name in names]) == 0

            await until(drained, "the streams to be empty")

    # What must be true at the end.

    async def _check(self, mixed: Producers, bank: Bank) -> None:
        sent = mixed.sent | bank.sent | self._world.sent.ids
        for probe in self._probes:
            sent |= probe.sent
        told = self._fleet.told()
        ids = {transfer["id"] for each in told for transfer in each.transfers}
        mixed.sent = bank.sent = sent | ids
        for producers in self._load:
            await producers.check()
        connection = await asyncpg.connect(self._ledger.dsn)
        try:
            others = map(uuid.UUID, sent)
            self._counted = await Checker(connection, told, others).check()
        finally:
            await connection.close()
        # What could be read and left its ids free has an answer alone, which may be lost.
        vanished = [entry for entry in await self._world.sent.vanished() if entry.ids is None]
        assert not vanished, f"neither decided nor dead letters: {vanished[:3]}"
        [row] = await self._ledger.sql(
            "SELECT extract(epoch FROM max(time) - now())::float8 AS ahead FROM ledger.flushes"
        )
        assert row["ahead"] < CLOCK_SECONDS_MAX, f"a flush is dated {row['ahead']:.0f} s ahead"
        await assert_verified(self._ledger)
        chain = await verify_chain(self._ledger.app_dsn)
        assert chain.passed, [check.offenders for check in chain.checks if not check.passed]

    async def _tell_what_was_counted(self, bank: Bank) -> None:
        [row] = await self._ledger.sql(
            "SELECT count(*) FILTER (WHERE kind = 'flush') AS flushes,"
            " count(*) FILTER (WHERE kind = 'locked') AS locked,"
            " count(*) FILTER (WHERE kind = 'claim' AND other IS NULL) AS claims,"
            " count(DISTINCT worker) - 1 AS workers,"
            " (SELECT count(*) FROM ledger.dead_letters) AS dead_letters"
            " FROM ledger.flushes"
        )
        hostile = self._world.sent.count
        self.report.end(
            self._seed,
            {
                "answers": f"{self._answered():,}, all as the ledger has them",
                "flushes": f"{row['flushes']:,}, and {row['locked']:,} locked",
                "claims": f"{row['claims']:,} by {row['workers']:,} workers",
                "snapshots of the bank": f"{bank.reads:,}, each with all its money",
                "checked apart": ", ".join(f"{n:,} {what}" for what, n in self._counted.items()),
                **{f"{said} said by nodes": f"{n:,}" for said, n in self.redirections.items()},
                "hostile entries": f"{hostile:,}; {row['dead_letters']:,} dead letters",
                "verify": "passed, with --chain",
            },
        )
