"""`engine top`: what `engine console` shows, in a terminal."""

import asyncio
import sys
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, out, print_json, run_loop
from engine.operating.health import ShardStatus
from engine.operating.overview import CHART_SECONDS, Overview, gather_overview
from engine.operating.phrases import (
    describe_latency,
    describe_seconds,
    describe_shards,
    printable,
)
from engine.servers import Addresses
from engine.store.reader import find_reader

WIDE: Final = 100
"""Of columns, from which on everything has room."""
NARROW: Final = 60
"""Below it tables have only what one must know."""
PAIRED: Final = 70
"""From which on two figures stand beside each other."""
SHARDS_SHOWN_MAX: Final = 32
"""With more, those at rest with a living worker are only counted."""
EVENTS_SHOWN: Final = 6

_BARS: Final = " ▁▂▃▄▅▆▇█"


def top(
    every: Annotated[
        float, typer.Option("--every", min=0.2, metavar="SECONDS", help="How often to look.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Watch shards and workers, rates, lag, latency, and what happened.

    Until Ctrl-C; once where it does not print to a terminal. It ends with 1 when something was
    wrong at the last look.

    Example: engine top --data ./ledger
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    is_once = once or json or not sys.stdout.isatty()
    found = run_loop(_look(addresses) if is_once else _watch(addresses, every))
    if json:
        document = msgspec.structs.asdict(found) | {"waiting": found.status.waiting}
        print_json(document)
    elif is_once:
        out.print(frame(found, out.width))
    raise typer.Exit(0 if found.status.healthy else 1)


async def _reading(addresses: Addresses) -> Addresses:
    return Addresses((await find_reader(addresses.postgres_dsn)).dsn, addresses.redis_url)


async def _look(addresses: Addresses) -> Overview:
    return await gather_overview(await _reading(addresses))


async def _watch(addresses: Addresses, every: float) -> Overview:
    """Look again and again; Ctrl-C ends it. Servers that go away are a problem that is shown."""
    reading = await _reading(addresses)
    console = Console(highlight=False, markup=False)
    found = await gather_overview(reading)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(frame(found, console.width), refresh=True)
                await asyncio.sleep(every)
                found = await gather_overview(reading)
        except asyncio.CancelledError:
            return found


def frame(found: Overview, width: int) -> RenderableType:
    """A moment, for a terminal of so many columns."""
    parts: list[RenderableType] = [_verdict(found), _figures(found, width)]
    parts += [
        _pace(found, width),
        _workers(found, width),
        _shards(found, width),
        _events(found, width),
    ]
    return Group(*parts)


def _verdict(found: Overview) -> Text:
    status = found.status
    if status.healthy:
        return Text("All is well.", style="green")
    text = Text()
    for problem in status.problems:
        text.append(f"WRONG: {printable(problem.problem)}\n", style="bold red")
        text.append(f"   DO: {printable(problem.action)}\n")
    text.right_crop(1)
    return text


def _figures(found: Overview, width: int) -> Table:
    status, pace = found.status, found.pace
    oldest, slowest = found.oldest_waiting_seconds, found.slowest_answer_seconds
    median = p99 = "-"
    if pace is not None and pace.decided_seconds_median is not None:
        median = describe_latency(pace.decided_seconds_median)
        p99 = describe_latency(pace.decided_seconds_p99 or 0.0)
    figures = [
        ("created/s", "?" if pace is None else f"{pace.created_per_second:,.0f}"),
        ("declined/s", "?" if pace is None else f"{pace.declined_per_second:,.1f}"),
        ("decided after", f"{median}, 99%: {p99}"),
        ("slowest answer", "-" if slowest is None else describe_latency(slowest)),
        ("waiting", "?" if status.waiting is None else f"{status.waiting:,} entries"),
        ("oldest", "-" if oldest is None else describe_seconds(oldest)),
        ("workers", f"{found.alive} alive"),
        ("unowned", f"{found.unowned} of {len(status.shards)} shards"),
        ("dead letters", "?" if status.postgres is None else f"{status.postgres.dead_letters:,}"),
        ("frozen", f"{len(status.freezes):,}"),
    ]
    pairs = 1 if width < PAIRED else 2 if width < WIDE else 3
    table = Table.grid(padding=(0, 2))
    for _ in range(pairs):
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True)
    for first in range(0, len(figures), pairs):
        table.add_row(*(cell for pair in figures[first : first + pairs] for cell in pair))
    return table


def _pace(found: Overview, width: int) -> Text:
    """What was created in each of the last seconds, a character each."""
    seconds = min(CHART_SECONDS, width - 20)
    by_ago = {second.ago: second.created for second in found.seconds if 0 < second.ago <= seconds}
    most = max(by_ago.values(), default=0)
    if not most:
        return Text(f"nothing was created within the last {seconds} s", style="dim")
    bars = "".join(
        _BARS[-(-by_ago.get(ago, 0) * (len(_BARS) - 1) // most)] for ago in range(seconds, 0, -1)
    )
    return Text.assemble((bars, "cyan"), f" {most:,}/s most", no_wrap=True)


def _table(*columns: str, numbers: int = 0) -> Table:
    """A table without lines, of which the last columns are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        right = place >= len(columns) - numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    return table


def _workers(found: Overview, width: int) -> RenderableType:
    workers = found.status.workers
    if not workers:
        return Text("no worker: what is sent waits; start one: engine worker", style="bold red")
    rates: dict[str, float] = {}
    for shard in found.status.shards:
        rates[shard.worker or ""] = rates.get(shard.worker or "", 0.0) + shard.transfers_per_second
    is_wide = width >= WIDE
    columns = ["worker", "state", "shards"] + (["process"] if is_wide else [])
    table = _table(*columns, "lease", "transfers/s", numbers=2)
    for worker in workers:
        state = worker.state + (", drained" if worker.drained else "")
        cells = [worker.worker[:8], state, describe_shards(worker.shards) or "none"]
        cells += [printable(f"{worker.process} on {worker.host}")] if is_wide else []
        lease = describe_seconds(max(worker.lease_seconds_left, 0.0))
        style = None if worker.alive else "bold red"
        table.add_row(*cells, lease, f"{rates.get(worker.worker, 0.0):,.0f}", style=style)
    return table


def _shards(found: Overview, width: int) -> RenderableType:
    shown = shards = found.status.shards
    if len(shards) > SHARDS_SHOWN_MAX or width < NARROW:
        shown = [s for s in shards if s.waiting or s.state != "alive"]
    is_wide = width >= WIDE
    columns = ["shard", "worker", "state"] + (["position"] if is_wide else [])
    table = _table(*columns, "waiting", "oldest", "transfers/s", numbers=3)
    for shard in shown:
        table.add_row(*_shard_cells(shard, is_wide=is_wide), style=_shard_style(shard))
    at_rest = len(shards) - len(shown)
    rest = Text(f"{at_rest} shards have a worker and wait for nothing", style="dim")
    if not shown:
        return rest
    return Group(table, rest) if at_rest else table


def _shard_cells(shard: ShardStatus, *, is_wide: bool) -> list[str]:
    oldest = shard.oldest_waiting_seconds
    goes = f" to {shard.target[:8]}" if shard.target else ""
    return [
        f"{shard.shard}",
        (shard.worker or "-")[:8] + goes,
        shard.state,
        *([shard.position] if is_wide else []),
        "?" if shard.waiting is None else f"{shard.waiting:,}",
        "" if oldest is None else describe_seconds(oldest),
        f"{shard.transfers_per_second:,.0f}",
    ]


def _shard_style(shard: ShardStatus) -> str | None:
    return {"dead": "bold red", "free": "bold red", "alive": None}.get(shard.state, "yellow")


def _events(found: Overview, width: int) -> RenderableType:
    if not found.events:
        return Text("nothing happened within the last ten minutes", style="dim")
    lines = []
    for event in found.events[:EVENTS_SHOWN]:
        shards = f" shards {describe_shards(event.shards)}" if event.shards else ""
        text = (
            f"{event.time[11:19]} {event.event.replace('_', ' ')}{shards}: {printable(event.what)}"
        )
        lines.append(Text(text, no_wrap=True, overflow="ellipsis"))
        lines[-1].truncate(width, overflow="ellipsis")
    return Group(*lines)
