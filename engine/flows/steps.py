"""What flows do in a round: each as the rules say, in columns where many do the same.

Nothing here waits. What one flow breaks stops that one.
"""

from collections.abc import Collection, Mapping
from typing import Final

import structlog

from engine.flows.columns import Group, StepColumns, group_by_form
from engine.flows.flush import FlowFlush, Review, ReviewEnd
from engine.flows.happenings import Advance, Ask, Begin, Call, Happening, Stopped
from engine.flows.journal import Row
from engine.flows.live import Live
from engine.flows.plans import Before, Plan, Planned, plan_of, plan_rows
from engine.flows.rules import advance

_AT_ONCE: Final = frozenset({"asked", "unknown"})
"""States in which a new owner has to look at once."""

_log = structlog.get_logger()


class Steps:
    """The steps of one round, and what is done after they are committed.

    Args:
        flush: Gets what is written.
        functions: The names of the functions that can be called here.
        now: Postgres's clock, in microseconds.
    """

    def __init__(self, flush: FlowFlush, functions: Collection[str], now: int) -> None:
        self.asks: list[Ask] = []
        self.calls: list[Call] = []
        self.begins: list[Begin] = []
        self.timers: dict[bytes, int] = {}
        """By flow, when it is to be looked at; zero for never."""
        self.flush = flush
        self._functions = functions
        self._now = now
        self._soon: dict[Live, Happening] = {}
        """By flow, what happens to it together with what happens to others."""

    def happen_soon(self, live: Live, happening: Happening) -> None:
        """Let something happen to a flow, together with what happens to others."""
        self.catch_up_with(live)
        self._soon[live] = happening

    def catch_up_with(self, live: Live) -> None:
        """Let happen what is to happen soon, if it is to this flow too."""
        if live in self._soon:
            self.catch_up()

    def catch_up(self) -> None:
        """Let happen all that is to happen soon."""
        soon, self._soon = self._soon, {}
        groups, others = group_by_form(soon, self._now)
        for group in groups:
            others += self._happen_by_plan(group, soon)
        for live in others:
            self.happen(live, soon[live])

    def _happen_by_plan(self, group: Group, soon: Mapping[Live, Happening]) -> list[Live]:
        """Decide a group; returns those of whom the rules are to be asked."""
        plans, lives = group.form.plans, group.lives
        if group.key not in plans:
            [first, *lives] = lives
            before = Before(first.form, first.unheard, first.asked_id)
            made = self._advance(first, soon[first])
            if made is None:  # it was stopped, and it alone
                return lives
            group.form.add_plan(group.key, plan_of(first, before, made))
        plan = plans[group.key]
        if plan is None or not lives:
            return lives
        try:
            planned = plan_rows(plan, lives, lives, self._now)
        except Exception as error:  # noqa: BLE001 - the rules find out which flow it is
            _log.warning("flows_one_at_a_time", reason=repr(error))
            return lives
        if plan.patterns:
            self._note_planned(plan, lives, planned)
        return []

    def _note_planned(self, plan: Plan, lives: list[Live], planned: list[Planned]) -> None:
        flush = self.flush
        flows = [live.flow.id for live in lives]
        last = plan.patterns[-1]
        due_at = self._now + last.due_after if last.due_after else 0
        for live, rows in zip(lives, planned, strict=True):
            live.add_planned(rows, due_at)
        flush.planned.append(StepColumns(plan, flows, planned))
        self.timers.update(dict.fromkeys(flows, due_at))
        if last.state == "ended":
            flush.ended += flows
            for flow in flows:
                flush.open.pop(flow, None)
        else:
            wake = self._now if last.state in _AT_ONCE else due_at or None
            flush.open.update(dict.fromkeys(flows, wake))
        if plan.asked is not None:
            seq = plan.asked.seq
            pairs = zip(flows, planned, strict=True)
            self.asks += [Ask(flow, seq, rows.request) for flow, rows in pairs]

    def happen(self, live: Live, happening: Happening) -> str:
        """Let something happen to a flow; one that breaks is stopped, and it alone."""
        self.catch_up_with(live)
        made = self._advance(live, happening)
        return "" if made is None else made.answer

    def _advance(self, live: Live, happening: Happening) -> Advance | None:
        """Ask the rules; returns None of a flow that broke, and was stopped."""
        was = live.last
        made: Advance | None = None
        try:
            made = advance(
                live.flow, live.state, happening, live.signals, self._now, self._functions
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this flow's alone
            _log.error("flow_stopped", flow=live.flow.id.hex(), reason=repr(error))
            live.forget_state()
            stopped = Stopped(f"defect: {type(error).__name__}")
            self._note(live, was, advance(live.flow, live.state, stopped, (), self._now, ()))
            return None
        self._note(live, was, made)
        return made

    def _note(self, live: Live, was: Row | None, made: Advance) -> None:
        if not made.rows:
            return
        live.add_rows(made.rows)
        self.flush.rows += made.rows
        self.asks += made.asks
        self.calls += made.calls
        self.begins += made.begins
        self._review(live, was, made.rows)
        last = made.rows[-1]
        self.timers[live.flow.id] = last.due_at
        if last.state == "ended":
            self.flush.open.pop(live.flow.id, None)
            self.flush.ended.append(live.flow.id)
        else:
            self.flush.open[live.flow.id] = wake_at(last)

    def _review(self, live: Live, was: Row | None, rows: list[Row]) -> None:
        """Open and end reviews as the rows say."""
        before = was
        for row in rows:
            if before is not None and before.state == "review":
                reason = str(row.detail.get("reason", ""))
                event = row.event or row.state
                end = ReviewEnd(row.flow, before.seq, event, row.reference, reason)
                self.flush.review_ends.append(end)
            if row.state == "review":
                step = live.flow.table.steps[row.step]
                answers = [name for name in step.branches if name != "late"]
                review = Review(row.flow, row.seq, step.question, answers, row.due_at)
                self.flush.reviews.append(review)
            before = row


def wake_at(row: Row) -> int | None:
    """When a new owner has to look at it: at once, where something is asked or unknown."""
    if row.state in _AT_ONCE:
        return row.time
    return row.due_at or None
