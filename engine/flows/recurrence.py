"""Rules of recurrence: when, by the clock on a wall, a schedule's flows start.

A rule has five fields, as of cron: minute, hour, day of the month, month, weekday (0 or 7 is
Sunday). A field is `*`, a number, a range `a-b`, either with a step `/n`, or several joined by
commas. A weekday may be the n-th of its month, as `1#2`, or the last, as `7L`; a day may be `L`,
the last. Where both day and weekday are given both have to fit: a date is meant, not a choice.

A time that a change of the clock leaves out happens at the first instant after the gap; one that
it repeats happens at the first of the two.
"""

import calendar
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from engine.errors import InputError

YEARS_MAX: Final = 30
"""A rule that never comes true within them is refused."""

_FIELDS: Final = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12))
_PART: Final = re.compile(r"(?:(\*)|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?")
_WEEKDAY: Final = re.compile(r"([0-7])(L|#[1-5])")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Occurrence(msgspec.Struct, frozen=True):
    """One time of a rule."""

    nominal: int
    """By the clock on the wall, in microseconds as if it were UTC: it names the occurrence."""
    at: int
    """The instant, in microseconds since 1970."""


class Recurrence:
    """A rule in a time zone.

    Args:
        rule: Five fields.
        timezone: As Europe/Berlin.

    Raises:
        InputError: When either cannot be read, or when the rule never comes true.
    """

    def __init__(self, rule: str, timezone: str) -> None:
        fields = rule.split()
        if len(fields) != 5:
            raise InputError(
                f"{rule!r}: Expected five fields, minute hour day month weekday, as `30 2 * * 1`"
            )
        self._zone = _zone(timezone)
        self._has_last = fields[2] == "L"
        days = "*" if self._has_last else fields[2]
        texts = (fields[0], fields[1], days, fields[3])
        found = [
            _numbers(text, name, low, high)
            for text, (name, low, high) in zip(texts, _FIELDS, strict=True)
        ]
        self._times = [time(hour, minute) for hour in found[1] for minute in found[0]]
        self._days, self._months = frozenset(found[2]), frozenset(found[3])
        self._weekdays, self._placed = _weekdays(fields[4])
        self._rule = rule
        next(self.after(0))

    def after(self, nominal: int) -> Iterator[Occurrence]:
        """The occurrences after a nominal time, in the order of their nominal times.

        Raises:
            InputError: There is none for many years.
        """
        base = (_EPOCH + nominal * _MICROSECOND).replace(tzinfo=None)
        day = base.date()
        last = day.year + YEARS_MAX
        while day.year < min(last, date.max.year - 1):
            if day.month not in self._months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
                continue
            if self._has(day):
                for wall in self._times:
                    made = datetime.combine(day, wall)
                    if made > base:
                        last = day.year + YEARS_MAX
                        yield Occurrence(_microseconds(made, UTC), self._instant(made))
            day += timedelta(days=1)
        raise InputError(f"{self._rule!r} does not happen within {YEARS_MAX} years")

    def first_after(self, at: int) -> Occurrence:
        """The first occurrence after an instant."""
        local = (_EPOCH + at * _MICROSECOND).astimezone(self._zone).replace(tzinfo=None)
        # A gap or a fold moves the wall by some hours: what comes before is skipped.
        start = _microseconds(local - timedelta(days=1), UTC)
        return next(found for found in self.after(start) if found.at > at)

    def last_before(self, first: Occurrence, at: int) -> Occurrence:
        """The last occurrence up to an instant, from one that is not after it."""
        last = first
        for following in self.after(first.nominal):
            if following.at > at:
                break
            last = following
        return last

    def _has(self, day: date) -> bool:
        length = calendar.monthrange(day.year, day.month)[1]
        if self._has_last and day.day != length:
            return False
        weekday = day.isoweekday() % 7
        is_weekday = (
            weekday in self._weekdays
            or (weekday, (day.day + 6) // 7) in self._placed
            or ((weekday, 0) in self._placed and day.day + 7 > length)
        )
        return day.day in self._days and is_weekday

    def _instant(self, wall: datetime) -> int:
        """The instant of a time on the wall; after a gap, the first one."""
        first = _microseconds(wall.replace(fold=0), self._zone)
        local = (_EPOCH + first * _MICROSECOND).astimezone(self._zone).replace(tzinfo=None)
        if local == wall:
            return first
        # In a gap: the two readings lie on both sides of the change, which is looked for.
        before, after = sorted((first, _microseconds(wall.replace(fold=1), self._zone)))
        offset = self._offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after

    def _offset(self, at: int) -> timedelta | None:
        return (_EPOCH + at * _MICROSECOND).astimezone(self._zone).utcoffset()


def _microseconds(wall: datetime, zone: ZoneInfo | object) -> int:
    return (wall.replace(tzinfo=zone) - _EPOCH) // _MICROSECOND  # type: ignore[arg-type]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InputError(f"{name!r} is no time zone that is known here, as Europe/Berlin") from None


def _numbers(text: str, name: str, low: int, high: int) -> list[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise InputError(f"{name} {part!r}: Expected *, a number, a-b, or one of them with /n")
        star, first, last, step = match.groups()
        start = low if star else int(first)
        # A step without a range goes on to the end, as in cron.
        stop = high if star or (step and last is None) else int(last or first)
        if not low <= start <= stop <= high or step == "0":
            raise InputError(f"{name} {part!r}: Expected numbers from {low} to {high}, rising")
        found.update(range(start, stop + 1, int(step or 1)))
    return sorted(found)


def _weekdays(text: str) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
    """Weekdays, and those that are the n-th or the last (0) of their month."""
    plain: set[int] = set()
    placed: set[tuple[int, int]] = set()
    for part in text.split(","):
        match = _WEEKDAY.fullmatch(part)
        if match is None:
            plain.update(number % 7 for number in _numbers(part, "weekday", 0, 7))
        else:
            placed.add((int(match[1]) % 7, 0 if match[2] == "L" else int(match[2][1])))
    return frozenset(plain), frozenset(placed)
