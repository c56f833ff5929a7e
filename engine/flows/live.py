"""A flow in memory.

A worker has a hundred thousand of them, so that they are made of few objects, and of none that
Python's collector of cycles has to look at.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from engine.flows.forms import Form
from engine.flows.happenings import Flow
from engine.flows.journal import Row, Signal, State

if TYPE_CHECKING:
    from engine.flows.plans import Planned


class Live(msgspec.Struct, eq=False, gc=False):
    """What never changes in a flow, its journal, and its signals.

    Rows that were made in columns are written out when somebody reads them; so is what the rules
    keep of a journal.
    """

    flow: Flow
    record: Any
    """As it is kept: a `FlowRecord`."""
    form: Form
    """Of its journal."""
    signals: Sequence[Signal]
    """All that came for it, oldest first."""
    unheard: Sequence[Signal]
    """Those that no row names."""
    due_at: int = 0
    """Of the newest row."""
    asked_id: bytes = b""
    """The first transfer of what was asked last."""
    conditions: tuple[bool, ...] | None = None
    """Which conditions of its definition hold, once somebody has asked."""
    _rows: Sequence[Row] = ()
    _planned: "Planned | None" = None
    """The newest rows that were made in columns, and not written out."""
    _state: State | None = None

    @property
    def rows(self) -> Sequence[Row]:
        """The journal."""
        if self._planned is not None:
            pieces = [piece.rows_of(self.flow.id) for piece in self._pieces()]
            self._rows = [*self._rows, *(row for rows in reversed(pieces) for row in rows)]
            self._planned = None
        return self._rows

    def _pieces(self) -> "list[Planned]":
        """What was made in columns, the newest first."""
        found = []
        piece = self._planned
        while piece is not None:
            found.append(piece)
            piece = piece.before
        return found

    @property
    def state(self) -> State:
        """What the journal says, as the rules have it; they add to it."""
        if self._state is None:
            self._state = State(self.flow.table, self.rows)
        return self._state

    @property
    def last(self) -> Row | None:
        """The newest row."""
        if self._planned is not None:
            return self._planned.rows_of(self.flow.id)[-1]
        return self._rows[-1] if self._rows else None

    def request_of(self, seq: int) -> bytes:
        """What a row has asked for."""
        piece = self._planned
        while piece is not None:
            if piece.plan.patterns[-1].seq == seq:
                return piece.request
            piece = piece.before
        return self._rows[seq - 1].request

    def forget_state(self) -> None:
        """What the rules have added is no part of the journal."""
        self._state = None

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Take in rows that the rules made."""
        self._rows = [*self.rows, *rows]
        self.form = self.form.after(rows)
        self.due_at = rows[-1].due_at
        consumed = set()
        for row in rows:
            if row.state == "asked":
                self.asked_id = row.transfer_id
            if row.signal:
                consumed.add(row.signal)
        if consumed:
            self.unheard = [s for s in self.unheard if s.number not in consumed]

    def add_planned(self, planned: "Planned", due_at: int) -> None:
        """Take in rows that were made in columns."""
        plan = planned.plan
        planned.before = self._planned
        self._planned = planned
        self._state = None
        self.form = plan.form
        self.due_at = due_at
        if planned.request:
            self.asked_id = planned.new_id
        if len(plan.left) < len(self.unheard):
            self.unheard = [self.unheard[place] for place in plan.left] if plan.left else ()

    def hear(self, signal: Signal) -> None:
        """A signal came."""
        is_same = self.unheard is self.signals
        self.signals = _with(self.signals, signal)
        self.unheard = self.signals if is_same else _with(self.unheard, signal)


def _with(signals: Sequence[Signal], signal: Signal) -> Sequence[Signal]:
    """One more; most flows have none, and so no list."""
    if not isinstance(signals, list):
        return [*signals, signal]
    signals.append(signal)
    return signals


def live_of(
    flow: Flow, record: Any, rows: Sequence[Row], signals: Sequence[Signal], first: Form
) -> Live:
    """A flow as its rows say.

    Args:
        flow: What never changes.
        record: As it is kept.
        rows: Its journal.
        signals: All that came for it, oldest first.
        first: The form of a journal without rows.
    """
    live = Live(flow, record, first, signals, signals)
    if rows:
        live.add_rows(rows)
    return live
