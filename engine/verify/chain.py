"""The chain: every digest and every link made again from the tables, and held to what is kept.

What each flush wrote is read in the order of flushes, from one snapshot, by scans and sorts alone:
no index is believed. An altered row shows in the digest of its flush, an altered digest in its
link, an altered link in the next one, and a chain that was made anew or cut off in heads that were
kept elsewhere. Without kept heads only what is not consistent with itself is found.
"""

import hashlib
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from engine.book.content import FORMS, digest_of, digest_of_change
from engine.store.snapshot import snapshot
from engine.verify.flush_contents import FlushRows, content_of_rows
from engine.verify.heads import Heads, chain_query, heads_of
from engine.verify.report import OFFENDERS_MAX, CheckResult, Report
from engine.verify.run import SETTINGS

NOTHING: Final = bytes(32)
"""In the place of what a row does not have."""

PREFETCH_ROWS: Final = 5000

_SOURCES: Final = (
    "flushes", "spent", "posted", "resolutions", "positions", "letters", "changes", "parked",
    "released",
)  # fmt: skip
"""What is read side by side, each in the order of flushes: files of `chain_rows`."""


async def verify_chain(
    dsn: str, kept: Heads | None = None, on_progress: Callable[[int, int, str], None] | None = None
) -> Report:
    """Make all digests and links again, from one snapshot; nothing is stopped for it.

    Args:
        dsn: The Postgres server and database.
        kept: Heads of an earlier time.
        on_progress: As that of `engine.verify.run.verify`.
    """
    async with snapshot(dsn, SETTINGS) as connection:
        return await check_chain(connection, kept, on_progress)


