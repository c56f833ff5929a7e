"""The demo's last act: payments by a Postgres function, a call each, and by full entries."""

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np

from engine.client import Client
from engine.commands.demo_load import AMOUNT_MAX, LEDGER, Population, new_ids
from engine.errors import InvariantBroken, ServerError
from engine.ledger.outcomes import Outcome
from engine.servers.binaries import find_postgres
from engine.wire.layout import TRANSFER, Rows

FUNCTION: Final = Path(__file__).with_name("demo_function").with_suffix(".sql")
"""A ledger as a plpgsql function; `benchmarks.function` measures the same."""

SECONDS: Final = 3
CONNECTIONS: Final = 16
ACCOUNTS: Final = 10_000

CALL: Final = r"""
\set debit random(1, :accounts)
\set credit 1 + (:debit + random(0, :accounts - 2)) % :accounts
\set amount random(1, 999)
SELECT rival.create_transfer(:debit, :credit, :amount);
"""


async def function_calls_per_second(dsn: str, directory: Path) -> float | None:
    """Payments a second by a function that pgbench calls, prepared, each durable.

    Args:
        dsn: A database; a schema `rival` is made in it, and dropped.
        directory: For the script.

    Returns:
        None where this Postgres comes without psql and pgbench.
    """
    programs = find_postgres()
    if not all((programs / name).is_file() for name in ("psql", "pgbench")):
        return None
    script = directory / "call.sql"
    script.write_text(CALL)
    accounts = f"accounts={ACCOUNTS}"
    quiet = ["-X", "-q", "-v", "ON_ERROR_STOP=1"]
    await _run(programs / "psql", *quiet, "-v", accounts, "-f", FUNCTION, dsn)
    try:
        how = ["-n", "-M", "prepared", "-c", CONNECTIONS, "-j", 2, "-T", SECONDS]
        printed = await _run(programs / "pgbench", *how, "-f", script, "-D", accounts, dsn)
    finally:
        await _run(programs / "psql", *quiet, "-c", "DROP SCHEMA rival CASCADE", dsn)
    [done] = re.findall(r"transactions actually processed: (\d+)", printed)
    return int(done) / SECONDS


async def _run(program: Path, *arguments: object) -> str:
    # The password is in the environment, so that no list of processes shows it.
    *others, dsn = map(str, arguments)
    parts = urlsplit(dsn)
    address = urlunsplit(parts._replace(netloc=f"{parts.username}@{parts.netloc.split('@')[-1]}"))
    process = await asyncio.create_subprocess_exec(
        str(program),
        *others,
        address,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PGPASSWORD": unquote(parts.password or ""),
            "PGOPTIONS": "-c client_min_messages=error",
        },
    )
    printed, trouble = await process.communicate()
    if process.returncode != 0:
        raise ServerError(f"{program.name}: {trouble.decode(errors='replace').strip()}")
    return printed.decode()


async def entries_per_second(client: Client, population: Population, transfers: int) -> float:
    """Payments a second in full entries, from the first that is sent to the last durable answer."""
    rows = _payments(population, transfers)
    started = time.perf_counter()
    outcomes = await client.create_transfers(rows)
    seconds = time.perf_counter() - started
    if outcomes.any():
        raise InvariantBroken(f"a payment was answered {Outcome(int(outcomes.max())).name}")
    return transfers / seconds


def _payments(population: Population, transfers: int) -> Rows:
    chance = np.random.default_rng()
    rows = np.zeros(transfers, TRANSFER)
    rows["id"] = new_ids(transfers, chance)
    rows["debit_account_id"] = chance.choice(np.concatenate(population.customers), transfers)
    rows["credit_account_id"] = chance.choice(population.merchants, transfers)
    rows["amount_low"] = chance.integers(1, AMOUNT_MAX, transfers)
    rows["ledger"], rows["code"] = LEDGER, 1
    return rows
