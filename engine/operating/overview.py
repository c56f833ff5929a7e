"""What somebody who watches sees at a glance: the state of everything, its pace, what happened."""

import msgspec

from engine.errors import EngineError
from engine.operating.health import Status, gather_status
from engine.servers import Addresses
from engine.store.inspection import Event, open_inspection
from engine.store.reports import Pace, PaceSecond

WAITING_SECONDS_MAX = 30.0
"""An entry that waits for longer is a problem."""
EVENTS_SECONDS = 600.0
EVENTS_MAX = 10
CHART_SECONDS = 120
"""For how long back the pace of each second is told."""


class Overview(msgspec.Struct, frozen=True):
    """A moment; without Postgres only what `status` says."""

    status: Status
    pace: Pace | None = None
    seconds: list[PaceSecond] = []
    events: list[Event] = []
    """The newest first."""

    @property
    def oldest_waiting_seconds(self) -> float | None:
        """For how long the oldest entry waits; None where none does, or it is not known."""
        ages = [shard.oldest_waiting_seconds for shard in self.status.shards]
        return max((age for age in ages if age is not None), default=None)

    @property
    def slowest_answer_seconds(self) -> float | None:
        """Of all shards lately, from when Redis took an entry until its outcomes were committed."""
        slowest = [shard.answer_seconds for shard in self.status.shards]
        return max((seconds for seconds in slowest if seconds is not None), default=None)

    @property
    def unowned(self) -> int:
        """Shards without a living worker."""
        return sum(not shard.alive for shard in self.status.shards)

    @property
    def alive(self) -> int:
        """Living workers."""
        return sum(worker.alive for worker in self.status.workers)


async def gather_overview(addresses: Addresses) -> Overview:
    """Ask both servers; what cannot be had is a problem of the status, not an error."""
    status = await gather_status(addresses, WAITING_SECONDS_MAX)
    if status.postgres is None:
        return Overview(status)
    try:
        async with open_inspection(addresses.postgres_dsn) as inspection:
            return Overview(
                status,
                await inspection.pace(),
                await inspection.pace_by_second(CHART_SECONDS),
                await inspection.events(EVENTS_SECONDS, EVENTS_MAX),
            )
    except EngineError:
        return Overview(status)
