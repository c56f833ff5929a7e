"""An independent reading of a run: what producers wrote down against the tables of the ledger.

It shares no code with the engine and reads no view of it but `balances`, to hold it against its own
sums. Rules are of its own, from the documents. Each claim that fails raises `Wrong`, with the
transfer or account that shows it.

- *Once*: an id stands once; nothing stands that nobody sent; what was answered is there, with that
  outcome; `created` is answered of one request only.
- *As asked*: what was created is what some request with its id asked for.
- *Whole*: a created transfer has its two postings, a hold that lapsed two more, nothing else any.
- *Holds*: end once, by what names them, for no more than was held, in time.
- *In order*: versions are dense, counters follow; entries of one stream that were sent once, by one
  connection after another's answer, are decided in their order.
- *Limits*: hold after every posting, in the order of time, and nothing overflows.
- *Closed*: nothing but a void moves on an account while a closing hold stands.
- *Sums*: a replay gives the balances that the ledger tells.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import asyncpg

from tests.chaos.kept import (
    CLOSES,
    CREATED,
    PENDING,
    PLACES,
    POST,
    TOP,
    VOID,
    Tables,
    Told,
    legs_of,
    wrong,
)
from tests.chaos.told import ToldChecker


class Checker:
    """One reading.

    Args:
        connection: To the ledger; read in one snapshot.
        told: What producers wrote down.
        sent_by_others: Ids that were sent by producers who keep no record.
    """

    def __init__(
        self, connection: asyncpg.Connection, told: list[Told], sent_by_others: Iterable[uuid.UUID]
    ) -> None:
        self._connection = connection
        self._tables = Tables(connection)
        self._told = told
        self._others = set(sent_by_others)
        self._legs: set[tuple[uuid.UUID, int, bool]] = set()
        self._totals: dict[int, tuple[int, ...]] = {}
        self.counted: dict[str, int] = defaultdict(int)

    async def check(self) -> dict[str, int]:
        """Check all claims; returns what was counted.

        Raises:
            Wrong: A claim does not hold.
        """
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            await self._tables.read()
            self.counted["ids"] = len(self._tables.kept)
            self.counted["holds ended"] = len(self._tables.ended)
            self._check_holds()
            await self._check_postings()
            await self._check_balances()
        self._check_closed()
        ToldChecker(self._tables, self._told, self._others, self.counted).check()
        return dict(self.counted)

    # Holds.

    def _check_holds(self) -> None:
        for hold_id, (status, transfer_id, time) in self._tables.ended.items():
            hold = self._tables.kept.get(hold_id)
            if hold is None or hold.outcome != CREATED or not hold.flags & PENDING:
                raise wrong("holds", hold_id, "has ended and is no hold")
            if time < self._tables.time_of(hold):
                raise wrong("holds", hold_id, "ended before it began")
            if status == "expired":
                if transfer_id is not None or hold.expires_us is None or time < hold.expires_us:
                    raise wrong("holds", hold_id, "lapsed before its time")
                continue
            by = None if transfer_id is None else self._tables.kept.get(transfer_id)
            flag = {"posted": POST, "voided": VOID}[status]
            if by is None or by.outcome != CREATED or by.pending_id != hold_id:
                raise wrong("holds", hold_id, status, "by", transfer_id, "which is not there")
            if not by.flags & flag or by.amount > hold.amount:
                raise wrong("holds", hold_id, status, "by", by)
            if hold.expires_us is not None and time >= hold.expires_us:
                raise wrong("holds", hold_id, status, "after it had lapsed")
        for transfer_id, kept in self._tables.kept.items():
            if kept.outcome == CREATED and kept.flags & (POST | VOID):
                assert kept.pending_id is not None
                found = self._tables.ended.get(kept.pending_id)
                if found is None or found[1] != transfer_id:
                    raise wrong("holds", transfer_id, "ended", kept.pending_id, "which", found)

    # Postings.

    def _changes(self, transfer_id: uuid.UUID, account: int, *, lapse: bool) -> tuple[int, ...]:
        """What a leg changes: debits pending, debits posted, credits pending, credits posted."""
        kept = self._tables.kept.get(transfer_id)
        if kept is None or kept.outcome != CREATED:
            raise wrong("whole", transfer_id, "has postings and was not created")
        held, moved = 0, kept.amount
        if lapse:
            held, moved = -kept.amount, 0
        elif kept.flags & PENDING:
            held, moved = kept.amount, 0
        elif kept.flags & (POST | VOID):
            assert kept.pending_id is not None
            held = -self._tables.kept[kept.pending_id].amount
            moved = 0 if kept.flags & VOID else kept.amount
        if account == kept.debit:
            return held, moved, 0, 0
        if account == kept.credit:
            return 0, 0, held, moved
        raise wrong("whole", transfer_id, "is posted on account", account, "of neither side")

    async def _check_postings(self) -> None:
        """Stripe by stripe for order, account by account for limits."""
        account, steps = -1, []
        stripe, version, counters = -1, 0, (0, 0, 0, 0)
        async for row in self._tables.rows("SELECT * FROM ledger.posted ORDER BY stripe, version"):
            if row["stripe"] != stripe:
                stripe, version, counters = row["stripe"], 0, (0, 0, 0, 0)
            if stripe >> 10 != account:
                self._check_limits(account, steps)
                account, steps = stripe >> 10, []
            for leg_version, number, transfer_id, amount, pending in legs_of(row):
                if leg_version != version + 1:
                    raise wrong("in order", "stripe", stripe, "has", leg_version, "after", version)
                version = leg_version
                lapse = self._is_lapse(transfer_id, number)
                leg = transfer_id, account, lapse
                if leg in self._legs:
                    raise wrong("whole", transfer_id, "is posted twice on", account)
                self._legs.add(leg)
                change = self._changes(transfer_id, account, lapse=lapse)
                if (amount, pending) != (change[3] - change[1], change[2] - change[0]):
                    raise wrong("whole", transfer_id, "moved", amount, pending, "not", change)
                counters = _added(counters, change)
                steps.append((*self._tables.times[number // PLACES], number, change))
                self.counted["postings"] += 1
            kept = (
                row["debits_pending"],
                row["debits_posted"],
                row["credits_pending"],
                row["credits_posted"],
            )
            if row["run"] and kept != counters:
                raise wrong("in order", "stripe", stripe, "version", version, kept, counters)
        self._check_limits(account, steps)
        self._check_whole()

    def _is_lapse(self, transfer_id: uuid.UUID, number: int) -> bool:
        """Whether a leg is of the end of a hold, and not of the transfer itself."""
        kept = self._tables.kept.get(transfer_id)
        if kept is None or kept.number // PLACES == number // PLACES:
            return False
        status, _, time = self._tables.ended.get(transfer_id, ("", None, 0))
        if status != "expired" or time != self._tables.times[number // PLACES][0]:
            raise wrong("whole", transfer_id, "is posted in flush", number // PLACES, "too")
        return True

    def _check_whole(self) -> None:
        for transfer_id, kept in self._tables.kept.items():
            if kept.outcome != CREATED:
                continue
            lapsed = self._tables.ended.get(transfer_id, ("",))[0] == "expired"
            for side in (kept.debit, kept.credit):
                for lapse in (False, True) if lapsed else (False,):
                    if (transfer_id, side, lapse) not in self._legs:
                        raise wrong("whole", transfer_id, "has no posting on", side, lapse)
                    self._legs.remove((transfer_id, side, lapse))
            self.counted["created"] += 1
        if self._legs:
            raise wrong("whole", "postings of nothing:", list(self._legs)[:3])

    def _check_limits(self, account: int, steps: list[tuple[Any, ...]]) -> None:
        """In the order of time, and within a flush of its numbers."""
        if not steps:
            return
        total: tuple[int, ...] = (0, 0, 0, 0)
        flags = self._tables.flags[account]
        steps.sort(key=lambda step: step[:3])
        for *at, change in steps:
            total = _added(total, change)
            held, debits, coming, credits_ = total
            if min(total) < 0 or held + debits > TOP or coming + credits_ > TOP:
                raise wrong("limits", "account", account, "has", total, "at", at)
            if "debits_must_not_exceed_credits" in flags and held + debits > credits_:
                raise wrong("limits", "debits of account", account, "exceed", total, "at", at)
            if "credits_must_not_exceed_debits" in flags and coming + credits_ > debits:
                raise wrong("limits", "credits of account", account, "exceed", total, "at", at)
        self._totals[account] = total

    async def _check_balances(self) -> None:
        async for row in self._tables.rows(
            "SELECT account_id, debits_pending, debits_posted, credits_pending, credits_posted"
            " FROM ledger.balances"
        ):
            number, _ = self._tables.accounts[row["account_id"]]
            if tuple(row)[1:] != self._totals.get(number, (0, 0, 0, 0)):
                raise wrong("sums", row, "and should be", self._totals.get(number))
            self.counted["balances"] += 1

    # Closed accounts.

    def _check_closed(self) -> None:
        """While a closing hold stands nothing is created on its account but by a void."""
        closed: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for hold_id, kept in self._tables.kept.items():
            for flag, side in CLOSES.items():
                if kept.outcome == CREATED and kept.flags & flag:
                    end = self._tables.ended.get(hold_id, ("", None, 2**62))
                    until = 2**62 if end[0] == "posted" else end[2]
                    closed[getattr(kept, side)].append((self._tables.time_of(kept), until))
        for transfer_id, kept in self._tables.kept.items():
            if kept.outcome == CREATED and not kept.flags & VOID:
                time = self._tables.time_of(kept)
                for account in (kept.debit, kept.credit):
                    for since, until in closed.get(account, ()):
                        if since < time < until:
                            raise wrong("closed", transfer_id, "moved on", account, "at", time)
        self.counted["closings"] = sum(map(len, closed.values()))


def _added(total: tuple[int, ...], change: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(total, change, strict=True))
