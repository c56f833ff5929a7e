"""One run: rounds of hostile actions on a shard each, while honest producers send to all others.

After each round what only a person can put right is put right, and then the shard must be at work
again by itself, and all that was sent to it must be decided or a dead letter.
"""

import asyncio
import contextlib
import json
import random
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any, Final

import redis.asyncio

from engine.ledger.nouns import stream_name
from tests.bounds import CONDITION_SECONDS_MAX, PROCESS_SECONDS_MAX
from tests.desks import account
from tests.fuzz.actions import ACTIONS
from tests.fuzz.attack import HONEST_ACCOUNTS, HOSTILE_ACCOUNTS, PLAIN_ACCOUNTS, Attack
from tests.fuzz.contents import Contents
from tests.fuzz.honest import HonestProducer
from tests.fuzz.sent import Sent
from tests.fuzz.watched import SESSION_ENDED, WatchedWorker, environment
from tests.ledgers import Ledger, until

ACTIONS_MAX: Final = 10
"""In a round."""

PAUSE_SECONDS_MAX: Final = 0.05
MEMORY_BYTES_MAX: Final = 600 << 20


class Broken(AssertionError):  # noqa: N818 - a statement, not an error among others
    """What must not happen did, whatever the data."""


class Fuzz:
    """One run over a ledger of its own.

    Args:
        ledger: New, and nobody else's.
        directory: For the log of the worker.
        seed: Of all that is drawn.
        tell: Gets a line for each round.
        actions: Names of those to draw from.
        patience_seconds: How long a shard may stand before it is taken to stand for ever.
        workers: In the process.
    """

    def __init__(
        self,
        ledger: Ledger,
        directory: Path,
        seed: int,
        tell: Callable[[str], None],
        actions: Collection[str] = tuple(ACTIONS),
        patience_seconds: float = CONDITION_SECONDS_MAX,
        workers: int = 1,
    ) -> None:
        self.ledger = ledger
        self._seed = seed
        self._chance = random.Random(seed)
        self._tell = tell
        self._actions = [name for name in ACTIONS if name in actions]
        self._patience_seconds = patience_seconds
        self.worker = WatchedWorker(ledger, directory / "worker.log", workers)
        self._sent = Sent(ledger)
        self._honest = [
            HonestProducer(ledger, shard, patience_seconds) for shard in range(ledger.shard_count)
        ]
        self.done: Counter[str] = Counter()
        self._began = time.monotonic()

    def _say(self, what: str) -> None:
        self._tell(f"{time.monotonic() - self._began:7.1f} s  {what}")

    async def run(self, seconds: float, rounds_max: int = sys.maxsize) -> None:
        """Go on for so long, then see that nothing is missing.

        Raises:
            Broken: A session or the process ended, a shard stands, an entry vanished, memory is
                over its bound, or `engine verify` finds something.
        """
        await self._create_accounts()
        await self.worker.start()
        try:
            async with self.ledger.redis() as connection, self._running() as running:
                ends_at = time.monotonic() + seconds
                rounds = 0
                while time.monotonic() < ends_at and rounds < rounds_max:
                    await self._round(connection, running)
                    rounds += 1
                await self._drain(connection)
            self.check_worker()
            code = await self.worker.stop()
            if code != 0:
                raise Broken(f"the worker ended with {code} when it was stopped")
        finally:
            await self.worker.kill()
        await self._verify()
        self._report(rounds)

    async def _create_accounts(self) -> None:
        numbers = HONEST_ACCOUNTS + HOSTILE_ACCOUNTS + PLAIN_ACCOUNTS
        for shard in range(self.ledger.shard_count):
            for number in numbers:
                flags = ["debits_must_not_exceed_credits"] if number == HOSTILE_ACCOUNTS[1] else []
                await self.ledger.sql(
                    "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, 1, 1, $2)",
                    uuid.UUID(account(shard, number)),
                    flags,
                )

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[list["asyncio.Task[Any]"]]:
        """Honest producers and who reads answers, for the length of the block."""
        work = [producer.run() for producer in self._honest]
        running = [asyncio.create_task(each) for each in (*work, self._sent.collect())]
        try:
            yield running
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    # A round.

    async def _round(
        self, connection: redis.asyncio.Redis, running: "list[asyncio.Task[Any]]"
    ) -> None:
        shard = self._chance.randrange(self.ledger.shard_count)
        names = self._chance.choices(self._actions, k=self._chance.randint(1, ACTIONS_MAX))
        self._say(f"shard {shard}: {', '.join(names)}")
        attacking = asyncio.create_task(self._attack(connection, shard, names))
        await asyncio.wait([attacking, *running], return_when=asyncio.FIRST_COMPLETED)
        if not attacking.done():
            attacking.cancel()
            await asyncio.gather(attacking, return_exceptions=True)
        ended = [task for task in (attacking, *running) if task.done() and not task.cancelled()]
        try:
            self.check_worker()
            for task in ended:
                task.result()
        except AssertionError as error:
            counts = ", ".join(f"{count} x {name}" for name, count in Counter(names).items())
            raise Broken(f"{error}; with {counts} on shard {shard}") from error

    async def _attack(
        self, connection: redis.asyncio.Redis, shard: int, names: Collection[str]
    ) -> None:
        others = self._chance.choices(range(self.ledger.shard_count), k=2)
        accounts = [account(s, n) for s in (shard, *others) for n in HOSTILE_ACCOUNTS]
        contents = Contents(
            self._chance, [*accounts, account(shard, 9)], f"{self.ledger.prefix}:answers:fuzz"
        )
        attack = Attack(self.ledger, shard, connection, self._chance, contents, self._sent)
        async with self._honest[shard].turn:
            for name in names:
                attack.action = name
                await ACTIONS[name](attack)
                self.done[name] += 1
                await asyncio.sleep(self._chance.random() * PAUSE_SECONDS_MAX)
            await attack.tidy()
            await self._honest[shard].send(connection, again=True)
            await self._settled(connection, shard)

    async def _settled(self, connection: redis.asyncio.Redis, shard: int) -> None:
        """Wait until a stream is empty, and see that nothing of it vanished."""
        name = stream_name(self.ledger.prefix, shard)

        async def empty() -> bool:
            return await connection.xlen(name) == 0

        await until(empty, f"the stream of shard {shard} to be empty", self._patience_seconds)
        await asyncio.sleep(0.1)  # an answer comes after the deletion, or before it
        vanished = await self._sent.vanished()
        if vanished:
            kinds = Counter(entry.what for entry in vanished)
            raise Broken(f"{len(vanished)} entries are neither decided nor dead letters: {kinds}")

    async def _drain(self, connection: redis.asyncio.Redis) -> None:
        """Let nobody send any more, and see all that was sent decided."""
        for producer in self._honest:
            await producer.turn.acquire()
        for producer in self._honest:
            await self._settled(connection, producer.shard)

    def check_worker(self) -> None:
        """Raises Broken where it or a session ended, or where it has taken too much memory."""
        events = self.worker.new_events()
        if self.worker.exit_code is not None:
            last = [json.dumps(event)[-600:] for event in events[-2:]]
            raise Broken(f"the worker's process ended with {self.worker.exit_code}: {last}")
        ended = [event for event in events if event["event"] == SESSION_ENDED]
        if ended:
            raise Broken(f"a session ended: {str(ended[0].get('reason'))[:300]}")
        size = self.worker.memory_bytes_max()
        if size > MEMORY_BYTES_MAX:
            raise Broken(f"the worker took {size >> 20} MiB of memory")

    async def _verify(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "engine.commands.main", "verify", "--json"),
            env=environment(self.ledger),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), PROCESS_SECONDS_MAX)
        if process.returncode != 0:
            raise Broken(f"engine verify: {out.decode()[-1500:]}{err.decode()[-500:]}")

    def _report(self, rounds: int) -> None:
        seconds = sorted(second for producer in self._honest for second in producer.seconds)
        self._say(
            f"seed {self._seed}: {rounds} rounds, {self.done.total()} actions of "
            f"{len(self.done)} kinds, {self._sent.count} hostile entries; {len(seconds)} honest "
            f"transfers, median {statistics.median(seconds) * 1000:.0f} ms, at most "
            f"{seconds[-1]:.2f} s"
        )
