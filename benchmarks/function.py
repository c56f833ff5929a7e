"""What a ledger in plain Postgres does: a function call a transfer, and TPC-B, beside the engine.

The function of `engine demo` is a ledger in the manner of pgledger: in plpgsql, it locks both
accounts' rows, checks the limit and writes a transfer with two entries. pgbench calls it,
prepared, a transaction a call, over as many connections as are best of 4, 16 and 64. TPC-B
is pgbench's own transaction at scale 50. Both wait for the disk. Then the engine on the same
server: `bin` batches, and entries of one transfer with 64 in flight.

All are audited: accounts, transfers and entries (for TPC-B: branches, tellers, accounts and
history) agree with each other and with the number of transactions that pgbench counted.

Example: python -m benchmarks.function
"""

import argparse
import asyncio
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

import asyncpg

from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import WORKERS_BEST, Ledger, new_ledger, running_engine
from benchmarks.workload import fund, make_accounts, uniform
from engine.commands.demo_race import CALL, FUNCTION
from engine.servers.binaries import find_postgres

SIZES = {
    "seconds": Size(8, 2, "of each load by pgbench"),
    "transfers": Size(300_000, 30_000, "by the engine in batches; a fiftieth in entries of one"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "scale": Size(50, 2, "of TPC-B"),
    "workers": Size(WORKERS_BEST, WORKERS_BEST, "in one engine process"),
}
CONNECTIONS = (4, 16, 64)

FUNCTION_FAULTS = """
SELECT count(*) FILTER (WHERE a.balance <> 1000000000 + coalesce(e.sum, 0)
                           OR a.version <> coalesce(e.count, 0)) AS wrong,
       (SELECT count(*) FROM rival.transfers) AS done,
       sum(e.count) - 2 * (SELECT count(*) FROM rival.transfers) AS entries_too_many,
       sum(e.sum) AS total
FROM rival.accounts a
LEFT JOIN (SELECT account, count(*), sum(amount) FROM rival.entries GROUP BY account) e
       ON e.account = a.id
"""
TPCB_FAULTS = """
WITH sums AS (SELECT (SELECT sum(abalance) FROM pgbench_accounts) AS a,
                     (SELECT sum(bbalance) FROM pgbench_branches) AS b,
                     (SELECT sum(tbalance) FROM pgbench_tellers) AS t,
                     (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS h)
SELECT (a <> h)::int + (b <> h)::int + (t <> h)::int AS wrong,
       (SELECT count(*) FROM pgbench_history) AS done, 0 AS entries_too_many, 0 AS total FROM sums
"""


def find_pgbench() -> str:
    """The program, beside the Postgres that is used, or on PATH."""
    beside = find_postgres() / "pgbench"
    found = str(beside) if beside.is_file() else shutil.which("pgbench")
    if found is None:
        raise SystemExit("found no pgbench: install it (on Debian: postgresql-contrib)")
    return found


def pgbench(dsn: str, *arguments: str) -> str:
    """Run it; returns what it prints."""
    command = [find_pgbench(), "-n", *arguments, dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"pgbench: {done.stderr.strip()}")
    return done.stdout


def load(dsn: str, seconds: int, *arguments: str) -> tuple[dict[int, float], int]:
    """Transactions a second by the number of connections, and how many in all."""
    rates = {}
    total = 0
    for connections in CONNECTIONS:
        printed = pgbench(
            dsn, "-M", "prepared", "-c", str(connections), "-j", "2", "-T", str(seconds), *arguments
        )
        done = re.search(r"transactions actually processed: (\d+)", printed)
        assert done is not None
        total += int(done[1])
        rates[connections] = int(done[1]) / seconds
    return rates, total


async def faults_of(dsn: str, query: str, done: int) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetchrow(query)
    finally:
        await connection.close()
    good = (found["wrong"], found["done"], found["entries_too_many"] or 0, found["total"] or 0)
    return [] if good == (0, done, 0, 0) else [f"{dict(found)} after {done:,} transactions"]


async def make_rival(dsn: str, accounts: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(FUNCTION.read_text().replace(":accounts", str(accounts)))
    await connection.close()


def measure_postgres(ledger: Ledger, options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    dsn = ledger.dsn
    asyncio.run(make_rival(dsn, options.accounts))
    rows: list[Row] = []
    faults = []
    pgbench(dsn, "-i", "-q", "-s", str(options.scale))
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(CALL)
        script.flush()
        call = ["-f", script.name, "-D", f"accounts={options.accounts}"]
        loads: Sequence[tuple[str, list[str], str]] = (
            ("Postgres function a transfer", call, FUNCTION_FAULTS),
            ("pgbench TPC-B, for scale", [], TPCB_FAULTS),
        )
        for what, arguments, query in loads:
            rates, done = load(dsn, options.seconds, *arguments)
            best = max(rates, key=lambda connections: rates[connections])
            rows.append(
                {
                    "what": f"{what}, {best} connections",
                    "transfers": done,
                    "transfers_per_second": round(rates[best]),
                }
            )
            note(f"{what}: {rates}")
            faults += [f"{what}: {one}" for one in asyncio.run(faults_of(dsn, query, done))]
    return rows, faults


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(options.accounts)
    with new_ledger(accounts) as ledger:
        rows, faults = measure_postgres(ledger, options)
        with running_engine(ledger, options.workers):
            faults += ledger.send(fund(accounts))[1]
            for what, share, how in (
                ("engine, bin batches", 1, {}),
                ("engine, entries of one, 64 in flight", 50, {"batch": 1, "in_flight_max": 64}),
            ):
                transfers = uniform(accounts, options.transfers // share, seed=share)
                sent, found = ledger.send(transfers, **how)
                faults += found
                rows.append(
                    {
                        "what": what,
                        "transfers": len(transfers.rows),
                        "transfers_per_second": round(len(transfers.rows) / sent.seconds),
                    }
                )
        faults += ledger.audit()
    first = rows[0]["transfers_per_second"]
    ratios = [{**row, "ratio": round(row["transfers_per_second"] / first, 3)} for row in rows]
    return Result([*ratios], faults)


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
