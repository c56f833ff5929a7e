"""One flow in a test's hands: things happen to it one after the other."""

from typing import Any

from engine.flows.definition import Flow as Definition
from engine.flows.happenings import Advance, Ask, Decided, Flow, Happening, Looked, Settled, Started
from engine.flows.inputs import read_input
from engine.flows.journal import Row, Signal, State
from engine.flows.money import CREATED, Verdict, unpack
from engine.flows.rules import advance
from engine.ledger.nouns import Transfer

FLOW = bytes.fromhex("0190c0de000070008000000000000007")
WALLET, TRANSIT = b"\x01" * 16, b"\x02" * 16
SECOND = 1_000_000
INPUT: dict[str, Any] = {"wallet": "w", "amount": 500}


class One:
    """A flow with its journal; every happening is committed, and what was asked is kept."""

    def __init__(
        self,
        definition: Definition,
        written: dict[str, Any] | None = None,
        accounts: dict[str, bytes] | None = None,
        started_by: str = "ann",
        depth: int = 0,
    ) -> None:
        self.table = definition.table()
        values = read_input(INPUT if written is None else written, self.table.struct)
        known = {"w": WALLET, "in-transit": TRANSIT, "a": b"\x03" * 16, "b": b"\x04" * 16}
        self.flow = Flow(FLOW, self.table, values, known | (accounts or {}), started_by, depth)
        self.now = 1_700_000_000 * SECOND
        self.rows: list[Row] = []
        self.signals: list[Signal] = []
        self.functions: set[str] = set(self.table.functions)
        self.made = Advance()
        self.ask: Ask | None = None

    @property
    def state(self) -> State:
        """As a worker that takes over reads it: from the rows alone."""
        return State(self.table, self.rows)

    @property
    def last(self) -> Row:
        return self.rows[-1]

    @property
    def at(self) -> str:
        """The name of the step, and its state."""
        return f"{self.table.steps[self.last.step].name} {self.last.state}"

    @property
    def end(self) -> str:
        assert self.last.state == "ended", self.last
        return self.last.event

    def happen(self, happening: Happening) -> Advance:
        self.made = advance(
            self.flow, self.state, happening, self.signals, self.now, self.functions
        )
        self.rows += self.made.rows
        self.ask = self.made.asks[-1] if self.made.asks else self.ask
        return self.made

    def start(self) -> "One":
        self.happen(Started())
        return self

    def asked(self) -> list[Transfer]:
        """The transfers that were asked for last."""
        assert self.ask is not None
        return unpack(self.ask.request)

    def settle(self, verdict: Verdict = CREATED) -> Advance:
        return self.happen(Settled(self.asked()[0].user_data_32, verdict))

    def decline(self, reason: str = "exceeds_credits") -> Advance:
        return self.settle(Verdict("declined", reason))

    def signal(self, name: str, event: str, message_id: str = "m1") -> Advance:
        self.signals.append(Signal(len(self.signals) + 1, name, event, message_id))
        return self.look()

    def look(self, seconds: float = 0, *, heard: bool = True) -> Advance:
        self.now += int(seconds * SECOND)
        return self.happen(Looked(self.now if heard else 0))

    def decide(self, answer: str, by: str = "ben", seq: int = 0, **more: Any) -> str:
        return self.happen(Decided(answer, by, seq, **more)).answer
