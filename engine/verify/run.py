"""Running the checks: each a named `.sql` file, all on one snapshot of live data.

A check is one query that judges every row of its kind, with the columns `what` (the kind),
`fault` (what is wrong, null where nothing is), `place` (its number in the order of writing)
and `offender` (json: what it takes to find it). It is counted in one pass; a second names the
first offenders, only where there are any.
"""

import re
import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

import msgspec

from engine.errors import InvariantBroken
from engine.settings import PREFIX
from engine.store.snapshot import read_damaged, snapshot
from engine.verify.definitions import TITLE as DEFINED
from engine.verify.definitions import check_definitions
from engine.verify.report import OFFENDERS_MAX, CheckResult, Report
from engine.verify.streams import TITLE, EntriesBelow, StreamsPositions, check_streams

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called before each check: how many are done, how many there are, its title."""

SETTINGS: Final = {
    "application_name": "engine verify",
    # Whole tables are read: by scans that hash and sort, in parallel, in memory.
    "work_mem": "128MB",
    "max_parallel_workers_per_gather": "2",
    "enable_nestloop": "off",
    # An index can be what is damaged: none is believed.
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
}

_FILE: Final = re.compile(r"\d\d_(\w+)\.sql")
_HEADER: Final = re.compile(r"-- (?P<title>.+)\n-- Counts: (?P<counts>.+)\n")

_COUNT: Final = """
SELECT what, count(*) AS counted, count(fault) AS faults FROM ({}) AS judged GROUP BY what
"""
_NAME: Final = """
SELECT what, fault, offender FROM ({}) AS judged WHERE fault IS NOT NULL
ORDER BY place NULLS LAST LIMIT {}
"""


class Check(msgspec.Struct, frozen=True):
    """A file of `checks`."""

    name: str
    title: str
    counts: tuple[str, ...]
    """The kinds of rows that it always counts."""
    sql: str


@cache
def checks() -> tuple[Check, ...]:
    """All checks, in order."""
    found = []
    for file in sorted((files("engine.verify") / "checks").iterdir(), key=lambda file: file.name):
        name = _FILE.fullmatch(file.name)
        if name is None:
            continue
        sql = file.read_text()
        header = _HEADER.match(sql)
        if header is None:
            raise InvariantBroken(f"{file.name} does not begin with its title and counts")
        counts = tuple(header["counts"].split(", "))
        found.append(Check(name[1], header["title"].removesuffix("."), counts, sql))
    return tuple(found)


async def verify(
    dsn: str,
    streams_positions: StreamsPositions | None,
    *,
    entries_below: EntriesBelow | None = None,
    prefix: str = PREFIX,
    on_progress: Progress | None = None,
) -> Report:
    """Check on live data that the ledger keeps its promises; nothing is stopped for it.

    Args:
        dsn: The Postgres server and database.
        streams_positions: `Streams.ends`; None to leave the streams out.
        entries_below: `Streams.read_below`, to tell entries that only wait to be deleted
            from those that nobody has decided; without it they are counted, not judged.
        prefix: Of the names of the streams.
        on_progress: Called before each check.

    Raises:
        TryAgainError: A server cannot be reached.
        ConfigurationError: There is no ledger in this database.
    """
    total = len(checks()) + 1 + (streams_positions is not None)
    results: list[CheckResult] = []
    async with snapshot(dsn, SETTINGS) as connection:
        for check in checks():
            if on_progress is not None:
                on_progress(len(results), total, check.title)
            results.append(await run_check(connection, check))
        if on_progress is not None:
            on_progress(len(results), total, DEFINED)
        results.append(await check_definitions(connection))
        if streams_positions is not None:
            if on_progress is not None:
                on_progress(len(results), total, TITLE)
            results.append(
                await check_streams(connection, streams_positions, entries_below, prefix)
            )
    return Report(results, all(result.passed for result in results))


async def run_check(connection: Any, check: Check) -> CheckResult:
    """Run one check.

    Args:
        connection: Of a snapshot.
        check: What to run.
    """
    began = time.monotonic()
    counted = dict.fromkeys(check.counts, 0)
    faults = 0
    offenders: list[dict[str, Any]] = []
    try:
        for row in await read_damaged(connection, _COUNT.format(check.sql)):
            counted[row["what"]] = row["counted"]
            faults += row["faults"]
        if faults:
            for row in await read_damaged(connection, _NAME.format(check.sql, OFFENDERS_MAX)):
                named = {"what": row["what"], "fault": row["fault"]}
                offenders.append(named | msgspec.json.decode(row["offender"]))
    except InvariantBroken as error:
        faults += 1
        offenders.append({"what": "check", "fault": str(error)})
    seconds = time.monotonic() - began
    return CheckResult(check.name, check.title, counted, faults, offenders, not faults, seconds)
