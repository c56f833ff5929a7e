"""Schedules on real servers: each occurrence once, whatever is missed, killed or answered twice."""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.errors import InputError
from engine.flows.client import AddedSchedule
from engine.flows.ids import scheduled_id
from engine.flows.recurrence import Recurrence
from engine.flows.worker import FlowWorker
from tests.flow_desks import FlowDesk, flow_desk
from tests.flow_examples import payout
from tests.ledgers import until

DAY = 86_400 * 1_000_000
DAILY = "0 9 * * *"


async def scheduled(desk: FlowDesk, days_ago: int, name: str = "payout", **more: Any) -> bytes:
    """A schedule for nine o'clock whose next time lies some days back; returns its id."""
    schedule = uuid.uuid4().bytes
    written = {"wallet": "wallet", "amount": 5}
    added = AddedSchedule(schedule, name, written, DAILY, "UTC", by="ann", **more)
    assert await desk.client.add_schedule(added) == "created"
    assert await desk.client.add_schedule(added) == "exists"
    await desk.ledger.sql(
        "UPDATE flows.schedules SET nominal = nominal - $2::bigint,"
        " next_at = next_at - $2::bigint * interval '1 microsecond' WHERE id = $1",
        uuid.UUID(bytes=schedule),
        (days_ago + 1) * DAY,
    )
    return schedule


