"""The overview: is all well, how fast does it go, who has what, what happened."""

from collections.abc import Mapping, Sequence
from typing import Final

from engine.console.events_page import event_table
from engine.console.layout import facts, live, section, table, time, worker_name
from engine.console.markup import Child, Html, tag
from engine.operating.health import ShardStatus, Status
from engine.operating.overview import CHART_SECONDS, Overview
from engine.operating.phrases import (
    describe_bytes,
    describe_latency,
    describe_seconds,
    describe_shards,
)
from engine.store.reports import PaceSecond, WorkerReport

TINTS: Final = 6
"""Colours that workers are told apart by; their names stand there too."""
CHART_WIDTH: Final = 600
CHART_HEIGHT: Final = 120


def overview_content(found: Overview) -> list[Child]:
    """The page below its heading."""
    status = found.status
    return [
        live("verdict", verdict(status)),
        live("figures", _figures(found)),
        section(
            "Pace", live("pace", _chart(found.seconds)), id_="pace-heading"
        ),
        section("Shards", live("shards", _shards(status))),
        section("Workers", live("workers", _workers(status))),
        section("Lately", live("lately", _lately(found))),
    ]  # fmt: skip


def _lately(found: Overview) -> Html:
    return event_table("The last ten minutes", found.events, is_short=True)


def verdict(status: Status) -> Html:
    """All is well, or what is wrong and what to do about it."""
    if status.healthy:
        return tag("p", tag("strong", "All is well."), class_="verdict well", data_announce=True)
    count = len(status.problems)
    heading = f"{count} {'thing is' if count == 1 else 'things are'} wrong"
    return tag(
        "div",
        tag("h2", heading, data_announce=True),
        tag(
            "ul",
            *(
                tag("li", tag("strong", p.problem), tag("p", "Do: ", p.action))
                for p in status.problems
            ),
        ),
        class_="verdict wrong",
    )


def _figures(found: Overview) -> Html:
    status, pace = found.status, found.pace
    postgres = status.postgres
    oldest, slowest = found.oldest_waiting_seconds, found.slowest_answer_seconds
    latency = None
    if pace is not None and pace.decided_seconds_median is not None:
        p99 = describe_latency(pace.decided_seconds_p99 or 0)
        latency = [describe_latency(pace.decided_seconds_median), tag("small", f"99%: {p99}")]
    return facts(
        ("Created a second", None if pace is None else f"{pace.created_per_second:,.0f}"),
        ("Declined a second", None if pace is None else f"{pace.declined_per_second:,.1f}"),
        ("Decided after", latency or "-"),
        ("Slowest answer", "-" if slowest is None else describe_latency(slowest)),
        ("Waiting entries", "unknown" if status.waiting is None else f"{status.waiting:,}"),
        ("Oldest waiting", "-" if oldest is None else describe_seconds(oldest)),
        ("Living workers", f"{found.alive}"),
        ("Shards unowned", f"{found.unowned} of {len(status.shards)}"),
        ("Dead letters", None if postgres is None else f"{postgres.dead_letters:,}"),
        ("Holds overdue", None if postgres is None else f"{postgres.holds_overdue:,}"),
        ("Freezes", f"{len(status.freezes):,}"),
        ("Postgres", "away" if postgres is None else postgres.version),
        (
            "Redis",
            "away"
            if status.redis is None
            else [
                status.redis.version,
                tag("small", describe_bytes(status.redis.used_memory_bytes)),
            ],
        ),
        class_="figures",
    )


