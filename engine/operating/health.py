"""Is all well? What `engine status` gathers, and what it makes of it."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from engine.errors import EngineError, TryAgainError
from engine.ledger.nouns import Position, stream_name
from engine.operating.phrases import describe_seconds, describe_shards
from engine.operating.server_problems import Problem, RedisReport, server_problems
from engine.servers import Addresses
from engine.settings import stream_prefix
from engine.store.freezes import Frozen
from engine.store.reports import Reports, ServerReport, ShardReport, WorkerReport, open_reports
from engine.streams.streams import Streams, Waiting

STRAYS_SHOWN = 3


class ShardStatus(msgspec.Struct, frozen=True):
    """A shard with its owner and what waits for it; None is unknown, `worker` nobody."""

    shard: int
    worker: str | None
    alive: bool
    host: str | None
    process: int | None
    state: str
    """alive, waiting, dead or free (its worker); moving where it is on its way to another."""
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
    """None too where the shard is frozen, by whom and why: it is meant to wait."""
    frozen_by: str | None = None
    parked: int = 0
    """Entries that wait for a thaw, off the stream."""
    answer_seconds: float | None = None
    """The slowest answer lately."""

    @property
    def is_at_rest(self) -> bool:
        """Whether a living worker has it, and there is nothing to be said of it."""
        return self.alive and not (self.waiting or self.frozen_by or self.parked or self.target)


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
    freezes: list[Frozen] = []

    strays: dict[str, int] = {}
    """By name, the entries of streams that nobody reads."""

    @property
    def waiting(self) -> int | None:
        """Entries that wait, over all shards; None where that is not known of all."""
        counts = [shard.waiting for shard in self.shards]
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None


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
        status.problems.append(Problem(str(error), _action_for(error, "Postgres")))
    waiting: dict[int, Waiting] = {}
    prefix = stream_prefix()
    streams = Streams(addresses.redis_url, prefix)
    try:
        await streams.open()
        status.redis = _redis_report(await streams.describe())
        positions = {s.shard: Position(s.generation, s.ms, s.seq) for s in shards}
        waiting = await streams.waiting(positions)
        if shards:
            status.strays = await streams.strays(len(shards))
    except EngineError as error:
        status.problems.append(Problem(str(error), _action_for(error, "Redis")))
    finally:
        await streams.close()
    workers = {worker.worker: worker for worker in status.workers}
    status.shards = [
        _shard_status(shard, workers, _known(waiting.get(shard.shard))) for shard in shards
    ]
    status.problems += [
        *_free_shards(shards),
        *_dead_workers(status.workers),
        *_waiting_workers(status.workers),
        *_unreadable(waiting),
        *_strays(status.strays, prefix),
        *_late(status.shards, waiting_seconds_max),
        *server_problems(status.postgres, status.redis),
    ]
    status.healthy = not status.problems
    return status


def _known(waiting: Waiting | None) -> Waiting | None:
    return None if waiting is None or waiting.fault is not None else waiting


def _unreadable(waiting: Mapping[int, Waiting]) -> Iterable[Problem]:
    by_fault: dict[str, list[int]] = {}
    for shard, found in waiting.items():
        if found.fault is not None:
            by_fault.setdefault(found.fault, []).append(shard)
    for fault, shards in by_fault.items():
        yield Problem(
            f"the streams of shards {describe_shards(shards)} cannot be read: {fault}",
            "rename or delete what has their names, or let the engine's user touch them; their "
            "workers then go on by themselves, and others' shards are as before",
        )


async def _ask_postgres(reports: Reports, status: Status) -> list[ShardReport]:
    status.postgres = await reports.server()
    status.transfers_per_second = status.postgres.transfers_in_10_seconds / 10
    status.workers = await reports.workers()
    status.freezes = await reports.freezes()
    return await reports.shards()


def _redis_report(facts: dict[str, str]) -> RedisReport:
    return RedisReport(
        facts.get("valkey_version") or facts.get("redis_version") or "unknown",
        int(facts.get("used_memory", 0)),
        int(facts.get("maxmemory", 0)),
        facts.get("aof_last_write_status", "ok") == "ok",
    )


def _action_for(error: EngineError, server: str) -> str:
    """What to do about a server that did not tell."""
    if "engine init" in str(error):
        return "run `engine init`: it makes the ledger in this database"
    if isinstance(error, TryAgainError):
        until = "nothing is decided" if server == "Postgres" else "producers cannot send"
        return f"start {server}, or correct its address; {until} until then"
    return f"correct the address or the settings of {server}, as the message says"


def _shard_status(
    shard: ShardReport, workers: Mapping[str, WorkerReport], waiting: Waiting | None
) -> ShardStatus:
    return ShardStatus(
        shard.shard,
        shard.worker,
        shard.alive,
        shard.host,
        shard.process,
        _state(shard, workers),
        shard.position,
        shard.decided_at,
        shard.transfers_per_second,
        shard.locked_flushes,
        shard.target,
        None if waiting is None else waiting.entries,
        None if waiting is None or shard.frozen_by else waiting.oldest_seconds,
        shard.frozen_by,
        shard.parked,
        shard.answer_seconds,
    )


def _state(shard: ShardReport, workers: Mapping[str, WorkerReport]) -> str:
    if shard.target is not None:
        return "moving"
    if shard.worker is None:
        return "free"
    if shard.alive:
        return "frozen" if shard.frozen_by else "alive"
    owner = workers.get(shard.worker)
    return "dead" if owner is None else owner.state


def _free_shards(shards: Sequence[ShardReport]) -> Iterable[Problem]:
    free = [shard.shard for shard in shards if shard.worker is None and shard.target is None]
    if free:
        yield Problem(
            f"no worker has shards {describe_shards(free)}: what is sent to them waits",
            "start one: engine worker",
        )


def _dead_workers(workers: Iterable[WorkerReport]) -> Iterable[Problem]:
    for worker in workers:
        if worker.state == "dead":
            since = describe_seconds(max(-worker.lease_seconds_left, 0))
            pinned = "" if worker.pinned is None else f" --shards {describe_shards(worker.pinned)}"
            yield Problem(
                f"the worker of shards {describe_shards(worker.shards)} is dead (process "
                f"{worker.process} on {worker.host}; its lease ended {since} ago)",
                f"start another, it takes them over at once: engine worker{pinned}",
            )


def _waiting_workers(workers: Iterable[WorkerReport]) -> Iterable[Problem]:
    for worker in workers:
        if worker.waits_for is not None:
            since = describe_seconds(worker.waits_seconds or 0)
            yield Problem(
                f"worker {worker.worker[:8]} (process {worker.process} on {worker.host}) lives and "
                f"has waited for {since}: {worker.waits_for}",
                "see to what it waits for; it goes on by itself",
            )


def _strays(strays: Mapping[str, int], prefix: str) -> Iterable[Problem]:
    if strays:
        some = ", ".join(
            f"{name} ({count:,})" for name, count in list(strays.items())[:STRAYS_SHOWN]
        )
        more = f" and {len(strays) - STRAYS_SHOWN} more" if len(strays) > STRAYS_SHOWN else ""
        yield Problem(
            f"nobody reads the entries of {some}{more}",
            f"correct the producer: a stream is named {stream_name(prefix, 7)}, with braces and "
            "four digits; send those entries again by the right stream, then delete these",
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
