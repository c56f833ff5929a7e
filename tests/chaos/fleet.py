"""Mixed producers in processes of their own, with what they wrote down."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from tests.bounds import CONDITION_SECONDS_MAX
from tests.chaos.kept import Told
from tests.chaos.records import read_records
from tests.chaos.requests import CREDITS_LIMITED, DEBITS_LIMITED, LEDGER, accounts_of
from tests.ledgers import Ledger

PRODUCERS: Final = 2
LIMITS: Final = {
    DEBITS_LIMITED: ["debits_must_not_exceed_credits"],
    CREDITS_LIMITED: ["credits_must_not_exceed_debits"],
}


class Fleet:
    """The producers, by their seats; a new one takes the seat of one that was killed.

    Args:
        ledger: Where they send.
        directory: For their records.
        seed: Of all that they draw.
        bulk: Transfers of an entry of plain ones, sent beside the mixed ones; 0 for none.
        say: Gets who starts.
    """

    def __init__(
        self, ledger: Ledger, directory: Path, seed: int, bulk: int, say: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self.directory = directory
        self._seed = seed
        self._bulk = bulk
        self._say = say
        self._started = 0
        self._records: list[Path] = []
        self._processes: list[asyncio.subprocess.Process] = []

    async def create_accounts(self) -> None:
        for kind, accounts in accounts_of(self._seed).items():
            for account in accounts:
                await self._ledger.sql(
                    "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, $2, 1, $3)",
                    account,
                    LEDGER,
                    LIMITS.get(kind, []),
                )

    @property
    def _end(self) -> Path:
        return self.directory / "producers.end"

    @contextlib.asynccontextmanager
    async def producing(self) -> AsyncIterator[None]:
        """All of them at work for the length of the block, and answered at its end."""
        try:
            for seat in range(PRODUCERS):
                self._processes.append(await self._start(seat))
            yield
            self._end.touch()
            for process in self._processes:
                code = await asyncio.wait_for(process.wait(), CONDITION_SECONDS_MAX)
                assert code == 0, f"a producer ended with {code}"
        finally:
            for process in self._processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _start(self, seat: int) -> asyncio.subprocess.Process:
        record = self.directory / f"producer{self._started}.jsonl"
        self._records.append(record)
        self._started += 1
        words = {
            "redis-url": self._ledger.redis_url,
            "prefix": self._ledger.prefix,
            "shards": self._ledger.shard_count,
            "record": record,
            "until": self._end,
            "seed": f"{self._seed}.{self._started}",
            "accounts-seed": self._seed,
            "bulk": 0 if seat else self._bulk,
        }
        arguments = [text for name, value in words.items() for text in (f"--{name}", str(value))]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.producer", *arguments
        )

    async def kill(self, chance: random.Random) -> None:
        """SIGKILL one, and start another with a record of its own."""
        seat = chance.randrange(len(self._processes))
        self._say(f"producer {seat} is killed, and another started")
        self._processes[seat].kill()
        await self._processes[seat].wait()
        self._processes[seat] = await self._start(seat)

    async def freeze(self, chance: random.Random, seconds: float) -> None:
        """SIGSTOP one for a while."""
        seat = chance.randrange(len(self._processes))
        self._say(f"producer {seat} is frozen for {seconds:.1f} s")
        os.kill(self._processes[seat].pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        os.kill(self._processes[seat].pid, signal.SIGCONT)

    def told(self) -> list[Told]:
        """What all of them wrote down."""
        return read_records(self._records, self._seed)