def _chart(seconds: Sequence[PaceSecond]) -> Html:
    """What was created in each second, as bars; the second that is not over is left out."""
    by_ago: Mapping[int, PaceSecond] = {s.ago: s for s in seconds if 0 < s.ago <= CHART_SECONDS}
    most = max((s.created + s.declined for s in by_ago.values()), default=0)
    total = sum(s.created for s in by_ago.values())
    said = (
        f"Transfers created in each of the last {CHART_SECONDS} seconds: {total:,} in all, "
        f"at most {most:,} in a second"
    )
    width = CHART_WIDTH / CHART_SECONDS
    bars = []
    for ago, second in by_ago.items():
        left = f"{(CHART_SECONDS - ago) * width:.1f}"
        low = 0.0
        for count, name in ((second.created, "created"), (second.declined, "declined")):
            height = count / most * CHART_HEIGHT if most else 0
            if height:
                bars.append(tag("rect", class_=name, x=left, y=f"{CHART_HEIGHT - low - height:.1f}",
                                width=f"{width - 1:.1f}", height=f"{height:.1f}"))  # fmt: skip
            low += height
    chart = tag(
        "svg",
        *bars,
        viewBox=f"0 0 {CHART_WIDTH} {CHART_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
        class_="chart",
    )
    return tag("figure", chart, tag("figcaption", f"{said}."))


def _shards(status: Status) -> Html:
    tints = {worker.worker: place % TINTS for place, worker in enumerate(status.workers)}
    if not status.shards:
        return tag("p", "The shards are not known.", class_="none")
    tiles = tag("ul", *(_tile(shard, tints) for shard in status.shards), class_="shards")
    restless = [s for s in status.shards if s.state != "alive" or s.waiting]
    return tag(
        "div",
        tiles,
        table(
            "Shards that are not at rest",
            ["Shard", "State", "Worker", "Position", "Transfers/s", "Waiting", "Oldest"],
            [_shard_row(shard) for shard in restless],
            numbers={"Transfers/s", "Waiting", "Oldest"},
            empty="Every shard has a living worker, and nothing waits.",
        ),
    )


def _tile(shard: ShardStatus, tints: Mapping[str, int]) -> Html:
    owner = shard.worker[:8] if shard.worker else "nobody"
    goes = f" to {shard.target[:8]}" if shard.target else ""
    said = f"shard {shard.shard}, {shard.state}, {owner}{goes}"
    tint = tints.get(shard.worker or "")
    rate = f"{shard.transfers_per_second:,.0f}/s"
    return tag(
        "li",
        tag("b", f"{shard.shard}"),
        tag("span", f"{owner}{goes}", class_="owner"),
        tag("span", rate if shard.state == "alive" else shard.state),
        class_=f"shard {shard.state}" + ("" if tint is None else f" tint{tint}"),
        title=said,
        data_owner=shard.worker or "",
    )  # fmt: skip


def _shard_row(shard: ShardStatus) -> list[Child]:
    oldest = shard.oldest_waiting_seconds
    return [
        f"{shard.shard}",
        shard.state + (f": {shard.frozen_by}" if shard.frozen_by else ""),
        worker_name(shard.worker),
        tag("code", shard.position),
        f"{shard.transfers_per_second:,.0f}",
        "?" if shard.waiting is None else f"{shard.waiting:,}",
        "-" if oldest is None else describe_seconds(oldest),
    ]


def _workers(status: Status) -> Html:
    rates: dict[str, float] = {}
    for shard in status.shards:
        if shard.worker is not None:
            rates[shard.worker] = rates.get(shard.worker, 0.0) + shard.transfers_per_second
    return table(
        "Workers that live, wait, or are dead and still own shards",
        ["Worker", "State", "Process", "Shards", "Transfers/s", "Lease left", "Last flush"],
        [_worker_row(worker, rates.get(worker.worker, 0.0)) for worker in status.workers],
        numbers={"Transfers/s", "Lease left"},
        empty="There is no worker: what is sent waits. Start one: engine worker",
    )


def _worker_row(worker: WorkerReport, rate: float) -> list[Child]:
    state = worker.state + (", drained" if worker.drained else "")
    shards = f"{len(worker.shards)}: {describe_shards(worker.shards)}" if worker.shards else "none"
    waits = f": {worker.waits_for}" if worker.waits_for else ""
    return [
        worker_name(worker.worker),
        state + waits,
        f"{worker.process} on {worker.host}",
        shards,
        f"{rate:,.0f}",
        describe_seconds(max(worker.lease_seconds_left, 0.0)),
        time(worker.last_flush_at) if worker.last_flush_at else "-",
    ]
