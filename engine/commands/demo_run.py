"""The demo's second part: a load, a worker killed in the middle of it, what came of it."""

import asyncio
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from engine.client import Client
from engine.commands.demo_load import LEDGER, Lane, Load, Population, new_ids
from engine.commands.demo_race import (
    CONNECTIONS,
    entries_per_second,
    function_calls_per_second,
)
from engine.commands.progress import progress_bar
from engine.commands.screen import err, out
from engine.errors import InvariantBroken
from engine.ledger.outcomes import Outcome
from engine.servers.process import ServerProcess
from engine.store.reports import Reports
from engine.wire.layout import TRANSFER

SINGLES: Final = 300
"""Payments made one at a time, to see how long one takes."""

QUARTERS: Final = 4
STOP_SECONDS_MAX: Final = 15.0
WATCH_SECONDS: Final = 0.2


class Measured(msgspec.Struct):
    """What the load showed."""

    transfers: int = 0
    created: int = 0
    declined: int = 0
    repeated: int = 0
    unexpected: int = 0
    """Outcomes that differ from those known beforehand."""
    seconds: float = 0.0
    """From the first to the last answer of the load."""
    seconds_without_worker: float = 0.0
    transfers_per_second: float = 0.0
    """Of the load, the time without a worker left out."""
    latency_ms_median: float = 0.0
    """Of one payment at a time, from sending to the durable answer."""
    latency_ms_p99: float = 0.0
    entry_latency_ms_median: float = 0.0
    """Of an entry of 1,000 under the load."""
    full_entries_per_second: float = 0.0
    """Plain payments in entries as full as they come."""
    function_per_second: float | None = None
    """The same by a Postgres function, a call each; None where there is no pgbench."""
    killed_process: int = 0
    killed_at: int = 0
    """How many were answered when the worker was killed."""


class WorkerProcess:
    """`engine worker` as a process of its own, which ends with this one.

    Args:
        directory: The data directory of running servers; its log goes there too.
        number: Of the worker, from 1.
    """

    def __init__(self, directory: Path, number: int) -> None:
        self._log = directory / f"worker-{number}.log"
        program = [sys.executable, "-m", "engine.commands.main"]
        self._process = ServerProcess(
            [*program, "worker", "--json", "--data", str(directory)],
            log_path=self._log,
            death_signal=signal.SIGTERM,
        )
        self.pid = self._process.pid
        self._is_ended = False

    def check(self) -> None:
        """Raise ServerError, with the end of its log, when it ended without being told to."""
        if not (self._is_ended or self._process.is_running):
            self._process.wait_ready(lambda: False)

    async def wait_ready(self) -> None:
        """Wait until it has all shards. Raises ServerError, with its log, when it ends first."""
        await asyncio.to_thread(
            self._process.wait_ready, lambda: b'"event":"ready"' in self._log.read_bytes()
        )

    def kill(self) -> None:
        """SIGKILL: it says nothing, saves nothing, gives nothing back."""
        self._is_ended = True
        self._process.kill()

    def stop(self) -> None:
        """Let it finish and go."""
        self._is_ended = True
        if not self._process.end(signal.SIGTERM, STOP_SECONDS_MAX):
            self._process.kill()


