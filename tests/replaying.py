"""Histories through a running engine: sent as the contract says, read with SQL alone."""

import asyncio
import json
import struct
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from engine.ledger.outcomes import SPENDS_ID, Outcome
from tests.histories import History, transfer_flags
from tests.ledgers import Ledger

Event = dict[str, Any]

AMOUNT_MAX = 2**128 - 1
NUMBERS = {outcome.name: int(outcome) for outcome in Outcome}


def as_json(event: Event) -> Event:
    """The contract's JSON: absent fields are left out, except an amount, which is said."""
    wire = {k: v for k, v in event.items() if k != "outcome" and v is not None}
    wire["amount"] = "max" if event["amount"] is None else event["amount"]
    return wire


def as_mp(event: Event) -> Event:
    """The contract's MessagePack: ids as 16 bytes, amounts beyond 64 bits as 16 bytes."""
    wire = as_json(event)
    for name in ("id", "debit_account_id", "credit_account_id", "pending_id", "user_data_128"):
        if name in wire:
            wire[name] = uuid.UUID(wire[name]).bytes
    if wire["amount"] != "max" and wire["amount"] >= 2**64:
        wire["amount"] = wire["amount"].to_bytes(16, "big")
    return wire


def as_bin(event: Event) -> bytes:
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


def payload(form: str, batch: Sequence[Event]) -> bytes:
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


def chains(batch: Sequence[Event]) -> list[list[Event]]:
    """A batch in its parts that stand or fall alone: linked chains, and single transfers."""
    found: list[list[Event]] = [[]]
    for event in batch:
        found[-1].append(event)
        if "linked" not in event.get("flags", []):
            found.append([])
    return [chain for chain in found if chain]


def stream_of(ledger: Ledger, batch: Sequence[Event]) -> str:
    """That of its first debit account's shard: its id's last four bytes modulo the shards."""
    shard = int((batch[0].get("debit_account_id") or "0")[-8:], 16) % ledger.shard_count
    return f"{ledger.prefix}:transfers:{{{shard:04d}}}"


async def create_accounts(ledger: Ledger, histories: Sequence[History]) -> None:
    created = [a for history in histories for a in history.accounts if a["outcome"] == "created"]
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


async def replay(ledger: Ledger, history: History, form: str, *, by_chain: bool = False) -> None:
    """Send batch by batch, or chain by chain, each after the last answer, and wait as it did."""
    reply = f"{ledger.prefix}:answers:{history.seed}"
    seen = "0"
    async with ledger.redis() as redis:
        for index, batch in enumerate(history.batches):
            wait = history.waits.get(str(index), 0)
            if wait:
                await asyncio.sleep(wait)  # the history lets time pass, and holds lapse
            for part in chains(batch) if by_chain else [batch]:
                fields = {form: payload(form, part), "reply": reply, "request": str(index)}
                await redis.xadd(stream_of(ledger, part), fields)
                answers = await redis.xread({reply: seen}, count=1, block=20_000)
                assert answers, f"batch {index} of {history.name} was not answered"
                seen, answer = answers[0][1][0]
                assert answer[b"request"] == str(index).encode()
                expected = [NUMBERS[event["outcome"]] for event in part]
                told = read_outcomes(form, answer[b"outcomes"])
                assert told == expected, (history.name, index, part[0])
        await asyncio.sleep(history.wait_before_balances)


async def replay_at_once(ledger: Ledger, history: History) -> list[tuple[list[Event], list[int]]]:
    """Send all chains of a batch at once, each by its own stream, and the next when all are
    answered; returns each chain with what it was answered."""
    reply = f"{ledger.prefix}:answers:{history.seed}"
    seen = "0"
    told: list[tuple[list[Event], list[int]]] = []
    async with ledger.redis() as redis:
        for batch in history.batches:
            waiting = {str(number).encode(): chain for number, chain in enumerate(chains(batch))}
            pipe = redis.pipeline(transaction=False)
            for request, chain in waiting.items():
                fields = {"bin": payload("bin", chain), "reply": reply, "request": request}
                pipe.xadd(stream_of(ledger, chain), fields)
            await pipe.execute()
            while waiting:
                answers = await redis.xread({reply: seen}, block=20_000)
                assert answers, f"{len(waiting)} of a batch of {history.name} were not answered"
                for entry_id, answer in answers[0][1]:
                    seen = entry_id
                    chain = waiting.pop(answer[b"request"])
                    told.append((chain, read_outcomes("bin", answer[b"outcomes"])))
    return told


def stored_form(row: asyncpg.Record) -> Event:
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


async def balances_of(ledger: Ledger) -> dict[str, Event]:
    """By account, the four counters and whether it is closed."""
    return {
        str(row["account_id"]): {k: v for k, v in row.items() if k != "account_id"}
        for row in await ledger.sql("SELECT * FROM ledger.balances")
    }


async def declined_in(ledger: Ledger) -> dict[str, str]:
    """By id, the outcome that spent it."""
    rows = await ledger.sql("SELECT id::text, outcome FROM ledger.declined")
    return {row["id"]: row["outcome"] for row in rows}


async def assert_as_recorded(ledger: Ledger, histories: Sequence[History]) -> None:
    """All balances and all that is stored of transfers are those of the histories."""
    balances = await balances_of(ledger)
    stored = {
        str(row["id"]): stored_form(row)
        for row in await ledger.sql("SELECT * FROM ledger.transfers")
    }
    for history in histories:
        for account_id, expected in history.balances.items():
            assert balances[account_id] == expected, (history.name, account_id)
    assert stored == {k: v for history in histories for k, v in history.stored.items()}


async def assert_as_answered(
    ledger: Ledger, answered: Sequence[tuple[Sequence[Event], Sequence[int]]]
) -> None:
    """Every answered transfer is there once, as it was answered, and nothing else is there."""
    created: list[str] = []
    spent: list[tuple[str, str]] = []
    existing: set[str] = set()
    failed: set[str] = set()
    for chain, outcomes in answered:
        before: set[str] = set()
        for event, outcome in zip(chain, map(Outcome, outcomes), strict=True):
            if outcome is Outcome.created:
                created.append(event["id"])
            elif outcome in SPENDS_ID:
                spent.append((event["id"], outcome.name))
            elif outcome is Outcome.id_already_failed:
                failed.add(event["id"])
            elif outcome.name.startswith("exists") and event["id"] not in before:
                # One that its own chain made stood for a moment, until the chain fell.
                existing.add(event["id"])
            before.add(event["id"])
    rows = await ledger.sql("SELECT id::text FROM ledger.transfers")
    assert sorted(created) == sorted(row["id"] for row in rows)
    declined = await declined_in(ledger)
    assert sorted(spent) == sorted(declined.items())
    assert existing <= set(created)
    assert failed <= declined.keys()
