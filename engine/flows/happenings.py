"""What can happen to a flow, and what is to be done about it: the words of the rules."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from engine.flows.journal import Row
from engine.flows.money import Verdict
from engine.flows.table import Table


class Flow(msgspec.Struct, frozen=True, gc=False):
    """What never changes in a flow."""

    id: bytes
    table: Table
    values: Mapping[str, Any]
    """Its input, typed."""
    accounts: Mapping[str, bytes]
    """Ids of accounts as they are written in the definition and the input."""
    started_by: str = ""
    depth: int = 0


# What can happen.


class Started(msgspec.Struct, frozen=True, gc=False):
    """The flow begins, at once or at a time."""

    start_at: int = 0


class Looked(msgspec.Struct, frozen=True, gc=False):
    """Signals came, or a time may be over."""

    heard_until: int = 0
    """All signals that came before this time are known: what is due by then can be late."""


class Settled(msgspec.Struct, frozen=True, gc=False):
    """A money step was settled, for good."""

    seq: int
    verdict: Verdict


class Answered(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a call came back: done, refused, again (nothing happened), or unknown."""

    seq: int
    outcome: str
    detail: dict[str, Any] = {}


class ChildAnswered(msgspec.Struct, frozen=True, gc=False):
    """The start of a child was answered."""

    seq: int
    outcome: str


class ChildEnded(msgspec.Struct, frozen=True, gc=False):
    """A child that is waited for has ended."""

    end: str


class Decided(msgspec.Struct, frozen=True, gc=False):
    """A person answers a review."""

    answer: str
    by: str
    seq: int = 0
    """Of the review; zero where only one is open."""
    reason: str = ""
    seen: int | None = None
    """The number of the last signal that the person has seen."""


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """Somebody asks for the end of the flow."""

    by: str = ""


class Resumed(msgspec.Struct, frozen=True, gc=False):
    """A person lets a stopped flow go on."""

    by: str = ""
    over: frozenset[bytes] = frozenset()
    """Ids of holds that the ledger says are open no more."""


class Resolved(msgspec.Struct, frozen=True, gc=False):
    """A person says which event came of the step where the flow is."""

    event: str
    by: str
    reason: str


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """Something is wrong with this flow, and with this one alone."""

    reason: str


Happening: TypeAlias = (
    Started
    | Looked
    | Settled
    | Answered
    | ChildAnswered
    | ChildEnded
    | Decided
    | Cancelled
    | Resumed
    | Resolved
    | Stopped
)


# What is to be done afterwards.


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Transfers to send."""

    flow: bytes
    seq: int
    request: bytes


class Call(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a call."""

    flow: bytes
    seq: int
    attempt: int
    key: bytes
    function: str
    within: int


class Begin(msgspec.Struct, frozen=True, gc=False):
    """A child to start: the request is JSON."""

    flow: bytes
    seq: int
    child: bytes
    name: str
    request: bytes


class Advance(msgspec.Struct):
    """What came of a happening."""

    rows: list[Row] = []
    asks: list[Ask] = []
    calls: list[Call] = []
    begins: list[Begin] = []
    answer: str = ""
    """To who decided, cancelled, resumed or resolved."""
