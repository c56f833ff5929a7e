"""What a range of flushes wrote, read again and held to their digests."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.book.content import FORMS, digest_of, digest_of_change
from engine.verify.flush_contents import FlushRows, content_of_rows
from engine.verify.heads import chain_query
from engine.verify.report import OFFENDERS_MAX

PREFETCH_ROWS: Final = 5000

FLUSH_MAX: Final = 2**43 - 1
"""The highest number that a flush can have: with a place of 20 bits it is a bigint."""

_SOURCES: Final = (
    "flushes", "spent", "posted", "resolutions", "positions", "letters", "changes", "parked",
    "released",
)  # fmt: skip
"""What is read side by side, each in the order of flushes: files of `chain_rows`."""


class Sealed(msgspec.Struct, gc=False):
    """That a flush was the first to write to some accounts."""

    at: dict[str, Any]
    accounts: list[int]
    """Their numbers."""
    seals: bytes | None
    """As its row has it."""


class Found(msgspec.Struct):
    """What was found in a range."""

    flushes: int = 0
    faults: int = 0
    offenders: list[dict[str, Any]] = []
    sealed: list[Sealed] = []

    def name(self, fault: str, at: Mapping[str, Any]) -> None:
        """Count a fault; the first are named."""
        self.faults += 1
        if len(self.offenders) < OFFENDERS_MAX:
            self.offenders.append({"what": "chain", "fault": fault, **at})


async def check_contents(
    connection: Any, first: int, last: int, note: Callable[[int], None] = lambda _: None
) -> Found:
    """Make the digests of all flushes of a range again.

    Args:
        connection: Of a snapshot.
        first: Number of the first flush.
        last: The highest number that belongs to it.
        note: Called with how many more are done.
    """
    found = Found()
    rows = {name: _Rows(connection, chain_query(name), first, last) for name in _SOURCES}
    for source in rows.values():
        await source.step()
    while (flush := rows["flushes"].next_row) is not None:
        await rows["flushes"].step()
        number = flush["flush"]
        taken = {
            name: await source.take(number) for name, source in rows.items() if name != "flushes"
        }
        for name, source in rows.items():
            for stray in source.strays:
                found.name("a row is of a flush that is not there", {"table": name, "flush": stray})
            source.strays.clear()
        _check_flush(found, flush, FlushRows(**taken))
        note(1)
    for name, source in rows.items():
        if source.next_row is not None:
            stray = source.next_row["flush"]
            found.name("a row is of a flush that is not there", {"table": name, "flush": stray})
    return found


def place_of(flush: Mapping[str, Any]) -> dict[str, Any]:
    """What it takes to find a flush."""
    return {
        "flush": flush["flush"],
        "worker": str(flush["worker"]),
        "sequence": flush["sequence"],
    }


def _check_flush(found: Found, flush: Mapping[str, Any], rows: FlushRows) -> None:
    found.flushes += 1
    at = place_of(flush)
    if flush["kind"] in {"flush", "locked"}:
        wrong, first = _content_wrong(flush, rows)
        if not wrong and (first or flush["seals"] is not None):
            found.sealed.append(Sealed(at, first, flush["seals"]))
    else:
        wrong = _change_wrong(flush, rows)
    if wrong:
        found.name(wrong, at)


def _change_wrong(flush: Mapping[str, Any], rows: FlushRows) -> str:
    """What is wrong with a row that is no flush; nothing where it is as it was."""
    if any(len(each) for each in rows._replace(changes=())):
        return "it wrote nothing, and rows are of it"
    if flush["kind"] == "freeze" or flush["digest"] is None:
        return ""  # a freeze is held to its own row where links are
    [former, *_] = [change["former"].bytes for change in rows.changes] or [b""]
    [worker, *_] = [change["worker"].bytes for change in rows.changes] or [b""]
    shards = [change["shard"] for change in rows.changes]
    made = digest_of_change(shards, former, worker)
    return "" if made == flush["digest"] else "its change of owner is not as it was written"


def _content_wrong(flush: Mapping[str, Any], rows: FlushRows) -> tuple[str, list[int]]:
    """What is wrong with what a flush wrote, and the accounts that it was the first to write to."""
    if flush["form"] not in FORMS:
        return f"it is in a form that this program does not know: {flush['form']}", []
    content, first = content_of_rows(rows)
    if content is None:
        return "rows of it were taken away, or are such as no flush writes", []
    if digest_of(content, flush["form"]) != flush["digest"]:
        return "what it wrote is not as it was written", []
    return "", first


class _Rows:
    """The rows of one source, in the order of flushes, taken flush by flush."""

    def __init__(self, connection: Any, query: str, first: int, last: int) -> None:
        self._cursor: AsyncIterator[Any] = connection.cursor(
            query, first, last, prefetch=PREFETCH_ROWS
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
