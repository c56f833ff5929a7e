"""Rows of Postgres as what a worker decides by: ids of 16 bytes, times in microseconds."""

import asyncpg

from engine.book.columns import AccountRow
from engine.errors import InvariantBroken
from engine.ledger.nouns import COUNTER_MAX, ID_ZERO, AccountFlags, Position, Transfer
from engine.ledger.outcomes import Outcome
from engine.ledger.page import HoldStatus, IdRecord
from engine.store.rows import ShardProgress


def account_of(row: asyncpg.Record) -> AccountRow:
    """Of `accounts_by_id`."""
    return AccountRow(
        row["id"],
        row["number"],
        row["shard"],
        row["ledger"],
        row["code"],
        sum(int(AccountFlags[name]) for name in row["flags"]),
        row["closed"],
        row["version"],
        row["own"],
        row["others"],
        row["others_time"] or 0,
    )


def record_of(row: asyncpg.Record) -> IdRecord:
    """Of `spent_by_id`."""
    outcome = Outcome(row["outcome"])
    created = outcome is Outcome.created
    status = HoldStatus[row["status"]] if row["status"] else HoldStatus.none
    if created and row["flags"] & 2 and status is HoldStatus.none:
        status = HoldStatus.pending
    if created and not 0 <= row["amount"] <= COUNTER_MAX:
        raise InvariantBroken(f"transfer {row['id'].hex()} has an amount out of range")
    transfer = Transfer(
        id=row["id"],
        debit_account_id=row["debit_account_id"] or ID_ZERO,
        credit_account_id=row["credit_account_id"] or ID_ZERO,
        amount=row["amount"] or 0,
        pending_id=row["pending_id"] or ID_ZERO,
        user_data_128=row["user_data_128"] or ID_ZERO,
        user_data_64=(row["user_data_64"] or 0) % 2**64,
        user_data_32=row["user_data_32"] or 0,
        timeout=row["timeout"] or 0,
        ledger=row["ledger"] or 0,
        code=row["code"] or 0,
        flags=row["flags"],
    )
    return IdRecord(
        outcome, transfer, row["shard"], status=status, expires_at=row["expires_at"] or 0
    )


def owned_of(row: asyncpg.Record) -> ShardProgress:
    """Of `ownership` and `newest_positions`."""
    if row["time"] is None:
        return ShardProgress(Position(), 0, 0)
    position = Position(row["generation"], row["ms"], row["seq"])
    return ShardProgress(position, row["time"], row["resolved_until"])
