"""The producer's client in tests: opened over a ledger, with accounts and transfers to send."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import engine
from engine import AccountOutcome
from engine.client import Client
from engine.ledger.nouns import Transfer, stream_name
from tests.bounds import CONDITION_SECONDS_MAX
from tests.ledgers import Ledger

LIMITED = ["debits_must_not_exceed_credits"]


@contextlib.asynccontextmanager
async def open_client(ledger: Ledger, url: str | None = None, **how: Any) -> AsyncIterator[Client]:
    how.setdefault("timeout_seconds", CONDITION_SECONDS_MAX)
    async with engine.connect(
        ledger.client_dsn, url or ledger.redis_url, prefix=ledger.prefix, **how
    ) as client:
        yield client


async def make_accounts(client: Client, count: int, **fields: Any) -> list[uuid.UUID]:
    ids = [uuid.uuid4() for _ in range(count)]
    outcomes = await client.create_accounts(
        [{"id": i, "ledger": 1, "code": 1, **fields} for i in ids]
    )
    assert set(outcomes) == {AccountOutcome.created}
    return ids


def move(debit: uuid.UUID, credit: uuid.UUID, amount: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": uuid.uuid4(),
        "debit_account_id": debit,
        "credit_account_id": credit,
        "amount": amount,
        "ledger": 1,
        "code": 1,
        **fields,
    }


def as_struct(one: dict[str, Any]) -> Transfer:
    return Transfer(
        one["id"].bytes,
        one["debit_account_id"].bytes,
        one["credit_account_id"].bytes,
        one["amount"],
        ledger=one["ledger"],
        code=one["code"],
    )


async def entries_in(ledger: Ledger, shard: int) -> int:
    async with ledger.redis() as redis:
        return int(await redis.xlen(stream_name(ledger.prefix, shard)))


async def expect_exactly_once(ledger: Ledger, transfers: list[dict[str, Any]]) -> None:
    rows = await ledger.sql(
        "SELECT count(*) AS postings, count(DISTINCT transfer_id) AS transfers, sum(amount) AS net"
        " FROM ledger.postings WHERE transfer_id = ANY ($1)",
        [one["id"] for one in transfers],
    )
    wanted = {"postings": 2 * len(transfers), "transfers": len(transfers), "net": 0}
    assert dict(rows[0]) == wanted
