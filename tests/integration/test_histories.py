"""Every recorded history replays exactly through stream, worker and Postgres, in each format.

The entries are written here from the contract alone, and the results read with SQL alone.
"""

import asyncio
import json
import struct
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
import pytest

from engine.outcomes import Outcome
from engine.worker import Worker
from tests.histories import History, load_histories, transfer_flags
from tests.ledgers import Ledger, make_ledger

HISTORIES = load_histories()
AMOUNT_MAX = 2**128 - 1
NUMBERS = {outcome.name: int(outcome) for outcome in Outcome}


def as_json(event: dict[str, Any]) -> dict[str, Any]:
    """The contract's JSON: absent fields are left out, except an amount, which is said."""
    wire = {k: v for k, v in event.items() if k != "outcome" and v is not None}
    wire["amount"] = "max" if event["amount"] is None else event["amount"]
    return wire


def as_mp(event: dict[str, Any]) -> dict[str, Any]:
    """The contract's MessagePack: ids as 16 bytes, amounts beyond 64 bits as 16 bytes."""
    wire = as_json(event)
    for name in ("id", "debit_account_id", "credit_account_id", "pending_id", "user_data_128"):
        if name in wire:
            wire[name] = uuid.UUID(wire[name]).bytes
    if wire["amount"] != "max" and wire["amount"] >= 2**64:
        wire["amount"] = wire["amount"].to_bytes(16, "big")
    return wire


def as_bin(event: dict[str, Any]) -> bytes:
    """The contract's 128 bytes: TigerBeetle's layout, ids in uuid byte order."""

    def id_of(name: str) -> bytes:
        return uuid.UUID(event[name]).bytes if event.get(name) else bytes(16)

    amount = AMOUNT_MAX if event["amount"] is None else event["amount"]
    return struct.pack(
        "<16s16s16s16s16s16sQIIIHHQ",
        id_of("id"),
        id_of("debit_account_id"),
        id_of("credit_account_id"),
        amount.to_bytes(16, "little"),
        id_of("pending_id"),
        id_of("user_data_128"),
        event.get("user_data_64", 0),
        event.get("user_data_32", 0),
        event.get("timeout", 0),
        event.get("ledger", 0),
        event.get("code", 0),
        transfer_flags(event.get("flags", [])),
        0,
    )


def payload(form: str, batch: list[dict[str, Any]]) -> bytes:
    if form == "json":
        return json.dumps([as_json(event) for event in batch]).encode()
    if form == "mp":
        return msgspec.msgpack.encode([as_mp(event) for event in batch])
    return b"".join(as_bin(event) for event in batch)


def read_outcomes(form: str, answer: bytes) -> list[int]:
    if form == "json":
        return [NUMBERS[name] for name in json.loads(answer)]
    if form == "mp":
        return list(msgspec.msgpack.decode(answer, type=list[int]))
    return list(answer)


def home(account_id: str | None, shard_count: int) -> int:
    """An account's shard: the last four bytes of its id, modulo the number of shards."""
    return int((account_id or "0")[-8:], 16) % shard_count


async def replay(ledger: Ledger, history: History, form: str) -> None:
    """Send batch by batch, each after the last answer; then wait as the history did."""
    reply = f"{ledger.prefix}:answers:{history.seed}"
    seen = "0"
    async with ledger.redis() as redis:
        for index, batch in enumerate(history.batches):
            wait = history.waits.get(str(index), 0)
            if wait:
                await asyncio.sleep(wait)  # the history lets time pass, and holds lapse
            fields = {form: payload(form, batch), "reply": reply, "request": str(index)}
            shard = home(batch[0].get("debit_account_id"), ledger.shard_count)
            await redis.xadd(f"{ledger.prefix}:transfers:{{{shard:04d}}}", fields)
            answers = await redis.xread({reply: seen}, count=1, block=20_000)
            assert answers, f"batch {index} of {history.name} was not answered"
            seen, answer = answers[0][1][0]
            assert answer[b"request"] == str(index).encode()
            expected = [NUMBERS[event["outcome"]] for event in batch]
            assert read_outcomes(form, answer[b"outcomes"]) == expected, (history.name, index)
        await asyncio.sleep(history.wait_before_balances)


def stored_form(row: asyncpg.Record) -> dict[str, Any]:
    """A row of `transfers` as a history stores it: absent is zero or empty."""
    always = {"amount": row["amount"], "ledger": row["ledger"], "code": row["code"]}
    optional = {
        "debit_account_id": str(row["debit_account_id"]),
        "credit_account_id": str(row["credit_account_id"]),
        "flags": row["flags"],
        "pending_id": str(row["pending_id"]) if row["pending_id"] else None,
        "timeout": row["timeout"],
        "user_data_128": str(row["user_data_128"]) if row["user_data_128"] else None,
        "user_data_64": int(row["user_data_64"]),
        "user_data_32": row["user_data_32"],
    }
    return always | {k: v for k, v in optional.items() if v}


async def check(
    form: str, ledger: Ledger, *workers: Worker, histories: Sequence[History] = HISTORIES
) -> None:
    """Histories through one ledger, side by side."""
    for history in histories:
        created = [a for a in history.accounts if a["outcome"] == "created"]
        await ledger.sql(
            "INSERT INTO ledger.accounts (id, ledger, code, flags)"
            " SELECT id, ledger, code, CASE WHEN flag = '' THEN '{}' ELSE ARRAY[flag] END"
            " FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::text[])"
            " AS a(id, ledger, code, flag)",
            [uuid.UUID(a["id"]) for a in created],
            [a["ledger"] for a in created],
            [a["code"] for a in created],
            ["".join(a["flags"]) for a in created],
        )
    async with ledger.working(*workers):
        await asyncio.gather(*(replay(ledger, history, form) for history in histories))

    balances = {
        str(row["account_id"]): {k: v for k, v in row.items() if k != "account_id"}
        for row in await ledger.sql("SELECT * FROM ledger.balances")
    }
    stored = {
        str(row["id"]): stored_form(row)
        for row in await ledger.sql("SELECT * FROM ledger.transfers")
    }
    for history in histories:
        for account_id, expected in history.balances.items():
            assert balances[account_id] == expected, (form, history.name, account_id)
    assert stored == {k: v for history in histories for k, v in history.stored.items()}, form


@pytest.mark.parametrize("form", ["json", "mp", "bin"])
async def test_histories_replay_exactly(form: str, postgres_dsn: str, redis_url: str) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    await check(form, ledger, histories=[h for h in HISTORIES if h.profile != "expiry"])


async def test_histories_in_which_holds_lapse_replay_exactly(
    postgres_dsn: str, redis_url: str
) -> None:
    lapsing = [history for history in HISTORIES if history.profile == "expiry"]

    async def one_ledger(form: str) -> None:
        ledger = await make_ledger(postgres_dsn, redis_url, shard_count=1)
        await check(form, ledger, histories=lapsing)

    # Side by side: each waits for twelve seconds in all.
    await asyncio.gather(*map(one_ledger, ("json", "mp", "bin")))


async def test_who_owns_what_never_changes_an_outcome(postgres_dsn: str, redis_url: str) -> None:
    """Most entries here concern accounts of several workers."""
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=16)
    workers = (ledger.worker(range(n, 16, 3)) for n in range(3))
    # Where holds lapse within two seconds the replay must keep to the clock; not here.
    histories = [history for history in HISTORIES if history.profile != "expiry"][::4]
    await check("bin", ledger, *workers, histories=histories)
