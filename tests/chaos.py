"""Chaos: four workers are killed, frozen and started at random, servers too, under load.

Meanwhile Jepsen's bank reads all balances in one snapshot, again and again: the total is constant
and limits hold. At the end every answer is held against the ledger, and `verify` passes.

    scripts/chaos --minutes 5 --seed 7
"""

import argparse
import asyncio
import contextlib
import random
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from engine.servers import Servers
from engine.settings import WorkerSettings
from tests.desks import transfer
from tests.ledgers import Ledger, make_ledger, until
from tests.processes import WorkerProcess
from tests.producers import Producers
from tests.verifying import assert_verified

WORKERS = 4
PRODUCERS = 2
TELLERS = 2
CUSTOMERS = 8
DEPOSIT = 1000
SETTINGS = WorkerSettings(lease_seconds=1.0, block_ms=200)
ANSWERS_BETWEEN_MAX = 60
READ_SECONDS = 0.1
END_SECONDS_MAX = 120.0
POSTGRES_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

WEIGHTS = {"kill": 8, "freeze": 3, "stop": 3, "postgres": 1, "valkey": 1}
"""How often each thing happens, in proportion."""


class Bank(Producers):
    """Customers who have nothing but their deposits, and move them about."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        super().__init__(ledger, seed)
        self.accounts = self.accounts[:CUSTOMERS]
        self.mint = str(uuid.UUID(int=self.random.getrandbits(128)))
        self.reads = 0

    async def create_accounts(self) -> None:
        for account_id in (self.mint, *self.accounts):
            flags = [] if account_id == self.mint else ["debits_must_not_exceed_credits"]
            await self.ledger.sql(
                "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, 2, 1, $2)",
                uuid.UUID(account_id),
                flags,
            )

    async def open(self) -> None:
        """Pay the deposits in."""
        deposits = [transfer(self.mint, one, DEPOSIT, ledger=2) for one in self.accounts]
        self.sent |= {one["id"] for one in deposits}
        home = int(self.mint[-8:], 16) % self.ledger.shard_count
        stream = f"{self.ledger.prefix}:transfers:{{{home:04d}}}"
        await self._until_answered(stream, f"{self.ledger.prefix}:answers:bank", deposits, set())
        assert set(self.answered.values()) == {"created"}

    def batch(self, holds: list[str]) -> list[dict[str, Any]]:
        batch = []
        for _ in range(self.random.choice([1, 2, 10])):
            debit, credit = self.random.sample(self.accounts, 2)
            amount = self.random.randint(1, DEPOSIT)
            batch.append(transfer(debit, credit, amount, ledger=2))
        return batch

    async def read(self) -> None:
        """Read all balances in one snapshot, until told to stop; also while servers come and go."""
        customers = [uuid.UUID(one) for one in self.accounts]
        while not self.stopping:
            with contextlib.suppress(*POSTGRES_AWAY):
                rows = await self.ledger.sql(
                    "SELECT b.account_id = ANY ($1) AS customer, a.flags, b.debits_pending,"
                    " b.debits_posted, b.credits_posted, a.ledger"
                    " FROM ledger.balances b JOIN ledger.accounts a ON a.id = b.account_id",
                    customers,
                )
                self.reads += 1
                total: Counter[int] = Counter()
                for row in rows:
                    total[row["ledger"]] += row["credits_posted"] - row["debits_posted"]
                    if row["flags"]:
                        spent = row["debits_posted"] + row["debits_pending"]
                        assert spent <= row["credits_posted"], f"a limit is passed: {row}"
                assert not any(total.values()), f"money came from nowhere: {total}"
                kept = sum(r["credits_posted"] - r["debits_posted"] for r in rows if r["customer"])
                assert kept == CUSTOMERS * DEPOSIT, f"customers have {kept}"
            await asyncio.sleep(READ_SECONDS)


class Chaos:
    """One run.

    Args:
        directory: For the servers.
        seed: Of what happens, and of the load.
        tell: Gets a line for each thing that happens.
    """

    def __init__(self, directory: Path, seed: int, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._random = random.Random(seed)
        self._seed = seed
        self._tell = tell
        self._began = time.monotonic()
        self.happened: Counter[str] = Counter()

    def _say(self, what: str) -> None:
        self._tell(f"{time.monotonic() - self._began:7.1f} s  {what}")

    async def run(self, seconds: float) -> None:
        """Let things happen for so long, then see that nothing is wrong.

        Raises:
            AssertionError: Something is.
        """
        with Servers(self._directory, postgres_settings={"shared_buffers": "128MB"}) as servers:
            self._servers = servers
            self._ledger = await make_ledger(servers.postgres.dsn, servers.valkey.url)
            self._workers = [self._worker() for _ in range(WORKERS)]
            self._starting: set[asyncio.Task[None]] = set()
            try:
                await asyncio.gather(*(worker.start() for worker in self._workers))
                await self._under_load(seconds)
                self._say("all is decided; stopping")
                for worker in self._workers:
                    await worker.stop()
            finally:
                for worker in self._workers:
                    await worker.kill()
            await assert_verified(self._ledger)
            await self._report()

    def _worker(self) -> WorkerProcess:
        return WorkerProcess(self._ledger, settings=SETTINGS)

    async def _under_load(self, seconds: float) -> None:
        mixed, bank = Producers(self._ledger, self._seed), Bank(self._ledger, self._seed + 1)
        self._load = mixed, bank
        for one in self._load:
            await one.create_accounts()
        await bank.open()
        async with self._loaded(mixed, bank) as failure:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at and not failure.done():
                await self._one_thing()
                await self._answers(self._random.randint(1, ANSWERS_BETWEEN_MAX), failure)
            self._say("no more of it; waiting for what was sent")
            await asyncio.gather(*self._starting)
            await self._answers(ANSWERS_BETWEEN_MAX, failure)
        async with self._ledger.redis() as connection:

            async def drained() -> bool:
                names = [
                    f"{self._ledger.prefix}:transfers:{{{shard:04d}}}"
                    for shard in range(self._ledger.shard_count)
                ]
                return sum([await connection.xlen(name) for name in names]) == 0

            await until(drained, "the streams to be empty", END_SECONDS_MAX)
        mixed.sent |= bank.sent
        bank.sent = mixed.sent
        for one in self._load:
            await one.check()

    @contextlib.asynccontextmanager
    async def _loaded(self, mixed: Producers, bank: Bank) -> AsyncIterator["asyncio.Future[Any]"]:
        """Under load for the length of the block, which gets what fails of it."""
        work = [mixed.produce(f"mixed{n}") for n in range(PRODUCERS)]
        work += [bank.produce(f"teller{n}") for n in range(TELLERS)]
        load = asyncio.gather(*work, bank.read())
        try:
            yield load
        finally:
            mixed.stopping = bank.stopping = True
            await asyncio.wait_for(load, END_SECONDS_MAX)

    async def _answers(self, count: int, failure: "asyncio.Future[Any]") -> None:
        """Wait until so many more transfers are answered, or something failed."""
        goal = count + sum(len(one.answered) for one in self._load)

        async def answered() -> bool:
            return failure.done() or sum(len(one.answered) for one in self._load) >= goal

        await until(answered, "answers after what happened", END_SECONDS_MAX)

    # What happens.

    async def _one_thing(self) -> None:
        kind = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        things: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "stop": self._stop,
            "postgres": self._postgres,
            "valkey": self._valkey,
        }
        self.happened[kind] += 1
        await things[kind]()

    def _any(self) -> int | None:
        """One of those that run; it takes a while until a new one does."""
        running = [at for at, worker in enumerate(self._workers) if worker.is_running]
        return self._random.choice(running) if running else None

    async def _kill(self) -> None:
        at = self._any()
        if at is not None:
            self._say(f"worker {at} is killed")
            await self._workers[at].kill()
            self._start(at)

    async def _stop(self) -> None:
        at = self._any()
        if at is not None:
            self._say(f"worker {at} is stopped")
            await self._workers[at].stop()
            self._start(at)

    def _start(self, at: int) -> None:
        self._workers[at] = self._worker()

        async def start() -> None:
            await self._workers[at].start()
            self._say(f"worker {at} is started")

        task = asyncio.create_task(start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _freeze(self) -> None:
        at = self._any()
        if at is not None:
            seconds = SETTINGS.lease_seconds * (0.5 + 2 * self._random.random())
            self._say(f"worker {at} is frozen for {seconds:.1f} s")
            self._workers[at].freeze()
            await asyncio.sleep(seconds)
            self._workers[at].thaw()

    async def _postgres(self) -> None:
        self._say("Postgres is stopped at once, and started")
        await asyncio.to_thread(self._servers.postgres.stop, "immediate")
        await asyncio.to_thread(self._servers.postgres.start)

    async def _valkey(self) -> None:
        self._say("Valkey is killed, and started")
        await asyncio.to_thread(self._servers.valkey.kill)
        await asyncio.to_thread(self._servers.valkey.start)

    async def _report(self) -> None:
        rows = await self._ledger.sql(
            "SELECT count(*) FILTER (WHERE kind = 'flush') AS flushes,"
            " count(*) FILTER (WHERE kind = 'locked') AS locked,"
            " count(*) FILTER (WHERE kind = 'claim' AND other IS NULL) AS claims,"
            " count(DISTINCT worker) - 1 AS workers"
            " FROM ledger.flushes"
        )
        mixed, bank = self._load
        things = ", ".join(f"{count} x {kind}" for kind, count in self.happened.most_common())
        self._say(f"seed {self._seed}: {things}")
        self._say(
            f"{len(mixed.answered) + len(bank.answered)} answers, all as the ledger has them; "
            f"{rows[0]['flushes']} flushes, {rows[0]['locked']} locked, {rows[0]['claims']} claims "
            f"by {rows[0]['workers']} workers; {bank.reads} snapshots of the bank, each with all "
            "its money"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="engine-chaos-") as directory:
        chaos = Chaos(Path(directory), options.seed, lambda line: print(line, flush=True))
        asyncio.run(chaos.run(options.minutes * 60))


if __name__ == "__main__":
    main()
