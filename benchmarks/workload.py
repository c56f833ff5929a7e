"""What is sent: accounts and transfers as columns, drawn from a seed, and what must come of it."""

import uuid
from collections.abc import Callable
from typing import NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from engine.ledger.nouns import TransferFlags
from engine.wire.layout import TRANSFER, Rows

SHARDS = 16
BATCH = 8189
OPENING_AMOUNT = 10**9
TOO_MUCH = 10**12
"""More than any account ever has."""

Index = npt.NDArray[np.int64]


class Accounts(NamedTuple):
    """Ids by account: the first ones, one in each shard, fund those of their shard."""

    ids: npt.NDArray[np.void]
    """Shape (n,), dtype V16."""
    shards: Index


class Transfers(NamedTuple):
    """Requests in order, and what must come of each."""

    rows: Rows
    debit: Index
    """Of each, the debit account's place; of a post or void, that of its hold."""
    credit: Index
    moved: Index
    """What it adds to the posted balances."""
    created: npt.NDArray[np.bool_]
    """Which are to be created; the others are declined."""


def make_accounts(count: int, seed: int = 1) -> Accounts:
    """Random ids: those that fund, then `count` others."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (SHARDS + count, 16), dtype=np.uint8)
    raw[:SHARDS, 15] = np.arange(SHARDS)
    return Accounts(raw.view("V16").ravel(), (raw[:, 15] % SHARDS).astype(np.int64))


async def create_accounts(dsn: str, accounts: Accounts) -> None:
    """Those that fund, and the others, which must not spend more than they have."""
    connection = await asyncpg.connect(dsn)
    ids = [uuid.UUID(bytes=one) for one in accounts.ids.tolist()]
    for some, flags in (
        (ids[:SHARDS], []),
        (ids[SHARDS:], ["debits_must_not_exceed_credits"]),
    ):
        await connection.execute(
            "INSERT INTO ledger.accounts (id, ledger, code, flags)"
            " SELECT id, 1, 1, $2 FROM unnest($1::uuid[]) AS id",
            some,
            flags,
        )
    await connection.close()


def ordered_ids(count: int, rng: np.random.Generator, begin_ms: int = 0) -> npt.NDArray[np.void]:
    """Ids as a producer makes them (uuid7): the time, from `begin_ms` on, then chance."""
    raw = np.empty((count, 16), np.uint8)
    milliseconds = 1_790_000_000_000 + begin_ms + np.arange(count) // 300
    raw[:, :8] = (milliseconds << 16).astype(">u8").view(np.uint8).reshape(count, 8)
    raw[:, 6:] = rng.integers(0, 256, (count, 10), dtype=np.uint8)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x70
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return raw.view("V16").ravel()


def make_transfers(accounts: Accounts, debit: Index, credit: Index, seed: int) -> Transfers:
    """Plain transfers between accounts by their places, of small random amounts."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(len(debit), TRANSFER)
    rows["id"] = ordered_ids(len(debit), rng)
    rows["debit_account_id"] = accounts.ids[debit]
    rows["credit_account_id"] = accounts.ids[credit]
    rows["amount_low"] = rng.integers(1, 1000, len(debit))
    rows["ledger"] = 1
    rows["code"] = 1
    moved = rows["amount_low"].astype(np.int64)
    return Transfers(rows, debit, credit, moved, np.ones(len(debit), bool))


def fund(accounts: Accounts) -> Transfers:
    """An opening transfer to every account, within its shard."""
    credit = np.arange(SHARDS, len(accounts.ids))
    opening = make_transfers(accounts, accounts.shards[credit], credit, seed=7)
    opening.rows["amount_low"] = opening.moved[:] = OPENING_AMOUNT
    return opening


def uniform(accounts: Accounts, count: int, seed: int = 2) -> Transfers:
    """Transfers between accounts drawn alike."""
    rng = np.random.default_rng(seed)
    others = len(accounts.ids) - SHARDS
    debit = rng.integers(0, others, count)
    credit = (debit + 1 + rng.integers(0, others - 1, count)) % others
    return make_transfers(accounts, debit + SHARDS, credit + SHARDS, seed)


