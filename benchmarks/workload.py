"""What is sent: accounts and transfers as columns, drawn from a seed."""

import uuid
from typing import NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from engine.wire.layout import TRANSFER, Rows

BATCH = 8189
OPENING_AMOUNT = 10**9


class Accounts(NamedTuple):
    """Ids by account: the first funds all others."""

    ids: npt.NDArray[np.void]
    """Shape (n,), dtype V16."""
    shards: npt.NDArray[np.int64]


def make_accounts(count: int, shard_count: int, seed: int = 1) -> Accounts:
    """Random ids."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (count + 1, 16), dtype=np.uint8)
    last = raw[:, 12:].copy().view(">u4").ravel()
    return Accounts(raw.view("V16").ravel(), (last % shard_count).astype(np.int64))


async def create_accounts(dsn: str, accounts: Accounts, *, limited: bool) -> None:
    """One that funds, and the others, which must not spend more than they have."""
    flags = ["debits_must_not_exceed_credits"] if limited else []
    connection = await asyncpg.connect(dsn)
    ids = [uuid.UUID(bytes=one.tobytes()) for one in accounts.ids]
    await connection.execute(
        "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)", ids[0]
    )
    await connection.execute(
        "INSERT INTO ledger.accounts (id, ledger, code, flags)"
        " SELECT id, 1, 2, $2 FROM unnest($1::uuid[]) AS id",
        ids[1:],
        flags,
    )
    await connection.close()


def ordered_ids(count: int, rng: np.random.Generator) -> npt.NDArray[np.void]:
    """Ids as a producer makes them (uuid7): the time first, then chance."""
    raw = np.empty((count, 16), np.uint8)
    milliseconds = 1_790_000_000_000 + np.arange(count) // 300
    raw[:, :8] = (milliseconds << 16).astype(">u8").view(np.uint8).reshape(count, 8)
    raw[:, 6:] = rng.integers(0, 256, (count, 10), dtype=np.uint8)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x70
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return raw.view("V16").ravel()


def make_transfers(
    accounts: Accounts, debit: npt.NDArray[np.int64], credit: npt.NDArray[np.int64], seed: int
) -> Rows:
    """Plain transfers between accounts by number, of small random amounts."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(len(debit), TRANSFER)
    rows["id"] = ordered_ids(len(debit), rng)
    rows["debit_account_id"] = accounts.ids[debit]
    rows["credit_account_id"] = accounts.ids[credit]
    rows["amount_low"] = rng.integers(1, 1000, len(debit))
    rows["ledger"] = 1
    rows["code"] = 1
    return rows


def fund(accounts: Accounts) -> Rows:
    """An opening transfer to every account."""
    count = len(accounts.ids) - 1
    rows = make_transfers(accounts, np.zeros(count, np.int64), np.arange(1, count + 1), seed=7)
    rows["amount_low"] = OPENING_AMOUNT
    return rows


def uniform(accounts: Accounts, count: int, seed: int = 2) -> Rows:
    """Transfers between accounts drawn alike."""
    rng = np.random.default_rng(seed)
    others = len(accounts.ids) - 1
    debit = rng.integers(0, others, count)
    credit = (debit + 1 + rng.integers(0, others - 1, count)) % others
    return make_transfers(accounts, debit + 1, credit + 1, seed)


def entries_by_shard(
    rows: Rows, debit_shards: npt.NDArray[np.int64], batch: int = BATCH
) -> list[tuple[int, Rows]]:
    """Entries for the stream of each shard, taken in turn from all of them."""
    parts = [rows[debit_shards == shard] for shard in range(int(debit_shards.max()) + 1)]
    entries = []
    for start in range(0, max(map(len, parts)), batch):
        for shard, part in enumerate(parts):
            if start < len(part):
                entries.append((shard, part[start : start + batch]))
    return entries
