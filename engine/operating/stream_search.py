"""What waits in the streams, searched for an id: every entry in turn, up to a bound."""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.ledger.nouns import TransferFlags, stream_name
from engine.operating.lives import Mention
from engine.store.reports import ShardReport
from engine.streams.entries import Entry
from engine.streams.inspection import StreamsInspection
from engine.wire.fields import names_of, uuid_text
from engine.wire.layout import rows_to_transfers
from engine.worker.inbox import Arrival, understand

ENTRIES_SEARCHED_MAX: Final = 20_000
"""Over all streams; those of one stream are searched from the oldest on."""
BYTES_SEARCHED_MAX: Final = 256 * 1024 * 1024

_ID_FIELDS: Final = ("id", "pending_id", "debit_account_id", "credit_account_id", "user_data_128")


class Needle(msgspec.Struct, frozen=True):
    """What is looked for."""

    text: str
    id: bytes | None
    """Its 16 bytes, where it is a uuid."""

    @property
    def forms(self) -> list[bytes]:
        """How it can stand in an entry."""
        if self.id is None:
            return [self.text.encode()]
        text = uuid_text(self.id)
        return [self.id, text.encode(), text.upper().encode()]

    def may_be_in(self, fields: Sequence[bytes]) -> bool:
        """Whether it is worth while to decode an entry."""
        forms = self.forms
        return any(any(form in value for form in forms) or b"\\u" in value for value in fields)


class Found(msgspec.Struct):
    """What of the streams names an id."""

    entries: list[tuple[Entry, dict[str, Any], list[str] | None]] = []
    """Each with the transfer that has it as its id, and the chain of that."""
    mentions: list[Mention] = []
    not_looked_at: list[str] = []


async def find_in_streams(
    streams: StreamsInspection, shards: Sequence[ShardReport], needle: Needle
) -> Found:
    """Search what waits in the streams of some shards.

    Args:
        streams: Open.
        shards: All that may have it.
        needle: What is looked for.
    """
    found = Found()
    lengths = await streams.lengths([shard.shard for shard in shards])
    filled = [shard for shard in shards if lengths[shard.shard]]
    bytes_left = BYTES_SEARCHED_MAX
    for shard in filled:
        entries_max = max(ENTRIES_SEARCHED_MAX // len(filled), 1)
        # From the first on: where a stream went back, what is below its position waits too.
        async for entry in streams.entries(shard.shard, "-", entries_max):
            entries_max -= 1
            bytes_left -= sum(map(len, entry.fields))
            if needle.may_be_in(entry.fields):
                _look_into(entry, streams.prefix, needle, found)
            if bytes_left <= 0:
                break
        if (bytes_left <= 0 or not entries_max) and lengths[shard.shard]:
            name = stream_name(streams.prefix, shard.shard)
            found.not_looked_at.append(f"all but the oldest entries of {name}")
        if bytes_left <= 0:
            break
    return found


def _look_into(entry: Entry, prefix: str, needle: Needle, found: Found) -> None:
    arrival = understand(entry, prefix)
    name = stream_name(prefix, entry.shard)
    if arrival.request is None or needle.id is None:
        for field in _fields_with(entry.fields, needle):
            found.mentions.append(Mention(name, entry.position.entry_id, field))
        return
    for field in _ID_FIELDS:
        places = [at for at, value in enumerate(arrival.rows[field].tolist()) if value == needle.id]
        if places and field == "id":
            written = written_transfer(arrival, places[0])
            found.entries.append((entry, written, chain_of(arrival, places[0])))
        elif places:
            found.mentions.append(Mention(name, entry.position.entry_id, field))
    if not found.entries and not found.mentions:
        for field in _fields_with(entry.fields, needle):
            if field not in {"json", "mp", "bin"}:
                found.mentions.append(Mention(name, entry.position.entry_id, field))


def _fields_with(fields: Sequence[bytes], needle: Needle) -> Iterator[str]:
    for name, value in zip(fields[::2], fields[1::2], strict=False):
        if any(form in value for form in needle.forms):
            yield name.decode(errors="replace")


def written_transfer(arrival: Arrival, place: int) -> dict[str, Any]:
    """A transfer of an entry in the words of the wire; what is zero is left out."""
    [transfer] = rows_to_transfers(arrival.rows[place : place + 1])
    known = transfer.flags & (2**9 - 1)
    written: dict[str, Any] = {
        "id": uuid_text(transfer.id),
        "debit_account_id": uuid_text(transfer.debit_account_id),
        "credit_account_id": uuid_text(transfer.credit_account_id),
        "amount": transfer.amount,
        "ledger": transfer.ledger,
        "code": transfer.code,
        "flags": list(names_of(known)),
    }
    if any(transfer.pending_id):
        written["pending_id"] = uuid_text(transfer.pending_id)
    return written


def chain_of(arrival: Arrival, place: int) -> list[str] | None:
    """The ids of the linked transfers that one stands among; None where it stands alone."""
    linked = (arrival.rows["flags"] & TransferFlags.linked != 0).tolist()
    first = last = place
    while first and linked[first - 1]:
        first -= 1
    while last < len(linked) - 1 and linked[last]:
        last += 1
    if first == last:
        return None
    return [str(UUID(bytes=i)) for i in arrival.rows["id"][first : last + 1].tolist()]
