"""A round in columns: flows of one form, to which the same happens, go on together.

The rules say of the first of them what happens; that is the plan for all of its form. What the
rules ask of a flow is what a group has in common: the form of its journal, what happens, the
signals that it has not consumed, and which conditions its input meets. Everything unusual, and
whatever is alone, goes the way of the rules.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final

import msgspec

from engine.flows.forms import Form
from engine.flows.happenings import Happening, Looked, Settled, Started
from engine.flows.inputs import column_of
from engine.flows.live import Live
from engine.flows.plans import Plan, Planned

GROUP_MIN: Final = 4
"""Fewer flows are decided one at a time."""

UNHEARD_MAX: Final = 8
"""So is a flow with more signals that it has not consumed."""


class StepColumns(msgspec.Struct, frozen=True):
    """Rows of journals that a plan says."""

    plan: Plan
    flows: list[bytes]
    planned: list[Planned]


class Group(msgspec.Struct, frozen=True):
    """Flows that are decided alike."""

    form: Form
    key: Hashable
    lives: list[Live]


def group_by_form(soon: Mapping[Live, Happening], now: int) -> tuple[list[Group], list[Live]]:
    """Flows that can be decided together, and the others.

    Args:
        soon: Flows, and what happens to each.
        now: Microseconds since 1970.
    """
    _ask_conditions([live for live in soon if live.conditions is None])
    groups: dict[Hashable, Group] = {}
    others: list[Live] = []
    for live, happening in soon.items():
        what = _key_of(live, happening, now)
        if what is None or live.conditions is None or len(live.unheard) > UNHEARD_MAX:
            others.append(live)
            continue
        unheard = tuple([(s.name, s.event) for s in live.unheard]) if live.unheard else ()
        key = (what, live.conditions, unheard)
        found = groups.get((live.form, key))
        if found is None:
            groups[live.form, key] = Group(live.form, key, [live])
        else:
            found.lives.append(live)
    large = []
    for group in groups.values():
        if len(group.lives) < GROUP_MIN:
            others += group.lives
        else:
            large.append(group)
    return large, others


def _key_of(live: Live, happening: Happening, now: int) -> Hashable:
    """All that the rules ask of a happening; None where they are asked each time."""
    if type(happening) is Settled:
        verdict = happening.verdict
        return "settled", happening.seq, verdict.kind, verdict.reason
    if type(happening) is Looked:
        due_at = live.due_at
        return "looked", 0 < due_at <= now, due_at <= happening.heard_until
    if type(happening) is Started and not happening.start_at:
        return "started"
    return None


def _ask_conditions(flows: Sequence[Live]) -> None:
    """See which conditions of its definition each flow's input meets."""
    by_table: dict[bytes, list[Live]] = {}
    for live in flows:
        by_table.setdefault(live.flow.table.hash, []).append(live)
    for lives in by_table.values():
        conditions = lives[0].flow.table.conditions
        if not conditions:
            for live in lives:
                live.conditions = ()
            continue
        inputs = [live.flow.values for live in lives]
        try:
            columns = [list(map(bool, column_of(when, inputs))) for when in conditions]
        except (TypeError, LookupError, ValueError):
            continue  # the rules find out whose it is, if ever they ask
        for live, met in zip(lives, zip(*columns, strict=True), strict=True):
            live.conditions = met
