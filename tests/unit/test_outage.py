"""What lasts, or comes and goes, is said seldom."""

from structlog.testing import capture_logs

from engine.worker.outage import CALM_SECONDS, STILL_SECONDS, TIMES_MAX, Outage


async def said(*ends_at: float, length: float = 0.5) -> list[str]:
    outage = Outage("begins", "lasts", "over")
    with capture_logs() as logs:
        for now in ends_at:
            outage.note("x", now)
            outage.end(now + length)
    return [entry["event"] for entry in logs]


async def test_what_begins_and_ends_is_said_twice() -> None:
    assert await said(0.0) == ["begins", "over"]
    apart = [number * (CALM_SECONDS + 1) for number in range(5)]
    assert await said(*apart) == ["begins", "over"] * 5


async def test_what_comes_and_goes_each_second_for_an_hour_is_said_seldom() -> None:
    events = await said(*map(float, range(3600)))
    assert events[: 2 * TIMES_MAX] == ["begins", "over"] * TIMES_MAX
    assert set(events[2 * TIMES_MAX :]) == {"lasts"}
    assert len(events) < 20


async def test_it_repeats_while_it_came_lately() -> None:
    outage = Outage("begins", "lasts", "over")
    for number in range(TIMES_MAX):
        assert not outage.is_repeating(number)
        outage.note("x", number)
        outage.end(number + 0.5)
    assert outage.is_repeating(TIMES_MAX)
    assert not outage.is_repeating(TIMES_MAX + CALM_SECONDS)


async def test_one_that_lasts_is_said_at_times_that_double() -> None:
    outage = Outage("begins", "lasts", "over")
    with capture_logs() as logs:
        for second in range(int(STILL_SECONDS * 9)):
            outage.note("x", second)
        outage.end(STILL_SECONDS * 9)
    assert [entry["event"] for entry in logs] == [
        "begins",
        "lasts",
        "lasts",
        "lasts",
        "lasts",
        "over",
    ]
