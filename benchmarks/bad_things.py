"""Things that concern one entry, key, account or hold, and are to stop nobody else.

Each is done to shard 0 of a ledger at work. What it leaves behind has to be decided, or be a dead
letter, and the ledger has to verify.
"""

import asyncio
import contextlib
import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg
import numpy as np
import redis.asyncio
from redis.exceptions import ResponseError

from engine.ledger.nouns import BATCH_TRANSFERS_MAX, TransferFlags, stream_name
from engine.wire.layout import TRANSFER

PREFIX = "engine"
TOP = 2**64 - 1
HIGHEST = 2**63 - 1
MIB = 2**20

UNDER_WAY_SECONDS = 5.0
"""How long something lasts that ends only by an operator's hand."""

HOLD_SECONDS = 5
"""After which holds expire."""

OVER_SECONDS_MAX = 600.0
"""A bad thing that is not over by then is taken to hang."""


def account_of(shard: int, number: int) -> str:
    """The id of an account at home in a shard."""
    return str(uuid.UUID(int=(0xBAD << 64) + (number << 16) + shard))


A, B = account_of(0, 1), account_of(0, 2)
STRANGE = [account_of(0, number) for number in range(100, 106)]


class World:
    """A ledger at work, and what was done to it.

    Args:
        dsn: Of Postgres, as who may do everything.
        url: Of Redis.
        accounts: Per shard two, of whom the first pays the second.
    """

    def __init__(self, dsn: str, url: str, accounts: dict[int, tuple[str, str]]) -> None:
        self.dsn = dsn
        self.accounts = accounts
        # How long anything may take is said by who measures.
        self.redis = redis.asyncio.Redis.from_url(url, socket_timeout=None)
        self.ids: list[str] = []
        """Of transfers that must be decided in the end."""
        self.letters = 0
        """Dead letters that there must be in the end."""

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of one query, on a connection of its own."""
        connection = await asyncpg.connect(self.dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *args)
        finally:
            await connection.close()
        return rows

    def transfer(self, debit: str = A, credit: str = B, **more: Any) -> dict[str, Any]:
        """A transfer that is to be decided."""
        made = {
            "id": str(uuid.uuid4()),
            "debit_account_id": debit,
            "credit_account_id": credit,
            "amount": 1,
            "ledger": 1,
            "code": 1,
        } | more
        self.ids.append(made["id"])
        return made

    async def add(self, *transfers: dict[str, Any], at: str = "*", shard: int = 0) -> None:
        """An entry with transfers, or one of its own, as soon as the stream takes it."""
        fields: Any = {"json": json.dumps(transfers or [self.transfer()])}

        async def is_added() -> bool:
            with contextlib.suppress(ResponseError):  # Its ids have come to their end.
                await self.redis.xadd(stream_name(PREFIX, shard), fields, id=at)
                return True
            return False

        await self.until(is_added, "a stream that takes an entry")

    async def add_bad(self, fields: dict[Any, Any]) -> None:
        """An entry that is to be a dead letter."""
        self.letters += 1
        await self.redis.xadd(STREAM, fields)

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for something to come true."""
        ends_at = time.monotonic() + OVER_SECONDS_MAX
        while not await condition():
            if time.monotonic() > ends_at:
                raise SystemExit(f"waited {OVER_SECONDS_MAX:.0f} s for {what}")
            await asyncio.sleep(0.1)

    async def is_over(self) -> bool:
        """Whether all that was sent is decided or a dead letter, and no stream holds any of it."""
        # One that was renamed is not there.
        for name in (STREAM, ENDED):
            kind = await self.redis.type(name)
            if kind not in {b"stream", b"none"} or await self.redis.xlen(name):
                return False
        [row] = await self.sql(
            "SELECT (SELECT count(*) FROM ledger.dead_letters WHERE shard = 0) AS letters,"
            " (SELECT count(*) FROM unnest($1::uuid[]) AS wanted WHERE EXISTS (SELECT FROM"
            " ledger.spent s WHERE s.id = wanted)) AS decided",
            self.ids,
        )
        return bool(row["letters"] == self.letters and row["decided"] == len(self.ids))


STREAM = stream_name(PREFIX, 0)
ENDED = f"{STREAM}:poisoned"


class BadThing(NamedTuple):
    """Something that concerns one shard."""

    name: str
    do: Callable[[World], Awaitable[None]]
    prepare: Callable[[World], Awaitable[None]] | None = None
    """Done before the worker is there."""
    bytes_per_second: float | None = None
    """Of the worker's link to Redis."""
    workers: int = 1


