"""Schedules: flows that recur, each occurrence started once, by an id of its nominal time.

The owner of a schedule's shard starts what is due, by the stream as anybody would; once the start
is answered the schedule goes on to its next occurrence. Started again it is the same flow.
"""

from collections.abc import Collection
from typing import Final

import msgspec
import structlog

from engine.errors import InputError
from engine.flows.flush import Move
from engine.flows.ids import scheduled_id
from engine.flows.recurrence import Occurrence, Recurrence

SCHEDULES_MAX: Final = 500
"""Schedules that are started at once."""

ASK_AGAIN: Final = 5_000_000
"""Microseconds after which a start that was not answered is sent again."""

MISSED: Final = 60_000_000
"""Microseconds after its time an occurrence counts as missed, where those are not made up for."""

MISSED_WORDS: Final = ("all", "last", "none")

_log = structlog.get_logger()


class Schedule(msgspec.Struct, frozen=True):
    """A row of `flows.schedules`, as its owner needs it."""

    id: bytes
    name: str
    input: bytes
    rule: str
    timezone: str
    missed: str
    added_by: str
    nominal: int
    next_at: int

    @property
    def flow(self) -> bytes:
        """The id of the next occurrence."""
        return scheduled_id(self.id, self.nominal)

    def move(self, outcome: str, after: Occurrence | None = None) -> Move:
        """Go on: to what comes after the next occurrence, or after another."""
        former = after or Occurrence(self.nominal, self.next_at)
        found = next(Recurrence(self.rule, self.timezone).after(former.nominal))
        return Move(self.id, self.nominal, found.nominal, found.at, outcome)

    def skip(self, now: int) -> Move | None:
        """Pass over what was missed, as it was declared; None where the next one is due."""
        first = Occurrence(self.nominal, self.next_at)
        if self.missed == "all" or now - self.next_at <= MISSED:
            return None
        last = Recurrence(self.rule, self.timezone).last_before(first, now)
        if self.missed == "none" and now - last.at > MISSED:
            return self.move("missed", last)
        if last == first:
            return None
        return Move(self.id, self.nominal, last.nominal, last.at, "missed")


class DueSchedules:
    """What one session has started of schedules and has not been told of."""

    def __init__(self) -> None:
        self._asked: dict[tuple[bytes, int], int] = {}

    def choose(self, due: Collection[Schedule], now: int) -> tuple[list[Schedule], list[Move]]:
        """Those to start now, and those that only go on."""
        starts, moves = [], []
        known = {(schedule.id, schedule.nominal) for schedule in due}
        self._asked = {key: at for key, at in self._asked.items() if key in known}
        for schedule in due:
            key = schedule.id, schedule.nominal
            if self._asked.get(key, now - ASK_AGAIN) > now - ASK_AGAIN:
                continue
            self._asked[key] = now
            try:
                move = schedule.skip(now)
            except InputError as error:
                _log.error("schedule_broken", schedule=schedule.id.hex(), reason=str(error))
                continue
            if move is None:
                starts.append(schedule)
            else:
                moves.append(move)
        return starts, moves
