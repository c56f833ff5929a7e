"""A flow in memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.flows.forms import Form
from engine.flows.happenings import Flow
from engine.flows.journal import Row, Signal, State

if TYPE_CHECKING:
    from engine.flows.flush import FlowRecord
    from engine.flows.plans import Planned


class Live:
    """What never changes in a flow, its journal, and its signals.

    Rows that were made in columns are written out when somebody reads them; so is what the rules
    keep of a journal.

    Args:
        flow: What never changes.
        record: As it is kept.
        rows: Its journal.
        signals: All that came for it, oldest first.
        form: That of a journal without rows.
    """

    __slots__ = (
        "_planned",
        "_rows",
        "_state",
        "asked_id",
        "conditions",
        "due_at",
        "flow",
        "form",
        "record",
        "requests",
        "signals",
        "unheard",
    )

    def __init__(
        self,
        flow: Flow,
        record: "FlowRecord",
        rows: list[Row],
        signals: list[Signal],
        form: Form,
    ) -> None:
        self.flow = flow
        self.record = record
        self.signals = signals
        self.unheard: Sequence[Signal] = signals
        """Those that no row names."""
        self.form = form
        self.due_at = 0
        """Of the newest row."""
        self.asked_id = b""
        """The first transfer of what was asked last."""
        self.requests: dict[int, bytes] | None = None
        """By sequence number, what was asked."""
        self.conditions: tuple[bool, ...] | None = None
        """Which conditions of its definition hold, once somebody has asked."""
        self._rows: list[Row] = []
        self._planned: list[Planned] | None = None
        self._state: State | None = None
        if rows:
            self.add_rows(rows)

    @property
    def rows(self) -> list[Row]:
        """The journal."""
        if self._planned:
            for planned in self._planned:
                self._rows += planned.rows_of(self.flow.id)
            self._planned = None
        return self._rows

    @property
    def state(self) -> State:
        """What the journal says, as the rules have it; they add to it."""
        if self._state is None:
            self._state = State(self.flow.table, self.rows)
        return self._state

    @property
    def last(self) -> Row | None:
        """The newest row."""
        if self._planned:
            return self._planned[-1].rows_of(self.flow.id)[-1]
        return self._rows[-1] if self._rows else None

    def forget_state(self) -> None:
        """What the rules have added is no part of the journal."""
        self._state = None

    def add_rows(self, rows: list[Row]) -> None:
        """Take in rows that the rules made."""
        self.rows.extend(rows)
        self.form = self.form.after(rows)
        self.due_at = rows[-1].due_at
        consumed = set()
        for row in rows:
            if row.state == "asked":
                self.asked_id = row.transfer_id
            if row.request:
                self._keep_request(row.seq, row.request)
            if row.signal:
                consumed.add(row.signal)
        if consumed:
            self.unheard = [s for s in self.unheard if s.number not in consumed]

    def add_planned(self, planned: "Planned", form: Form, due_at: int) -> None:
        """Take in rows that were made in columns; `unheard` is what they leave."""
        if self._planned is None:
            self._planned = []
        self._planned.append(planned)
        self._state = None
        self.form = form
        self.due_at = due_at
        if planned.request:
            self.asked_id = planned.new_id
            self._keep_request(planned.plan.patterns[-1].seq, planned.request)

    def _keep_request(self, seq: int, request: bytes) -> None:
        if self.requests is None:
            self.requests = {}
        self.requests[seq] = request

    def hear(self, signal: Signal) -> None:
        """A signal came."""
        self.signals.append(signal)
        if self.unheard is not self.signals:
            self.unheard = [*self.unheard, signal]
