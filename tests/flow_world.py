"""Flows in a world that misbehaves by a seed: the rules, a journal, and everybody around them.

What is asked may be lost, doubled, held back for hours and come after all; answers may be lost;
the worker is killed between any two things that it does; partners do it and time out, answer twice,
late or never; people void by hand and close accounts. Time is an event like the others.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

import msgspec

from engine.flows.definition import Flow as Definition
from engine.flows.happenings import (
    Advance,
    Answered,
    Ask,
    Call,
    Cancelled,
    Decided,
    Flow,
    Happening,
    Looked,
    Resumed,
    Settled,
    Started,
)
from engine.flows.inputs import read_input
from engine.flows.journal import Row, Signal, State
from engine.flows.money import pack, read_answers, settle, spending, unpack
from engine.flows.rules import advance
from engine.ledger.nouns import Transfer, TransferFlags
from engine.ledger.outcomes import Outcome
from tests.flow_ledger import NaiveLedger
from tests.flow_programs import Programs

SECOND = 1_000_000
PAYER, PAYEE, TRANSIT = (bytes([n]) * 16 for n in (1, 2, 3))
EVENTS_MAX = 60_000


class Faults(msgspec.Struct, frozen=True):
    """How often what goes wrong."""

    lost: float = 0.1
    doubled: float = 0.1
    answer_lost: float = 0.1
    killed: float = 0.03
    by_hand: float = 0.05
    full: float = 0.2


class World:
    """Some flows of one drawn definition, and all that happens to them."""

    def __init__(self, seed: int, definition: Definition | None = None, flows: int = 4) -> None:
        self.rng = random.Random(seed)
        self.definition = definition or Programs(self.rng).draw()
        self.table = self.definition.table()
        self.faults = Faults()
        self.now = 1_700_000_000 * SECOND
        self.ledger = NaiveLedger(
            [PAYER, PAYEE, TRANSIT], {PAYER: self.rng.randint(0, 400), TRANSIT: 100}
        )
        self.flows: dict[bytes, Flow] = {}
        self.journal: dict[bytes, list[Row]] = {}
        self.inbox: dict[bytes, list[Signal]] = {}
        self.called: list[tuple[Call, str]] = []
        """Every attempt that was made, and what really came of it."""
        self.decisions: dict[tuple[bytes, int], str] = {}
        self.cancelled: dict[bytes, str] = {}
        self.states: dict[bytes, State] = {}
        self.session = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._signal_number = 0
        for _ in range(flows):
            self._add_flow()

    # Time.

    def at(self, delay: int, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay, self._count, happen))

    def soon(self, happen: Callable[[], None], seconds_max: float = 3) -> None:
        self.at(int(self.rng.random() * seconds_max * SECOND), happen)

    def run(self) -> None:
        """Until nothing happens any more."""
        for _ in range(EVENTS_MAX):
            if not self._events:
                return
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        raise AssertionError("the world does not come to rest")

    # Flows come.

    def _add_flow(self) -> None:
        flow_id = self.rng.randbytes(16)
        written = {
            "payer": "payer",
            "payee": "payee",
            "amount": self.rng.randint(0, 120),
            "part": 3,
        }
        accounts = {"payer": PAYER, "payee": PAYEE, "transit": TRANSIT}
        values = read_input(written, self.table.struct)
        self.flows[flow_id] = Flow(flow_id, self.table, values, accounts, "starter")
        self.inbox[flow_id] = []
        self.journal[flow_id] = []
        self.soon(lambda: self.happen(flow_id, Started()), 2)
        for name, events in self.table.signals.items():
            self._plan_signals(flow_id, name, sorted(events))
        if self.rng.random() < 0.2:
            self.soon(lambda: self._cancel(flow_id), self.rng.choice([3, 100]))

    def _plan_signals(self, flow_id: bytes, name: str, events: list[str]) -> None:
        """Early, late, twice, or never; all tell the same, as a partner that knows does."""
        event = self.rng.choice(events)
        waits = [s for s in self.table.steps if s.kind == "wait" and s.signal == name]
        least = any(not step.within for step in waits)
        for copy in range(self.rng.choice([int(least), 1, 1, 1, 2])):
            delay = self.rng.choice([0.1, 5, 100, 5000])
            self.soon(lambda copy=copy: self._signal(flow_id, name, event, f"{name} {copy}"), delay)

    def _signal(self, flow_id: bytes, name: str, event: str, message_id: str) -> None:
        known = {signal.message_id for signal in self.inbox[flow_id]}
        if message_id not in known:
            self._signal_number += 1
            self.inbox[flow_id].append(Signal(self._signal_number, name, event, message_id))
        self.happen(flow_id, Looked(self.now))

    def _cancel(self, flow_id: bytes) -> None:
        answer = self.happen(flow_id, Cancelled("somebody"))
        if answer is not None and self.cancelled.get(flow_id) != "cancelled":
            self.cancelled[flow_id] = answer

    # The worker.

    def state(self, flow_id: bytes) -> State:
        if flow_id not in self.states:
            self.states[flow_id] = State(self.table, self.journal[flow_id])
        return self.states[flow_id]

    def happen(self, flow_id: bytes, happening: Happening) -> str | None:
        """Advance, commit, then do what is to be done; killed in between now and then."""
        if self.rng.random() < self.faults.killed:
            self._kill()  # before the commit: the happening is lost, and comes again where it must
            if isinstance(happening, Started):
                self.soon(lambda: self.happen(flow_id, happening))
            return None
        flow = self.flows[flow_id]
        made = advance(
            flow,
            self.state(flow_id),
            happening,
            self.inbox[flow_id],
            self.now,
            {"partner", "look"},
        )
        self.journal[flow_id] += made.rows
        if isinstance(happening, Decided) and made.answer == "decided":
            self.decisions[flow_id, happening.seq] = happening.answer
        if self.rng.random() < self.faults.killed:
            self._kill()  # after the commit, before anything was sent
            return made.answer
        self._act(made)
        return made.answer

    def _act(self, made: Advance) -> None:
        for ask in made.asks:
            self._send(ask)
        for call in made.calls:
            self._call(call)
        for row in made.rows:
            self._watch(row)

    def _watch(self, row: Row) -> None:
        if row.due_at:
            later = max(row.due_at - self.now, 0) + 1
            if row.state == "asked" and self.table.steps[row.step].kind != "call":
                self.at(later, lambda: self._look_again(row.flow))
            else:
                self.at(later, lambda: self.happen(row.flow, Looked(self.now)))
        if row.state == "review":
            self.soon(lambda: self._decide(row.flow, row.seq), 4000)
        if row.state == "stopped":
            self.soon(lambda: self._resume(row.flow), 100)

    def _kill(self) -> None:
        """Nothing is remembered; another worker loads what the journals say."""
        self.session += 1
        self.states.clear()
        for flow_id, rows in self.journal.items():
            if not rows or rows[-1].state == "ended":
                continue
            last = rows[-1]
            if last.state == "asked" and self.table.steps[last.step].kind == "call":
                # Whoever made the attempt is gone: it is unknown what came of it.
                seq = last.seq
                self.soon(lambda f=flow_id, s=seq: self.happen(f, Answered(s, "unknown")), 1)
            elif last.state == "asked":
                self.soon(lambda f=flow_id: self._look_again(f), 1)
            else:
                self.soon(lambda f=flow_id: self.happen(f, Looked(self.now)), 1)
                self._watch(last)

    # Money.

    def _send(self, ask: Ask) -> None:
        copies = [0.5]
        if self.rng.random() < self.faults.lost:
            copies = []
        if self.rng.random() < self.faults.doubled:
            copies.append(self.rng.choice([1.0, 30.0, 20_000.0]))
        for seconds in copies:
            self.soon(lambda: self._decide_batch(ask), seconds)

    def _decide_batch(self, ask: Ask) -> None:
        legs = unpack(ask.request)
        packed = [ask.request[128 * n : 128 * n + 128] for n in range(len(legs))]
        self.ledger.full = {PAYEE} if self.rng.random() < self.faults.full else set()
        outcomes = self.ledger.decide(legs, packed)
        if self.rng.random() >= self.faults.answer_lost:
            self.soon(lambda: self._hear(ask, outcomes), 1)

    def _hear(self, ask: Ask, outcomes: list[Outcome]) -> None:
        found = read_answers(outcomes)
        if isinstance(found, Outcome):
            self._spend(ask, found)
        elif found is None:
            self._look_again(ask.flow)
        else:
            self.happen(ask.flow, Settled(ask.seq, found))

    def _spend(self, ask: Ask, reason: Outcome) -> None:
        burn = spending(unpack(ask.request)[0], reason)
        packed = pack([burn])
        if self.rng.random() < self.faults.lost:
            return
        self.ledger.decide([burn], [packed])
        self.soon(lambda: self._look_again(ask.flow), 1)

    def _look_again(self, flow_id: bytes) -> None:
        asked = self.state(flow_id).asked
        if asked is None or not asked.request:
            return
        verdict = settle(asked.request, self.ledger.spent)
        seq = unpack(asked.request)[0].user_data_32
        if verdict is not None:
            self.happen(flow_id, Settled(seq, verdict))
            asked = self.state(flow_id).asked
            if asked is None or not asked.request:
                return
        self._send(Ask(flow_id, seq, asked.request))
        self.at(5 * SECOND, lambda: self._look_again(flow_id))

    # Partners.

    def _call(self, call: Call) -> None:
        truth = self.truth(call)
        self.called.append((call, truth))
        told = truth
        if self.rng.random() < 0.3:
            told = "unknown"  # it raised, or said nothing of this item
        seconds = self.rng.choice([1, 1, 8, 60, 8000])
        times = self.rng.choice([0, 1, 1, 1, 2])
        session = self.session
        for _ in range(times):
            answered = Answered(call.seq, told)
            self.soon(lambda a=answered: self._answered(call.flow, a, session), seconds)

    def truth(self, call: Call) -> str:
        """What a partner does under a key it does once; what it refused it may not do later.

        An attempt may do nothing though a former one has done it.
        """
        before = [t for c, t in self.called if c.key == call.key and t in {"done", "refused"}]
        if before:
            return before[0] if self.rng.random() < 0.8 else "again"
        return self.rng.choice(["done", "done", "refused", "again"])

    def _answered(self, flow_id: bytes, answered: Answered, session: int) -> None:
        if session == self.session:  # else whoever waited for it is gone
            self.happen(flow_id, answered)

    # People.

    def _decide(self, flow_id: bytes, seq: int) -> None:
        last = self.state(flow_id).last
        if last is None or last.state != "review" or last.seq != seq:
            return
        answers = sorted(set(self.table.steps[last.step].branches) - {"late"})
        by = self.rng.choice(["starter", "ann", "ben"])
        seen = max((s.number for s in self.inbox[flow_id]), default=0)
        decision = Decided(self.rng.choice(answers), by, seq, "because", seen)
        if self.happen(flow_id, decision) not in {"decided", "already_decided", "late"}:
            self.soon(lambda: self._decide(flow_id, seq), 4000)

    def _resume(self, flow_id: bytes) -> None:
        """A person voids by hand what a stopped flow has left open, and lets it go on."""
        state = self.state(flow_id)
        if state.last is None or state.last.state != "stopped":
            return
        for hold in list(state.held.values()):
            self.by_hand(hold, TransferFlags.void_pending_transfer)
        over = frozenset(h.id for h in state.held.values() if h.id not in self.ledger.open)
        self.happen(flow_id, Resumed("ann", over))
        self.soon(lambda: self._resume(flow_id), 100)

    def by_hand(self, hold: Transfer, flag: TransferFlags) -> None:
        transfer = msgspec.structs.replace(
            hold,
            id=self.rng.randbytes(16),
            pending_id=hold.id,
            flags=int(flag),
            amount=0 if flag is TransferFlags.void_pending_transfer else hold.amount,
            timeout=0,
            user_data_128=bytes(16),
        )
        self.ledger.decide([transfer], [b""])

    def meddle(self) -> None:
        """Somebody voids or posts a hold by hand, or closes an account for a while."""
        if self.rng.random() < 0.5 and self.ledger.open:
            hold = self.rng.choice(sorted(self.ledger.open.values(), key=lambda t: t.id))
            flags = [TransferFlags.void_pending_transfer, TransferFlags.post_pending_transfer]
            self.by_hand(hold, self.rng.choice(flags))
        else:
            self.ledger.closed = {self.rng.choice([PAYEE, TRANSIT])}
            self.soon(self.ledger.closed.clear, 50)

    def faults_of_answers(self) -> list[str]:
        """What was told to people, and is not so."""
        faults = []
        for flow_id, answer in self.cancelled.items():
            last = self.journal[flow_id][-1]
            if (answer == "cancelled") != (last.step == self.table.cancelled_end):
                faults.append(f"{flow_id.hex()[:8]}: told {answer}, ended {last.event}")
        for (flow_id, seq), answer in self.decisions.items():
            taken = next(r for r in self.journal[flow_id] if r.seq > seq and r.state == "done")
            if taken.event != answer or taken.reference in {"", "starter"}:
                faults.append(f"{flow_id.hex()[:8]}: {answer} was taken, and {taken.event} is kept")
        return faults

    def trouble(self) -> None:
        """Let people meddle now and then."""
        for _ in range(3):
            if self.rng.random() < 0.5:
                self.soon(self.meddle, 6000)


def live(seed: int, **changes: Any) -> World:
    """A world from its beginning to its rest."""
    world = World(seed, **changes)
    if seed % 3 == 0:
        world.trouble()
    world.run()
    return world
