"""Streams that are not as the ledger left them, or cannot be read: found, mended, read on.

A stream is looked at when its shard is begun, and once a second after that. What a mend needs to
know (what is decided and committed) stands still only between two flushes, so whoever decides
calls `mend`; the looking goes on beside it.
"""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final

import structlog

from engine.errors import ConfigurationError, EngineError, TryAgainError
from engine.ledger.nouns import Position
from engine.store.worker_store import WorkerStore
from engine.streams.entries import StreamEndedError, next_generation
from engine.streams.refusals import KeyRefusedError, LostError, NotNowError
from engine.streams.streams import Entry, Look, Streams
from engine.worker.bounds import SET_ASIDE_SECONDS
from engine.worker.inbox import Inbox, understand
from engine.worker.intake import Intake
from engine.worker.membership import Membership
from engine.worker.pipeline import Pipeline
from engine.worker.replies import Replier
from engine.worker.unread import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN

LOOK_SECONDS: Final = 1.0
"""How often the streams are looked at."""

CHECK_SECONDS: Final = 60.0
"""How often it is asked whether Redis is the one that it should be."""


class StandsError(KeyRefusedError):
    """Entries of one stream cannot be decided, and too many were set aside."""


_OF_ONE_SHARD: Final = (KeyRefusedError, NotNowError, ConfigurationError)
"""What Redis may say of one stream while it serves others; a lost connection is none of these."""

_log = structlog.get_logger()


