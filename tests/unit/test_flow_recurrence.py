"""Rules of recurrence, at the edges of calendars and clocks."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.flows.recurrence import Recurrence

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(text: str, zone: str = "UTC") -> int:
    wall = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return (wall - EPOCH) // timedelta(microseconds=1)


def times(rule: str, zone: str, after: str, count: int) -> list[str]:
    found = itertools.islice(Recurrence(rule, zone).after(at(after)), count)
    return [(EPOCH + timedelta(microseconds=o.at)).strftime("%Y-%m-%dT%H:%MZ") for o in found]


def test_recurring_at_half_past_two_on_the_last_sundays_of_march_and_october_berlin() -> None:
    """03:00 summer time is the first instant after the gap; of the fold the first one counts."""
    assert times("30 2 * 3,10 7L", "Europe/Berlin", "2026-01-01", 4) == [
        "2026-03-29T01:00Z",
        "2026-10-25T00:30Z",
        "2027-03-28T01:00Z",
        "2027-10-31T00:30Z",
    ]


@pytest.mark.parametrize(
    ("rule", "after", "expected"),
    [
        ("0 9 1 * *", "2026-01-31", "2026-02-01T09:00Z"),
        ("0 9 31 * *", "2026-02-01", "2026-03-31T09:00Z"),
        ("0 9 L * *", "2028-02-01", "2028-02-29T09:00Z"),
        ("0 9 29 2 *", "2026-01-01", "2028-02-29T09:00Z"),
        ("*/20 * * * *", "2026-01-01T00:25", "2026-01-01T00:40Z"),
        ("5/20 * * * *", "2026-01-01T00:46", "2026-01-01T01:05Z"),
        ("0 0 * * 1#2", "2026-01-01", "2026-01-12T00:00Z"),
        ("0 0 * * 0", "2026-01-01", "2026-01-04T00:00Z"),
        ("0 0 * * 7", "2026-01-01", "2026-01-04T00:00Z"),
        ("0 0 13 * 5", "2026-01-01", "2026-02-13T00:00Z"),
        ("0 12 * * 1-5", "2026-01-02T12:00", "2026-01-05T12:00Z"),
    ],
)
def test_the_next_time_of_a_rule(rule: str, after: str, expected: str) -> None:
    assert times(rule, "UTC", after, 1) == [expected]


@pytest.mark.parametrize(
    "rule",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "5-1 * * * *", "*/0 * * * *", "x * * * *",
     "* * 30 2 *", "* * 0 * *", "* * * 13 *", "* * * * 8", "* * * * 1#6", "* * * * * *"],
)  # fmt: skip
def test_a_rule_that_cannot_be_read_or_never_happens_is_refused(rule: str) -> None:
    with pytest.raises(InputError):
        Recurrence(rule, "UTC")


def test_an_unknown_time_zone_is_refused() -> None:
    for name in ("Europe/Atlantis", "", "../etc/passwd"):
        with pytest.raises(InputError):
            Recurrence("0 0 * * *", name)


@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.integers(0, 7 * 366 * 86_400),
    st.sampled_from(["30 2 * * *", "*/15 1-3 * * *", "0 0 * * *", "59 23 L * *"]),
)
def test_nominal_times_rise_and_instants_never_go_back_by_more_than_a_fold(
    zone: str, seconds: int, rule: str
) -> None:
    recurrence = Recurrence(rule, zone)
    begin = at("2024-01-01") + seconds * 1_000_000
    found = list(itertools.islice(recurrence.after(begin), 40))
    nominal = [occurrence.nominal for occurrence in found]
    assert nominal == sorted(set(nominal))
    for occurrence in found:
        local = (EPOCH + timedelta(microseconds=occurrence.at)).astimezone(ZoneInfo(zone))
        wall = local.replace(tzinfo=UTC)
        shown = (wall - EPOCH) // timedelta(microseconds=1)
        gap = shown - occurrence.nominal
        # As the wall shows it, or, in a gap, the first instant that the wall shows after it.
        assert gap == 0 or (0 < gap <= 3_600_000_000 and local.second == 0)
    later = recurrence.first_after(found[5].at)
    assert later.at > found[5].at
    assert recurrence.last_before(found[0], found[5].at).at <= found[5].at
