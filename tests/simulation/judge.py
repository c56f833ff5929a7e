"""What a run promises, held against what was asked, answered and committed."""

import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests.simulation.judge_freezes import FreezeJudge
from tests.simulation.replay import CP, DP, PENDING, TOP, C, D, Replay, broken
from tests.simulation.tables import Row
from tests.simulation.world import Answer, Append, World, id_of

NUMBERS = {
    "created": 0, "exceeds_credits": 54, "exceeds_debits": 55,
    "debit_account_not_found": 21, "credit_account_not_found": 22,
    "pending_transfer_not_found": 25, "debit_account_already_closed": 65,
    "credit_account_already_closed": 66, "frozen": 128,
}  # fmt: skip
"""Outcomes that spend an id."""

RESOLVED = {
    "pending_transfer_already_posted": "posted",
    "pending_transfer_already_voided": "voided",
    "pending_transfer_expired": "expired",
}
MAX = 2**128 - 1


class Judge:
    """Everything that is to be said about one run, at its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.replay = Replay(world.database.commits)
        self.appends: dict[bytes, list[Append]] = defaultdict(list)
        self.places: dict[str, int] = {}
        """Of each request, the place of its entry among all."""
        self.first: dict[tuple[int, bytes], Append] = {}
        """By stream and id, the first entry with it."""
        self.told = {answer.request: answer.outcomes or [] for answer in world.answers}
        for place, append in enumerate(world.appends.values()):
            self.places[append.request] = place
            for transfer in append.transfers:
                transfer_id = id_of(transfer["id"])
                self.appends[transfer_id].append(append)
                self.first.setdefault((append.shard, transfer_id), append)

    def judge(self) -> None:
        """Raise what is broken first."""
        if self.world.set_aside and not self.world.may_set_aside:
            raise broken("one thing", self.world.set_aside)
        for answer in self.world.answers:
            self._check_answer(answer)
        self._check_told_once()
        for transfer_id, row in self.replay.spent.items():
            self._check_decision(transfer_id, row)
        self._check_freezes()
        if not self.world.log_lost:
            self._check_stream_order()

    # Answers.

    def _check_answer(self, answer: Answer) -> None:
        append = self.world.appends.get(answer.request)
        if append is None:
            raise broken("nothing vanishes", "an answer to nothing:", answer.request)
        outcomes = answer.outcomes
        if outcomes is None and self.world.may_set_aside:
            return
        if outcomes is None or len(outcomes) != len(append.transfers):
            raise broken("nothing vanishes", answer.request, "is answered", outcomes)
        for place, outcome in enumerate(outcomes):
            self._check_outcome(answer, append.transfers, place, outcome)
        self._check_chains(append, outcomes)

    def _check_outcome(
        self, answer: Answer, transfers: list[dict[str, Any]], place: int, outcome: str
    ) -> None:
        transfer = transfers[place]
        transfer_id = id_of(transfer["id"])
        row = self.replay.spent.get(transfer_id)
        durable = row is not None and self.replay.spent_at[transfer_id] <= answer.commit
        what = (answer.request, transfer_id, "was answered", outcome)
        append = self.world.appends[answer.request]
        known = row is not None and self.replay.spent_at[transfer_id] <= append.commit
        known = known or self._came_before(transfer_id, append.shard, append)
        if known and not outcome.startswith(("exists", "id_already_failed", "linked_event")):
            raise broken("once", *what, "and was spent before", row)
        if any(id_of(one["id"]) == transfer_id for one in _chain_before(transfers, place)):
            return  # It stood for a moment, until its chain fell.
        if outcome in NUMBERS:
            if row is None or not durable or row["outcome"] != NUMBERS[outcome]:
                raise broken("answered is durable", *what, "and is", row)
            if outcome == "created":
                self._check_content(transfer, row)
        elif outcome.startswith("exists"):
            if row is None or not durable or row["outcome"] != 0:
                raise broken("answered is durable", *what, "and is", row)
        elif outcome == "id_already_failed":
            if row is None or not durable or row["outcome"] == 0:
                raise broken("answered is durable", *what, "and is", row)
        elif outcome.startswith("overflows"):
            self._check_overflow(answer, transfers, place, outcome)
        elif outcome in RESOLVED:
            # Within a chain that is taken back it may have been resolved for a moment.
            before = [one.get("pending_id") for one in _chain_before(transfers, place)]
            if transfer["pending_id"] not in before:
                self._check_resolved(answer, transfer, outcome)

    def _check_content(self, transfer: dict[str, Any], row: Row) -> None:
        for name in ("debit_account", "credit_account"):
            asked = transfer.get(f"{name}_id")
            if asked is not None and self.replay.numbers.get(id_of(asked)) != row[name]:
                raise broken("rules", transfer, "was kept as", row)
        flags = transfer.get("flags", [])
        whole = not any("balancing" in flag or "pending_transfer" in flag for flag in flags)
        if whole and transfer["amount"] != row["amount"]:
            raise broken("rules", transfer, "was kept as", row)

    def _check_resolved(self, answer: Answer, transfer: dict[str, Any], outcome: str) -> None:
        hold_id = id_of(transfer["pending_id"])
        resolution = self.replay.resolved.get(hold_id)
        if outcome == "pending_transfer_expired":
            # It may be told a moment before the lapse itself is written.
            if resolution is not None and resolution["status"] != "expired":
                raise broken("answers stay", hold_id, "expired, and then was", resolution)
        elif (
            resolution is None
            or resolution["status"] != RESOLVED[outcome]
            or self.replay.resolved_at[hold_id] > answer.commit
        ):
            raise broken("answered is durable", hold_id, outcome, "and is", resolution)

    def _check_overflow(
        self, answer: Answer, transfers: list[dict[str, Any]], place: int, outcome: str
    ) -> None:
        """At some moment between asking and answering the counter that is named was that full."""
        transfer, flags = transfers[place], transfers[place].get("flags", [])
        balances = any("balancing" in flag for flag in flags)
        if balances or "linked" in flags or _chain_before(transfers, place):
            return
        side = "debit" if "debits" in outcome else "credit"
        pending, posted = (DP, D) if side == "debit" else (CP, C)
        counted = {f"overflows_{side}s_pending": [pending], f"overflows_{side}s_posted": [posted]}
        kinds = counted.get(outcome, [pending, posted])
        account = self.replay.numbers[id_of(transfer[f"{side}_account_id"])]
        since = self.world.appends[answer.request].commit
        states = self.replay.window(account, since, answer.commit)
        fullest = max(sum(state[kind] for kind in kinds) for state in states)
        if fullest + transfer["amount"] <= TOP:
            raise broken("same answer anywhere", transfer, "is told", outcome, "at", fullest)

    def _check_chains(self, append: Append, outcomes: list[str]) -> None:
        chain: list[str] = []
        for transfer, outcome in zip(append.transfers, outcomes, strict=True):
            chain.append(outcome)
            if "linked" not in transfer.get("flags", []):
                if len(chain) > 1 and 0 < chain.count("created") < len(chain):
                    raise broken("rules", append.request, "has half a chain:", chain)
                chain = []

    def _check_told_once(self) -> None:
        first: dict[bytes, str] = {}
        answered: set[str] = set()
        for answer in self.world.answers:
            append = self.world.appends[answer.request]
            if answer.request in answered and not self.world.log_lost:
                raise broken("once", answer.request, "was answered more than once")
            if self._is_known(append, answer.commit):
                answered.add(answer.request)
            for transfer, outcome in zip(
                append.transfers, answer.outcomes or (), strict=bool(answer.outcomes)
            ):
                if outcome in NUMBERS:
                    transfer_id = id_of(transfer["id"])
                    if transfer_id in first:
                        raise broken(
                            "once", transfer_id, "was answered", outcome, "in", answer.request,
                            "and before in", first[transfer_id],
                        )  # fmt: skip
                    first[transfer_id] = answer.request

    def _is_known(self, append: Append, commit: int) -> bool:
        """Whether all ids of an entry were spent by then: else it may be decided once more, where
        its worker died between the answer and the trim."""
        never = len(self.replay.commits) + 1
        ids = [id_of(transfer["id"]) for transfer in append.transfers]
        return all(self.replay.spent_at.get(one, never) <= commit for one in ids)

    # Decisions.

    def _check_decision(self, transfer_id: bytes, row: Row) -> None:
        if transfer_id not in self.appends:
            raise broken("nothing vanishes", transfer_id, "was decided and never asked")
        since = min(append.commit for append in self.appends[transfer_id])
        until = self.replay.spent_at[transfer_id]
        found = [
            (append, place, transfer)
            for append in self.appends[transfer_id]
            for place, transfer in enumerate(append.transfers)
            if id_of(transfer["id"]) == transfer_id
        ]
        # Sent several times with other contents: one of them must explain the decision.
        reasons = [self._unexplained(one, row, since, until) for one in found]
        if all(reasons):
            raise broken("same answer anywhere", transfer_id, *reasons[0])

    def _unexplained(
        self, sent: tuple[Append, int, dict[str, Any]], row: Row, since: int, until: int
    ) -> tuple[Any, ...] | None:
        """Why no moment between sending and committing explains the decision; None if one does."""
        append, place, transfer = sent
        outcome = row["outcome"]
        flags = transfer.get("flags", [])
        balancing = any("balancing" in flag for flag in flags)
        if outcome == 0:
            return self._wrong_amount(transfer, row, since, until) if balancing else None
        if outcome in (54, 55) and not balancing:
            side = "debit" if outcome == 54 else "credit"
            account = self.replay.numbers.get(id_of(transfer.get(f"{side}_account_id", ZERO_ID)))
            if account is None:
                return (transfer, "has no such account")
            needed = transfer["amount"] + self._chained_before(append, place, side, transfer)
            states = self.replay.at_last_look(account, until)
            if all(self._room(side, state) >= needed for state in states):
                return (transfer, "was refused for want of funds and had them", states)
        elif outcome in (65, 66):
            side = "debit" if outcome == 65 else "credit"
            account = self._account_of(transfer, side)
            if account is not None and not self.replay.was_closed(account, since, until):
                return (transfer, "was refused for an account that was never closed")
        elif outcome in (21, 22):
            side = "debit" if outcome == 21 else "credit"
            created_at = self.replay.created_at.get(id_of(transfer[f"{side}_account_id"]))
            if created_at is not None and created_at <= since:
                return (transfer, "was refused for an account that was there")
        elif outcome == 25:
            hold_id = id_of(transfer["pending_id"])
            hold = self.replay.spent.get(hold_id)
            held = hold is not None and hold["outcome"] == 0 and hold["flags"] & PENDING
            if held and self.replay.spent_at[hold_id] <= since:
                return (transfer, "was refused for a hold that was there")
            if held and self._came_before(hold_id, hold["shard"], append):
                return (transfer, "was refused for a hold that came before it")
        return None

    def _came_before(self, transfer_id: bytes, shard: int, append: Append) -> bool:
        """Whether an entry before this one, in its stream, was told what became of an id."""
        if self.world.log_lost or append.shard != shard:
            return False
        first = self.first.get((shard, transfer_id))
        if first is None or self.places[first.request] >= self.places[append.request]:
            return False
        told = self.told.get(first.request, ())
        return any(
            id_of(transfer["id"]) == transfer_id and outcome in NUMBERS
            for transfer, outcome in zip(first.transfers, told, strict=bool(told))
        )

    def _account_of(self, transfer: dict[str, Any], side: str) -> int | None:
        asked = transfer.get(f"{side}_account_id")
        if asked is None:
            hold = self.replay.spent.get(id_of(transfer["pending_id"]))
            return None if hold is None else hold[f"{side}_account"]
        return self.replay.numbers.get(id_of(asked))

    @staticmethod
    def _room(side: str, state: Any) -> int:
        """What an account limited on that side has left."""
        if side == "debit":
            return state[C] - state[D] - state[DP]
        return state[D] - state[C] - state[CP]

    @staticmethod
    def _chained_before(append: Append, place: int, side: str, transfer: dict[str, Any]) -> int:
        """What the members of its chain before it may have taken from the same account."""
        taken = 0
        for before in _chain_before(append.transfers, place):
            flags = before["flags"]
            if "pending_id" in before or any("balancing" in flag for flag in flags):
                return MAX
            if before.get(f"{side}_account_id") == transfer[f"{side}_account_id"]:
                taken += before["amount"]
        return taken

    def _wrong_amount(
        self, transfer: dict[str, Any], row: Row, since: int, until: int
    ) -> tuple[Any, ...] | None:
        if "linked" in transfer["flags"]:
            return None
        asked = MAX if transfer["amount"] == "max" else transfer["amount"]
        possible = {asked}
        for side in ("debit", "credit"):
            if f"balancing_{side}" in transfer["flags"]:
                account = row[f"{side}_account"]
                states = self.replay.window(account, since, until)
                states += self.replay.at_last_look(account, until)
                possible |= {max(self._room(side, state), 0) for state in states}
        if row["amount"] not in possible or row["amount"] > asked:
            return (transfer, "moved", row["amount"], "of", sorted(possible))
        return None

    # Streams.

    def _check_stream_order(self) -> None:
        decided: dict[int, tuple[int, str]] = {}
        for append, at in self._decisions():
            before = decided.get(append.shard)
            if before is not None and at < before[0]:
                raise broken("in order", append.request, "was decided before", before[1])
            decided[append.shard] = (at, append.request)

    def _decisions(self) -> Iterator[tuple[Append, int]]:
        """The entries that did not wait, in order, and the commit that decided each."""
        waited = {
            row["fields"][row["fields"].index(b"request") + 1].decode()
            for commit in self.replay.commits
            for table, row in commit.made
            if table == "waiting"
        }
        for append in self.world.appends.values():
            outcomes = self.told.get(append.request)
            if not outcomes or append.request in waited:
                continue
            commits = {
                self.replay.spent_at[id_of(transfer["id"])]
                for transfer, outcome in zip(append.transfers, outcomes, strict=True)
                if outcome in NUMBERS
            }
            if len(commits) > 1:
                raise broken("whole or nothing", append.request, "was decided in", commits)
            if commits:
                yield append, commits.pop()

    def _check_freezes(self) -> None:
        decided: dict[int, list[Append]] = defaultdict(list)
        for append, at in () if self.world.log_lost else self._decisions():
            decided[at].append(append)
        FreezeJudge(self.world, self.replay, decided).judge()


def _chain_before(transfers: list[dict[str, Any]], place: int) -> list[dict[str, Any]]:
    """The members of its chain before one, the last first."""
    found = []
    for before in reversed(transfers[:place]):
        if "linked" not in before.get("flags", []):
            break
        found.append(before)
    return found


ZERO_ID = str(uuid.UUID(int=0))
