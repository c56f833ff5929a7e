"""The chain: every digest and every link made again from the tables, and held to what is kept.

What each flush wrote is read in the order of flushes, from one snapshot, by scans and sorts alone:
no index is believed. An altered row shows in the digest of its flush, an altered digest in its
link, an altered link in the next one, and a chain that was made anew or cut off in heads that were
kept elsewhere. Without kept heads only what is not consistent with itself is found.

Links are few bytes a flush, and are checked one after the other; what flushes wrote is checked in
ranges, by several processes where there is much of it.
"""

import hashlib
import os
import time
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final
from uuid import UUID

from engine.store.snapshot import export_snapshot, snapshot
from engine.verify.chain_processes import check_ranges
from engine.verify.contents import FLUSH_MAX, PREFETCH_ROWS, Found, check_contents, place_of
from engine.verify.definitions import check_definitions
from engine.verify.heads import Heads, chain_query, heads_of
from engine.verify.links import digest_of_freeze, link_of, seal_of
from engine.verify.report import OFFENDERS_MAX, CheckResult, Report
from engine.verify.run import SETTINGS, Progress

TITLE: Final = "Every digest and every link of the chain is as it was written"

PROCESSES_MAX: Final = 8
ROWS_APART: Final = 100_000
"""Fewer rows are not worth a process of their own."""


async def verify_chain(
    dsn: str,
    kept: Heads | None = None,
    on_progress: Progress | None = None,
    processes: int | None = None,
) -> Report:
    """Make all digests and links again, from one snapshot; nothing is stopped for it.

    Args:
        dsn: The Postgres server and database.
        kept: Heads of an earlier time.
        on_progress: Called with how many flushes are done, how many there are, and what is done.
        processes: How many read what flushes wrote; None for one a core, where there is much.
    """
    async with snapshot(dsn, SETTINGS) as connection:
        checking = _Checking(await heads_of(connection), on_progress)
        await checking.read_links(connection)
        count = checking.processes if processes is None else processes
        if count > 1:
            exported = await export_snapshot(connection)
            ranges = checking.ranges(count)
            for found in await check_ranges(dsn, exported, ranges, checking.note):
                checking.add(found)
        else:
            await checking.read_contents(connection)
        return await checking.report(connection, kept)


async def check_chain(connection: Any, kept: Heads | None = None) -> Report:
    """As `verify_chain`, on a connection with a snapshot, and by this process alone."""
    checking = _Checking(await heads_of(connection), None)
    await checking.read_links(connection)
    await checking.read_contents(connection)
    return await checking.report(connection, kept)


