"""How long until shards are decided again: after kill -9 of a worker, after Postgres is back.

What runs: two engine processes of one worker each that share the shards, a prober that sends one
transfer after the other to each shard and never waits for another shard, Valkey and Postgres, all
on this machine. A worker is killed: from then until each of its shards has answered again, once for
each round, another being started at once. Postgres is stopped at once and started: from when it
accepts connections until each shard has answered.

What it is held against: the lease and 2 s after a kill; 2 s after Postgres is back. More fails.

Example: python -m benchmarks.recovery --rounds 10
"""

import argparse
import asyncio
import contextlib
import json
import time
import uuid
from typing import Any

import redis.asyncio

from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import Ledger, new_ledger, running_engine
from benchmarks.workload import SHARDS, make_accounts
from engine.ledger.nouns import stream_name
from engine.settings import WorkerSettings

SIZES = {
    "rounds": Size(5, 1, "of each: kills, and restarts of Postgres"),
    "accounts": Size(1_000, 1_000, "between how many accounts"),
}
BEYOND_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
RESEND_SECONDS = 0.5
PREFIX = "engine"


class Prober:
    """Sends to each shard, one transfer after the other, and keeps when each was answered.

    Args:
        ledger: Whose shards.
        accounts: Two of each shard, by shard.
    """

    def __init__(self, ledger: Ledger, accounts: dict[int, tuple[uuid.UUID, uuid.UUID]]) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self.answered: dict[int, float] = {}
        """By shard, when a transfer that was sent last was answered."""
        self.begun: dict[int, float] = {}
        """By shard, when that transfer was sent first."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for shard in self._accounts:
                group.create_task(self._probe(shard))

    async def _probe(self, shard: int) -> None:
        debit, credit = self._accounts[shard]
        reply = f"{PREFIX}:answers:recovery{shard}"
        async with redis.asyncio.Redis.from_url(self._ledger.url, socket_timeout=None) as link:
            after: Any = "0"
            while True:
                request = uuid.uuid4().hex
                body = {"id": str(uuid.uuid4()), "debit_account_id": str(debit), "amount": 1,
                        "credit_account_id": str(credit), "ledger": 1, "code": 1}  # fmt: skip
                fields: Any = {"json": json.dumps(body), "reply": reply, "request": request}
                began, is_answered = time.monotonic(), False
                sent = 0.0
                while not is_answered:
                    # An answer that was under way when its worker was killed never comes.
                    if time.monotonic() - sent > RESEND_SECONDS:
                        await link.xadd(stream_name(PREFIX, shard), fields)
                        sent = time.monotonic()
                    found: Any = await link.xread({reply: after}, block=100)
                    for answer_id, answer in found[0][1] if found else ():
                        after = answer_id
                        is_answered |= answer[b"request"] == request.encode()
                self.begun[shard], self.answered[shard] = began, time.monotonic()

    async def recovered(self, since: float) -> float:
        """Seconds from a time until each shard has answered what was sent after it."""
        deadline = since + PATIENCE_SECONDS
        while min(self.begun.values()) < since:
            if time.monotonic() > deadline:
                raise SystemExit(f"a shard stands {PATIENCE_SECONDS:.0f} s after it")
            await asyncio.sleep(0.005)
        return max(self.answered.values()) - since


async def probe(ledger: Ledger, rounds: int, running: contextlib.ExitStack) -> list[Row]:
    engines = [running.enter_context(running_engine(ledger, 1)) for _ in range(2)]
    accounts = _two_of_each(ledger)
    prober = Prober(ledger, accounts)
    probing = asyncio.create_task(prober.run())
    while len(prober.answered) < SHARDS:
        await asyncio.sleep(0.01)
        if probing.done():
            probing.result()
    lease = WorkerSettings().lease_seconds
    kills, restarts = [], []
    for _ in range(rounds):
        began = time.monotonic()
        engines.pop(0).kill()
        kills.append(await prober.recovered(began))
        note(f"killed: each shard had answered {kills[-1]:.2f} s later")
        engines.append(await asyncio.to_thread(running.enter_context, running_engine(ledger, 1)))
        postgres = ledger.servers.postgres
        await asyncio.to_thread(postgres.stop, "immediate")
        await asyncio.to_thread(postgres.start)
        restarts.append(await prober.recovered(time.monotonic()))
        note(f"Postgres is back: each shard had answered {restarts[-1]:.2f} s later")
    probing.cancel()
    return [
        _row("a worker is killed", kills, lease + BEYOND_SECONDS),
        _row("Postgres accepts connections again", restarts, BEYOND_SECONDS),
    ]


def _row(what: str, seconds: list[float], bar: float) -> Row:
    median = sorted(seconds)[len(seconds) // 2]
    return {
        "what": what,
        "rounds": len(seconds),
        "median_seconds": round(median, 2),
        "most_seconds": round(max(seconds), 2),
        "bar_seconds": bar,
    }


def _two_of_each(ledger: Ledger) -> dict[int, tuple[uuid.UUID, uuid.UUID]]:
    found: dict[int, list[uuid.UUID]] = {shard: [] for shard in range(SHARDS)}
    for raw, shard in zip(ledger.accounts.ids, ledger.accounts.shards.tolist(), strict=True):
        found[shard].append(uuid.UUID(bytes=raw.tobytes()))
    return {shard: (ids[0], ids[1]) for shard, ids in found.items()}


def measure(options: argparse.Namespace) -> Result:
    with contextlib.ExitStack() as running:
        ledger = running.enter_context(new_ledger(make_accounts(options.accounts)))
        rows = asyncio.run(probe(ledger, options.rounds, running))
    faults = [
        f"{row['what']}: {row['most_seconds']} s, more than {row['bar_seconds']} s"
        for row in rows
        if row["most_seconds"] > row["bar_seconds"]
    ]
    return Result(rows, faults, {})


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
