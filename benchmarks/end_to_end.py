"""Durable transfers a second, from the first XADD to the last commit, beside bare COPY.

What runs: a producer process that adds entries of `bin` batches and reads the answers; an
engine process; Valkey; Postgres; all on this machine, over TCP. Every account has a limit
that is checked, every transfer is answered, every commit waits for the disk.

What it is held against: COPY of the same rows into the same tables by as many connections,
in flushes of the same size, made beforehand: nothing read, decided, fenced or answered.

The result is audited: all answered `created`, all kept once, every balance as the transfers
add up. What does not add up fails the run.

Example: python -m benchmarks.end_to_end --transfers 2000000 --workers 2
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import redis

from benchmarks.baseline import copy_bare, make_flushes
from benchmarks.workload import (
    Accounts,
    create_accounts,
    entries_by_shard,
    fund,
    make_accounts,
    uniform,
)
from engine.nouns import shard_of, stream_name
from engine.servers import Servers
from engine.store.migrate import migrate
from engine.wire.layout import Rows

SHARDS = 16
REPLY = "engine:answers:bench"
IN_FLIGHT_MAX = 40


def produce(url: str, entries: list[tuple[int, bytes]], results: Any) -> None:
    """Add all entries, a bounded number ahead of the answers; count what is answered."""
    client = redis.Redis.from_url(url, protocol=2)
    created = answered = sent = 0
    before = client.xrevrange(REPLY, count=1)
    seen = before[0][0] if before else b"0"
    started = time.time()
    while answered < len(entries):
        while sent < len(entries) and sent - answered < IN_FLIGHT_MAX:
            shard, data = entries[sent]
            client.xadd(stream_name("engine", shard), {"bin": data, "reply": REPLY})
            sent += 1
        found = client.xread({REPLY: seen}, block=20_000)
        if not found:
            break
        entries_found = found[0][1]
        seen = entries_found[-1][0]
        for _, fields in entries_found:
            outcomes = np.frombuffer(fields[b"outcomes"], np.uint8)
            created += int((outcomes == 0).sum())
            answered += 1
    results.put((started, time.time(), created))


def send(url: str, entries: list[tuple[int, Rows]]) -> tuple[float, int]:
    """Send entries from another process; returns the seconds taken and how many were created."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    data = [(shard, rows.tobytes()) for shard, rows in entries]
    process = context.Process(target=produce, args=(url, data, results))
    process.start()
    started, ended, created = results.get(timeout=600)
    process.join()
    return ended - started, created


def start_engine(dsn: str, url: str, workers: int) -> "subprocess.Popen[bytes]":
    """An engine process, ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.commands.main", "worker", "--json",
         "--workers", str(workers), "--log-level", "warning"],
        env={**os.environ, "ENGINE_POSTGRES_DSN": dsn, "ENGINE_REDIS_URL": url},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    if b"ready" not in line:
        raise SystemExit(f"the engine did not start: {line!r}")
    return process


async def audit(dsn: str, accounts: Accounts, rows: Rows) -> list[str]:
    """What does not add up, in words."""
    connection = await asyncpg.connect(dsn)
    faults = []
    kept = await connection.fetchval("SELECT count(*) FROM ledger.spent WHERE outcome = 0")
    if kept != len(rows):
        faults.append(f"{kept} transfers are kept of {len(rows)}")
    totals = await connection.fetchrow(
        "SELECT count(*) AS postings, coalesce(sum(amount), 0) AS sum FROM ledger.posted"
    )
    if totals["postings"] != 2 * len(rows) or totals["sum"] != 0:
        faults.append(f"{totals['postings']} postings sum to {totals['sum']}")
    balances = {
        r["account_id"].bytes: r["credits_posted"] - r["debits_posted"]
        for r in await connection.fetch("SELECT * FROM ledger.balances")
    }
    order = np.argsort(accounts.ids.view(np.uint8).reshape(-1, 16).view(">u8")[:, 0])
    keys = accounts.ids.view(np.uint8).reshape(-1, 16).view(">u8")[:, 0][order]

    def number(column: str) -> Any:
        words = np.ascontiguousarray(rows[column]).view(np.uint8).reshape(-1, 16).view(">u8")[:, 0]
        return order[np.searchsorted(keys, words)]

    expected = np.zeros(len(accounts.ids), np.int64)
    amounts = rows["amount_low"].astype(np.int64)
    np.subtract.at(expected, number("debit_account_id"), amounts)
    np.add.at(expected, number("credit_account_id"), amounts)
    wrong = sum(
        balances[one.tobytes()] != want
        for one, want in zip(accounts.ids, expected.tolist(), strict=True)
    )
    if wrong:
        faults.append(f"{wrong} balances are not what the transfers add up to")
    await connection.close()
    return faults


def run_once(transfers: int, account_count: int, workers: int) -> dict[str, Any]:
    """One run on fresh servers: the engine, then the baseline."""
    accounts = make_accounts(account_count, SHARDS)
    opening = fund(accounts)
    rows = uniform(accounts, transfers)
    with tempfile.TemporaryDirectory() as directory, Servers(Path(directory)) as servers:
        dsn, url = servers.postgres.dsn, servers.valkey.url
        asyncio.run(migrate(dsn, SHARDS))
        asyncio.run(create_accounts(dsn, accounts, limited=True))
        engine = start_engine(dsn, url, workers)
        try:
            home = shard_of(accounts.ids[0].tobytes(), SHARDS)
            opened = [(home, opening[n : n + 8189]) for n in range(0, len(opening), 8189)]
            _, funded = send(url, opened)
            debit = np.ascontiguousarray(rows["debit_account_id"]).view(np.uint8).reshape(-1, 16)
            shards = debit[:, 15].astype(np.int64) & (SHARDS - 1)
            seconds, created = send(url, entries_by_shard(rows, shards))
        finally:
            engine.terminate()
            engine.wait(30)
        faults = asyncio.run(audit(dsn, accounts, np.concatenate([opening, rows])))
        if (funded, created) != (len(opening), len(rows)):
            faults.append(f"{funded} + {created} were answered created")
        flushes = make_flushes(accounts, rows, SHARDS, workers)
        bare = asyncio.run(copy_bare(dsn, flushes))
    return {
        "transfers": transfers,
        "accounts": account_count,
        "workers": workers,
        "seconds": round(seconds, 3),
        "transfers_per_second": round(transfers / seconds),
        "bare_copy_transfers_per_second": round(transfers / bare),
        "ratio": round(bare / seconds, 3),
        "faults": faults,
    }


def main() -> None:
    """Parse the options, run, print; exit 1 when the audit fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--transfers", type=int, default=2_000_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="500,000 transfers")
    parser.add_argument("--json", action="store_true", help="end in one line of JSON")
    options = parser.parse_args()
    transfers = 500_000 if options.quick else options.transfers
    runs = []
    for _ in range(options.rounds):
        runs.append(run_once(transfers, options.accounts, options.workers))
        print(json.dumps(runs[-1]), file=sys.stderr)
    median = {
        key: statistics.median(run[key] for run in runs)
        for key in ("transfers_per_second", "bare_copy_transfers_per_second", "ratio")
    }
    faults = [fault for run in runs for fault in run["faults"]]
    for fault in faults:
        print(f"the books do not add up: {fault}", file=sys.stderr)
    if options.json:
        print(json.dumps(median))
    else:
        print(f"{median['transfers_per_second']:>12,.0f} transfers/s through the engine")
        print(f"{median['bare_copy_transfers_per_second']:>12,.0f} transfers/s by bare COPY")
        print(f"{median['ratio']:>12.2f} of it")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
