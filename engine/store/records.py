"""Rows of Postgres as what a worker decides by: ids of 16 bytes, times in microseconds.

Rows that the engine did not write are read too: what cannot be used is left out or stands as
declined, so that it stops what names it and nothing else.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import numpy as np

from engine.book.columns import NO_ACCOUNTS, AccountColumns
from engine.book.counter_bounds import UNLOCKED_MAX
from engine.ledger.freezes import Freeze, FreezeMark
from engine.ledger.nouns import (
    COUNTER_MAX,
    ID_ZERO,
    Position,
    Transfer,
    TransferFlags,
)
from engine.ledger.outcomes import Outcome
from engine.ledger.page import HoldStatus, IdRecord
from engine.store.rows import ShardProgress, Waiter
from shards.placement import Holding, OpenMove

ACCOUNT_NUMBER_MAX: Final = 2**52 - 1
"""`accounts_number_usable` says the same."""


def accounts_of(
    rows: Sequence[asyncpg.Record], owned: Collection[int]
) -> tuple[AccountColumns, dict[bytes, str]]:
    """Of `accounts_by_id`.

    Returns:
        The accounts, and why those cannot be used that are left out: by their ids.
    """
    if not rows:
        return NO_ACCOUNTS, {}
    columns = list(zip(*(row.values() for row in rows), strict=True))
    ids, closed, times = columns[0], columns[6], columns[16]
    number, shard, ledger, code, flags, version = (
        np.array(columns[place], np.int64) for place in (1, 2, 3, 4, 5, 7)
    )
    counters = np.array(columns[8:16], np.int64)
    accounts = AccountColumns(
        np.frombuffer(b"".join(ids), "V16"),
        *(number, shard, ledger, code, flags),
        np.array(closed, bool),
        version,
        counters[:4],
        counters[4:],
        max(filter(None, times), default=0),
    )
    unusable = _find_unusable(accounts, owned)
    if not unusable:
        return accounts, {}
    usable = np.ones(len(rows), bool)
    usable[list(unusable)] = False
    return accounts.part(usable), {ids[place]: why for place, why in unusable.items()}


def _find_unusable(accounts: AccountColumns, owned: Collection[int]) -> dict[int, str]:
    """Places of accounts that cannot be used, and why."""
    numbered = (accounts.number >= 1) & (accounts.number <= ACCOUNT_NUMBER_MAX)
    sums = accounts.own + accounts.others
    wrapped = ((accounts.own ^ sums) & (accounts.others ^ sums)) < 0
    # Stripes away from home are never below zero and all together small: so far the home may be.
    lowest = np.where(np.isin(accounts.shard, list(owned)), 0, -UNLOCKED_MAX)
    counted = ~(wrapped | (sums < lowest)).any(axis=0)
    why = {}
    for place in np.flatnonzero(~(numbered & (accounts.flags >= 0) & counted)).tolist():
        if not numbered[place]:
            why[place] = f"its number is {accounts.number[place]}"
        elif accounts.flags[place] < 0:
            why[place] = "its flags are none that accounts have"
        else:
            own, others = accounts.own[:, place].tolist(), accounts.others[:, place].tolist()
            totals = [here + away for here, away in zip(own, others, strict=True)]
            why[place] = f"its counters, over its stripes, are {totals}"
    return why


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


def holding_of(row: Any) -> Holding:
    """Who has a shard, and where it is to go."""
    move = row["move"]
    return Holding(
        row["shard"],
        row["worker"],
        row["seconds_left"],
        None
        if move is None
        else OpenMove(move, row["planned"], row["source"], row["target"], row["state"]),
    )
