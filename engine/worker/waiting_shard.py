"""The entries of one stream that wait for a thaw: their order, their ids, how many there may be."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from engine.ledger.freezes import WAITING_BYTES_MAX, WAITING_TRANSFERS_MAX
from engine.ledger.nouns import ID_ZERO, Position
from engine.store.rows import Waiter
from engine.store.waiting_rows import payload_of
from engine.wire.layout import Rows
from engine.worker.inbox import Arrival

Order = tuple[Position, Position]
"""The place of an entry that waits among those of its stream."""


class WaitingShard:
    """The entries of one stream that wait, with what is under way."""

    def __init__(self, waiters: Iterable[Waiter]) -> None:
        self.waiters: dict[Position, Waiter] = {}
        self.transfers = 0
        self.size = 0
        self._holders: dict[bytes, dict[Order, Waiter]] = {}
        self._originals: dict[bytes, Waiter] = {}
        for waiter in waiters:
            self.add(waiter)

    def add(self, waiter: Waiter) -> None:
        """It waits from now on."""
        self.waiters[waiter.position] = waiter
        self.transfers += waiter.transfers
        self.size += waiter.size
        for transfer_id in waiter.ids:
            self._holders.setdefault(transfer_id, {})[waiter.order] = waiter
        if waiter.original is None:
            self._originals.setdefault(waiter.digest, waiter)

    def remove(self, waiter: Waiter) -> None:
        """It waits no more."""
        del self.waiters[waiter.position]
        self.transfers -= waiter.transfers
        self.size -= waiter.size
        for transfer_id in set(waiter.ids):
            holders = self._holders[transfer_id]
            del holders[waiter.order]
            if not holders:
                del self._holders[transfer_id]
        if self._originals.get(waiter.digest) is waiter:
            del self._originals[waiter.digest]

    def original_of(self, digest: bytes) -> Position | None:
        """The entry with the same transfers that waits, if there is one."""
        found = self._originals.get(digest)
        return None if found is None else found.position

    def freeze_of_named(self, rows: Rows, before: Order | None = None) -> int:
        """The freeze for which an entry waits that holds an id which these name; 0 if none does."""
        if not self._holders:
            return 0
        for column in ("id", "pending_id"):
            for transfer_id in rows[column].tolist():
                for order, waiter in self._holders.get(transfer_id, _NOTHING).items():
                    if transfer_id != ID_ZERO and (before is None or order < before):
                        return waiter.freeze
        return 0

    def has_room(self, waiter: Waiter) -> bool:
        """Whether it may wait too."""
        return (
            self.transfers + waiter.transfers <= WAITING_TRANSFERS_MAX
            and self.size + waiter.size <= WAITING_BYTES_MAX
        )


_NOTHING: Final[Mapping[Order, Waiter]] = {}


def waiter_of(arrival: Arrival, freeze: int, here: WaitingShard) -> Waiter:
    """An entry as one that waits; where the same waits already, as a copy of it."""
    fields = arrival.entry.fields
    payload = payload_of(fields)
    digest = hashlib.sha256(b"\0".join(payload)).digest()
    original = here.original_of(digest)
    if original is not None:
        fields = [
            word
            for name, value in zip(fields[::2], fields[1::2], strict=True)
            if name in {b"reply", b"request"}
            for word in (name, value)
        ]
    return Waiter(
        arrival.entry.shard,
        arrival.entry.position,
        original,
        freeze,
        0,
        [] if original is not None else arrival.rows["id"].tolist(),
        sum(map(len, fields)),
        digest,
        fields,
    )
