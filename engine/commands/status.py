"""`engine status`: what someone who was woken at 3 a.m. wants to see."""

import asyncio
from typing import Annotated, Final, TypeAlias

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, out, print_json, print_table, run_loop
from engine.operating.health import ShardStatus, Status, gather_status
from engine.operating.phrases import describe_seconds, describe_shards, printable
from engine.servers import Addresses
from engine.store.reports import WorkerReport

NOT_USABLE: Final = "not usable, see below"

MIB: Final = 1024 * 1024
WATCH_SECONDS: Final = 2.0

WaitingSecondsMax: TypeAlias = Annotated[
    float, typer.Option("--waiting-seconds-max", min=0, help="How long an entry may wait.")
]


def status(
    waiting_seconds_max: WaitingSecondsMax = 30.0,
    all_shards: Annotated[
        bool, typer.Option("--all", help="Show all shards, those at rest too.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help=f"Again every {WATCH_SECONDS:.0f} s, until Ctrl-C.")
    ] = False,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show servers, workers, shards, what waits and what is wrong.

    It ends with 1 when something is wrong. The last lines say what is wrong and what to do.
    Shards with a living worker, for which nothing waits, are a line together.

    Example: engine status --data ./ledger
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    if watch:
        run_loop(_watch(addresses, waiting_seconds_max, json=json, all_shards=all_shards))
    found = run_loop(gather_status(addresses, waiting_seconds_max))
    _show(found, json=json, all_shards=all_shards)
    raise typer.Exit(0 if found.healthy else 1)


async def _watch(
    addresses: Addresses, waiting_seconds_max: float, *, json: bool, all_shards: bool
) -> None:
    while True:
        found = await gather_status(addresses, waiting_seconds_max)
        if out.is_terminal and not json:
            out.clear()
        _show(found, json=json, all_shards=all_shards)
        await asyncio.sleep(WATCH_SECONDS)


def _show(found: Status, *, json: bool, all_shards: bool) -> None:
    if json:
        print_json({**_as_dict(found), "waiting": found.waiting})
        return
    _show_servers(found)
    _show_workers(found.workers)
    shown = [shard for shard in found.shards if all_shards or not shard.is_at_rest]
    if len(shown) < len(found.shards):
        out.print(_describe_rest([shard for shard in found.shards if shard.is_at_rest]))
    show_shards(shown)
    show_verdict(found)


def _describe_rest(shards: list[ShardStatus]) -> str:
    """Shards at rest, in a line."""
    slowest = max((shard.answer_seconds or 0 for shard in shards), default=0)
    latency = f", the slowest answer lately in {slowest * 1000:,.0f} ms" if slowest else ""
    return f"Shards    {len(shards):,} have a worker and wait for nothing{latency}"


def _as_dict(found: Status) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__struct_fields__}


def _show_servers(found: Status) -> None:
    postgres, redis = found.postgres, found.redis
    out.print(f"Postgres  {f'version {postgres.version}' if postgres else NOT_USABLE}")
    if redis is None:
        out.print(f"Redis     {NOT_USABLE}")
    else:
        memory = f"{redis.used_memory_bytes / MIB:,.0f} MiB in use"
        if redis.maxmemory_bytes:
            memory += f" of {redis.maxmemory_bytes / MIB:,.0f}"
        out.print(f"Redis     version {redis.version}, {memory}")
    if postgres is not None:
        out.print(f"Now       {found.transfers_per_second:,.0f} transfers a second (last 10 s)")
        waiting = "unknown" if found.waiting is None else f"{found.waiting:,}"
        out.print(f"Waiting   {waiting} entries in the streams")
        for frozen in found.freezes:
            how = "declined" if frozen.declines else f"{frozen.transfers:,} transfers wait"
            out.print(
                f"FROZEN    {frozen.kind} {frozen.what}, by {printable(frozen.by)}: "
                f"{printable(frozen.reason)} ({how})"
            )
        holds = f"{postgres.holds_pending:,}{'+' if postgres.holds_pending >= 100_000 else ''}"
        out.print(f"Holds     {holds} with a timeout, {postgres.holds_overdue:,} overdue")
        if postgres.dead_letters:
            out.print(
                f"Aside     {postgres.dead_letters:,} dead letters that nobody dealt with: "
                "engine letters list --state open"
            )
    out.print()


def _show_workers(workers: list[WorkerReport]) -> None:
    if not workers:
        return
    print_table(
        ["worker", "host", "process", "state", "shards", "last flush", "waits for"],
        [
            (
                worker.worker[:8],
                worker.host,
                str(worker.process),
                worker.state if worker.state != "dead" else "DEAD",
                describe_shards(worker.shards) or _why_none(worker),
                None if worker.last_flush_at is None else _to_the_second(worker.last_flush_at),
                worker.waits_for or worker.in_postgres,
            )
            for worker in workers
        ],
        numbers=["process"],
    )
    out.print()


def _to_the_second(time: str) -> str:
    return time[:19].replace("T", " ")


def _why_none(worker: WorkerReport) -> str:
    return "none, drained" if worker.drained else "none, standing by"


COLUMNS: Final = (
    "shard", "worker", "state", "position", "transfers/s", "locked", "waiting", "oldest", "slowest",
)  # fmt: skip
"""`slowest`: the slowest answer lately."""


def show_shards(shards: list[ShardStatus]) -> None:
    """Print a line for each shard."""
    if not shards:
        return
    print_table(
        COLUMNS,
        [
            (
                shard.shard,
                shard.worker[:8] if shard.worker else "-",
                shard.state.upper() if shard.state in {"dead", "free"} else shard.state,
                shard.position,
                f"{shard.transfers_per_second:,.0f}",
                shard.locked_flushes,
                "?" if shard.waiting is None else shard.waiting,
                None
                if shard.oldest_waiting_seconds is None
                else describe_seconds(shard.oldest_waiting_seconds),
                None if shard.answer_seconds is None else f"{shard.answer_seconds * 1000:,.0f} ms",
            )
            for shard in shards
        ],
        numbers=[name for name in COLUMNS if name not in {"worker", "state", "position"}],
    )
    out.print()


def show_verdict(found: Status) -> None:
    """Print what is wrong and what to do, or that nothing is."""
    if found.healthy:
        out.print("All is well.", style="green")
    for problem in found.problems:
        out.print(f"WRONG: {printable(problem.problem)}", style="bold red")
        out.print(f"   DO: {printable(problem.action)}")
