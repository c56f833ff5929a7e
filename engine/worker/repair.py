"""Streams that are not as the ledger left them: a Redis that came back older, ids at their end."""

import structlog

from engine.store.worker_store import WorkerStore
from engine.streams.streams import Entry, Streams
from engine.worker.inbox import Inbox, understand
from engine.worker.intake import Intake
from engine.worker.membership import Membership
from engine.worker.pipeline import Pipeline
from engine.worker.replies import Replier

_log = structlog.get_logger()


class Repair:
    """Decides what lies below the positions of streams, when nothing else is decided.

    Args:
        streams: The streams.
        store: The ledger, which knows what is decided.
        inbox: By which entries come to the pipeline.
        intake: Waits meanwhile.
        pipeline: Decides.
        replier: Tells what is decided.
        membership: Says which shards are this worker's, and how far they got.
    """

    def __init__(
        self,
        streams: Streams,
        store: WorkerStore,
        inbox: Inbox,
        intake: Intake,
        pipeline: Pipeline,
        replier: Replier,
        membership: Membership,
    ) -> None:
        self._streams = streams
        self._store = store
        self._inbox = inbox
        self._intake = intake
        self._pipeline = pipeline
        self._replier = replier
        self._membership = membership

    async def look_below(self, shard: int) -> None:
        """Decide what an older Redis brought back below the position, then move it forward."""
        while shard in self._membership.shards:
            position = self._membership.shards[shard].position
            entries = await self._streams.read_below(shard, position)
            if entries:
                await self._decide_below(entries)
                continue
            await self._streams.move_forward(shard, position)
            if not await self._streams.read_below(shard, position):
                return

    async def _decide_below(self, entries: list[Entry]) -> None:
        arrivals = [understand(entry, self._streams.prefix) for entry in entries]
        ids = {transfer_id for arrival in arrivals for transfer_id in arrival.rows["id"].tolist()}
        known = {record.transfer.id for record in await self._store.load_records(list(ids))}
        undecided = []
        for arrival in arrivals:
            decided = arrival.request and known.issuperset(arrival.rows["id"].tolist())
            if not decided:
                position = arrival.entry.position.entry_id
                _log.warning("entry_below_position", shard=arrival.entry.shard, entry=position)
                undecided.append(arrival)
        if undecided:
            self._intake.hold()
            self._inbox.put_back(undecided)
            while self._inbox or self._pipeline.is_busy():
                await self._pipeline.advance_flushes(decide=self._pipeline.has_work)
            self._intake.go_on()
            await self._replier.await_told()
        await self._store.confirm()
        await self._streams.remove(entries)