async def take_the_name(world: World) -> None:
    """The name for a stream whose ids have ended is another stream's; then they end."""
    world.letters += 1
    await world.redis.xadd(ENDED, {"a": "b"})
    await world.add(at=f"{TOP}-{TOP}")
    await asyncio.sleep(UNDER_WAY_SECONDS)
    await world.add()


async def end_twice(world: World) -> None:
    """The ids come to their end again, as soon as there is a stream again that takes any."""
    for at in ("*", f"{TOP}-{TOP}") * 4:
        await world.add(at=at)


async def reach_the_highest(world: World) -> None:
    """The highest id that a bigint holds; others come after it."""
    for at in (f"{HIGHEST}-{HIGHEST}", "*", "*"):
        await world.add(at=at)


async def be_of_another_type(world: World) -> None:
    """The stream's name is a string, until an operator deletes it."""
    await world.add()
    await world.until(world.is_over, "the entry")
    await world.redis.set(STREAM, "x")
    await asyncio.sleep(UNDER_WAY_SECONDS)
    await world.redis.delete(STREAM)
    await world.add()


async def be_behind_the_position(world: World) -> None:
    """The stream is deleted while its position is ahead of Redis's clock."""
    await world.add(at="5000000000000-0")
    await world.until(world.is_over, "the entry")
    await world.redis.delete(STREAM)
    for _ in range(3):
        await world.add()


async def send_a_giant(world: World) -> None:
    """An entry of 200 MiB."""
    await world.add_bad({"json": b"x" * (200 * MIB)})
    await world.add()


async def send_a_gibibyte(world: World) -> None:
    """Two fields of half a GiB, as much as Redis takes."""
    half = b"x" * (511 * MIB)
    await world.add_bad({"json": half, "more": half})
    await world.add()


async def send_large_ones(world: World) -> None:
    """260 entries of 1 MB each."""
    filler = "x" * 1_000_000
    for _ in range(260):
        fields: Any = {"json": json.dumps(world.transfer()), "trace": filler}
        await world.redis.xadd(STREAM, fields)


async def send_rubbish(world: World) -> None:
    """100,000 entries of one byte that are no transfers."""
    world.letters += 100_000
    pipeline = world.redis.pipeline(transaction=False)
    for _ in range(100_000):
        pipeline.execute_command("XADD", STREAM, "*", "x", "y")
    await pipeline.execute()


