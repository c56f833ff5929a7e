"""Schedules in a world of flows: some are late by years, across changes of the clock, some by
minutes; what has to start of each is written down here, not computed as the engine does."""

import calendar
import random
import uuid
from collections.abc import Iterator

import msgspec

from engine.flows.ids import scheduled_id
from engine.ledger.nouns import shard_of
from tests.simulation.database import START
from tests.simulation.flow_world import FlowWorld

MINUTE = 60_000_000
LAST_MINUTE = START // MINUTE * MINUTE

HALF_PAST_TWO = (
    # By the clock on the wall in Berlin, and the instant in UTC.
    ((2022, 3, 27, 2, 30), (2022, 3, 27, 1, 0)),
    ((2022, 10, 30, 2, 30), (2022, 10, 30, 0, 30)),
    ((2023, 3, 26, 2, 30), (2023, 3, 26, 1, 0)),
    ((2023, 10, 29, 2, 30), (2023, 10, 29, 0, 30)),
)


class Expected(msgspec.Struct, frozen=True):
    """A schedule, and when it has to start a flow."""

    id: bytes
    nominals: tuple[int, ...]
    is_minutely: bool


def _microseconds(*at: int) -> int:
    return calendar.timegm((*at, 0)) * 1_000_000


def add_schedules(world: FlowWorld, seed: str) -> list[Expected]:
    """Put some into the table."""
    draw = random.Random(f"schedules {seed}")
    if draw.random() < 0.7:
        return []
    found = []
    made = world.database.begin(None)
    for is_minutely in (False, True):
        missed = draw.choice(["all", "last", "none"])
        if is_minutely:
            rule, zone = "* * * * *", "UTC"
            times = [LAST_MINUTE - n * MINUTE for n in (4, 3, 2, 1, 0)]
            first, at = times[0], times[0]
            wanted = times if missed == "all" else times[-1:]
        else:
            rule, zone = "30 2 * 3,10 7L", "Europe/Berlin"
            times = [_microseconds(*wall) for wall, _ in HALF_PAST_TWO]
            first, at = times[0], _microseconds(*HALF_PAST_TWO[0][1])
            wanted = {"all": times, "last": times[-1:], "none": []}[missed]
        key = draw.randbytes(16)
        accounts = world.accounts_by_name
        row = {
            "id": key, "shard": shard_of(key, world.database.shard_count), "name": "errand",
            "input": msgspec.json.encode({n: accounts[n] for n in ("payer", "payee")}),
            "rule": rule, "timezone": zone, "missed": missed, "added_by": "clock",
            "nominal": first, "next_at": at,
        }  # fmt: skip
        world.database.put("flows.schedules", row, made)
        found.append(Expected(key, tuple(wanted), is_minutely))
    world.database.commit(made, "schedules")
    return found


def is_due(world: FlowWorld) -> bool:
    """Whether a schedule has something to start."""
    now = world.database.clock()
    return any(row["next_at"] <= now for row in world.rows("schedules"))


def judge_schedules(world: FlowWorld) -> Iterator[str]:
    """Each occurrence was started once, and nothing else."""
    wanted, allowed = set(), set()
    for schedule in world.schedules:
        wanted |= {scheduled_id(schedule.id, at) for at in schedule.nominals}
        for at in range(LAST_MINUTE + MINUTE, world.quiet_at + MINUTE, MINUTE):
            if schedule.is_minutely:
                (wanted if at < world.quiet_at else allowed).add(scheduled_id(schedule.id, at))
    started = {row["id"] for row in world.rows("flows") if row["started_by"] == "clock"}
    yield from (f"occurrence {_name(i)} was not started" for i in wanted - started)
    yield from (f"occurrence {_name(i)} was started" for i in started - wanted - allowed)


def _name(flow: bytes) -> str:
    return str(uuid.UUID(bytes=flow))[:8]
