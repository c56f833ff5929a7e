"""Is all well? What `engine status` gathers, and what it makes of it."""

from collections.abc import Iterable, Sequence

import msgspec

from engine.errors import EngineError
from engine.ledger.nouns import Position
from engine.servers import Addresses
from engine.settings import stream_prefix
from engine.store.reports import Reports, ServerReport, ShardReport, WorkerReport, open_reports
from engine.streams.streams import Streams, Waiting

MEMORY_SHARE_MAX = 0.9
"""Of its `maxmemory`, beyond which Redis is about to refuse requests."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and what to do about it."""

    problem: str
    action: str


class RedisReport(msgspec.Struct, frozen=True):
    """Redis or Valkey."""

    version: str
    used_memory_bytes: int
    maxmemory_bytes: int
    """0 for no limit."""
    file_is_written: bool


class ShardStatus(msgspec.Struct, frozen=True):
    """A shard with its owner and what waits for it; None is unknown, `worker` nobody."""

    shard: int
    worker: str | None
    alive: bool
    host: str | None
    process: int | None
    state: str
    """alive, dead or free (its worker); moving where it is on its way to another."""
    position: str
    decided_at: str | None
    transfers_per_second: float
    """As its worker measured it between two heartbeats."""
    locked_flushes: int
    """Of its worker, over all of its shards, in the last minute."""
    target: str | None
    """The worker that it is to go to."""
    waiting: int | None = None
    oldest_waiting_seconds: float | None = None


class Status(msgspec.Struct):
    """All that was found; a server that is out of reach is None."""

    healthy: bool = True
    problems: list[Problem] = []
    postgres: ServerReport | None = None
    redis: RedisReport | None = None
    transfers_per_second: float = 0.0
    """Created, over the last 10 seconds."""
    workers: list[WorkerReport] = []
    shards: list[ShardStatus] = []

    @property
    def waiting(self) -> int:
        """Entries that wait, over all shards."""
        return sum(shard.waiting or 0 for shard in self.shards)


async def gather_status(addresses: Addresses, waiting_seconds_max: float) -> Status:
    """Ask both servers; what cannot be had is a problem, not an error.

    Args:
        addresses: The servers.
        waiting_seconds_max: An entry that waits for longer is a problem.
    """
    status = Status()
    shards: list[ShardReport] = []
    try:
        async with open_reports(addresses.postgres_dsn) as reports:
            shards = await _ask_postgres(reports, status)
    except EngineError as error:
        action = "start Postgres, or correct the address; nothing is decided until then"
        status.problems.append(Problem(str(error), action))
    waiting: dict[int, Waiting] = {}
    streams = Streams(addresses.redis_url, stream_prefix())
    try:
        await streams.open()
        status.redis = _redis_report(await streams.describe())
        positions = {s.shard: Position(s.generation, s.ms, s.seq) for s in shards}
        waiting = await streams.waiting(positions)
    except EngineError as error:
        action = "start Redis, or correct the address; producers cannot send until then"
        status.problems.append(Problem(str(error), action))
    finally:
        await streams.close()
    status.shards = [_shard_status(shard, waiting.get(shard.shard)) for shard in shards]
    status.problems += [
        *_unowned(shards),
        *_late(status.shards, waiting_seconds_max),
        *_server_problems(status),
    ]
    status.healthy = not status.problems
    return status


def describe_shards(shards: Iterable[int]) -> str:
    """Shards as `0-3,8`, which `--shards` reads."""
    runs: list[list[int]] = []
    for shard in sorted(shards):
        if runs and runs[-1][-1] == shard - 1:
            runs[-1][1:] = [shard]
        else:
            runs.append([shard])
    return ",".join("-".join(map(str, run)) for run in runs)


def describe_seconds(seconds: float) -> str:
    """A duration in the unit that one would say it in."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


async def _ask_postgres(reports: Reports, status: Status) -> list[ShardReport]:
    status.postgres = await reports.server()
    status.transfers_per_second = status.postgres.transfers_in_10_seconds / 10
    status.workers = await reports.workers()
    return await reports.shards()


def _redis_report(facts: dict[str, str]) -> RedisReport:
    return RedisReport(
        facts.get("valkey_version") or facts.get("redis_version") or "unknown",
        int(facts.get("used_memory", 0)),
        int(facts.get("maxmemory", 0)),
        facts.get("aof_last_write_status", "ok") == "ok",
    )


def _shard_status(shard: ShardReport, waiting: Waiting | None) -> ShardStatus:
    return ShardStatus(
        shard.shard,
        shard.worker,
        shard.alive,
        shard.host,
        shard.process,
        _state(shard),
        shard.position,
        shard.decided_at,
        shard.transfers_per_second,
        shard.locked_flushes,
        shard.target,
        None if waiting is None else waiting.entries,
        None if waiting is None else waiting.oldest_seconds,
    )


def _state(shard: ShardReport) -> str:
    if shard.target is not None:
        return "moving"
    if shard.worker is None:
        return "free"
    return "alive" if shard.alive else "dead"


def _unowned(shards: Sequence[ShardReport]) -> Iterable[Problem]:
    free = [shard.shard for shard in shards if shard.worker is None and shard.target is None]
    if free:
        names = describe_shards(free)
        yield Problem(
            f"no worker has shards {names}: what is sent to them waits",
            f"start one: engine worker --shards {names}",
        )
    dead: dict[str, list[ShardReport]] = {}
    for shard in shards:
        if shard.worker is not None and not shard.alive:
            dead.setdefault(shard.worker, []).append(shard)
    for lost in dead.values():
        names = describe_shards(shard.shard for shard in lost)
        since = describe_seconds(max(lost[0].expired_seconds or 0, 0))
        yield Problem(
            f"the worker of shards {names} is dead (process {lost[0].process} on "
            f"{lost[0].host}; its lease ended {since} ago)",
            f"start another, it takes them over at once: engine worker --shards {names}",
        )


def _late(shards: Sequence[ShardStatus], waiting_seconds_max: float) -> Iterable[Problem]:
    late = [
        shard
        for shard in shards
        if shard.alive and (shard.oldest_waiting_seconds or 0) > waiting_seconds_max
    ]
    if late:
        oldest = max(late, key=lambda shard: shard.oldest_waiting_seconds or 0)
        yield Problem(
            f"shards {describe_shards(s.shard for s in late)} are behind: an entry has waited "
            f"for {describe_seconds(oldest.oldest_waiting_seconds or 0)}, though its worker lives",
            f"look at the log of process {oldest.process} on {oldest.host}; if the backlog "
            "does not shrink, stop that worker and start another",
        )


def _server_problems(status: Status) -> Iterable[Problem]:
    if status.postgres is not None and status.postgres.holds_overdue:
        yield Problem(
            f"{status.postgres.holds_overdue:,} holds are past their time and not released",
            "see that every shard has a living worker; its log says why it does not flush",
        )
    redis = status.redis
    if redis is None:
        return
    if not redis.file_is_written:
        yield Problem("Redis cannot write its append-only file", "see its log; is its disk full?")
    if redis.maxmemory_bytes and redis.used_memory_bytes > MEMORY_SHARE_MAX * redis.maxmemory_bytes:
        yield Problem(
            f"Redis uses {redis.used_memory_bytes / redis.maxmemory_bytes:.0%} of its maxmemory "
            "and will refuse requests",
            "let the workers catch up, or raise maxmemory",
        )
