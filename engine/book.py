"""The book: what a worker holds in memory to decide by. It decides nothing and never waits.

It keeps the accounts with their counters and, for the ids that the batches in hand can
touch, what became of them. Every change goes through here, so that a linked chain that
fails can be taken back, and is noted as a row of the flush to come.

A row of the book is trusted only while its worker's chain of flushes is unbroken: after a
flush that failed the whole book is thrown away and loaded again.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

import msgspec

from engine.errors import InvariantBroken
from engine.nouns import COUNTER_MAX, AccountFlags, Transfer, TransferFlags
from engine.outcomes import Outcome

STRIPES_PER_ACCOUNT: Final = 1024


class HoldStatus(IntEnum):
    """What became of a hold; every change from `pending` is final."""

    none = 0
    pending = 1
    posted = 2
    voided = 3
    expired = 4


class Account(msgspec.Struct, gc=False):
    """An account with the counters of its home stripe. Amounts in minor units."""

    id: bytes
    number: int
    shard: int
    ledger: int
    code: int
    flags: int = 0
    closed: bool = False
    version: int = 0
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    flush: int = 0
    """The worker's flush that last changed it; not to be evicted before that is committed."""

    @property
    def stripe(self) -> int:
        """The key of the home stripe: the account's number x 1024 + the shard."""
        return self.number * STRIPES_PER_ACCOUNT + self.shard

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


class Known(msgspec.Struct, gc=False):
    """What became of an id: `created` with the transfer as it is kept, or spent by a refusal."""

    outcome: Outcome
    transfer: Transfer
    shard: int
    """The shard that decided it; a hold is resolved there."""
    debit_number: int | None = None
    credit_number: int | None = None
    status: HoldStatus = HoldStatus.none
    expires_at: int = 0
    """Microseconds since 1970; 0 for never."""


class Posting(msgspec.Struct, frozen=True, gc=False):
    """One leg, as it is stored: credit positive, the counters as they are after it."""

    stripe: int
    version: int
    transfer_id: bytes
    amount: int
    pending_amount: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int


class Resolution(msgspec.Struct, frozen=True, gc=False):
    """The end of a hold; `transfer_id` is None where it expired."""

    hold_id: bytes
    transfer_id: bytes | None
    status: HoldStatus


class Changes:
    """The rows of one flush, in the order in which they were decided."""

    __slots__ = ("closings", "postings", "resolutions", "spent")

    def __init__(self) -> None:
        self.spent: dict[bytes, Known] = {}
        self.postings: list[Posting] = []
        self.resolutions: list[Resolution] = []
        self.closings: dict[int, bool] = {}

    def __bool__(self) -> bool:
        return bool(self.spent or self.postings)


