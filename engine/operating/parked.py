"""The life of what waits for a thaw, off its stream."""

from collections.abc import Sequence

from engine.ledger.nouns import Position, stream_name
from engine.operating.lives import Life
from engine.operating.stream_search import chain_of, written_transfer
from engine.store.inspection import ParkedEntry
from engine.store.reports import ShardReport
from engine.streams.entries import Entry
from engine.worker.inbox import understand


def life_of_parked(
    wanted: str,
    parked: ParkedEntry,
    prefix: str,
    shards: Sequence[ShardReport],
    transfer_id: bytes | None = None,
) -> Life:
    """Of an entry that waits for a thaw: where, since when, for which freeze.

    Args:
        wanted: As it was asked for.
        parked: The entry.
        prefix: Of the names of streams.
        shards: All; the owner of the entry's decides it.
        transfer_id: That of its transfers which was asked for, if one was.
    """
    kind = "entry" if transfer_id is None else "transfer"
    life = Life(id=wanted, kind=kind, state="waiting", waiting_seconds=parked.seconds)
    life.stream = stream_name(prefix, parked.shard)
    life.entry = parked.entry
    life.freeze = parked.freeze
    owner = next(shard for shard in shards if shard.shard == parked.shard)
    life.worker, life.host, life.process = owner.worker, owner.host, owner.process
    if transfer_id is not None:
        entry = Entry(parked.shard, Position(0, parked.ms, parked.seq), parked.fields)
        arrival = understand(entry, prefix)
        place = arrival.rows["id"].tolist().index(transfer_id)
        life.transfer = written_transfer(arrival, place)
        life.chain = chain_of(arrival, place)
    return life
