"""A producer's desk: sends transfers to a ledger's streams, and keeps all that was answered."""

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import redis.asyncio

from tests.bounds import CONDITION_SECONDS_MAX
from tests.ledgers import Ledger, make_ledger, until

BASE = 0x11111111_2222_3333_4444_000000000000


def account(shard: int, number: int = 1) -> str:
    """The id of an account whose home is `shard`, in any ledger of up to 65,536 shards."""
    return str(uuid.UUID(int=BASE + (number << 16) + shard))


A, B = account(0, 1), account(0, 2)
"""Two accounts at home in shard 0, without limits."""


def transfer(debit: str = A, credit: str = B, amount: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "debit_account_id": debit,
        "credit_account_id": credit,
        "amount": amount,
        "ledger": 1,
        "code": 1,
    } | more


def batch(size: int) -> list[dict[str, Any]]:
    """Transfers from A to B. Those of one fit a statement, those of 900 go by COPY."""
    return [transfer() for _ in range(size)]


class Desk:
    """One producer with a stream for its answers."""

    def __init__(self, ledger: Ledger, connection: redis.asyncio.Redis) -> None:
        self.ledger = ledger
        self.redis = connection
        self.reply = f"{ledger.prefix}:answers:desk"

    def stream(self, shard: int = 0) -> str:
        return f"{self.ledger.prefix}:transfers:{{{shard:04d}}}"

    async def send(self, transfers: Sequence[dict[str, Any]], shard: int = 0) -> None:
        """Add an entry whose answer goes to this desk."""
        fields = {"json": json.dumps(transfers), "reply": self.reply}
        await self.redis.xadd(self.stream(shard), fields)

    async def answers(
        self, count: int, seconds_max: float = CONDITION_SECONDS_MAX
    ) -> list[list[str]]:
        """Wait for `count` answers; all that came, in order."""

        async def enough() -> bool:
            return await self.redis.xlen(self.reply) >= count

        await until(enough, f"{count} answers", seconds_max)
        return await self.answered()

    async def ask(self, **more: Any) -> None:
        """Send a transfer from A to B, and have it answered."""
        before = len(await self.answered())
        await self.send([transfer(**more)])
        await self.answers(before + 1)

    async def answered(self) -> list[list[str]]:
        """All answers so far."""
        found: list[Any] = await self.redis.xrange(self.reply)
        return [json.loads(fields[b"outcomes"]) for _, fields in found]

    async def drained(self, shard: int = 0) -> None:
        """Wait until a stream is empty: all in it is decided and told."""

        async def empty() -> bool:
            return await self.redis.xlen(self.stream(shard)) == 0

        await until(empty, f"the stream of shard {shard} to be empty")

    async def count(self) -> int:
        """How many transfers there are; none stands twice."""
        rows = await self.ledger.sql(
            "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM ledger.transfers"
        )
        assert rows[0]["n"] == rows[0]["ids"]
        n: int = rows[0]["n"]
        return n


@contextlib.asynccontextmanager
async def desk_over(ledger: Ledger, *accounts: str) -> AsyncIterator[Desk]:
    """A desk over a ledger in which A, B and `accounts` are created, without limits."""
    for account_id in {A, B, *accounts}:
        await ledger.sql(
            "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)",
            uuid.UUID(account_id),
        )
    async with ledger.redis() as connection:
        yield Desk(ledger, connection)


@contextlib.asynccontextmanager
async def desk(
    dsn: str, redis_url: str, *accounts: str, shard_count: int = 1
) -> AsyncIterator[Desk]:
    """A desk over a new ledger of one shard."""
    ledger = await make_ledger(dsn, redis_url, shard_count=shard_count)
    async with desk_over(ledger, *accounts) as made:
        yield made
