"""Random worlds to decide in: accounts, batches of everything, time that passes.

Two deciders take them: the sequential rules with everything in memory, and the book in
columns over a ledger that commits a flush later, as a worker's Postgres does.
"""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from engine.book.book import Book
from engine.book.columns import NO_ACCOUNTS, AccountColumns, Decision, Postings
from engine.book.counter_bounds import LARGE, NEAR_OVERFLOW
from engine.book.postings import RUN_POSTINGS_MAX, post_decisions
from engine.deciding.batch import Batch
from engine.deciding.decider import Decider
from engine.deciding.few import decide_few
from engine.deciding.missing import Found
from engine.deciding.results import lay_out
from engine.ledger.nouns import (
    AMOUNT_MAX,
    COUNTER_MAX,
    ID_ZERO,
    MICROSECONDS,
    AccountFlags,
    Transfer,
    TransferFlags,
)
from engine.ledger.outcomes import Outcome
from engine.ledger.page import Account, HoldStatus, IdRecord, Page
from engine.ledger.rules import decide_batch, expire_hold
from engine.wire.layout import transfers_to_rows

START = 1_700_000_000 * MICROSECONDS
SHARDS = 4

EDGES = (LARGE, LARGE, NEAR_OVERFLOW // 2, NEAR_OVERFLOW, 2**61, 2**62, COUNTER_MAX)

Entry = tuple[int, list[Transfer]]
"""The shard by whose stream it comes, and its transfers."""


class Profile(msgspec.Struct):
    """How a world is drawn."""

    accounts: int = 12
    limited: float = 0.5
    special: float = 0.5
    """Share of transfers that are not plain."""
    amount_max: int = 60
    kinds: int = 20
    """Of what is special: all of it, or, with 10, holds and their resolution alone."""
    linked: float = 0.0
    """Share of plain transfers that are linked to the next."""
    elsewhere: float = 0.08
    """Share of accounts in another ledger."""
    edges: float = 0.0
    """Share of amounts about which something changes: who decides, and what overflows."""


class World:
    """A source of accounts and steps, drawn from `chance`."""

    def __init__(self, chance: random.Random, profile: Profile | None = None) -> None:
        self.random = chance
        self.profile = profile or Profile()
        self.accounts = [self._account(n) for n in range(self.profile.accounts)]
        self.ids: list[bytes] = []
        self.sent: list[Transfer] = []
        self.holds: list[Transfer] = []
        self.count = 0

    def _account(self, number: int) -> Account:
        flags = 0
        if self.random.random() < self.profile.limited:
            flags = int(self.random.choice(list(AccountFlags)))
        ledger = 2 if self.random.random() < self.profile.elsewhere else 1
        return Account(self._bytes(16), number + 1, ledger, 1, flags)

    def _bytes(self, count: int) -> bytes:
        return self.random.getrandbits(8 * count).to_bytes(count, "big")

    def step(self, size: int) -> tuple[float, list[Entry]]:
        """Seconds that pass, then the next entries, about `size` transfers in all."""
        wait = self.random.choice([0, 0, 0.5, 0.5, 1.5, 3])
        entries: list[Entry] = []
        while size > 0:
            batch = [self._transfer() for _ in range(self.random.randint(1, min(size, 30)))]
            entries.append((self.random.randrange(SHARDS), batch))
            size -= len(batch)
        return wait, entries

    def _transfer(self) -> Transfer:
        draw = self.random
        self.count += 1
        if self.sent and draw.random() < 0.03:
            again = draw.choice(self.sent[-500:])
            if draw.random() < 0.6:
                return again
            return msgspec.structs.replace(
                again, amount=draw.randint(0, 9), code=draw.choice([7, 8])
            )
        debit, credit = draw.sample(self.accounts, 2)
        transfer = Transfer(
            id=self.count.to_bytes(8, "big") + self._bytes(8),
            debit_account_id=debit.id,
            credit_account_id=credit.id,
            amount=draw.randint(0, self.profile.amount_max),
            ledger=debit.ledger,
            code=7,
        )
        if self.profile.edges and draw.random() < self.profile.edges:
            amount = draw.choice(EDGES) + draw.choice([-1, 0, 1])
            transfer = msgspec.structs.replace(transfer, amount=amount)
        if draw.random() < self.profile.special:
            transfer = self._special(transfer)
        elif draw.random() < self.profile.linked:
            transfer = msgspec.structs.replace(transfer, flags=int(TransferFlags.linked))
        self.ids.append(transfer.id)
        self.sent.append(transfer)
        if transfer.flags & TransferFlags.pending:
            self.holds.append(transfer)
        return transfer

    def _special(self, t: Transfer) -> Transfer:
        draw = self.random
        change = msgspec.structs.replace
        kind = draw.randrange(self.profile.kinds)
        if kind < 5:
            flags = int(TransferFlags.pending)
            if draw.random() < 0.08:
                closing = [TransferFlags.closing_debit, TransferFlags.closing_credit]
                flags |= int(draw.choice(closing))
            return change(t, flags=flags, timeout=draw.choice([0, 0, 1, 2, 3600]))
        if kind < 10 and self.holds:
            return self._resolution(t)
        if kind < 12:
            return change(t, flags=t.flags | TransferFlags.linked)
        if kind < 14:
            balancing = [TransferFlags.balancing_debit, TransferFlags.balancing_credit]
            flags = int(draw.choice(balancing)) | draw.choice([0, int(TransferFlags.pending)])
            return change(t, flags=flags, amount=draw.choice([t.amount, AMOUNT_MAX]))
        if kind < 16 and self.ids:
            again = draw.choice(self.ids[-40:])
            return change(t, id=again)
        return self._odd(t)

    def _resolution(self, t: Transfer) -> Transfer:
        draw = self.random
        hold = draw.choice(self.holds[-15:] if draw.random() < 0.5 else self.holds[-150:])
        post = draw.random() < 0.6
        amount = draw.choice([hold.amount, hold.amount // 2, AMOUNT_MAX if post else 0])
        flag = TransferFlags.post_pending_transfer if post else TransferFlags.void_pending_transfer
        named = draw.random() < 0.3
        return msgspec.structs.replace(
            t,
            flags=int(flag) | draw.choice([0, 0, 0, 0, 1]),
            pending_id=hold.id,
            amount=amount,
            debit_account_id=hold.debit_account_id if named else ID_ZERO,
            credit_account_id=hold.credit_account_id if named else ID_ZERO,
            ledger=draw.choice([0, hold.ledger, hold.ledger, 3]),
            code=0,
        )

    def _odd(self, t: Transfer) -> Transfer:
        draw = self.random
        changes: dict[str, Any] = draw.choice(
            [
                {"amount": 2 ** draw.randint(39, 64)},
                {"amount": 2**62},
                {"amount": AMOUNT_MAX},
                {"debit_account_id": self._bytes(16)},
                {"credit_account_id": self._bytes(16)},
                {"credit_account_id": t.debit_account_id},
                {"ledger": 5},
                {"code": 0},
                {"id": ID_ZERO},
                {"flags": draw.randrange(512)},
                {"timeout": 9},
                {"pending_id": self._bytes(16)},
                {"user_data_128": self._bytes(16), "user_data_64": 2**64 - 1},
                {"user_data_32": 5},
            ],
        )
        return msgspec.structs.replace(t, **changes)


class ByRules:
    """Everything in memory, one transfer after the other."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        copies = [msgspec.structs.replace(account) for account in accounts]
        self.page = Page({account.id: account for account in copies}, {})
        self.frozen: set[int] = set()
        """Places in each entry of what matches a freeze that declines."""
        self.time = START

    def step(self, wait: float, entries: Sequence[Entry]) -> list[list[Outcome]]:
        self.time += int(wait * MICROSECONDS) or 1
        due = sorted(
            (known.expires_at, known.shard, known.transfer.id, known)
            for known in self.page.spent.values()
            if known.status is HoldStatus.pending and 0 < known.expires_at <= self.time
        )
        for *_, hold in due:
            expire_hold(self.page, hold)
        return [
            decide_batch(self.page, batch, shard, self.time, self.frozen)
            for shard, batch in entries
        ]

    def balances(self) -> dict[bytes, tuple[int, ...]]:
        return {
            account.id: (
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
                int(account.closed),
            )
            for account in self.page._accounts.values()
        }


def new_accounts(rows: Sequence[tuple[bytes, int, int, int, int, int]]) -> AccountColumns:
    """Accounts to which nothing was posted: id, number, shard, ledger, code and flags of each."""
    if not rows:
        return NO_ACCOUNTS
    ids, *columns = zip(*rows, strict=True)
    number, shard, ledger, code, flags = (np.array(column, np.int64) for column in columns)
    none, counters = np.zeros(len(rows), np.int64), np.zeros((4, len(rows)), np.int64)
    return AccountColumns(
        np.frombuffer(b"".join(ids), "V16"),
        *(number, shard, ledger, code, flags),
        none.astype(bool),
        none,
        counters,
        counters,
    )


class ByColumns:
    """A book over a ledger in memory that commits each flush when the next one is sent."""

    def __init__(self, accounts: Sequence[Account], book: Book | None = None) -> None:
        self.rows = {
            a.id: (a.id, a.number, a.number % SHARDS, a.ledger, a.code, a.flags) for a in accounts
        }
        self.frozen: set[int] = set()
        self.book = book or Book(range(SHARDS), 0, SHARDS, capacity=8)
        self.time = START
        self.committed: dict[bytes, IdRecord] = {}
        self.spent: set[bytes] = set()
        self.flying: list[Decision] = []
        self.open: list[Decision] = []
        self.timed: list[tuple[int, int, bytes]] = []
        self.versions: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.few = 0
        """Batches that were few enough for the rules alone."""

    def step(
        self,
        wait: float,
        entries: Sequence[Entry],
        *,
        forgetful: bool = False,
        again: bool = False,
        cut: float | None = None,
    ) -> list[list[Outcome]]:
        """Decide; `forgetful` as when the filter of ids seen lately has lost them.

        With `again` as when another flush came first, where nothing else is under way; with
        `cut` in parts, the more the smaller it is.
        """
        self.time += int(wait * MICROSECONDS) or 1
        due = [one for _, _, one in sorted(t for t in self.timed if t[0] <= self.time)]
        self.timed = [t for t in self.timed if t[0] > self.time]
        batch = Batch(
            [transfers_to_rows(transfers) for _, transfers in entries],
            [shard for shard, _ in entries],
            {
                entry: np.isin(np.arange(len(transfers)), [*self.frozen])
                for entry, (_, transfers) in enumerate(entries if self.frozen else ())
            },
        )
        if forgetful:
            self.book.seen.forget_all()
        few = None if due else decide_few(self.book, batch, self.time)
        if few is not None and self.spent.isdisjoint(few.spent["id"].tolist()):
            self._compare_few(few, batch)
            self.book.note_decision(few)
            self._note(few)
            self.few += 1
            return [[Outcome.created] * (b - a) for a, b in pairwise(batch.ends)]
        deciding = self._look_up(Decider(self.book, batch, due, self.time))
        if deciding.cuts or cut is not None:
            decided = self._in_parts(Decider(self.book, batch, due, self.time, careful=True), cut)
        else:
            created = batch.rows["id"][deciding._draft.outcomes == 0].tolist()
            if not self.spent.isdisjoint(created):
                # Postgres would refuse such a flush; then every id is looked up first.
                deciding = self._look_up(Decider(self.book, batch, due, self.time, careful=True))
            decided = [deciding.finish_batch()]
            if again and not (self.open or self.flying):
                anew = Decider(self.book, batch, due, self.time, careful=True)
                decided = [self._take_back(decided[0], anew)]
        for one in decided:
            self._note(one)
        outcomes = [Outcome(int(o)) for one in decided for o in one.outcomes]
        return [outcomes[a:b] for a, b in pairwise(batch.ends)]

    def _compare_few(self, few: Decision, batch: Batch) -> None:
        """Columns lay out the same rows in the same places."""
        deciding = self._look_up(Decider(self.book, batch, (), self.time))
        columns = lay_out(self.book, batch, deciding._draft, self.time)
        for name in ("spent", "slots", "deltas", "spenders", "expiries", "outcomes"):
            here, there = getattr(few, name), getattr(columns, name)
            assert here.dtype == there.dtype, name
            assert here.shape == there.shape, name
            assert here.tobytes() == there.tobytes(), name
        assert not len(columns.refused.requests)
        assert not len(columns.resolutions.hold_ids)
        assert not columns.closings
        assert not len(columns.assumptions.numbers)

    def _note(self, decided: Decision) -> None:
        for row in decided.spent[decided.spent["expires_at"] > 0]:
            at = (int(row["expires_at"]), int(row["shard"]), row["id"].tobytes())
            self.timed.append(at)
        self.open.append(decided)
        self.spent.update(decided.spent["id"].tolist(), decided.refused.requests["id"].tolist())

    def _in_parts(self, deciding: Decider, cut: float | None) -> list[Decision]:
        """As where the batch asks for it, or cut anywhere but within a linked chain."""
        self._look_up(deciding)
        if not deciding.cuts and cut is not None:
            forms = deciding._forms
            free = ~(forms.chained[1:] & (forms.together[1:] == forms.together[:-1]))
            places = np.flatnonzero(free) + 1
            deciding._sorted = deciding._sorted._replace(
                cuts=sorted({int(p) for p in places[:: max(int(cut * 20), 1)]})
            )
        if not deciding.cuts:
            return [deciding.finish_batch()]
        decided = []
        for part in deciding.parts():
            decided += self._in_parts(part, None)
        return decided

    def _take_back(self, decided: Decision, anew: Decider) -> Decision:
        if decided.closings:
            assert not self.book.take_back([], [decided])
            return decided
        if len(decided.slots) % 2:
            assert self.book.take_back([], [decided])
        else:
            post_decisions(self.book, [decided])
            self.book.begin_flush()
            assert self.book.take_back([decided], [])
        return self._look_up(anew).finish_batch()

    def _look_up(self, deciding: Decider) -> Decider:
        while (needs := deciding.advance()) is not None:
            accounts = new_accounts([self.rows[a] for a in needs.accounts if a in self.rows])
            found = [self.committed[one] for one in needs.ids if one in self.committed]
            deciding.supply(Found(accounts=accounts, ids=needs.ids, records=found))
        assert not deciding.locks
        return deciding

    def flush(self) -> None:
        """Send what is open; what was sent before is committed."""
        self._commit(self.flying)
        if self.open:
            self._check_postings(post_decisions(self.book, self.open))
        self.flying, self.open = self.open, []
        self.book.begin_flush()
        self.book.end_flush()

    def _check_postings(self, posted: Postings) -> None:
        """Versions are dense and counters follow from the run before."""
        counters = zip(*posted.counters.tolist(), strict=True)
        runs = zip(posted.starts, posted.ends, posted.stripe, posted.version, counters, strict=True)
        for start, end, stripe, version, after in runs:
            newest, before = self.versions.get(stripe, (0, (0, 0, 0, 0)))
            assert 0 < end - start <= RUN_POSTINGS_MAX
            assert version == newest + end - start
            moved = list(before)
            for place in range(start, end):
                pending, posted_ = (0, 1) if posted.is_debit[place] else (2, 3)
                sign = -1 if posted.is_debit[place] else 1
                moved[pending] += sign * int(posted.pending_amount[place])
                moved[posted_] += sign * int(posted.amount[place])
            assert tuple(moved) == after
            self.versions[stripe] = (version, after)

    def _commit(self, flight: Sequence[Decision]) -> None:
        for decided in flight:
            for row in range(len(decided.spent) + len(decided.refused.requests)):
                known = decided.record_at(row)
                assert known.transfer.id not in self.committed, "an id is spent twice"
                self.committed[known.transfer.id] = known
            ends = decided.resolutions
            for hold_id, status in zip(ends.hold_ids.tolist(), ends.statuses, strict=True):
                hold = self.committed[hold_id]
                assert hold.status is HoldStatus.pending
                hold.status = HoldStatus(int(status))

    def balances(self) -> dict[bytes, tuple[int, ...]]:
        found = {}
        for account_id in self.rows:
            words = np.frombuffer(account_id, np.uint64).reshape(1, 2)
            slot = int(self.book.find_accounts(words)[0])
            counters = self.book.own[:, slot].tolist() if slot >= 0 else [0] * 4
            found[account_id] = (*counters, int(slot >= 0 and self.book.closed[slot]))
        return found