async def hold_half_a_million(world: World) -> None:
    """540,000 holds that expire at about the same time."""
    for _ in range(540_000 // BATCH_TRANSFERS_MAX + 1):
        await world.redis.xadd(STREAM, {"bin": _holds(BATCH_TRANSFERS_MAX)})

    async def expired() -> bool:
        [row] = await world.sql(
            "SELECT count(*) FILTER (WHERE status <> 'expired') AS left, count(*) AS n"
            " FROM ledger.holds"
        )
        return bool(row["n"] >= 540_000 and row["left"] == 0)

    await world.until(expired, "all holds to expire")


def _holds(count: int) -> bytes:
    rows = np.zeros(count, TRANSFER)
    rows["id"] = np.frombuffer(os.urandom(16 * count), "V16")
    rows["debit_account_id"] = np.void(uuid.UUID(A).bytes)
    rows["credit_account_id"] = np.void(uuid.UUID(B).bytes)
    rows["amount_low"] = rows["ledger"] = rows["code"] = 1
    rows["flags"] = int(TransferFlags.pending)
    rows["timeout"] = HOLD_SECONDS
    return rows.tobytes()


async def send_ids_that_collided(world: World) -> None:
    """Ids that had one hash as long as hashes had no key."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    for batch in range(5):
        made = []
        for low in range(batch * 4000 + 1, batch * 4000 + 4001):
            high = (low * 0xC2B2AE3D27D4EB4F % 2**64) * inverse % 2**64
            words = np.array([high, low], "<u8").tobytes()
            made.append(world.transfer(id=str(uuid.UUID(bytes=words))))
        await world.add(*made)


async def send_a_path(world: World) -> None:
    """Transfers each tied to the one before it: each posts what the one before would hold."""
    for _ in range(3):
        made = [world.transfer(flags=["pending"])]
        while len(made) < 4000:
            post = {"id": str(uuid.uuid4()), "pending_id": made[-1]["id"], "amount": "max"}
            made.append(post | {"flags": ["post_pending_transfer"]})
        await world.add(*made)


FLAGS_USABLE = """CHECK (
    flags IN ('{}', '{debits_must_not_exceed_credits}', '{credits_must_not_exceed_debits}')
) NOT VALID"""
"""As the migration has it; read anew, what Postgres makes of it becomes another expression."""


async def have_strange_accounts(world: World) -> None:
    """Accounts from before the ledger refused such: with numbers and flags that cannot be."""
    numbers = "9007199254740991", "0", "-9007199254740992"
    flags = "'{{debits_must_not_exceed_credits}}'", "'{NULL}'", "'{frozen}'"
    made = [*(("number", each) for each in numbers), *(("flags", each) for each in flags)]
    connection = await asyncpg.connect(world.dsn)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "CREATE TABLE public.dropped AS SELECT conname, pg_get_constraintdef(oid) AS definition"
        " FROM pg_constraint WHERE conname = ANY($1)",
        ["accounts_number_usable", "accounts_flags_usable", "accounts_flags_check"],
    )
    for row in await connection.fetch("SELECT conname FROM public.dropped"):
        await connection.execute(f"ALTER TABLE ledger.accounts DROP CONSTRAINT {row['conname']}")
    for account, (column, value) in zip(STRANGE, made, strict=True):
        await connection.execute(
            f"INSERT INTO ledger.accounts (id, ledger, code, {column})"  # noqa: S608 - ours
            f" OVERRIDING SYSTEM VALUE VALUES ('{account}', 1, 1, {value})"
        )
    await connection.close()


async def name_strange_accounts(world: World) -> None:
    """They are named; and at the end they are gone, so that the ledger verifies again."""
    for account in STRANGE:
        await world.add(world.transfer(A, account), world.transfer(account, B), world.transfer())
    await world.until(world.is_over, "what names strange accounts")
    await asyncio.sleep(UNDER_WAY_SECONDS)
    connection = await asyncpg.connect(world.dsn)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("DELETE FROM ledger.accounts WHERE id = ANY($1::uuid[])", STRANGE)
    for name, written in await connection.fetch("SELECT * FROM public.dropped"):
        definition = FLAGS_USABLE if name == "accounts_flags_usable" else written
        await connection.execute(f"ALTER TABLE ledger.accounts ADD CONSTRAINT {name} {definition}")
    await connection.execute("DROP TABLE public.dropped")
    await connection.close()


async def name_fields_oddly(world: World) -> None:
    """Fields whose names and values some encodings have not, or none."""
    for name in ("€uro", b"\xff\xfe\x00", "a\x00b", "\U0001f600" * 1000, ""):
        await world.add_bad({name: "x"})
        await world.add_bad({"json": name})
    await world.add()


async def come_near_the_end(world: World) -> None:
    """A counter near its end, over stripes of two workers; who goes beyond is told so."""
    owner = await _owners(world)
    other = next(shard for shard in owner if owner[shard] != owner[0])
    full = account_of(other, 3)
    await world.sql("INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)", full)
    await world.add(world.transfer(A, full))
    await world.until(world.is_over, "the first")
    near = world.transfer(world.accounts[other][0], full, amount=HIGHEST - 1)
    await world.add(near, shard=other)
    await world.until(world.is_over, "what comes near the end")
    refused = world.transfer(A, full)
    world.ids.pop()  # It leaves its id free.
    await world.add(refused, world.transfer())


async def _owners(world: World) -> dict[int, Any]:
    rows = await world.sql("SELECT shard, worker FROM ledger.shards ORDER BY shard")
    return {row["shard"]: row["worker"] for row in rows}


BAD_THINGS = (
    BadThing("poisoned key taken", take_the_name),
    BadThing("poisoned twice", end_twice),
    BadThing("highest legal id", reach_the_highest),
    BadThing("key of another type", be_of_another_type),
    BadThing("stream behind its position", be_behind_the_position),
    BadThing("entry of 200 MiB", send_a_giant),
    BadThing("entry of 1 GiB", send_a_gibibyte),
    BadThing("260 entries of 1 MB at 20 MB/s", send_large_ones, bytes_per_second=20e6),
    BadThing("100,000 entries of one byte", send_rubbish),
    BadThing("540,000 holds expire", hold_half_a_million),
    BadThing("ids that collided", send_ids_that_collided),
    BadThing("a path of transfers", send_a_path),
    BadThing("accounts with strange numbers", name_strange_accounts, have_strange_accounts),
    BadThing("fields with odd names", name_fields_oddly),
    BadThing("a counter near its end", come_near_the_end, workers=2),
)
"""A row each of the tables of bad things, in their order."""
