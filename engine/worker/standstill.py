"""Streams that stand still for a freeze, and what of them is decided meanwhile.

What waited and waits no more comes before all that its stream has: it is put into the inbox in
parts, and the stream is read on once all of it is taken.
"""

from collections.abc import Awaitable, Callable, Collection

from engine.ledger.freezes import WAITING_BYTES_MAX, WAITING_TRANSFERS_MAX
from engine.store.rows import Waiter
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Entry
from engine.worker.inbox import Inbox, released, understand
from engine.worker.intake import Intake
from engine.worker.pipeline import Pipeline
from engine.worker.unread import UnreadShards

_FULL = (
    f"{WAITING_TRANSFERS_MAX:,} transfers or {WAITING_BYTES_MAX >> 20} MiB of it wait for a thaw, "
    "which is the most: nothing more of its stream is read until there is one"
)


class Standstill:
    """Stops and goes on with streams, as freezes come and go.

    Args:
        store: The ledger.
        inbox: Where released entries go.
        intake: Reads the streams.
        unread: Where it is noted that no more may wait.
        prefix: Of the names of streams.
        read_on: Reads shards on from their positions.
    """

    def __init__(
        self,
        store: WorkerStore,
        inbox: Inbox,
        intake: Intake,
        unread: UnreadShards,
        prefix: str,
        read_on: Callable[[Collection[int]], Awaitable[None]],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._intake = intake
        self._unread = unread
        self._prefix = prefix
        self._read_on = read_on

    def stand_still(self, shards: Collection[int]) -> None:
        """Nothing more of these streams is decided from the inbox, or reaches it."""
        self._intake.stand_still(shards)
        self._inbox.drop(shards)

    async def advance(self, pipeline: Pipeline) -> None:
        """Put what waits no more into the inbox; read on where nothing is in the way."""
        room = pipeline.waiting
        for shard in room.full - self._unread.keys():
            self._unread.add(shard, _FULL)
        going_on = set()
        for shard in sorted(room.standing):
            if self._inbox.weight_of(shard):
                continue
            page = room.next_released(shard)
            if page:
                await self._put(shard, page)
            elif room.may_go_on(shard):
                room.go_on(shard)
                going_on.add(shard)
        if going_on:
            self._intake.stop(going_on)
            await self._read_on(going_on)

    async def _put(self, shard: int, page: list[Waiter]) -> None:
        positions = [waiter.position for waiter in page]
        fields = await self._store.waiting.load_fields(shard, positions)
        entries = [Entry(shard, position, fields[position]) for position in positions]
        self._inbox.put([released(understand(entry, self._prefix)) for entry in entries])
