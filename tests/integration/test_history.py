"""The history of an account is whole, in order and in pages, wherever its postings lie."""

import functools
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest

from tests.authors import COUNTERS, WORKERS, Author, Written, copy, copy_flush, new_accounts
from tests.ledgers import Ledger


async def read(
    connection: asyncpg.Connection, account_id: uuid.UUID, *arguments: Any
) -> list[tuple[Any, ...]]:
    given = "".join(f", ${place + 2}" for place in range(len(arguments)))
    rows = await connection.fetch(
        "SELECT posted_at, number, transfer_id, other_account_id, amount, shard, version,"
        f" {', '.join(COUNTERS)} FROM ledger.history($1{given})",
        account_id,
        *arguments,
    )
    return [tuple(row) for row in rows]


@pytest.fixture
async def connections(ledger: Ledger) -> Any:
    """Four of them, to the ledger."""
    made = [await asyncpg.connect(ledger.dsn) for _ in range(4)]
    yield made
    for one in made:
        await one.close()


async def waste(connection: asyncpg.Connection, pages: int) -> None:
    """Fill pages as somebody does whose flush is aborted."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO ledger.posted SELECT 0, 0, 0, 0, $1 FROM generate_series(1, $2)",
        uuid.UUID(int=0),
        pages * 66,
    )
    await transaction.rollback()


async def copy_in_two(
    connection: asyncpg.Connection, written: Written, between: Callable[[], Awaitable[Any]]
) -> None:
    """Copy a flush while something else happens."""
    half = len(written.posted) // 2
    async with connection.transaction():
        await copy(connection, "flushes", [written.flush])
        await copy(connection, "spent", written.spent)
        await copy(connection, "posted", written.posted[:half])
        await between()
        await copy(connection, "posted", written.posted[half:])


async def steps(connection: asyncpg.Connection) -> list[int]:
    """By how many pages each posting lies after the one before it in its run."""
    rows = await connection.fetch(
        "SELECT (p.ctid::text::point)[0]::bigint - (q.ctid::text::point)[0]::bigint AS pages"
        " FROM ledger.posted p JOIN ledger.posted q"
        " ON q.stripe = p.stripe AND q.number = p.number - 1"
    )
    return [row["pages"] for row in rows]


async def write_three_stripes(ledger: Ledger, connections: list[asyncpg.Connection]) -> Author:
    """Two accounts and 120 flushes of three workers, of which three fall into one second.

    Runs are kept as they were before migration 6 and as they are now, in turn.
    """
    accounts = await new_accounts(ledger, 2)
    author, draw = Author(accounts), random.Random(1)
    for turn in range(120):
        worker = turn % 3
        stripes = [n * 1024 + shard for n in accounts.values() for shard in (worker, worker + 9)]
        chosen = [one for one in stripes if draw.random() < 0.6] or stripes
        runs = {one: draw.choice([1, 1, 1, 2, 5, 40, 100]) for one in chosen}
        written = author.write(WORKERS[worker], turn // 3, runs, packed=draw.random() < 0.5)
        await copy_flush(connections[worker], written)
    return author


async def test_a_history_is_of_all_stripes_in_the_order_of_their_flushes(
    ledger: Ledger, connections: list[asyncpg.Connection]
) -> None:
    author = await write_three_stripes(ledger, connections)
    reader = connections[3]
    for account_id in author.accounts:
        expected = author.history(account_id)
        assert len({row[5] for row in expected}) == 6
        for limit in (0, 1, 2, 7, 100, 1000, len(expected) + 1):
            assert await read(reader, account_id, limit) == expected[:limit], limit
        assert await read(reader, account_id, None) == expected
        assert await read(reader, account_id) == expected[:100]
        last = {row[5]: row[7:] for row in reversed(expected)}
        balance = await reader.fetchrow(
            f"SELECT {', '.join(COUNTERS)} FROM ledger.balances WHERE account_id = $1",
            account_id,
        )
        assert tuple(balance) == tuple(map(sum, zip(*last.values(), strict=True)))
    assert await read(reader, uuid.uuid4()) == []


async def test_pages_show_each_posting_once(
    ledger: Ledger, connections: list[asyncpg.Connection]
) -> None:
    """From any posting on, in the midst of a run too; and from any time on."""
    author = await write_three_stripes(ledger, connections)
    reader = connections[3]
    for account_id in author.accounts:
        expected = author.history(account_id)
        for limit in (6, 100, 1000):
            seen = page = await read(reader, account_id, limit)
            while page and len(seen) <= len(expected):
                page = await read(reader, account_id, limit, None, seen[-1][1])
                seen += page
            assert seen == expected, limit
        for time in {row[0] for row in expected}:
            older = [row for row in expected if row[0] < time]
            assert await read(reader, account_id, 9, time) == older[:9]
            both = await read(reader, account_id, 9, time, expected[50][1])
            assert both == [row for row in expected[51:] if row[0] < time][:9]
    with pytest.raises(asyncpg.InvalidParameterValueError, match="there is no posting 7"):
        await read(reader, account_id, 9, None, 7)


async def assert_pages(
    reader: asyncpg.Connection, author: Author, account_id: uuid.UUID, limits: Sequence[int]
) -> None:
    """The newest postings of an account are those that its author wrote."""
    expected = author.history(account_id)
    for limit in limits:
        assert await read(reader, account_id, limit) == expected[:limit], limit


@pytest.mark.parametrize("pages", [1, 20, 100, 600])
async def test_a_run_is_whole_where_others_took_the_pages_in_between(
    pages: int, ledger: Ledger, connections: list[asyncpg.Connection]
) -> None:
    author = Author(await new_accounts(ledger, 3))
    stripes = [number * 1024 for number in author.accounts.values()]
    for turn in range(3):
        written = author.write(WORKERS[0], turn, dict.fromkeys(stripes, 400))
        await copy_in_two(connections[0], written, lambda: waste(connections[1], pages))
    assert max(await steps(connections[2])) > pages
    for account_id in author.accounts:
        await assert_pages(connections[2], author, account_id, (1, 100, 250, 401, 700, 1200))


async def test_a_run_is_whole_where_its_end_fills_pages_that_had_become_free(
    ledger: Ledger, connections: list[asyncpg.Connection]
) -> None:
    """The last posting lies before the others."""
    account_id, _ = accounts = await new_accounts(ledger, 2)
    author = Author(accounts)
    await waste(connections[1], 600)
    written = author.write(WORKERS[0], 1, {accounts[account_id] * 1024: 400})
    vacuum = functools.partial(connections[1].execute, "VACUUM ledger.posted")
    await copy_in_two(connections[0], written, vacuum)
    assert min(await steps(connections[2])) < -300
    await assert_pages(connections[2], author, account_id, (1, 100, 250, 400))


async def test_a_posting_that_is_missing_from_a_run_is_not_passed_over(
    ledger: Ledger, connections: list[asyncpg.Connection]
) -> None:
    account_id, _ = accounts = await new_accounts(ledger, 2)
    author = Author(accounts)
    for turn in range(3):
        written = author.write(WORKERS[0], turn, {accounts[account_id] * 1024: 10})
        await copy_flush(connections[0], written)
    expected = author.history(account_id)
    await connections[0].execute("SET session_replication_role = replica")
    await connections[0].execute("DELETE FROM ledger.posted WHERE number = $1", expected[12][1])
    assert await read(connections[0], account_id, 12) == expected[:12]
    for limit in (13, 30):
        with pytest.raises(asyncpg.DataCorruptedError, match=r"of (3|10) postings"):
            await read(connections[0], account_id, limit)
    assert await read(connections[0], account_id, 5, None, expected[19][1]) == expected[20:25]


async def test_postings_are_rows_however_they_are_kept(
    ledger: Ledger, connections: list[asyncpg.Connection]
) -> None:
    author = await write_three_stripes(ledger, connections)
    reader = connections[3]
    kept = await reader.fetchrow(
        "SELECT count(*) FILTER (WHERE run = 0) AS beside, max(pg_column_size(p.*)) AS bytes,"
        " count(*) FILTER (WHERE earlier_transfers IS NOT NULL) AS packed FROM ledger.posted p"
    )
    assert kept["beside"] > 100
    assert kept["packed"] > 100
    assert kept["bytes"] < 2000
    for account_id in author.accounts:
        rows = await reader.fetch(
            "SELECT posted_at, number, transfer_id, amount, shard, version,"
            f" {', '.join(COUNTERS)} FROM ledger.postings WHERE account_id = $1",
            account_id,
        )
        expected = [(*row[:3], *row[4:]) for row in author.history(account_id)]
        assert sorted(map(tuple, rows)) == sorted(expected)


async def test_the_postings_of_a_transfer_are_found_by_probes(
    ledger: Ledger, connections: list[asyncpg.Connection]
) -> None:
    author = await write_three_stripes(ledger, connections)
    reader = connections[3]
    for account_id in author.accounts:
        for row in author.history(account_id)[::7]:
            found = await reader.fetch(
                "SELECT posted_at, number, account_id, amount, shard, version,"
                f" {', '.join(COUNTERS)} FROM ledger.postings_of($1)",
                row[2],
            )
            assert [tuple(each) for each in found] == [(*row[:2], account_id, *row[4:])]
    assert await reader.fetch("SELECT * FROM ledger.postings_of(gen_random_uuid())") == []