def zipf(accounts: Accounts, count: int, seed: int = 3) -> Transfers:
    """Accounts drawn by Zipf's law with exponent 1: of 10,000, the first has a tenth of all."""
    rng = np.random.default_rng(seed)
    others = len(accounts.ids) - SHARDS
    shares = np.cumsum(1 / np.arange(1, others + 1))
    debit, credit = (
        np.searchsorted(shares, rng.random(count) * shares[-1], side="right").clip(0, others - 1)
        for _ in range(2)
    )
    credit = np.where(credit == debit, (credit + 1) % others, credit)
    return make_transfers(accounts, debit + SHARDS, credit + SHARDS, seed)


def hot_credit(accounts: Accounts, count: int, seed: int = 4) -> Transfers:
    """One account is credited by every transfer, as a merchant's is."""
    rng = np.random.default_rng(seed)
    debit = rng.integers(SHARDS + 1, len(accounts.ids), count)
    return make_transfers(accounts, debit, np.full(count, SHARDS), seed)


def hot_both(accounts: Accounts, count: int, seed: int = 5) -> Transfers:
    """One account is in every transfer, credited by one half and debited by the other."""
    rng = np.random.default_rng(seed)
    other = rng.integers(SHARDS + 1, len(accounts.ids), count)
    pays = rng.random(count) < 0.5
    hot = np.full(count, SHARDS)
    return make_transfers(accounts, np.where(pays, hot, other), np.where(pays, other, hot), seed)


def holds(accounts: Accounts, count: int, seed: int = 6, lag_max: int = 20_000) -> Transfers:
    """30% hold, 30% post or void one of these up to `lag_max` transfers later, 40% are plain."""
    rng = np.random.default_rng(seed)
    held = count * 3 // 10
    first = uniform(accounts, count - held, seed)
    flags = np.zeros(count - held, np.uint16)
    flags[rng.choice(count - held, held, replace=False)] = TransferFlags.pending
    holding = np.flatnonzero(flags)
    places = np.arange(count - held) + 0.5
    order = np.argsort(np.r_[places, places[holding] + rng.integers(1, lag_max, held)])
    # By its place in the order, the first of the two transfers that each one belongs to.
    of = np.r_[np.arange(count - held), holding][order]
    resolving = order >= count - held
    made = make_transfers(accounts, first.debit[of], first.credit[of], seed)
    rows = made.rows
    rows["amount_low"] = first.rows["amount_low"][of]
    posts = rng.random(count) < 0.5
    ends = np.where(posts, TransferFlags.post_pending_transfer, TransferFlags.void_pending_transfer)
    rows["flags"] = np.where(resolving, ends, flags[of])
    began = np.empty(count - held, np.int64)
    began[of[~resolving]] = np.flatnonzero(~resolving)
    rows["pending_id"][resolving] = rows["id"][began[of[resolving]]]
    moves = (flags[of] == 0) | (resolving & posts)
    return made._replace(moved=np.where(moves, rows["amount_low"].astype(np.int64), 0))


def random_ids(accounts: Accounts, count: int, seed: int = 9) -> Transfers:
    """The plain ones with ids of chance alone, as uuid4 has them."""
    made = uniform(accounts, count, seed)
    raw = np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)
    made.rows["id"] = raw.view("V16").ravel()
    return made


def declined(accounts: Accounts, count: int, seed: int = 8) -> Transfers:
    """1% ask for more than there is, anywhere among the others."""
    made = uniform(accounts, count, seed)
    short = np.random.default_rng(seed).random(count) < 0.01
    made.rows["amount_low"][short] = TOO_MUCH
    made.moved[short] = 0
    made.created[short] = False
    return made


Draw = Callable[[Accounts, int], Transfers]