async def moved_on(desk: FlowDesk, schedule: bytes) -> dict[str, Any]:
    """Wait until what was missed is over; returns the schedule."""

    async def over() -> bool:
        [row] = await desk.client.schedules(schedule)
        return bool(row["next_at"] > time.time_ns() // 1000)

    await until(over, "the schedule to go on")
    [row] = await desk.client.schedules(schedule)
    return row


async def starts(desk: FlowDesk) -> set[uuid.UUID]:
    return {row["id"] for row in await desk.ledger.sql("SELECT id FROM flows.flows")}


def occurrence(schedule: bytes, days_ago: int) -> uuid.UUID:
    """The id of the last nine o'clock, or of one some days before it."""
    following = Recurrence(DAILY, "UTC").first_after(time.time_ns() // 1000)
    return uuid.UUID(bytes=scheduled_id(schedule, following.nominal - (days_ago + 1) * DAY))


@pytest.mark.parametrize(
    ("missed", "made_up_for"), [("all", [2, 1, 0]), ("last", [0]), ("none", [])]
)
async def test_a_schedule_starts_what_it_missed_as_it_was_declared(
    postgres_dsn: str, redis_url: str, missed: str, made_up_for: list[int]
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        schedule = await scheduled(desk, 2, missed=missed)
        async with desk.working():
            row = await moved_on(desk, schedule)
            assert row["last_outcome"] == ("created" if made_up_for else "missed")
            assert row["next_at"] - time.time_ns() // 1000 <= DAY
        assert await starts(desk) == {occurrence(schedule, days) for days in made_up_for}
        assert await desk.ledger.sql("SELECT FROM flows.flows WHERE started_by <> 'ann'") == []
        await desk.verify()


async def test_an_occurrence_is_started_once_by_workers_that_do_not_hear_of_it(
    postgres_dsn: str, redis_url: str
) -> None:
    """The start was answered and its worker is gone: the next one starts the same flow."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        schedule = await scheduled(desk, 0)
        deaf = desk.worker()
        read_answers = deaf.streams.read_answers

        async def nothing(block_ms: int) -> list[dict[bytes, bytes]]:
            # What the ledger says is heard, what flow workers say is not.
            return [a for a in await read_answers(block_ms) if a.get(b"outcomes", b"")[:1] != b"["]

        deaf.streams.read_answers = nothing  # type: ignore[method-assign]
        async with desk.working(deaf):

            async def started() -> bool:
                return bool(await starts(desk))

            await until(started, "the flow")
            [row] = await desk.client.schedules(schedule)
            assert row["next_at"] < time.time_ns() // 1000, "it moved before it was answered"
        async with desk.working(desk.worker(), desk.worker()):
            assert (await moved_on(desk, schedule))["last_outcome"] == "exists"
        assert await starts(desk) == {occurrence(schedule, 0)}


async def test_a_schedule_says_why_its_flow_was_not_started_and_goes_on(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        ambiguous = (
            "INSERT INTO ledger.accounts (id, ledger, code, name) VALUES ($1, 1, 1, 'wallet')"
        )
        await desk.ledger.sql(ambiguous, uuid.uuid4())
        schedule = await scheduled(desk, 0)
        assert (await moved_on(desk, schedule))["last_outcome"] == "account_ambiguous"


async def test_a_schedule_that_is_removed_starts_nothing_more(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        schedule = await scheduled(desk, 3, missed="all")
        assert await desk.client.remove_schedule(schedule)
        assert not await desk.client.remove_schedule(schedule)
        assert await desk.client.schedules() == []
        async with desk.working():
            other = await scheduled(desk, 0)
            await moved_on(desk, other)
        assert await starts(desk) == {occurrence(other, 0)}


async def test_what_cannot_be_scheduled_is_refused(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url, working=False) as desk:
        await desk.define(payout())
        written = {"wallet": "wallet", "amount": 5}
        good = AddedSchedule(uuid.uuid4().bytes, "payout", written, DAILY, "UTC")
        assert await desk.client.add_schedule(good) == "created"
        for changes in (
            {"rule": "0 25 * * *"},
            {"rule": "0 9 30 2 *"},
            {"timezone": "Europe/Atlantis"},
            {"missed": "some"},
            {"name": "nothing"},
            {"input": {"wallet": "wallet"}},
            {"rule": "0 8 * * *", "id": good.id},
        ):
            wrong = {"id": uuid.uuid4().bytes} | changes
            values = {n: getattr(good, n) for n in good.__struct_fields__} | wrong
            with pytest.raises(InputError):
                await desk.client.add_schedule(AddedSchedule(**values))
        assert len(await desk.client.schedules()) == 1


async def berlin(desk: FlowDesk, worker: FlowWorker, now: str) -> set[uuid.UUID]:
    """What is started by a worker whose clock shows a time, once it has looked a few times."""
    shown = int(datetime.fromisoformat(now).timestamp()) * 1_000_000
    looks = 0
    heartbeat = worker.store.ownership.heartbeat
    due_schedules = worker.store.due_schedules

    async def clock(lease_seconds: float) -> int:
        await heartbeat(lease_seconds)
        return shown

    async def due(shards: Any, at: int) -> Any:
        nonlocal looks
        looks += 1
        return await due_schedules(shards, at)

    worker.store.ownership.heartbeat = clock  # type: ignore[method-assign]
    worker.store.due_schedules = due  # type: ignore[method-assign]
    async with desk.working(worker):
        await until(lambda: looks >= 6, "the worker to look for what is due")
    return await starts(desk)


async def test_recurring_at_half_past_two_in_berlin_once_each_day_on_real_servers(
    postgres_dsn: str, redis_url: str
) -> None:
    """On the last Sunday of March 02:30 is left out, on that of October there are two of it."""
    zone = "Europe/Berlin"
    for day, before, at, after in (
        ("2026-03-29", "02:59:59+02:00", "03:00+02:00", "23:59+02:00"),
        ("2026-10-25", "02:29:59+02:00", "02:30+02:00", "23:59+01:00"),
    ):
        async with flow_desk(postgres_dsn, redis_url) as desk:
            await desk.define(payout())
            schedule = uuid.uuid4().bytes
            written = {"wallet": "wallet", "amount": 5}
            rule = "30 2 * 3,10 7L"
            added = AddedSchedule(schedule, "payout", written, rule, zone)
            assert await desk.client.add_schedule(added) == "created"
            first = Recurrence(rule, zone).first_after(
                int(datetime.fromisoformat(f"{day}T00:00+01:00").timestamp()) * 1_000_000
            )
            await desk.ledger.sql(
                "UPDATE flows.schedules SET nominal = $2, next_at ="
                " to_timestamp($3::bigint / 1000000) WHERE id = $1",
                uuid.UUID(bytes=schedule),
                first.nominal,
                first.at,
            )
            nominal = datetime.fromtimestamp(first.nominal / 1e6, UTC).strftime("%F %H:%M")
            assert nominal == f"{day} 02:30"
            expected = {uuid.UUID(bytes=scheduled_id(schedule, first.nominal))}
            assert await berlin(desk, desk.worker(lease_seconds=1.0), f"{day}T{before}") == set()
            assert await berlin(desk, desk.worker(lease_seconds=1.0), f"{day}T{at}") == expected
            assert await berlin(desk, desk.worker(lease_seconds=1.0), f"{day}T{after}") == expected


async def test_two_workers_at_once_start_an_occurrence_once(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        schedules = [await scheduled(desk, 1, missed="all") for _ in range(12)]
        async with desk.working(desk.worker(), desk.worker()):
            await asyncio.gather(*(moved_on(desk, schedule) for schedule in schedules))
        assert await starts(desk) == {occurrence(s, days) for s in schedules for days in (0, 1)}
        await desk.verify()