class Run:
    """The load over running servers.

    Args:
        client: To send by.
        reports: To count in Postgres.
        directory: The data directory.
        worker: The worker that is killed.
        silent: Print nothing.
    """

    def __init__(
        self,
        client: Client,
        reports: Reports,
        directory: Path,
        worker: WorkerProcess,
        *,
        silent: bool,
    ) -> None:
        self.worker = worker
        self.measured = Measured()
        self._client = client
        self._reports = reports
        self._directory = directory
        self._silent = silent
        self._state = ""

    async def watch(self) -> None:
        """Look after the worker, for ever. Raises ServerError when it dies by itself."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.worker.check()

    async def prepare(self, accounts: int) -> Population:
        """Create accounts and fund them."""
        population = Population(accounts, await self._reports.shard_count())
        self._say(f"\n{accounts:,} more accounts: customers, a few without money, and merchants.")
        await self._client.create_accounts(population.accounts())
        outcomes = await self._client.create_transfers(population.funding())
        if outcomes.any():
            raise InvariantBroken(f"funding was answered {Outcome(int(outcomes.max())).name}")
        return population

    async def measure_one_at_a_time(self, population: Population) -> None:
        """Make payments one after the other; each waits for its durable answer."""
        rows = np.zeros(SINGLES, TRANSFER)
        random = np.random.default_rng()
        rows["id"] = new_ids(SINGLES, random)
        rows["debit_account_id"] = random.choice(np.concatenate(population.customers), SINGLES)
        rows["credit_account_id"] = random.choice(population.merchants, SINGLES)
        rows["amount_low"], rows["ledger"], rows["code"] = 100, LEDGER, 1
        seconds = []
        for place in range(SINGLES):
            started = time.perf_counter()
            outcomes = await self._client.create_transfers(rows[place : place + 1])
            seconds.append(time.perf_counter() - started)
            if outcomes[0]:
                raise InvariantBroken(f"a payment was answered {Outcome(int(outcomes[0])).name}")
        self.measured.latency_ms_median = statistics.median(seconds) * 1000
        self.measured.latency_ms_p99 = statistics.quantiles(seconds, n=100)[98] * 1000

    async def drive(self, population: Population, transfers: int) -> None:
        """Send the load from all sides; kill the worker half-way and start another."""
        self._say(
            f"\n{transfers:,} transfers: payments, holds with their capture or release, some "
            "that lack funds,\nsome sent twice. Half-way the worker is killed.",
        )
        measured = self.measured
        created, declined = await self._reports.decided()
        shards = len(population.customers)
        half = asyncio.Event()
        started = time.perf_counter()
        with progress_bar("", transfers, hidden=self._silent) as bar:

            def on_answered(count: int) -> None:
                before, now = load.answered - count, load.answered
                bar.advance(count)
                rate = now / (time.perf_counter() - started)
                bar.relabel(self._state or f"{rate:,.0f} transfers/s")
                if before * QUARTERS // transfers < now * QUARTERS // transfers:
                    self._say(f"  {now:>10,} answered", plain=True)
                if now >= transfers / 2:
                    half.set()

            load = Load(self._client, on_answered)
            shares = [transfers // shards + (shard < transfers % shards) for shard in range(shards)]
            async with asyncio.TaskGroup() as tasks:
                for shard, share in enumerate(shares):
                    tasks.create_task(load.send(Lane(population, shard, shard), share))
                tasks.create_task(self._kill_half_way(half, load, bar.relabel))
        measured.seconds = time.perf_counter() - started
        measured.transfers = load.answered
        measured.created, measured.declined = load.created, load.declined
        measured.repeated, measured.unexpected = load.repeated, len(load.unexpected)
        measured.entry_latency_ms_median = statistics.median(load.latencies) * 1000
        working = measured.seconds - measured.seconds_without_worker
        measured.transfers_per_second = load.answered / working
        now_created, now_declined = await self._reports.decided()
        if (now_created - created, now_declined - declined) != (load.created, load.declined):
            raise InvariantBroken(
                f"Postgres has {now_created - created:,} transfers and "
                f"{now_declined - declined:,} refusals of this load; the answers tell of "
                f"{load.created:,} and {load.declined:,}",
            )
        if load.unexpected:
            got, wanted = load.unexpected[0]
            raise InvariantBroken(
                f"{len(load.unexpected):,} answers differ from what was known beforehand; the "
                f"first is {got}, not {wanted}",
            )

    async def race(self, population: Population, transfers: int, dsn: str) -> None:
        """Plain payments by a function of the same Postgres, then by full entries."""
        self._say(
            "\nAt last the same Postgres twice: payments by a function in it, a call and a "
            f"commit each,\nover {CONNECTIONS} connections; then {transfers:,} by the engine, in "
            "full entries.",
        )
        measured = self.measured
        measured.function_per_second = await function_calls_per_second(dsn, self._directory)
        measured.full_entries_per_second = await entries_per_second(
            self._client, population, transfers
        )

    async def _kill_half_way(
        self, half: asyncio.Event, load: Load, relabel: Callable[[str], None]
    ) -> None:
        await half.wait()
        killed_at = time.perf_counter()
        measured = self.measured
        measured.killed_process, measured.killed_at = self.worker.pid, load.answered
        await asyncio.to_thread(self.worker.kill)
        flight = self._client.statistics().in_flight
        self._say(
            f"  kill -9 {measured.killed_process}, the worker, with {flight} entries under way; "
            "another starts. It waits for the lease to expire.",
        )
        self._state = "no worker: waiting for the lease of the dead one to expire"
        relabel(self._state)
        self.worker = WorkerProcess(self._directory, 2)
        await self.worker.wait_ready()
        self._state = ""
        measured.seconds_without_worker = time.perf_counter() - killed_at
        self._say(
            f"  process {self.worker.pid} took all shards over after "
            f"{measured.seconds_without_worker:.1f} s and goes on where the ledger ends."
        )

    def _say(self, text: str, *, plain: bool = False) -> None:
        """Print; `plain` only where no bar shows it."""
        if not self._silent and not (plain and err.is_terminal):
            out.print(text, style="bold" if text.startswith("\n") else None)
