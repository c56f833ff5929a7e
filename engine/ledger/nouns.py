"""The nouns: account, transfer, their flags, and the limits of the ledger.

Ids are 16 bytes in uuid byte order, amounts integers in the ledger's minor unit, times
microseconds since 1970 (UTC).
"""

from enum import IntFlag
from typing import Final

import msgspec

AMOUNT_MAX: Final = 2**128 - 1
"""An amount that means "all of it" where a transfer posts or balances (`"max"` on the wire)."""

COUNTER_MAX: Final = 2**63 - 1
"""No counter, and no sum of a pending and a posted one, passes this."""

ID_ZERO: Final = bytes(16)
ID_MAX: Final = b"\xff" * 16

BATCH_TRANSFERS_MAX: Final = 8189
"""Transfers in one entry of a stream."""

ENTRY_BYTES_MAX: Final = 2 * 1024 * 1024

SHARD_COUNT_MAX: Final = 1024
MICROSECONDS: Final = 1_000_000


class TransferFlags(IntFlag):
    """What a transfer asks for beyond moving its amount. Source: TigerBeetle 0.17.9."""

    linked = 1 << 0
    pending = 1 << 1
    post_pending_transfer = 1 << 2
    void_pending_transfer = 1 << 3
    balancing_debit = 1 << 4
    balancing_credit = 1 << 5
    closing_debit = 1 << 6
    closing_credit = 1 << 7


class AccountFlags(IntFlag):
    """Limits of an account; they never change. Source: TigerBeetle 0.17.9."""

    debits_must_not_exceed_credits = 1 << 1
    credits_must_not_exceed_debits = 1 << 2


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """A transfer as it was requested, or, once created, as it is kept.

    The two differ in the amount (what was really moved, held or released) and, for a
    transfer that posts or voids, in what it inherits from its hold.
    """

    id: bytes
    debit_account_id: bytes
    credit_account_id: bytes
    amount: int
    pending_id: bytes = ID_ZERO
    user_data_128: bytes = ID_ZERO
    user_data_64: int = 0
    user_data_32: int = 0
    timeout: int = 0
    ledger: int = 0
    code: int = 0
    flags: int = 0
    timestamp: int = 0


class NewAccount(msgspec.Struct, frozen=True, gc=False):
    """An account as its creation is requested."""

    id: bytes
    ledger: int
    code: int
    flags: int = 0
    name: str | None = None
    user_data_128: bytes = ID_ZERO
    user_data_64: int = 0
    user_data_32: int = 0


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """How far into its stream a shard got: compared as numbers."""

    generation: int = 0
    ms: int = 0
    seq: int = 0

    @property
    def entry_id(self) -> str:
        """As Redis writes it."""
        return f"{self.ms}-{self.seq}"


def shard_of(account_id: bytes, shard_count: int) -> int:
    """The shard that is home to an account, for ever: its id's last four bytes, modulo."""
    return int.from_bytes(account_id[12:], "big") & (shard_count - 1)


def stream_name(prefix: str, shard: int) -> str:
    """The stream of a shard. The braces are literal: the hash tag of a Redis Cluster."""
    return f"{prefix}:transfers:{{{shard:04d}}}"
