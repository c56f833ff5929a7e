"""Definitions drawn from a seed: any mixture of steps that the checks let through.

Some are drawn by a careless author, who makes one kind of mistake: what is refused then is drawn
again with care, and what is not refused is run as it is.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import InputError
from engine.flows import Account, Amount, Flow, Input
from engine.flows.definition import StepHandle

DEPTH_MAX = 5
MISTAKES = ("", "", "", "unheard", "time-out", "left open", "endless")
TRIES = 4
"""Of a careless author."""


class Drawn(Input):
    payer: Account
    payee: Account
    amount: Amount
    part: Amount


class Programs:
    """Draws one definition: a tree of steps, with loops where something is tried again.

    Args:
        rng: Of all that is drawn.
        name: Of the definition.
        seconds: How long what is written is, where time goes faster.
        mistake: Which one its author makes.
        children: The definitions that its steps may start.
    """

    def __init__(
        self,
        rng: random.Random,
        name: str = "drawn",
        seconds: Mapping[str, float] | None = None,
        mistake: str = "",
        children: Sequence[str] = (),
    ) -> None:
        self.rng = rng
        self._seconds = seconds or {}
        self.flow = Flow(name, version=1, input=Drawn, ledger=1)
        self._signals = 0
        self._timed: list[str] = []
        """Signals of waits that may be late: others may wait for them again."""
        self._mistake = mistake
        self.has_erred = False
        """Whether the mistake was made."""
        self._children = children

    def _for(self, duration: str | None) -> object:
        """A duration, or what it is in a world that goes faster."""
        return None if duration is None else self._seconds.get(duration, duration)

    def draw(self) -> Flow:
        self._first = True
        self._steps([], 0)
        return self.flow

    def _errs(self, mistake: str) -> bool:
        """Whether its author makes a mistake here."""
        self.has_erred |= self._mistake == mistake
        return self._mistake == mistake

    def _money(self) -> dict[str, object]:
        debit, credit = self.rng.choice(
            [(Drawn.payer, Drawn.payee), (Drawn.payer, "transit"), ("transit", Drawn.payee)]
        )
        amount = self.rng.choice([Drawn.amount, Drawn.part, 1])
        return {"debit": debit, "credit": credit, "amount": amount, "code": 1}

    def _steps(self, holds: list[StepHandle], depth: int) -> StepHandle:
        """A step, and all that may follow it; `holds` are open when it is entered."""
        if depth >= DEPTH_MAX:
            return self._close(holds)
        kinds = ["hold", "move", "chain", "wait", "sleep", "review", "call", "post", "void", "end"]
        kind = self.rng.choice(kinds if depth else ["hold", "move", "wait", "call", "review"])
        if kind in {"post", "void"} and not holds:
            kind = "move"
        if kind == "end":
            return self._close(holds)
        if self._children and self.rng.random() < 0.1:
            kind = "start"
        make = getattr(self, f"_{kind}")
        made: StepHandle = make(holds, depth + 1)
        return made

    def _close(self, holds: list[StepHandle]) -> StepHandle:
        """Post or void what is open, then end."""
        if not holds or self._errs("left open"):
            return self.flow.end(self.rng.choice(["one", "two", "three"]))
        hold, rest = holds[-1], holds[:-1]
        if self.rng.random() < 0.5:
            return self._post_of(hold, rest, DEPTH_MAX)
        return self._void_of(hold, rest, DEPTH_MAX)

    def _hold(self, holds: list[StepHandle], depth: int) -> StepHandle:
        timeout = "1s" if self._errs("time-out") else None
        hold = self.flow.hold(**self._money(), timeout=timeout)
        hold.created.go(self._steps([*holds, hold], depth))
        other = self._steps(holds, depth)
        if self.rng.random() < 0.4:
            nap = self.flow.sleep(self._for("10s"))
            nap.done.go(hold)
            limit = self.rng.randint(1, 3)
            if self._errs("endless"):
                hold.declined.go(nap)
            else:
                hold.declined.go(nap, limit=limit, otherwise=other)
        else:
            hold.declined.go(other)
        return hold

    def _move(self, holds: list[StepHandle], depth: int) -> StepHandle:
        move = self.flow.move(**self._money())
        self._moved(move, holds, depth)
        return move

    def _chain(self, holds: list[StepHandle], depth: int) -> StepHandle:
        chain = self.flow.chain(*[self._money() for _ in range(self.rng.randint(2, 3))])
        self._moved(chain, holds, depth)
        return chain

    def _moved(self, step: StepHandle, holds: list[StepHandle], depth: int) -> None:
        if self.rng.random() < 0.3:
            back = self.flow.reverse(step)
            back.created.go(self._steps(holds, depth))
            back.declined.go(self._steps(holds, depth))
            step.created.go(back)
        else:
            step.created.go(self._steps(holds, depth))
        step.declined.go(self._steps(holds, depth))

    def _post(self, holds: list[StepHandle], depth: int) -> StepHandle:
        return self._post_of(holds[-1], holds[:-1], depth)

    def _post_of(self, hold: StepHandle, rest: list[StepHandle], depth: int) -> StepHandle:
        part = self.rng.choice([None, None, Drawn.part])
        post = self.flow.post(hold, amount=part)
        post.done.go(self._steps(rest, depth))
        if rest or self.rng.random() < 0.5:
            post.failed.go(self._void_of(hold, rest, depth))
        return post

    def _void(self, holds: list[StepHandle], depth: int) -> StepHandle:
        return self._void_of(holds[-1], holds[:-1], depth)

    def _void_of(self, hold: StepHandle, rest: list[StepHandle], depth: int) -> StepHandle:
        void = self.flow.void(hold)
        void.done.go(self._steps(rest, depth))
        if rest:
            void.failed.go(self._steps(rest, depth))
        return void

    def _wait(self, holds: list[StepHandle], depth: int) -> StepHandle:
        nothing_sent = self.rng.random() < 0.3
        within = self._for(self.rng.choice([None, "1m", "1h"]))
        if within is not None and self._timed and self.rng.random() < 0.5:
            signal = self.rng.choice(self._timed)
        else:
            self._signals += 1
            signal = f"partner {self._signals}"
        if within is not None:
            self._timed.append(signal)
        wait = self.flow.wait(signal, within=within, nothing_sent=nothing_sent)
        yes, no = self._steps(holds, depth), self._steps(holds, depth)
        wait.on("yes").go(yes)
        wait.on("no").go(no)
        if within is not None:
            if nothing_sent and self.rng.random() < 0.5:
                wait.late.go(no)
            elif self._errs("unheard"):
                wait.late.go(self._close(holds))
            else:
                wait.late.review("what became of it?", yes=yes, no=no)
        return wait

    def _start(self, holds: list[StepHandle], depth: int) -> StepHandle:
        child = self.rng.choice(self._children)
        written = {"payer": Drawn.payer, "payee": Drawn.payee}
        waits = self.rng.random() < 0.5
        start = self.flow.start(child, input=written, wait_end=waits)
        (start.ended if waits else start.created).go(self._steps(holds, depth))
        start.declined.go(self._steps(holds, depth))
        return start

    def _sleep(self, holds: list[StepHandle], depth: int) -> StepHandle:
        nap = self.flow.sleep(self._for(self.rng.choice(["1s", "1m", "2h"])))
        nap.done.go(self._steps(holds, depth))
        return nap

    def _review(self, holds: list[StepHandle], depth: int) -> StepHandle:
        when = self.rng.choice([None, Drawn.amount > 50, (Drawn.amount > 10) & (Drawn.part < 5)])
        within = self._for(self.rng.choice([None, "30m"]))
        review = self.flow.review(f"question {depth}", when=when, within=within)
        review.approved.go(self._steps(holds, depth))
        other = self._steps(holds, depth)
        review.refused.go(other)
        if within is not None:
            review.late.go(other)
        return review

    def _call(self, holds: list[StepHandle], depth: int) -> StepHandle:
        idempotent = self.rng.random() < 0.5
        call = self.flow.call(
            "partner",
            within=self._for("10s"),
            attempts=self.rng.randint(1, 3),
            idempotent=idempotent,
        )
        yes, no = self._steps(holds, depth), self._steps(holds, depth)
        call.done.go(yes)
        call.refused.go(no)
        person = self.flow.review("was it done?")
        person.on("yes").go(yes)
        person.on("no").go(no)
        if self._errs("unheard"):
            call.unknown.go(self._close(holds))
        elif self.rng.random() < 0.5:
            look = self.flow.call("look", within=self._for("10s"))
            look.done.go(yes)
            look.refused.go(no)
            nap = self.flow.sleep(self._for("1m"))
            nap.done.go(look)
            look.unknown.go(nap, limit=2, otherwise=person)
            call.unknown.go(look)
        else:
            call.unknown.go(person)
        return call


def draw_flow(rng: random.Random, **given: Any) -> Flow:
    """A definition that the checks let through, by an author who may be careless."""
    mistake = rng.choice(MISTAKES)
    for _ in range(TRIES if mistake else 0):
        author = Programs(rng, mistake=mistake, **given)
        drawn = author.draw()
        try:
            drawn.table()
        except InputError:
            continue
        if author.has_erred:
            return drawn
    return Programs(rng, **given).draw()


class Errand(Input):
    payer: Account
    payee: Account


def errand() -> Flow:
    """One move, for those who start others."""
    flow = Flow("errand", version=1, input=Errand, ledger=1)
    move = flow.move(debit=Errand.payer, credit=Errand.payee, amount=1, code=9)
    move.created.end("moved")
    move.declined.end("poor")
    return flow


def nested() -> Flow:
    """Starts one of its own kind, which does the same."""
    flow = Flow("nested", version=1, input=Errand, ledger=1)
    start = flow.start("nested", input={"payer": Errand.payer, "payee": Errand.payee})
    start.created.end("further")
    start.declined.end("deep enough")
    return flow
