"""A ledger in a page, for tests of flows: what any ledger of this kind would say, plainly."""

from collections.abc import Sequence

from engine.flows.money import Spent
from engine.ledger.nouns import Transfer, TransferFlags
from engine.ledger.outcomes import SPENDS_ID, Outcome

LINKED = int(TransferFlags.linked)
PENDING = int(TransferFlags.pending)
POST = int(TransferFlags.post_pending_transfer)
VOID = int(TransferFlags.void_pending_transfer)


class NaiveLedger:
    """Accounts that may not be overdrawn where `limited`; some may be closed, or full."""

    def __init__(self, accounts: Sequence[bytes], limited: dict[bytes, int]) -> None:
        self.available = dict.fromkeys(accounts, 0) | limited
        self.limited = set(limited)
        self.closed: set[bytes] = set()
        self.full: set[bytes] = set()
        """Accounts whose counters are at their end for a while: a refusal that leaves ids free."""
        self.spent: dict[bytes, Spent] = {}
        self.open: dict[bytes, Transfer] = {}
        self.ended: dict[bytes, str] = {}
        self.packed: dict[bytes, bytes] = {}

    def decide(self, transfers: Sequence[Transfer], packed: Sequence[bytes]) -> list[Outcome]:
        """Decide a batch in order, chains whole."""
        outcomes: list[Outcome] = []
        start = 0
        for end, transfer in enumerate(transfers):
            if transfer.flags & LINKED:
                continue
            outcomes += self._chain(transfers[start : end + 1], packed[start : end + 1])
            start = end + 1
        return outcomes

    def _chain(self, legs: Sequence[Transfer], packed: Sequence[bytes]) -> list[Outcome]:
        found: list[Outcome] = []
        undo = (dict(self.available), dict(self.open), dict(self.ended))
        for leg in legs:
            found.append(self._judge(leg))
            if found[-1] is Outcome.created:
                self._apply(leg)
            else:
                break
        if found[-1] is Outcome.created:
            for leg in legs:
                self.spent[leg.id] = Spent(Outcome.created, self._kept(leg))
            return found
        self.available, self.open, self.ended = undo
        broken = len(found) - 1
        if found[-1] in SPENDS_ID:
            self.spent[legs[broken].id] = Spent(found[-1], None, packed[broken])
        return [
            found[-1] if place == broken else Outcome.linked_event_failed
            for place in range(len(legs))
        ]

    def _kept(self, leg: Transfer) -> Transfer:
        if not leg.flags & VOID:
            return leg
        hold = self.spent[leg.pending_id].transfer
        assert hold is not None
        return Transfer(
            **{f: getattr(leg, f) for f in leg.__struct_fields__} | {"amount": hold.amount}
        )

    def _judge(self, leg: Transfer) -> Outcome:
        known = self.spent.get(leg.id)
        if known is not None:
            if known.outcome is not Outcome.created:
                return Outcome.id_already_failed
            there = known.transfer
            assert there is not None
            if there.debit_account_id != leg.debit_account_id:
                return Outcome.exists_with_different_debit_account_id
            if there.flags != leg.flags:
                return Outcome.exists_with_different_flags
            return Outcome.exists
        if leg.debit_account_id not in self.available:
            return Outcome.debit_account_not_found
        if leg.credit_account_id not in self.available:
            return Outcome.credit_account_not_found
        if leg.debit_account_id == leg.credit_account_id:
            return Outcome.accounts_must_be_different
        if leg.flags & (POST | VOID):
            return self._judge_end(leg)
        if self.closed & {leg.debit_account_id, leg.credit_account_id}:
            return Outcome.debit_account_already_closed
        if leg.credit_account_id in self.full:
            return Outcome.overflows_credits_posted
        debit = leg.debit_account_id
        if debit in self.limited and self.available[debit] < leg.amount:
            return Outcome.exceeds_credits
        return Outcome.created

    def _judge_end(self, leg: Transfer) -> Outcome:
        if leg.pending_id not in self.spent:
            return Outcome.pending_transfer_not_found
        how = self.ended.get(leg.pending_id)
        if how is not None:
            return {
                "posted": Outcome.pending_transfer_already_posted,
                "voided": Outcome.pending_transfer_already_voided,
            }[how]
        hold = self.open[leg.pending_id]
        if leg.amount > hold.amount:
            return Outcome.exceeds_pending_transfer_amount
        if leg.flags & POST and self.closed & {hold.debit_account_id, hold.credit_account_id}:
            return Outcome.debit_account_already_closed
        return Outcome.created

    def _apply(self, leg: Transfer) -> None:
        if leg.flags & (POST | VOID):
            hold = self.open.pop(leg.pending_id)
            self.ended[leg.pending_id] = "posted" if leg.flags & POST else "voided"
            moved = leg.amount if leg.flags & POST else 0
            self.available[hold.debit_account_id] += hold.amount - moved
            self.available[hold.credit_account_id] += moved
            return
        self.available[leg.debit_account_id] -= leg.amount
        if leg.flags & PENDING:
            self.open[leg.id] = leg
        else:
            self.available[leg.credit_account_id] += leg.amount