async def check_chain(
    connection: Any,
    kept: Heads | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """As `verify_chain`, on a connection with a snapshot."""
    checking = _Checking(await heads_of(connection))
    began = time.monotonic()
    if on_progress is not None:
        on_progress(0, 1, "Every digest and every link of the chain is as it was written")
    await checking.read_accounts(connection)
    await checking.read_freezes(connection)
    await checking.read_flushes(connection)
    checking.check_freezes()
    if kept is not None:
        checking.compare(kept)
    seconds = time.monotonic() - began
    result = CheckResult(
        "chain",
        "Every digest and every link of the chain is as it was written",
        {"flushes": checking.flushes, "accounts": len(checking.seals), "heads": checking.compared},
        checking.faults,
        checking.offenders,
        not checking.faults,
        seconds,
    )
    return Report([result], result.passed)


class _Checking:
    """What is known so far, in the order of flushes."""

    def __init__(self, heads: Heads) -> None:
        self.now = heads
        self.flushes = self.compared = self.faults = 0
        self.offenders: list[dict[str, Any]] = []
        self.seals: dict[int, bytes] = {}
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
        self.faults += 1
        if len(self.offenders) < OFFENDERS_MAX:
            self.offenders.append({"what": "chain", "fault": fault, **offender})

    async def read_accounts(self, connection: Any) -> None:
        """Make all seals again."""
        async for row in connection.cursor(chain_query("accounts"), prefetch=PREFETCH_ROWS):
            seal = seal_of(row)
            self.seals[row["number"]] = seal
            if row["seal"] is not None and row["seal"] != seal:
                self._name("an account is not as it was sealed", account=str(row["id"]))

    async def read_freezes(self, connection: Any) -> None:
        """Make the digests of all freezes and thaws again."""
        for row in await connection.fetch(chain_query("freezes"), self.now.began):
            self._freezes[row["freeze_number"]] = digest_of_freeze(row)

    def check_freezes(self) -> None:
        """Each is in a chain, once the chains are read."""
        for number in sorted(self._freezes.keys() - self._chained):
            self._name("a freeze or thaw is in no chain", freeze=number)

    async def read_flushes(self, connection: Any) -> None:
        """Make all digests and links again, in the order of flushes."""
        began = self.now.began
        rows = {name: _Rows(connection, chain_query(name), began) for name in _SOURCES}
        for source in rows.values():
            await source.step()
        while (flush := rows["flushes"].next_row) is not None:
            await rows["flushes"].step()
            number = flush["flush"]
            taken = {
                name: await source.take(number)
                for name, source in rows.items()
                if name != "flushes"
            }
            for name, source in rows.items():
                for stray in source.strays:
                    self._name("a row is of a flush that is not there", table=name, flush=stray)
                source.strays.clear()
            self._check(flush, FlushRows(**taken))
        for name, source in rows.items():
            if source.next_row is not None:
                self._name(
                    "a row is of a flush that is not there",
                    table=name,
                    flush=source.next_row["flush"],
                )

    def _check(self, flush: Mapping[str, Any], rows: FlushRows) -> None:
        self.flushes += 1
        at = {
            "flush": flush["flush"],
            "worker": str(flush["worker"]),
            "sequence": flush["sequence"],
        }
        wrong = self._content_wrong(flush, rows)
        if wrong:
            self._name(wrong, **at)
        before_sequence, before = self._ends.get(flush["worker"], (None, self._beginning(flush)))
        if before_sequence is not None and flush["sequence"] != before_sequence + 1:
            self._name("a flush before it in its chain is missing", **at)
        named: bytes | None = None
        if flush["other"] is not None:
            named = self._links.get(flush["other"])
            is_flush = flush["kind"] != "freeze"  # which names the freeze
            if named is None and is_flush and flush["other"] >= self.now.began:
                self._name("it names a flush that is not there", **at)
        link = link_of(flush, before, named)
        if flush["link"] != link:
            self._name("its link is not that of its row and the row before it", **at)
        kept = bytes(flush["link"] or link)
        self._links[flush["flush"]] = kept
        self._ends[flush["worker"]] = (flush["sequence"], kept)
        self._at[str(flush["worker"]), flush["sequence"]] = kept.hex()

    def _beginning(self, flush: Mapping[str, Any]) -> bytes:
        return hashlib.sha256(UUID(self.now.ledger).bytes + flush["worker"].bytes).digest()

    def _content_wrong(self, flush: Mapping[str, Any], rows: FlushRows) -> str:
        """What is wrong with what a flush wrote; nothing where it is as it was."""
        if flush["kind"] == "freeze":
            return self._freeze_wrong(flush)
        if flush["kind"] not in {"flush", "locked"}:
            if flush["digest"] is None:
                return ""
            [former, *_] = [change["former"].bytes for change in rows.changes] or [b""]
            [worker, *_] = [change["worker"].bytes for change in rows.changes] or [b""]
            shards = [change["shard"] for change in rows.changes]
            made = digest_of_change(shards, former, worker)
            return "" if made == flush["digest"] else "its change of owner is not as it was written"
        if flush["form"] not in FORMS:
            return f"it is in a form that this program does not know: {flush['form']}"
        content, first = content_of_rows(rows)
        if content is None:
            return "rows of it were taken away, or are such as no flush writes"
        if digest_of(content, flush["form"]) != flush["digest"]:
            return "what it wrote is not as it was written"
        seals = [self.seals.get(number, b"") for number in first]
        sealed = hashlib.sha256(b"".join(seals)).digest() if seals else None
        return "" if sealed == flush["seals"] else "accounts that it wrote to are not as they were"

    def _freeze_wrong(self, flush: Mapping[str, Any]) -> str:
        self._chained.add(flush["other"])
        if flush["form"] is None and flush["digest"] is None:
            return ""  # of the program before, which kept no digest of it
        if self._freezes.get(flush["other"]) == flush["digest"]:
            return ""
        return "the freeze or thaw that it names is not as it was written"

    def compare(self, kept: Heads) -> None:
        """Hold kept heads to the chains as they are."""
        if kept.ledger != self.now.ledger:
            self._name("the kept heads are of another ledger", ledger=kept.ledger)
        if kept.began != self.now.began:
            self._name("the chain began elsewhere", began=kept.began)
        if kept.definitions != self.now.definitions:
            self._name("definitions, outcomes or settings are others: by a migration, or by hand")
        for head in kept.heads:
            self.compared += 1
            found = self._at.get((head.worker, head.sequence))
            if found != head.link:
                fault = "restored or cut: a kept head is not there"
                if found is not None:
                    fault = "the chain was written anew: a kept head is another"
                self._name(fault, worker=head.worker, sequence=head.sequence)


class _Rows:
    """The rows of one source, in the order of flushes, taken flush by flush."""

    def __init__(self, connection: Any, query: str, began: int) -> None:
        self._cursor: AsyncIterator[Any] = connection.cursor(
            query, began, prefetch=PREFETCH_ROWS
        ).__aiter__()
        self.next_row: Any = None
        self.strays: list[int] = []
        """Flushes of rows whose flush was passed without them."""

    async def step(self) -> None:
        """Read the next row."""
        self.next_row = await anext(self._cursor, None)

    async def take(self, flush: int) -> Sequence[Any]:
        """The rows of a flush."""
        taken = []
        while self.next_row is not None and self.next_row["flush"] <= flush:
            if self.next_row["flush"] == flush:
                taken.append(self.next_row)
            else:
                self.strays.append(self.next_row["flush"])
            await self.step()
        return taken


def seal_of(row: Mapping[str, Any]) -> bytes:
    """As `ledger.seal_of`."""
    data_128 = row["user_data_128"].bytes if row["user_data_128"] is not None else bytes(16)
    return hashlib.sha256(
        struct.pack(">q", row["number"])
        + row["id"].bytes
        + struct.pack(">qi", row["ledger"], row["code"])
        + data_128
        + struct.pack(">qq", row["user_data_32"], row["created_at"])
        + f"{row['user_data_64']} {','.join(row['flags'])}".encode()
    ).digest()


def digest_of_freeze(row: Mapping[str, Any]) -> bytes:
    """As `ledger.digest_of_freeze`."""
    hasher = hashlib.sha256(
        struct.pack(">qq?q", row["freeze_number"], row["thaws"] or 0, row["declines"], row["time"])
    )
    for name in ("act", "kind", "what", "acted_by", "reason", "role"):
        word = row[name].encode()
        hasher.update(struct.pack(">i", len(word)) + word)
    return hasher.digest()


def link_of(flush: Mapping[str, Any], before: bytes, named: bytes | None) -> bytes:
    """As `ledger.link_flush`."""
    return hashlib.sha256(
        before
        + flush["worker"].bytes
        + struct.pack(">qqq", flush["sequence"], flush["flush"], flush["time"])
        + struct.pack(">iii", flush["transfers"], flush["declined"], flush["postings"])
        + struct.pack(">qh", flush["other"] or 0, flush["form"] or 0)
        + (flush["digest"] or NOTHING)
        + (flush["seals"] or NOTHING)
        + (named or NOTHING)
        + flush["kind"].encode()
    ).digest()