class _Checking:
    """What is known so far."""

    def __init__(self, heads: Heads, on_progress: Progress | None) -> None:
        self._began = time.monotonic()
        self._now = heads
        self._on_progress = on_progress
        self._done = self._compared = 0
        self._found: list[Found] = [Found()]
        self._numbers, self._rows = array("q"), array("q")
        """Of all flushes: the number of each, and how many rows it wrote."""
        self._seals: dict[int, bytes] = {}
        """By number of the account, as its row says now."""
        self._freezes: dict[int, bytes] = {}
        """Freezes and thaws by number, each with the digest that its row gives."""
        self._chained: set[int] = set()
        """Those of them that a chain names."""
        self._links: dict[int, bytes] = {}
        """By number of the flush."""
        self._ends: dict[UUID, tuple[int, bytes]] = {}
        """By worker, the newest sequence and link."""
        self._at: dict[tuple[str, int], str] = {}

    def _name(self, fault: str, **offender: Any) -> None:
        self._found[0].name(fault, offender)

    def note(self, count: int) -> None:
        """So many more flushes are done."""
        self._done += count
        if self._on_progress is not None and count:
            self._on_progress(self._done, len(self._numbers), TITLE)

    # What is little: accounts, freezes, links.

    async def read_links(self, connection: Any) -> None:
        """Make all seals, all digests of freezes and all links again, in the order of flushes."""
        async for row in connection.cursor(chain_query("accounts"), prefetch=PREFETCH_ROWS):
            seal = seal_of(row)
            self._seals[row["number"]] = seal
            if row["seal"] is not None and row["seal"] != seal:
                self._name("an account is not as it was sealed", account=str(row["id"]))
        for row in await connection.fetch(chain_query("freezes"), self._now.began):
            self._freezes[row["freeze_number"]] = digest_of_freeze(row)
        flushes = chain_query("flushes"), self._now.began, FLUSH_MAX
        async for flush in connection.cursor(*flushes, prefetch=PREFETCH_ROWS):
            self._check_link(flush)
        for number in sorted(self._freezes.keys() - self._chained):
            self._name("a freeze or thaw is in no chain", freeze=number)

    def _check_link(self, flush: Mapping[str, Any]) -> None:
        self._numbers.append(flush["flush"])
        self._rows.append(1 + flush["transfers"] + flush["declined"] + flush["postings"])
        at = place_of(flush)
        if flush["kind"] == "freeze" and self._is_freeze_wrong(flush):
            self._name("the freeze or thaw that it names is not as it was written", **at)
        before_sequence, before = self._ends.get(flush["worker"], (None, self._beginning(flush)))
        if before_sequence is not None and flush["sequence"] != before_sequence + 1:
            self._name("a flush before it in its chain is missing", **at)
        named: bytes | None = None
        if flush["other"] is not None:
            named = self._links.get(flush["other"])
            is_flush = flush["kind"] != "freeze"  # which names the freeze
            if named is None and is_flush and flush["other"] >= self._now.began:
                self._name("it names a flush that is not there", **at)
        link = link_of(flush, before, named)
        if flush["link"] != link:
            self._name("its link is not that of its row and the row before it", **at)
        kept = bytes(flush["link"] or link)
        self._links[flush["flush"]] = kept
        self._ends[flush["worker"]] = (flush["sequence"], kept)
        self._at[str(flush["worker"]), flush["sequence"]] = kept.hex()

    def _beginning(self, flush: Mapping[str, Any]) -> bytes:
        return hashlib.sha256(UUID(self._now.ledger).bytes + flush["worker"].bytes).digest()

    def _is_freeze_wrong(self, flush: Mapping[str, Any]) -> bool:
        self._chained.add(flush["other"])
        if flush["form"] is None and flush["digest"] is None:
            return False  # of the program before, which kept no digest of it
        kept: bytes | None = flush["digest"]
        return self._freezes.get(flush["other"]) != kept

    # What is much: all that flushes wrote.

    @property
    def processes(self) -> int:
        """How many are worth it."""
        return max(1, min(os.cpu_count() or 1, PROCESSES_MAX, sum(self._rows) // ROWS_APART))

    def ranges(self, count: int) -> list[tuple[int, int]]:
        """All flushes in so many ranges of about as many rows each."""
        reached = list(accumulate(self._rows))
        total = reached[-1] if reached else 0
        cuts = [bisect_left(reached, total * part // count) for part in range(1, count)]
        firsts = sorted({self._now.began, *(self._numbers[cut] for cut in cuts if reached)})
        return list(zip(firsts, [*(first - 1 for first in firsts[1:]), FLUSH_MAX], strict=True))

    async def read_contents(self, connection: Any) -> None:
        """Make all digests again, in this process."""
        self.add(await check_contents(connection, self._now.began, FLUSH_MAX, self.note))

    def add(self, found: Found) -> None:
        """Take in what was found in a range; accounts are held to their seals."""
        for sealed in found.sealed:
            seals = [self._seals.get(number, b"") for number in sealed.accounts]
            made = hashlib.sha256(b"".join(seals)).digest() if seals else None
            if made != sealed.seals:
                found.name("accounts that it wrote to are not as they were", sealed.at)
        self._found.append(found)

    # What comes of it.

    async def report(self, connection: Any, kept: Heads | None) -> Report:
        """What was found, the first flush first; and whether definitions are as they should be."""
        if kept is not None:
            self._compare(kept)
        faults = sum(found.faults for found in self._found)
        offenders = [offender for found in self._found for offender in found.offenders]
        offenders.sort(key=lambda offender: offender.get("flush", 0))
        counted = {
            "flushes": sum(found.flushes for found in self._found),
            "accounts": len(self._seals),
            "heads": self._compared,
        }
        seconds = time.monotonic() - self._began
        result = CheckResult(
            "chain", TITLE, counted, faults, offenders[:OFFENDERS_MAX], not faults, seconds
        )
        defined = await check_definitions(connection)
        return Report([result, defined], result.passed and defined.passed)

    def _compare(self, kept: Heads) -> None:
        """Hold kept heads to the chains as they are."""
        if kept.ledger != self._now.ledger:
            self._name("the kept heads are of another ledger", ledger=kept.ledger)
        if kept.began != self._now.began:
            self._name("the chain began elsewhere", began=kept.began)
        if kept.definitions != self._now.definitions:
            self._name("definitions, outcomes or settings are others: by a migration, or by hand")
        for head in kept.heads:
            self._compared += 1
            found = self._at.get((head.worker, head.sequence))
            if found != head.link:
                fault = "restored or cut: a kept head is not there"
                if found is not None:
                    fault = "the chain was written anew: a kept head is another"
                self._name(fault, worker=head.worker, sequence=head.sequence)
