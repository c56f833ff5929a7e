"""What was sent, and what must have become of it: decided, answered, or a dead letter."""

import asyncio
import contextlib
import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.ledger.nouns import ENTRY_BYTES_MAX
from engine.wire.requests import UnreadableEntry, decode_entry
from tests.ledgers import Ledger
from tests.producers import AWAY

LOOK_SECONDS = 0.05
LETTER_BYTES_MAX = 4 << 20
"""Dead letters up to this size are compared by their bytes, larger ones by their ids."""


class SentEntry(NamedTuple):
    """An entry that Redis took."""

    shard: int
    entry_id: tuple[int, int]
    digest: bytes
    request: bytes | None
    """With it the answer comes; None where none may be written."""
    ids: frozenset[bytes] | None
    """Of its transfers; None where it cannot be read, or not by a test in good time."""
    what: str
    """The action that sent it."""


class Sent:
    """All entries that a fuzzer sent and did not take away itself.

    Args:
        ledger: Where they went.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: list[SentEntry] = []
        self.count = 0
        self.answered: set[bytes] = set()
        self.ids: set[str] = set()
        """Of all transfers that it sent."""

    def add(self, shard: int, entry_id: bytes, fields: Sequence[bytes], what: str) -> None:
        """Note an entry with the id that Redis gave it."""
        ms, seq = entry_id.split(b"-")
        by_name = dict(zip(fields[::2], fields[1::2], strict=True))
        request = by_name.get(b"request") if b"reply" in by_name else None
        ids = self._ids_of(by_name, fields)
        self.count += 1
        self.ids |= {str(uuid.UUID(bytes=each)) for each in ids or ()}
        if request is not None or ids is None or ids:  # of nothing, for nobody, nothing is left
            place = int(ms), int(seq)
            self._open.append(SentEntry(shard, place, _digest(fields), request, ids, what))

    async def collect(self) -> None:
        """Read, for ever, the answers to what was sent."""
        reply = f"{self._ledger.prefix}:answers:fuzz"
        after: Any = "0"
        while True:
            with contextlib.suppress(*AWAY):
                async with self._ledger.redis() as connection:
                    while True:
                        found: Any = await connection.xread({reply: after}, block=200)
                        for answer_id, answer in found[0][1] if found else ():
                            after = answer_id
                            self.answered.add(answer.get(b"request", b""))
            await asyncio.sleep(LOOK_SECONDS)

    def excuse(self, shard: int) -> None:
        """Whatever is in a stream may be gone: the fuzzer itself took it away."""
        self._open = [entry for entry in self._open if entry.shard != shard]

    def _ids_of(
        self, by_name: dict[bytes, bytes], fields: Sequence[bytes]
    ) -> frozenset[bytes] | None:
        if sum(map(len, fields)) > 2 * ENTRY_BYTES_MAX or 2 * len(by_name) < len(fields):
            return None
        try:
            request = decode_entry(by_name, prefix=self._ledger.prefix)
        except UnreadableEntry:
            return None
        return frozenset(request.transfers["id"].tolist())

    async def vanished(self) -> list[SentEntry]:
        """Entries, of those whose streams are empty by now, that left no trace; all are settled."""
        entries, self._open = self._open, []
        if not entries:
            return []
        letters = await self._ledger.sql(
            "SELECT shard, ms, seq, CASE WHEN (SELECT sum(octet_length(field))"
            " FROM unnest(fields) field) <= $2 THEN fields END AS fields"
            " FROM ledger.dead_letters WHERE shard = ANY ($1)",
            list({entry.shard for entry in entries}),
            LETTER_BYTES_MAX,
        )
        places = {(row["shard"], (row["ms"], row["seq"])) for row in letters}
        # One that was added again, as its stream was poisoned, has another id by now.
        alike = Counter(_digest(row["fields"]) for row in letters if row["fields"] is not None)
        left = [entry for entry in entries if (entry.shard, entry.entry_id) not in places]
        alike.subtract(e.digest for e in entries if (e.shard, e.entry_id) in places)
        missing = []
        for entry in left:
            if entry.request in self.answered and entry.request is not None:
                continue
            if alike[entry.digest] > 0:
                alike[entry.digest] -= 1
                continue
            missing.append(entry)
        ids = list({uuid.UUID(bytes=each) for entry in missing for each in entry.ids or ()})
        rows = await self._ledger.sql("SELECT id FROM ledger.spent WHERE id = ANY ($1)", ids)
        spent = {row["id"].bytes for row in rows}
        return [entry for entry in missing if not (entry.ids and entry.ids & spent)]


def _digest(fields: Sequence[bytes]) -> bytes:
    hashed = hashlib.blake2b(digest_size=16)
    for field in fields:
        hashed.update(b"%d:" % len(field))
        hashed.update(field)
    return hashed.digest()
