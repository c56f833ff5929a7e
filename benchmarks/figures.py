"""All figures of the README, from one command: runs every benchmark, one after the other.

Each run is added to `results.json` as soon as it is done, with the machine, the versions and
the settings; then the tables and the chart are made from that file, and from nothing else. A
benchmark whose result does not add up leaves no figure, and the command fails at its end.

Example: scripts/figures                         everything, about 20 minutes on two slow cores
         scripts/figures --only workloads        one of them again
         scripts/figures --render                tables and chart only
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import chart, rendering
from benchmarks.report import note
from engine.servers.binaries import find_postgres, find_valkey
from engine.servers.postgres_server import SETTINGS as POSTGRES_SETTINGS
from engine.servers.valkey_server import SETTINGS as VALKEY_SETTINGS
from engine.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.json")

RUNS: dict[str, list[str]] = {
    "end_to_end": ["end_to_end", "--rounds", "3"],
    "end_to_end_one_worker": ["end_to_end", "--workers", "1", "--rounds", "1"],
    "stages": ["end_to_end", "--quick", "--stages"],
    "batches": ["batches"],
    "singles": ["singles"],
    "client": ["client"],
    "latency": ["latency"],
    "workloads": ["workloads"],
    "workloads_one_worker": ["workloads", "--workers", "1"],
    "function": ["function"],
    "history": ["history"],
    "memory": ["memory"],
    "rebalancing": ["rebalancing", "--seconds", "10"],
    "rebalancing_at_ease": ["rebalancing", "--rate", "20000", "--seconds", "10"],
    "columns": [],
}
"""By name of the figures, the benchmark and its options; `columns` is run by pytest."""

RUN_SECONDS_MAX = 3600


def run_benchmark(name: str, extra: list[str]) -> dict[str, Any]:
    """Run one; returns what it measured. Raises CalledProcessError where it does not add up."""
    if name == "columns":
        return run_columns()
    module, *options = RUNS[name]
    command = ["-m", f"benchmarks.{module}", *options, *extra, "--json"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=RUN_SECONDS_MAX,
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"command": " ".join(["python", *command]), **measured}


def run_columns() -> dict[str, Any]:
    """Decoding, deciding and encoding by pytest-benchmark: microseconds a transfer."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = ["-m", "pytest", "-q", "benchmarks/test_columns.py"]
        subprocess.run(
            [sys.executable, *command, f"--benchmark-json={file.name}"],
            cwd=ROOT,
            stdout=sys.stderr,
            check=True,
            timeout=RUN_SECONDS_MAX,
        )
        measured = json.loads(Path(file.name).read_text())
    rows = [
        {
            "what": one["name"].removeprefix("test_").replace("_", " "),
            "us_a_transfer": round(one["stats"]["median"] / 8189 * 1e6, 3),
        }
        for one in measured["benchmarks"]
    ]
    return {"command": " ".join(["python", *command]), "rows": rows}


def describe_machine() -> dict[str, Any]:
    """What it was measured on, and with what."""
    cpu = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    began = time.perf_counter()
    count = 0
    while count < 10_000_000:
        count += 1
    ten_million_seconds = time.perf_counter() - began
    programs = {"postgres": find_postgres() / "postgres", "valkey": find_valkey()}
    printed = {
        name: subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        for name, program in programs.items()
    }
    numbers = {name: re.findall(r"[\d.]+\d", done.stdout) for name, done in printed.items()}
    return {
        "machine": {
            "cpu": cpu[0] if cpu else platform.processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
            "system": f"{platform.system()} {platform.release()}",
            "python_counts_to_ten_million_seconds": round(ten_million_seconds, 2),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: found[0] for name, found in numbers.items()},
            **{name: version(name) for name in ("numpy", "asyncpg", "redis", "hiredis", "uvloop")},
        },
        "settings": {
            "postgres": dict(POSTGRES_SETTINGS),
            "valkey": dict(VALKEY_SETTINGS),
            "worker": {
                name: getattr(WorkerSettings(), name) for name in WorkerSettings.__struct_fields__
            },
        },
    }


def render(results: dict[str, Any]) -> None:
    """Make the tables and the chart anew."""
    (ROOT / chart.FILE).write_text(chart.draw(results))
    for file, document in rendering.documents(results).items():
        path = ROOT / file
        path.write_text(rendering.replace(path.read_text(), document, file))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--quick", action="store_true", help="less of everything; to try it")
    parser.add_argument("--render", action="store_true", help="run nothing")
    parser.add_argument(
        "more", nargs="*", metavar="-- OPTIONS", help="of the benchmark, with --only one"
    )
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else [*RUNS]
    if unknown := set(chosen) - RUNS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose of {', '.join(RUNS)}")
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = [] if options.render else measure_all(chosen, options, results)
    render(results)
    if failed:
        print(f"did not add up, or did not run: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def measure_all(
    chosen: list[str], options: argparse.Namespace, results: dict[str, Any]
) -> list[str]:
    """Run them, and keep what each measured; returns those that failed."""
    results |= describe_machine()
    figures = results.setdefault("figures", {})
    failed = []
    extra = [*(["--quick"] if options.quick else []), *options.more]
    for name in [name for name in RUNS if name in chosen]:
        began = time.monotonic()
        figures.pop(name, None)
        try:
            measured = run_benchmark(name, extra)
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
        else:
            on = datetime.now(UTC).date().isoformat()
            figures[name] = {"on": on, "is_quick": options.quick, **measured}
        note(f"{name}: {time.monotonic() - began:.0f} s")
        results["figures"] = {one: figures[one] for one in RUNS if one in figures}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return failed


if __name__ == "__main__":
    main()
