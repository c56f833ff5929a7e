"""The journal of a flow, and what it says: every row in order is the whole truth of it."""

from collections.abc import Iterable
from typing import Any, Final, Literal, TypeAlias

import msgspec

from engine.flows.money import unpack
from engine.flows.table import MONEY, Table
from engine.ledger.nouns import Transfer

StateName: TypeAlias = Literal[
    "ready", "asked", "waiting", "review", "unknown", "done", "ended", "stopped"
]

OVER: Final = frozenset({"done", "unknown", "ended"})
"""States after which a step is left."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row of `flows.steps`. The newest one of a flow is its state."""

    flow: bytes
    seq: int
    step: int
    state: StateName
    event: str = ""
    attempt: int = 0
    due_at: int = 0
    """Microseconds since 1970; zero for never."""
    transfer_id: bytes = b""
    reference: str = ""
    """Of a signal its message, of a decision who took it."""
    signal: int = 0
    """The number of the signal that it consumed."""
    request: bytes = b""
    """What was asked, frozen: transfers, or the start of a child."""
    detail: dict[str, Any] = {}
    time: int = 0


class Signal(msgspec.Struct, frozen=True, gc=False):
    """A row of `flows.inbox`: what came from outside, whether or not anybody waits for it."""

    number: int
    """Rises in the order of arrival."""
    name: str
    event: str
    message_id: str


class State:
    """What a journal says.

    Args:
        table: The definition of the flow.
        rows: All rows so far, in order.
    """

    def __init__(self, table: Table, rows: Iterable[Row] = ()) -> None:
        self._table = table
        self.last: Row | None = None
        self.before: Row | None = None
        """The newest row that does not say that the flow stopped."""
        self.visits: dict[int, int] = {}
        """By step, how often it was entered."""
        self.taken: dict[tuple[int, str], int] = {}
        """By step and event, how often that came of it."""
        self.holds: dict[int, Transfer] = {}
        """By step, its newest hold, open or not."""
        self.held: dict[int, Transfer] = {}
        """By step, the hold that is open, or that nobody has found ended."""
        self.moved: dict[int, list[Transfer]] = {}
        """By step, the transfers that moved money which was not moved back."""
        self.consumed: set[int] = set()
        """The numbers of the signals that rows name."""
        self.reviews: dict[int, str] = {}
        """By sequence number, how a review ended."""
        self.outside: dict[int, Row] = {}
        """By step, the newest attempt of a call."""
        self.has_reached = False
        """Whether something was done that a cancellation cannot take back."""
        self.is_cancelling = False
        self.is_unsure = False
        """Whether an attempt of the current call may have been done."""
        self._asked: Row | None = None
        self._inside = False
        for row in rows:
            self.apply(row)

    @property
    def seq(self) -> int:
        """The newest sequence number."""
        return self.last.seq if self.last else 0

    @property
    def asked(self) -> Row | None:
        """The row of the money step or child that is asked for and not answered."""
        return self._asked if self.last is not None and self.last.state == "asked" else None

    def apply(self, row: Row) -> None:
        """Take in the next row."""
        step = self._table.steps[row.step]
        former = self.last
        self.last = row
        if row.state == "stopped":
            return
        self.before = row
        if row.signal:
            self.consumed.add(row.signal)
        for hold in row.detail.get("over", ()):
            self.held.pop(hold, None)
        if row.event == "cancel":
            self.is_cancelling = True
        if former is not None and former.state == "review" and row.state in OVER:
            how = {"late": "late", "evidence": "newer_evidence"}
            self.reviews[former.seq] = how.get(row.event, "already_decided")
        if row.state in OVER:
            self._inside = False
            key = (row.step, row.event)
            self.taken[key] = self.taken.get(key, 0) + 1
            if step.kind in MONEY and row.state == "done" and self._asked is not None:
                self._settle(row, self._asked)
            return
        if row.event == "start_at":
            return
        if not self._inside:
            self.visits[row.step] = self.visits.get(row.step, 0) + 1
            self._inside = True
            self.is_unsure = False
        self.is_unsure |= row.event == "unsure"
        if row.state == "asked":
            self._asked = row
            if step.kind == "call":
                self.outside[row.step] = row
        outside = step.kind in {"wait", "call"} and not step.nothing_sent
        if outside or step.kind in {"post", "move", "chain", "reverse", "start"}:
            self.has_reached = True

    def _settle(self, row: Row, asked: Row) -> None:
        step = self._table.steps[row.step]
        good = row.event in {"created", "done"}
        if step.kind == "hold" and good:
            [hold] = unpack(asked.request)
            self.holds[row.step] = self.held[row.step] = hold
        elif step.kind in {"post", "void"} and (good or row.detail.get("hold") == "over"):
            self.held.pop(step.of, None)
        if not good:
            return
        if step.kind in {"post", "move", "chain"}:
            self.moved[row.step] = unpack(asked.request)
        elif step.kind == "reverse":
            self.moved.pop(step.of, None)
