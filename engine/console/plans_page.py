"""Plans: those that were applied, what one would do now, and applying or aborting it."""

from typing import Final

from engine.console.forms import first_step
from engine.console.layout import Frame, live, section, table, time, worker_name
from engine.console.markup import Child, Html, tag
from engine.store.reports import PlanReport, open_reports
from shards.planning import Plan
from shards.seats import NOBODY

PLANS_MAX: Final = 50


async def plans_content(frame: Frame, dsn: str) -> list[Child]:
    """The page below its heading."""
    async with open_reports(dsn) as reports:
        plans = await reports.plans(PLANS_MAX)
    return [
        live("plans", _plans(frame, plans)),
        section(
            "Even out the load",
            tag("p", "A plan says which shards should go where. Drawing one changes nothing."),
            tag("p", tag("a", "Draw a plan", href="/plans/new", class_="button")),
        ),
    ]


def _plans(frame: Frame, plans: list[PlanReport]) -> Html:
    return table(
        "Plans that were applied, the newest first",
        ["Plan", "State", "By", "Began", "Moves", "Stood still", ""],
        [
            [
                tag("code", plan.plan[:8], title=plan.plan),
                plan.state + (f": {plan.why}" if plan.why else ""),
                tag("bdi", plan.applied_by),
                time(plan.began_at),
                _moves(plan),
                "-" if plan.pause_seconds_max is None
                else f"{plan.pause_seconds_max * 1000:.0f} ms at most",
                first_step(frame, "abort", f"Abort {plan.plan[:8]}", plan=plan.plan)
                if plan.state in {"applying", "failed"} else "-",
            ]
            for plan in plans
        ],
        empty="No plan was applied yet.",
    )  # fmt: skip


def _moves(plan: PlanReport) -> str:
    parts = [f"{plan.moved} done"]
    parts += [f"{plan.moving} under way"] if plan.moving else []
    parts += [f"{plan.not_moved} not done"] if plan.not_moved else []
    return ", ".join(parts)


def draft_content(frame: Frame, plan: Plan) -> list[Child]:
    """A plan that was drawn just now, below its heading."""
    pause = plan.expected_pause_ms
    stands = f"about {pause:.0f} ms, as lately" if pause is not None else "not measured yet"
    moves = table(
        f"{len(plan.moves)} moves",
        ["Shard", "From", "To", "Weight"],
        [
            [f"{step.shard}", _named(step.source), _named(step.target), f"{step.weight:,.0f}"]
            for step in plan.moves
        ],
        numbers={"Weight"},
        empty="Nothing is to be moved: no move would make the load more even.",
    )
    skew = f"The busiest worker has {plan.skew_before:.2f} of the mean load"
    return [
        tag("p", f"{skew}, then {plan.skew_after:.2f}." if plan.moves else f"{skew}."),
        moves,
        tag("p", f"Each shard that is moved stands still: {stands}; the others go on.")
        if plan.moves
        else None,
        first_step(frame, "apply", "Apply this plan", plan=plan.plan) if plan.moves else None,
        tag("p", tag("a", "Back to the plans", href="/plans")),
    ]


def _named(worker: str) -> Child:
    return "nobody" if worker == NOBODY else worker_name(worker)
