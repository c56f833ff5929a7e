"""Somebody on call: /metrics and the alerts that fire, the doctor, the runbook's commands."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import redis.asyncio
from prometheus_client.parser import text_string_to_metric_families

from engine.operating.doctor import judge
from engine.operating.endpoint import open_endpoint
from engine.operating.facts import gather
from engine.operating.findings import Finding
from engine.operating.metrics import Metrics
from engine.worker.worker import Worker
from tests.bounds import PROCESS_SECONDS_MAX
from tests.ledgers import Ledger, until

ALERTS = Path(str(files("engine.operating") / "alerts.yml"))
RUNBOOK = files("engine.operating") / "RUNBOOK.md"
PROGRAMS = {"engine": "engine.commands.main", "shards": "shards.commands"}
COUNTING = ("_total", "_bucket", "_sum", "_count")

INCIDENT_SECONDS_MAX = 120.0
"""Guards against hanging."""

Samples = Mapping[str, float]
"""What /metrics told: values by name and labels."""


async def ask(address: str, path: str, method: str = "GET", accept: str = "") -> tuple[int, str]:
    """What an endpoint answers: the status and the body."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\nAccept: {accept}\r\n\r\n"
    writer.write(head.encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


async def scrape(address: str) -> Samples:
    """What a process tells Prometheus."""
    _, text = await ask(address, "/metrics")
    samples = {}
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in found.labels.items())
            samples[f"{found.name}{{{labels}}}"] = found.value
    return samples