class Book:
    """Accounts and ids in memory, and the changes of the flush that is being decided.

    Args:
        flush: The number of the worker's flush that the first changes go into.
    """

    def __init__(self, flush: int = 1) -> None:
        self.accounts: dict[bytes, Account] = {}
        self.flush = flush
        self.changes = Changes()
        self._known: dict[bytes, Known] = {}
        self._known_before: dict[bytes, Known] = {}
        # Of the open chain: accounts as they were, holds resolved, ids created.
        self._undo: list[tuple[Account, tuple[bool, int, int, int, int, int]]] = []
        self._undo_holds: list[Known] = []
        self._chain_start: tuple[int, int] | None = None
        self._chain_ids: list[bytes] = []

    def account(self, account_id: bytes) -> Account | None:
        """The account of that id, or None where there is none."""
        return self.accounts.get(account_id)

    def known(self, transfer_id: bytes) -> Known | None:
        """What became of that id, or None where it is free."""
        return self._known.get(transfer_id) or self._known_before.get(transfer_id)

    # Loading: before a batch is decided, everything it may touch has been brought in.

    def missing_ids(self, ids: Iterable[bytes]) -> list[bytes]:
        """Those of `ids` to look up; what an uncommitted flush knows of the others is kept."""
        missing = []
        for one in ids:
            if one in self._known:
                continue
            known = self._known_before.get(one)
            if known is None:
                missing.append(one)
            else:
                self._known[one] = known
        return missing

    def missing_accounts(self, ids: Iterable[bytes]) -> list[bytes]:
        """Those of `ids` that are not in the book."""
        return [one for one in ids if one not in self.accounts]

    def add_account(self, account: Account) -> None:
        """Bring in an account as Postgres has it, unless it is here (and may be newer) already."""
        self.accounts.setdefault(account.id, account)

    def add_known(self, known: Known) -> None:
        """Bring in an id as Postgres has it, unless it is here already."""
        self._known.setdefault(known.transfer.id, known)

    def take_changes(self) -> Changes:
        """Hand out the rows decided so far and begin those of the next flush."""
        changes, self.changes = self.changes, Changes()
        self.flush += 1
        self._known, self._known_before = {}, self._known
        return changes

    def evict(self, accounts_max: int, committed: int) -> int:
        """Forget accounts, the least recently loaded first, down to `accounts_max`.

        Args:
            accounts_max: How many may stay.
            committed: The worker's last committed flush; what a later one changed stays.

        Returns:
            How many were forgotten.
        """
        surplus = len(self.accounts) - accounts_max
        if surplus <= 0:
            return 0
        old = [a.id for a in self.accounts.values() if a.flush <= committed][:surplus]
        for account_id in old:
            del self.accounts[account_id]
        return len(old)

    def forget_accounts(self, ids: Iterable[bytes]) -> None:
        """Drop accounts that another flush than this book's own has written."""
        for account_id in ids:
            self.accounts.pop(account_id, None)

    # Changing: called by the rules alone.

    def begin_chain(self) -> None:
        """From here on changes can be taken back together."""
        self._chain_start = (len(self.changes.postings), len(self.changes.resolutions))
        self._undo.clear()
        self._undo_holds.clear()
        self._chain_ids.clear()

    def end_chain(self) -> None:
        """The chain is whole: its changes stay."""
        self._chain_start = None

    def roll_chain_back(self) -> None:
        """Take back all since `begin_chain`, except that ids spent by a refusal stay spent."""
        if self._chain_start is None:
            raise InvariantBroken("no chain is open that could be rolled back")
        for account, before in reversed(self._undo):
            (
                account.closed,
                account.version,
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
            ) = before
            if account.number in self.changes.closings:
                self.changes.closings[account.number] = account.closed
        for hold in self._undo_holds:
            hold.status = HoldStatus.pending
        for transfer_id in self._chain_ids:
            del self._known[transfer_id]
            del self.changes.spent[transfer_id]
        postings, resolutions = self._chain_start
        del self.changes.postings[postings:]
        del self.changes.resolutions[resolutions:]
        self._chain_start = None

    def spend(self, transfer: Transfer, outcome: Outcome, shard: int) -> None:
        """Note that a refusal has spent the transfer's id."""
        known = Known(outcome, transfer, shard)
        self._known[transfer.id] = known
        self.changes.spent[transfer.id] = known

    def create(
        self,
        transfer: Transfer,
        shard: int,
        debit: Account,
        credit: Account,
        expires_at: int = 0,
    ) -> None:
        """Keep a created transfer; its postings follow by `post`."""
        pending = transfer.flags & TransferFlags.pending
        known = Known(
            Outcome.created,
            transfer,
            shard,
            debit.number,
            credit.number,
            HoldStatus.pending if pending else HoldStatus.none,
            expires_at,
        )
        self._known[transfer.id] = known
        self.changes.spent[transfer.id] = known
        if self._chain_start is not None:
            self._chain_ids.append(transfer.id)

    def resolve(self, hold: Known, status: HoldStatus, transfer_id: bytes | None) -> None:
        """End a hold, once."""
        if hold.status is not HoldStatus.pending:
            raise InvariantBroken(f"hold {hold.transfer.id.hex()} is resolved a second time")
        hold.status = status
        self.changes.resolutions.append(Resolution(hold.transfer.id, transfer_id, status))
        if self._chain_start is not None:
            self._undo_holds.append(hold)

    def close(self, account: Account, *, closed: bool) -> None:
        """Close or reopen an account; its posting follows by `post`."""
        self._remember(account)
        account.closed = closed
        self.changes.closings[account.number] = closed

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
        """Change an account's counters by the given amounts and note the posting."""
        self._remember(account)
        account.debits_posted += debit
        account.debits_pending += debit_pending
        account.credits_posted += credit
        account.credits_pending += credit_pending
        if (
            min(account.debits_pending, account.credits_pending) < 0
            or account.debits_pending + account.debits_posted > COUNTER_MAX
            or account.credits_pending + account.credits_posted > COUNTER_MAX
        ):
            raise InvariantBroken(f"a counter of account {account.id.hex()} leaves its range")
        account.version += 1
        account.flush = self.flush
        self.changes.postings.append(
            Posting(
                account.stripe,
                account.version,
                transfer_id,
                credit - debit,
                credit_pending - debit_pending,
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
            ),
        )

    def _remember(self, account: Account) -> None:
        if self._chain_start is not None:
            before = (
                account.closed,
                account.version,
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
            )
            self._undo.append((account, before))
