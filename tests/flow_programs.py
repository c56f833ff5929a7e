"""Definitions drawn from a seed: any mixture of steps that the checks let through."""

import random
from collections.abc import Mapping

from engine.flows import Account, Amount, Flow, Input
from engine.flows.definition import StepHandle

DEPTH_MAX = 5


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
    """

    def __init__(
        self,
        rng: random.Random,
        name: str = "drawn",
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        self.rng = rng
        self._seconds = seconds or {}
        self.flow = Flow(name, version=1, input=Drawn, ledger=1)
        self._signals = 0

    def _for(self, duration: str | None) -> object:
        """A duration, or what it is in a world that goes faster."""
        return None if duration is None else self._seconds.get(duration, duration)

    def draw(self) -> Flow:
        self._first = True
        self._steps([], 0)
        return self.flow

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
        make = getattr(self, f"_{kind}")
        made: StepHandle = make(holds, depth + 1)
        return made

    def _close(self, holds: list[StepHandle]) -> StepHandle:
        """Post or void what is open, then end."""
        if not holds:
            return self.flow.end(self.rng.choice(["one", "two", "three"]))
        hold, rest = holds[-1], holds[:-1]
        if self.rng.random() < 0.5:
            return self._post_of(hold, rest, DEPTH_MAX)
        return self._void_of(hold, rest, DEPTH_MAX)

    def _hold(self, holds: list[StepHandle], depth: int) -> StepHandle:
        hold = self.flow.hold(**self._money())
        hold.created.go(self._steps([*holds, hold], depth))
        other = self._steps(holds, depth)
        if self.rng.random() < 0.3:
            nap = self.flow.sleep(self._for("10s"))
            nap.done.go(hold)
            hold.declined.go(nap, limit=self.rng.randint(1, 3), otherwise=other)
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
        self._signals += 1
        nothing_sent = self.rng.random() < 0.3
        within = self._for(self.rng.choice([None, "1m", "1h"]))
        wait = self.flow.wait(f"partner {self._signals}", within=within, nothing_sent=nothing_sent)
        yes, no = self._steps(holds, depth), self._steps(holds, depth)
        wait.on("yes").go(yes)
        wait.on("no").go(no)
        if within is not None:
            if nothing_sent and self.rng.random() < 0.5:
                wait.late.go(no)
            else:
                wait.late.review("what became of it?", yes=yes, no=no)
        return wait

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
        if self.rng.random() < 0.5:
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
