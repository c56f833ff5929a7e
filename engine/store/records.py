"""Rows of Postgres as what a worker decides by: ids of 16 bytes, times in microseconds.

Rows that the engine did not write are read too: what cannot be used is left out or stands as
declined, so that it stops what names it and nothing else.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import asyncpg

from engine.book.columns import AccountRow
from engine.ledger.freezes import Freeze, FreezeMark
from engine.ledger.nouns import (
    COUNTER_MAX,
    ID_ZERO,
    AccountFlags,
    Position,
    Transfer,
    TransferFlags,
)
from engine.ledger.outcomes import Outcome
from engine.ledger.page import HoldStatus, IdRecord
from engine.store.rows import ShardProgress, Waiter

ACCOUNT_NUMBER_MAX: Final = 2**52 - 1
"""`accounts_number_usable` says the same."""

_FLAGS: Final = {(): 0} | {(str(flag.name),): int(flag) for flag in AccountFlags}


def accounts_of(rows: Iterable[asyncpg.Record]) -> tuple[list[AccountRow], dict[bytes, str]]:
    """Of `accounts_by_id`.

    Returns:
        The accounts, and why those cannot be used that are left out: by their ids.
    """
    accounts, unusable = [], {}
    for row in rows:
        why = _why_unusable(row)
        if why:
            unusable[row["id"]] = why
        else:
            accounts.append(_account_of(row))
    return accounts, unusable


def _why_unusable(row: asyncpg.Record) -> str:
    if not 1 <= row["number"] <= ACCOUNT_NUMBER_MAX:
        return f"its number is {row['number']}"
    flags = row["flags"]
    if len(flags) > 1 or (flags and not isinstance(flags[0], str)) or tuple(flags) not in _FLAGS:
        return f"its flags are {flags}"
    for own, others in zip(row["own"], row["others"], strict=True):
        if not 0 <= own + others <= COUNTER_MAX:
            return f"a counter of it, over all its stripes, is {own + others}"
    return ""


def _account_of(row: asyncpg.Record) -> AccountRow:
    return AccountRow(
        row["id"],
        row["number"],
        row["shard"],
        row["ledger"],
        row["code"],
        _FLAGS[tuple(row["flags"])],
        row["closed"],
        row["version"],
        row["own"],
        row["others"],
        row["others_time"] or 0,
    )


def record_of(row: asyncpg.Record) -> IdRecord:
    """Of `spent_by_id`; a row that no flush has written stands as one that was declined."""
    if row["outcome"] == Outcome.created and not _is_whole(row):
        return IdRecord(Outcome.id_already_failed, Transfer(row["id"], ID_ZERO, ID_ZERO, 0), 0)
    created = row["outcome"] == Outcome.created
    status = HoldStatus[row["status"]] if row["status"] else HoldStatus.none
    if created and row["flags"] & TransferFlags.pending and status is HoldStatus.none:
        status = HoldStatus.pending
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
    outcome = _OUTCOMES.get(row["outcome"], Outcome.id_already_failed)
    return IdRecord(
        outcome, transfer, row["shard"], status=status, expires_at=row["expires_at"] or 0
    )


_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}


def _is_whole(row: asyncpg.Record) -> bool:
    """Whether a created transfer has what every one has that a flush wrote."""
    return (
        row["debit_account_id"] is not None
        and row["credit_account_id"] is not None
        and row["amount"] is not None
        and 0 <= row["amount"] <= COUNTER_MAX
        and row["flags"] >= 0
        and 0 <= (row["timeout"] or 0) < 2**32
        and 0 <= (row["user_data_32"] or 0) < 2**32
        and 0 <= (row["code"] or 0) < 2**16
    )


def owned_of(row: asyncpg.Record) -> ShardProgress:
    """Of `ownership` and `newest_positions`."""
    if row["time"] is None:
        return ShardProgress(Position(), 0, 0)
    position = Position(row["generation"], row["ms"], row["seq"])
    return ShardProgress(position, row["time"], row["resolved_until"])


def mark_of(row: asyncpg.Record) -> FreezeMark:
    """Of `ownership`."""
    if row["newest_freeze"] is None:
        return NOT_FROZEN
    return FreezeMark(tuple(row["freezes"] or ()), row["newest_freeze"], row["freeze_time"])


NOT_FROZEN: Final = FreezeMark()


def freeze_of(row: asyncpg.Record) -> Freeze:
    """Of `freezes_to_know`."""
    what = UUID(row["what"]).bytes if row["kind"] == "account" else int(row["what"])
    return Freeze(
        row["freeze_number"],
        row["kind"],
        what,
        row["declines"],
        row["acted_by"],
        row["reason"],
        row["time"],
        row["thaw"],
    )


def waiter_of(row: asyncpg.Record) -> Waiter:
    """Of `waiting_of_shards`."""
    original = None
    if row["original_ms"] is not None:
        original = Position(row["original_generation"], row["original_ms"], row["original_seq"])
    return Waiter(
        row["shard"],
        Position(row["generation"], row["ms"], row["seq"]),
        original,
        row["freeze_number"],
        row["flush"],
        row["ids"],
        row["size"],
        row["digest"],
    )