def firing(promtool: str, directory: Path, before: Samples, now: Samples) -> set[str]:
    """The alerts that fire, by promtool.

    It was for five minutes as `before`, then counters go on to `now` within 15 minutes and all else
    is as now; asked a minute before the end of that.
    """
    series = []
    for name, value in now.items():
        was = before.get(name, 0.0)
        if name.partition("{")[0].endswith(COUNTING):
            step = (value - was) / 60
            values = f"{was:.9f}x19 {was + step:.9f}+{step:.9f}x59"
        else:
            values = f"{before.get(name, value):.9f}x19 {value:.9f}x59"
        series.append({"series": name, "values": values})
    names = re.findall(r"alert: (\w+)", ALERTS.read_text())
    asked = [{"eval_time": "19m", "alertname": name} for name in names]
    document = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series, "alert_rule_test": asked}],
    }
    # JSON is YAML.
    (directory / "incident.yml").write_text(json.dumps(document))
    command = [promtool, "test", "rules", str(directory / "incident.yml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    output = ended.stdout + ended.stderr
    fired = set(re.findall(r"alertname: (\w+), time:", output))
    assert fired or ended.returncode == 0, output
    return fired


def runbook() -> dict[str, dict[str, str]]:
    """The table of the runbook, by incident."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in RUNBOOK.read_text().splitlines()
        if line.startswith("| ")
    ]
    head, *rows = rows
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


class OnCall:
    """Who looks at one process's metrics and asks the doctor.

    Args:
        ledger: Whose.
        promtool: The program; None where there is none.
        directory: For files of its own.
        address: Where metrics are told.
        metrics: Those.
    """

    def __init__(
        self, ledger: Ledger, promtool: str | None, directory: Path, address: str, metrics: Metrics
    ) -> None:
        self._ledger = ledger
        self._promtool = promtool
        self._directory = directory
        self._metrics = metrics
        self.address = address
        self.redis_url = ledger.redis_url
        self._before: Samples = {}

    async def examine(self) -> list[Finding]:
        """Ask the doctor, and have told what he found."""
        facts = await gather(self._ledger.dsn, self.redis_url, self._ledger.prefix)
        self._metrics.ledger.set_facts(facts)
        return judge(facts)

    async def begin(self) -> None:
        """Note how it is before anything happens: no alert fires."""
        await self.examine()
        self._before = await scrape(self.address)
        assert await self.firing(self._before) == set()

    async def firing(self, now: Samples) -> set[str]:
        """The alerts that fire, after what was noted; none where there is no promtool."""
        if self._promtool is None:
            return set()
        return await asyncio.to_thread(firing, self._promtool, self._directory, self._before, now)

    async def is_named(self, incident: str) -> Finding:
        """Wait until the doctor names first what the runbook says; returns that finding.

        Args:
            incident: As the runbook names it.
        """
        rules = re.findall(r"`(\w+)`", runbook()[incident]["doctor's finding"])
        found: list[Finding] = []

        async def is_first() -> bool:
            found[:] = await self.examine()
            return bool(found) and found[0].rule in rules

        try:
            await until(is_first, f"{rules} to be named first", INCIDENT_SECONDS_MAX)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found}") from error
        return found[0]

    async def is_called(self, incident: str) -> Finding:
        """As `is_named`, and wait until the alert of the runbook fires."""
        found = await self.is_named(incident)
        await self.fires(runbook()[incident]["alert"])
        return found

    async def fires(self, alert: str, address: str | None = None) -> None:
        """Wait until an alert fires, by what this or another process tells."""
        fired: set[str] = set()

        async def does_fire() -> bool:
            fired.clear()
            fired.update(await self.firing(await scrape(address or self.address)))
            return self._promtool is None or alert in fired

        try:
            await until(does_fire, f"{alert} to fire", INCIDENT_SECONDS_MAX)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {sorted(fired)} do") from error

    async def is_mended(self) -> None:
        """Wait until the doctor finds nothing that presses; by what comes then no alert fires."""

        async def is_well() -> bool:
            return all(finding.severity == "note" for finding in await self.examine())

        try:
            await until(is_well, "nothing to be pressing", INCIDENT_SECONDS_MAX)
        except AssertionError as error:
            raise AssertionError(f"{error}: {await self.examine()}") from error
        self._before = await scrape(self.address)
        assert await self.firing(await scrape(self.address)) == set()

    def note(self, before: Samples) -> None:
        """Have alerts compare with these from now on."""
        self._before = before

    # The runbook's commands.

    def environment(self) -> dict[str, str]:
        """Of programs of the engine."""
        others = {k: v for k, v in os.environ.items() if not k.startswith("ENGINE_")}
        return others | {
            "ENGINE_POSTGRES_DSN": self._ledger.app_dsn,
            "ENGINE_REDIS_URL": self._ledger.redis_url,
            "ENGINE_PREFIX": self._ledger.prefix,
        }

    async def run(self, command: str, code: int = 0) -> str:
        """Carry out a command, as a shell would; what it printed. It ends with that code."""
        words = shlex.split(command)
        if words[0] == "redis-cli":
            # The commands show no passwords.
            async with redis.asyncio.Redis.from_url(self.redis_url) as connection:
                return str(await connection.execute_command(*words[3:]))
        if words[0] == "psql":
            connection = await asyncpg.connect(self._ledger.dsn)
            try:
                return str(await connection.fetch(words[3]))
            finally:
                await connection.close()
        process = await self._start(words, self.environment())
        out, err = await asyncio.wait_for(process.communicate(), PROCESS_SECONDS_MAX)
        assert process.returncode == code, f"{command}: {err.decode()}"
        return out.decode()

    async def doctor(self, **more: str) -> list[dict[str, str]]:
        """The findings of `engine doctor`, in an environment of its own."""
        process = await self._start(["engine", "doctor", "--json"], self.environment() | more)
        out, err = await asyncio.wait_for(process.communicate(), PROCESS_SECONDS_MAX)
        assert out, err.decode()
        findings: list[dict[str, str]] = json.loads(out)["findings"]
        return findings

    async def _start(self, words: list[str], environment: dict[str, str]) -> Any:
        program = [sys.executable, "-m", PROGRAMS[words[0]], *words[1:]]
        return await asyncio.create_subprocess_exec(
            *program, env=environment, stdout=-1, stderr=-1, cwd=self._directory
        )

    @contextlib.asynccontextmanager
    async def running(self, command: str, **more: str) -> AsyncIterator[dict[str, Any]]:
        """A command that goes on, as `engine worker`, until the end of the block.

        Yields what it says once it is ready.
        """
        words = [*shlex.split(command), "--json"]
        process = await self._start(words, self.environment() | more)
        try:
            line = await asyncio.wait_for(process.stdout.readline(), PROCESS_SECONDS_MAX)
            assert line, (await process.stderr.read()).decode()
            yield json.loads(line)
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.communicate(), PROCESS_SECONDS_MAX)


@contextlib.asynccontextmanager
async def on_call(
    ledger: Ledger, promtool: str | None, directory: Path, *workers: Worker
) -> AsyncIterator[OnCall]:
    """Somebody on call for a ledger, by the metrics of a process with these workers."""
    metrics = Metrics(workers)
    async with open_endpoint(metrics, ("127.0.0.1", 0)) as address:
        yield OnCall(ledger, promtool, directory, address, metrics)


Watch: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[OnCall]]
"""Has somebody on call for a ledger, by the metrics of a process with some workers."""
