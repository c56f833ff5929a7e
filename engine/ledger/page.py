"""A page of the book: the few accounts and ids that the sequential rules need, as objects.

The rules read and change a page; nothing they do here is final. What they changed is kept
as a list of legs and of spent ids, so that a linked chain that fails can be taken back and
the book can take over what stands.
"""

from enum import IntEnum

import msgspec

from engine.errors import InvariantBroken
from engine.ledger.nouns import COUNTER_MAX, AccountFlags, Transfer, TransferFlags
from engine.ledger.outcomes import Outcome


class HoldStatus(IntEnum):
    """What became of a hold; every change from `pending` is final."""

    none = 0
    pending = 1
    posted = 2
    voided = 3
    expired = 4


class Account(msgspec.Struct, gc=False):
    """An account with its four counters, over all its stripes. Amounts in minor units."""

    id: bytes
    number: int
    ledger: int
    code: int
    flags: int = 0
    closed: bool = False
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    exact: bool = True
    """Whether the counters are those of this moment; else no rule may depend on them."""

    def debits_exceed_credits(self, amount: int) -> bool:
        """Whether a debit of `amount` would break the account's limit on debits."""
        return (
            self.flags & AccountFlags.debits_must_not_exceed_credits != 0
            and self.debits_pending + self.debits_posted + amount > self.credits_posted
        )

    def credits_exceed_debits(self, amount: int) -> bool:
        """Whether a credit of `amount` would break the account's limit on credits."""
        return (
            self.flags & AccountFlags.credits_must_not_exceed_debits != 0
            and self.credits_pending + self.credits_posted + amount > self.debits_posted
        )


class IdRecord(msgspec.Struct, gc=False):
    """What became of an id: `created` with the transfer as it is kept, or spent by a refusal."""

    outcome: Outcome
    transfer: Transfer
    shard: int
    """The shard that decided it; a hold is resolved there."""
    status: HoldStatus = HoldStatus.none
    expires_at: int = 0
    """Microseconds since 1970; 0 for never."""


class Leg(msgspec.Struct, frozen=True, gc=False):
    """What a transfer changes in the counters of one account."""

    at: int
    """Which request of the entry; of an expiry it says nothing."""
    account: Account
    transfer_id: bytes
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int


class Resolution(msgspec.Struct, frozen=True, gc=False):
    """The end of a hold; `transfer_id` is None where it expired."""

    hold: IdRecord
    transfer_id: bytes | None
    status: HoldStatus


class Page:
    """Accounts and ids by id, and what the rules made of them.

    Args:
        accounts: Those that exist; any other id is no account.
        known: What became of ids; any other is free.
    """

    def __init__(self, accounts: dict[bytes, Account], known: dict[bytes, IdRecord]) -> None:
        self._accounts = accounts
        self._known = known
        self.spent: dict[bytes, IdRecord] = {}
        self.legs: list[Leg] = []
        self.resolutions: list[Resolution] = []
        self.closings: dict[bytes, bool] = {}
        self.at = 0
        """Which request of the entry is being decided."""
        # Of the open chain: where it began, accounts as they were, holds resolved, ids created.
        self._chain: tuple[int, int] | None = None
        self._undo: list[tuple[Account, tuple[bool, int, int, int, int]]] = []
        self._undo_holds: list[IdRecord] = []
        self._undo_ids: list[bytes] = []

    @property
    def expired(self) -> list[bytes]:
        """The ids of the holds that expired, in order."""
        return [end.hold.transfer.id for end in self.resolutions if end.transfer_id is None]

    def account(self, account_id: bytes) -> Account | None:
        """The account of that id, or None where there is none."""
        return self._accounts.get(account_id)

    def known(self, transfer_id: bytes) -> IdRecord | None:
        """What became of that id, or None where it is free."""
        return self._known.get(transfer_id)

    def begin_chain(self) -> None:
        """From here on changes can be taken back together."""
        self._chain = (len(self.legs), len(self.resolutions))
        self._undo.clear()
        self._undo_holds.clear()
        self._undo_ids.clear()

    def end_chain(self) -> None:
        """The chain is whole: its changes stay."""
        self._chain = None

    def roll_chain_back(self) -> None:
        """Take back all since `begin_chain`, except that ids spent by a refusal stay spent."""
        if self._chain is None:
            raise InvariantBroken("no chain is open that could be rolled back")
        for account, before in reversed(self._undo):
            (
                account.closed,
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
            ) = before
            if account.id in self.closings:
                self.closings[account.id] = account.closed
        for hold in self._undo_holds:
            hold.status = HoldStatus.pending
        for transfer_id in self._undo_ids:
            del self._known[transfer_id]
            del self.spent[transfer_id]
        legs, resolutions = self._chain
        del self.legs[legs:]
        del self.resolutions[resolutions:]
        self._chain = None

    def spend(self, transfer: Transfer, outcome: Outcome, shard: int) -> None:
        """Note that a refusal has spent the transfer's id."""
        known = IdRecord(outcome, transfer, shard)
        self._known[transfer.id] = self.spent[transfer.id] = known

    def create(self, transfer: Transfer, shard: int, expires_at: int = 0) -> None:
        """Keep a created transfer; its legs follow by `post`."""
        pending = transfer.flags & TransferFlags.pending
        status = HoldStatus.pending if pending else HoldStatus.none
        known = IdRecord(Outcome.created, transfer, shard, status, expires_at)
        self._known[transfer.id] = self.spent[transfer.id] = known
        if self._chain is not None:
            self._undo_ids.append(transfer.id)

    def resolve(self, hold: IdRecord, status: HoldStatus, transfer_id: bytes | None) -> None:
        """End a hold, once."""
        if hold.status is not HoldStatus.pending:
            raise InvariantBroken(f"hold {hold.transfer.id.hex()} is resolved a second time")
        hold.status = status
        self.resolutions.append(Resolution(hold, transfer_id, status))
        if self._chain is not None:
            self._undo_holds.append(hold)

    def close(self, account: Account, *, closed: bool) -> None:
        """Close or reopen an account; its leg follows by `post`."""
        self._remember(account)
        account.closed = closed
        self.closings[account.id] = closed

    def post(
        self,
        account: Account,
        transfer_id: bytes,
        *,
        debit: int = 0,
        debit_pending: int = 0,
        credit: int = 0,
        credit_pending: int = 0,
    ) -> None:
        """Change an account's counters by the given amounts."""
        self._remember(account)
        account.debits_posted += debit
        account.debits_pending += debit_pending
        account.credits_posted += credit
        account.credits_pending += credit_pending
        if account.exact and (
            min(account.debits_pending, account.credits_pending) < 0
            or account.debits_pending + account.debits_posted > COUNTER_MAX
            or account.credits_pending + account.credits_posted > COUNTER_MAX
        ):
            raise InvariantBroken(f"a counter of account {account.id.hex()} leaves its range")
        self.legs.append(
            Leg(self.at, account, transfer_id, debit_pending, debit, credit_pending, credit)
        )

    def _remember(self, account: Account) -> None:
        if self._chain is not None:
            before = (
                account.closed,
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
            )
            self._undo.append((account, before))