class Repair:
    """Decides what lies below the positions of streams, when nothing else is decided.

    Args:
        streams: The streams.
        store: The ledger, which knows what is decided.
        inbox: By which entries come to the pipeline.
        intake: Reads the shards, and sets aside what cannot be read.
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
        self._seen_below: dict[int, str] = {}
        self._pause_seconds: dict[int, float] = {}
        self._again_at: dict[int, float] = {}
        self._due: set[int] = set()
        self._standing: dict[int, str] = {}
        self._misfit = ""
        self._check_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether `mend` has something to do."""
        return bool(self._due)

    async def begin(self, shards: Collection[int]) -> None:
        """Read on from where these shards got; those that cannot be read are set aside."""
        owned = self._membership.shards
        self._intake.forget_all_but(owned)
        shards = [shard for shard in shards if shard not in self._intake.standing]
        if not shards:
            return
        if self._check_at == 0:
            await self._check_server()
        if self._misfit:
            for shard in shards:
                self._intake.set_aside(shard, self._misfit)
            return
        positions = {shard: owned[shard].position for shard in shards}
        looks = await self._streams.recovery.look(positions)
        for shard, look in sorted(looks.items()):
            if look.is_in_step:
                continue
            position = await self._try_to_mend(shard, look)
            if position is None:
                del positions[shard]
            else:
                positions[shard] = position
        # What was read below may have moved them, or taken them away.
        owned = self._membership.shards
        standing = self._intake.standing
        await self._intake.start(
            {
                shard: max(position, owned[shard].position)
                for shard, position in positions.items()
                if shard in owned and shard not in standing
            }
        )

    async def run(self) -> None:
        """Look at the streams, for ever. Raises TryAgainError when Redis is out of reach."""
        loop = asyncio.get_running_loop()
        while True:
            self._intake.troubled.clear()
            try:
                if loop.time() >= self._check_at or self._misfit:
                    await self._check_server()
                if not self._misfit:
                    await self._look_at_read()
                    await self._look_at_aside(loop.time())
            except NotNowError:
                pass  # Whoever reads is told the same, and gives up the session where it lasts.
            if self._due:
                self._inbox.wake.set()
            await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._intake.troubled.wait(), LOOK_SECONDS)

    async def _check_server(self) -> None:
        """See that Redis is as it must be; else nothing more is read until it is."""
        self._check_at = asyncio.get_running_loop().time() + CHECK_SECONDS
        try:
            await self._streams.check_server()
        except ConfigurationError as error:
            self._misfit = str(error)
            for shard in self._intake.positions.keys() | self._intake.aside:
                self._intake.set_aside(shard, self._misfit)
            return
        self._misfit = ""

    async def _look_at_read(self) -> None:
        owned = self._membership.shards
        # Where a later generation is read, those before are over.
        positions = {
            shard: max(owned[shard].position, Position(read.generation))
            for shard, read in self._intake.positions.items()
            if shard in owned
        }
        refused, self._streams.refused = self._streams.refused, {}
        seen, self._seen_below = self._seen_below, {}
        for shard, look in (await self._streams.recovery.look(positions)).items():
            if isinstance(look.error, _OF_ONE_SHARD) and not isinstance(look.error, NotNowError):
                self._intake.set_aside(shard, str(look.error))
            elif shard in refused:
                self._intake.set_aside(shard, f"decided entries stay: {refused[shard]}")
            elif look.has_ended or look.is_behind or (look.below and look.below == seen.get(shard)):
                self._intake.set_aside(shard, _reason(look))
            elif look.below:
                # It may be about to be deleted.
                self._seen_below[shard] = look.below

    async def _look_at_aside(self, now: float) -> None:
        due = [
            shard
            for shard in self._intake.aside - self._due
            if now >= self._again_at.get(shard, 0.0) and shard in self._membership.shards
        ]
        positions = {shard: self._membership.shards[shard].position for shard in due}
        for shard, look in (await self._streams.recovery.look(positions)).items():
            if look.error is None:
                self._due.add(shard)
            else:
                self._put_off(shard, look.error)

    def _put_off(self, shard: int, error: EngineError) -> None:
        """Leave a shard alone for a while, each time longer."""
        pause = min(self._pause_seconds.get(shard, RETRY_SECONDS_MIN / 2) * 2, RETRY_SECONDS_MAX)
        self._pause_seconds[shard] = pause
        again_at = asyncio.get_running_loop().time() + pause
        self._again_at[shard] = max(again_at, self._again_at.get(shard, 0.0))
        self._intake.set_aside(shard, str(error))

    def stand(self, shard: int, reason: str) -> None:
        """Give up what was read of a shard, undecided, and try it again after a while."""
        self._standing[shard] = reason
        self._again_at[shard] = asyncio.get_running_loop().time() + SET_ASIDE_SECONDS
        self._due.discard(shard)
        self._intake.set_aside(shard, self._standing[shard])
        self._inbox.drop({shard})

    async def mend(self) -> None:
        """Mend the streams of shards that were set aside, and read on."""
        due, self._due = self._due & self._intake.aside, set()
        if not due:
            return
        for shard in due:
            self._standing.pop(shard, None)
        await self._decide_all()
        for shard in due & self._membership.shards.keys():
            # What was left of them may have shown only now that it cannot be decided.
            position = await self._try_to_mend(shard, Look())
            is_read = shard in self._membership.shards and shard not in self._intake.standing
            if position is not None and is_read:
                self._pause_seconds.pop(shard, None)
                self._again_at[shard] = asyncio.get_running_loop().time() + RETRY_SECONDS_MIN
                await self._intake.start({shard: position})

    async def _try_to_mend(self, shard: int, look: Look) -> Position | None:
        """Where to read on; None where the shard is set aside."""
        try:
            if look.error is not None:
                raise look.error
            self._check_standing(shard)
            return await self._mend(shard)
        except LostError:
            raise
        except _OF_ONE_SHARD as error:
            self._put_off(shard, error)
            return None

    async def _mend(self, shard: int) -> Position:
        recovery = self._streams.recovery
        is_new = await recovery.end_stream(shard, self._position(shard))
        await self._decide_ended(shard)
        if not is_new:
            try:
                await self._decide_all_below(shard)
            except StreamEndedError:
                is_new = await recovery.end_stream(shard, None)
                await self._decide_ended(shard)
        position = self._position(shard)
        look = (await recovery.look({shard: position}))[shard]
        if look.error is not None:
            raise look.error
        if look.has_ended:
            raise StreamEndedError(_reason(look))
        if not (is_new or look.below or look.is_behind):
            return position
        following = next_generation(position)
        _log.warning(
            "stream_begins_anew",
            shard=shard,
            after=position.entry_id,
            generation=following.generation,
        )
        return following

    async def _decide_ended(self, shard: int) -> None:
        recovery = self._streams.recovery
        while entries := await recovery.read_ended(shard, self._position(shard)):
            await self._decide_below(shard, entries)

    async def _decide_all_below(self, shard: int) -> None:
        recovery = self._streams.recovery
        # What is added from now on nobody has decided: it need not be looked for.
        last = await recovery.last_entry(shard, self._position(shard))
        while last is not None and (
            entries := await recovery.read_below(shard, min(self._position(shard), last))
        ):
            await self._decide_below(shard, entries)

    def _position(self, shard: int) -> Position:
        if shard not in self._membership.shards:
            raise TryAgainError(f"shard {shard} is another worker's")
        return self._membership.shards[shard].position

    async def _decide_below(self, shard: int, entries: list[Entry]) -> None:
        arrivals = [understand(entry, self._streams.prefix) for entry in entries]
        ids = {transfer_id for arrival in arrivals for transfer_id in arrival.rows["id"].tolist()}
        known = {record.transfer.id for record in await self._store.load_records(list(ids))}
        # Those that wait, or waited, are in the ledger whole.
        fields = {entry.position: entry.fields for entry in entries}
        waiting = await self._store.waiting.find_kept(shard, fields)
        undecided = []
        for arrival in arrivals:
            # Of one without transfers nothing is kept: whether it was answered nobody knows.
            decided = len(arrival.rows) and known.issuperset(arrival.rows["id"].tolist())
            if not (decided or arrival.entry.position in waiting):
                position = arrival.entry.position.entry_id
                _log.warning("entry_below_position", shard=arrival.entry.shard, entry=position)
                undecided.append(arrival)
        if undecided:
            self._intake.hold()
            self._inbox.put_back(undecided)
            await self._decide_all()
            self._check_standing(shard)
        if shard in self._intake.standing:
            # What was not decided meanwhile must stay where it is.
            raise NotNowError(f"shard {shard} stands still for a freeze")
        await self._store.confirm()
        await self._streams.remove(entries)
        refused = self._streams.refused.pop(shard, None)
        if refused is not None:
            raise refused

    def _check_standing(self, shard: int) -> None:
        """Raises StandsError where what was to be decided was given up: it must not be deleted."""
        if shard in self._standing:
            raise StandsError(self._standing[shard])

    async def _decide_all(self) -> None:
        """See all that was read decided, committed and told."""
        self._intake.hold()
        try:
            while self._inbox or self._pipeline.is_busy():
                await self._pipeline.advance_flushes(decide=self._pipeline.has_work)
        finally:
            self._intake.go_on()
        await self._replier.await_told()


def _reason(look: Look) -> str:
    if look.has_ended:
        return "the ids of its stream have come to their end"
    if look.below:
        return f"its stream has an entry below the position, {look.below}"
    return "its stream went back, and gives ids below the position"
