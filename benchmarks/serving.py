"""A ledger on fresh servers of its own, and the engine over it as a process of its own."""

import asyncio
import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

from benchmarks.auditing import audit
from benchmarks.feeding import Sent, faults_of, send
from benchmarks.program import measured
from benchmarks.stages import BEGIN_SIGNAL
from benchmarks.workload import SHARDS, Accounts, Transfers, create_accounts, fund
from engine.servers import Servers
from engine.store.migrate import migrate

END_SECONDS_MAX = 60
WORKERS_BEST = min(2, os.cpu_count() or 1)
"""Two workers fill two cores; more in one process gain nothing."""


class Ledger(NamedTuple):
    """A ledger with its accounts, and what was sent to it."""

    servers: Servers
    accounts: Accounts
    sent: list[Transfers]

    @property
    def dsn(self) -> str:
        """Of Postgres."""
        return self.servers.postgres.dsn

    @property
    def url(self) -> str:
        """Of Redis."""
        return self.servers.valkey.url

    def send(self, transfers: Transfers, **how: Any) -> tuple[Sent, list[str]]:
        """Send by streams, as `feeding.send`; returns what the producer saw and its faults."""
        self.sent.append(transfers)
        sent = send(self.url, self.accounts, transfers, **how)
        return sent, faults_of(sent, transfers)

    def audit(self) -> list[str]:
        """What does not add up."""
        return asyncio.run(audit(self.dsn, self.accounts, self.sent))


class Engine:
    """An engine process.

    Args:
        process: Ready.
        with_clocks: Whether it measures its stages.
    """

    def __init__(self, process: "subprocess.Popen[str]", *, with_clocks: bool) -> None:
        self._process = process
        self._with_clocks = with_clocks
        self.pid = process.pid
        self.metrics: str | None = None
        """Where it serves metrics, if it does."""
        self.stages: dict[str, Any] = {}
        """What the stages cost, once it has ended."""

    def begin(self) -> None:
        """Count the cost of the stages, where it is measured, from now on."""
        if self._with_clocks:
            self._process.send_signal(BEGIN_SIGNAL)

    def kill(self) -> None:
        """SIGKILL: nobody is told."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Stop it, and take what it measured. Does nothing when it has ended."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        rest, _ = self._process.communicate(timeout=END_SECONDS_MAX)
        if self._process.returncode != 0:
            raise SystemExit(f"the engine ended with {self._process.returncode}")
        if self._with_clocks:
            self.stages = json.loads(rest.splitlines()[-1])


@contextmanager
def new_ledger(
    accounts: Accounts, postgres_settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Ledger]:
    """Servers in a temporary directory with nothing in them but accounts."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Servers(Path(directory), postgres_settings=postgres_settings) as servers,
    ):
        if measured().is_this:
            asyncio.run(migrate(servers.postgres.dsn, SHARDS))
        else:
            environment = {"ENGINE_POSTGRES_DSN": servers.postgres.dsn}
            measured().run(["init", "--shards", str(SHARDS)], environment)
        asyncio.run(create_accounts(servers.postgres.dsn, accounts))
        yield Ledger(servers, accounts, [])


@contextmanager
def running_engine(
    ledger: Ledger,
    workers: int,
    *,
    stages: bool = False,
    redis_url: str | None = None,
    log: IO[str] | None = None,
    words: Sequence[str] = ("--log-level", "warning"),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Engine]:
    """The engine over a ledger, ready, until the block ends.

    Args:
        ledger: The servers.
        workers: In its one process.
        stages: Measure what each stage costs.
        redis_url: How it reaches Redis, where not as the ledger says.
        log: Gets what it logs, where not standard error.
        words: More options of `engine worker`.
        environment: Of it.
    """
    url = redis_url or ledger.url
    module = "benchmarks.stages" if stages else "engine.commands.main"
    servers = {"ENGINE_POSTGRES_DSN": ledger.dsn, "ENGINE_REDIS_URL": url}
    process = measured().start(
        ["worker", "--json", "--workers", str(workers), *words],
        {**servers, **environment},
        module,
        log,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ready" not in line:
            raise SystemExit(f"the engine did not start: {line!r}")
        engine = Engine(process, with_clocks=stages)
        engine.metrics = json.loads(line).get("metrics")  # Older engines have none.
        yield engine
        engine.end()
    finally:
        process.kill()
        process.communicate()


@contextmanager
def funded(
    accounts: Accounts, workers: int, *, stages: bool = False
) -> Iterator[tuple[Ledger, Engine]]:
    """A ledger whose accounts have money, with the engine over it.

    The engine has met every account by then: with several workers, its owner has.
    """
    with new_ledger(accounts) as ledger, running_engine(ledger, workers, stages=stages) as engine:
        _, faults = ledger.send(fund(accounts))
        if faults:
            raise SystemExit(f"the accounts were not funded: {faults}")
        engine.begin()
        yield ledger, engine


class CpuTimes:
    """What the processes have used since it was made, in microseconds a transfer.

    Args:
        ledger: The servers.
        engine: The engine over them.
    """

    def __init__(self, ledger: Ledger, engine: Engine) -> None:
        self._pids = {
            "engine": engine.pid,
            "postgres": ledger.servers.postgres.pid,
            "valkey": ledger.servers.valkey.pid,
        }
        self._before = self._seconds()

    def _seconds(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def per_transfer(self, transfers: int) -> dict[str, float]:
        """By process, as columns of a row."""
        return {
            f"{name}_cpu_us": round((seconds - self._before[name]) / transfers * 1e6, 2)
            for name, seconds in self._seconds().items()
        }


def resident_mb(pid: int) -> dict[str, int]:
    """Resident memory of a process now and at most, in MB (10^6 bytes). Linux only."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    words = dict(line.split(":", 1) for line in lines)
    kib = {name: int(words[name].split()[0]) for name in ("VmRSS", "VmHWM")}
    return {name: value * 1024 // 10**6 for name, value in kib.items()}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children, those that have ended too. Linux only."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = file.read_text().rpartition(")")[2].split()
            if int(file.parent.name) == pid:
                ticks += sum(map(int, words[11:15]))
            elif int(words[1]) == pid:
                ticks += sum(map(int, words[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")
