"""What producers look up: accounts, transfers and postings, as they are handed out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.ledger.nouns import ID_ZERO, AccountFlags, NewAccount, TransferFlags

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TIME_MAX: Final = 253_402_214_400 * 1_000_000
"""The last day of the year 9999, in microseconds since 1970: no `datetime` is later."""

Row = Mapping[str, Any]
"""A row of Postgres, with ids of 16 bytes and times in microseconds since 1970."""


class Account(msgspec.Struct, frozen=True, gc=False):
    """An account with its four counters, in the ledger's minor unit."""

    id: UUID
    ledger: int
    code: int
    flags: AccountFlags
    name: str | None
    shard: int
    closed: bool
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    user_data_128: UUID
    user_data_64: int
    user_data_32: int
    created_at: datetime


class StoredTransfer(msgspec.Struct, frozen=True, gc=False):
    """A created transfer; `amount` is what was really moved, held or released."""

    id: UUID
    debit_account_id: UUID
    credit_account_id: UUID
    amount: int
    ledger: int
    code: int
    flags: TransferFlags
    pending_id: UUID | None
    timeout: int
    user_data_128: UUID
    user_data_64: int
    user_data_32: int
    shard: int
    posted_at: datetime


class Posting(msgspec.Struct, frozen=True, gc=False):
    """One leg of a transfer, with the counters of its stripe after it; credit is positive.

    `number` is its own in the whole ledger.
    """

    transfer_id: UUID
    other_account_id: UUID
    amount: int
    pending_amount: int
    code: int
    flags: TransferFlags
    shard: int
    version: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    posted_at: datetime
    number: int


_COUNTERS: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
_SAME_IN_ACCOUNT: Final = ("ledger", "code", "name", "shard", "closed", "user_data_32", *_COUNTERS)
_SAME_IN_TRANSFER: Final = ("amount", "ledger", "code", "timeout", "user_data_32", "shard")
_SAME_IN_POSTING: Final = (
    "amount", "pending_amount", "code", "shard", "version", "number", *_COUNTERS,
)  # fmt: skip


def account_of(row: Row) -> Account:
    """An account, from the columns of its name."""
    return Account(
        id=UUID(bytes=row["id"]),
        flags=AccountFlags(_bits(AccountFlags, row["flags"])),
        user_data_128=UUID(bytes=row["user_data_128"] or ID_ZERO),
        user_data_64=int(row["user_data_64"]),
        created_at=_time(row["created_at"]),
        **{name: row[name] for name in _SAME_IN_ACCOUNT},
    )


def transfer_of(row: Row) -> StoredTransfer:
    """A transfer, from the columns of its name."""
    return StoredTransfer(
        id=UUID(bytes=row["id"]),
        debit_account_id=UUID(bytes=row["debit_account_id"]),
        credit_account_id=UUID(bytes=row["credit_account_id"]),
        flags=TransferFlags(_bits(TransferFlags, row["flags"])),
        pending_id=UUID(bytes=row["pending_id"]) if row["pending_id"] else None,
        user_data_128=UUID(bytes=row["user_data_128"] or ID_ZERO),
        user_data_64=int(row["user_data_64"]),
        posted_at=_time(row["posted_at"]),
        **{name: row[name] for name in _SAME_IN_TRANSFER},
    )


def posting_of(row: Row) -> Posting:
    """A posting, from the columns of its name."""
    return Posting(
        transfer_id=UUID(bytes=row["transfer_id"]),
        other_account_id=UUID(bytes=row["other_account_id"]),
        flags=TransferFlags(_bits(TransferFlags, row["flags"])),
        posted_at=_time(row["posted_at"]),
        **{name: row[name] for name in _SAME_IN_POSTING},
    )


def new_account_of(row: Row) -> NewAccount:
    """An account as its creation was requested, but for the name, which nothing compares."""
    return NewAccount(
        row["id"],
        row["ledger"],
        row["code"],
        _bits(AccountFlags, row["flags"]),
        None,
        row["user_data_128"] or ID_ZERO,
        int(row["user_data_64"]),
        row["user_data_32"],
    )


def _bits(kind: type[AccountFlags] | type[TransferFlags], names: Sequence[str]) -> int:
    """Of names; what is none of them, in a row by a stranger, says nothing."""
    return sum(int(kind[name]) for name in set(map(str, names)) & kind.__members__.keys())


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=min(max(microseconds, 0), TIME_MAX))
