"""`where` asks by indexes alone: it takes no longer in a ledger of many postings.

Not measured but planned: a statement whose plan reads a table from end to end is as slow as the
ledger is large.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from engine.servers import Servers
from engine.store.freezes import FreezeAct, set_freeze
from engine.store.statements import statement
from tests.desks import A, B, account, desk_over, transfer
from tests.everything import fill
from tests.ledgers import Ledger, make_ledger

CREATED, DECLINED = uuid.UUID(int=1 << 100), uuid.UUID(int=2 << 100)
POOR = account(0, 7)
STATEMENTS: dict[str, tuple[Any, ...]] = {
    "where_transfer": (CREATED,),
    "where_postings": (CREATED,),
    "where_spent": ([CREATED],),
    "where_why": (DECLINED,),
    "where_entry": ([0, 1], 1, 0),
    "where_letter_at": (0, 1, 0),
    "where_parked": (CREATED,),
    "where_parked_at": ([0, 1], 1, 0),
}
LARGE = frozenset(
    {"spent", "posted", "resolutions", "flushes", "positions", "dead_letters", "letter_acts",
     "waiting", "released", "accounts"}
)  # fmt: skip
"""Tables that grow with what is sent."""


def read_whole(plan: dict[str, Any], *, is_limited: bool = False) -> Iterator[str]:
    """The large tables that a plan reads from end to end, in whatever order."""
    kind = plan["Node Type"]
    is_whole = kind == "Seq Scan" or (
        kind in {"Index Scan", "Index Only Scan"} and "Index Cond" not in plan and not is_limited
    )
    if is_whole and plan["Relation Name"] in LARGE:
        yield f"{kind} of {plan['Relation Name']}"
    for part in plan.get("Plans", ()):
        yield from read_whole(part, is_limited=is_limited or kind == "Limit")


async def plans_of(connection: asyncpg.Connection, name: str) -> list[dict[str, Any]]:
    """The plan of a statement, and of those within the functions that it calls."""
    heard: list[str] = []
    connection.add_log_listener(lambda _, message: heard.append(message.message))
    # auto_explain tells of the statements within functions, which EXPLAIN does not.
    await connection.fetch(statement(name), *STATEMENTS[name])
    plans = []
    for message in heard:
        _, begin, text = message.partition("plan:\n")
        if begin:
            plans.append(json.loads(text)["Plan"])
    return plans


@pytest.fixture(scope="module")
def large_ledger(servers: Servers) -> Ledger:
    """A ledger with one of everything, that Postgres takes for a large one."""

    async def make() -> Ledger:
        ledger = await make_ledger(servers.postgres.dsn, servers.valkey.url)
        await fill(ledger)
        await decide_two(ledger)
        return ledger

    return asyncio.run(make())


async def decide_two(ledger: Ledger) -> None:
    """One is created and one is declined."""
    await ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES"
        " ($1, 1, 1, '{debits_must_not_exceed_credits}')",
        uuid.UUID(POOR),
    )
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([transfer(A, B) for _ in range(2000)])
        await desk.send([transfer(A, POOR, 3), transfer(A, B, id=str(CREATED))])
        await desk.send([transfer(POOR, B, 9, id=str(DECLINED))])
        assert (await desk.answers(3))[2] == ["exceeds_credits"]
        await set_freeze(ledger.dsn, FreezeAct("freeze", "account", A, "a test", "x", False))
        await desk.send([transfer(A, B)])
        await desk.drained()
        await set_freeze(ledger.dsn, FreezeAct("thaw", "account", A, "a test", "x", False))
        await desk.answers(4)
    await ledger.sql(
        "INSERT INTO ledger.letter_acts (shard, generation, ms, seq, kind, acted_by, reason)"
        " SELECT shard, generation, ms, seq, 'dismissed', 'a test', 'x' FROM ledger.letters LIMIT 1"
    )


@pytest.mark.parametrize("name", STATEMENTS)
async def test_where_reads_no_large_table_whole(large_ledger: Ledger, name: str) -> None:
    connection = await asyncpg.connect(large_ledger.dsn)
    try:
        await connection.execute("VACUUM ANALYZE")
        # A small table is read whole whatever indexes it has: these are as if each page were huge.
        await connection.execute(
            "UPDATE pg_class SET reltuples = 1e8, relpages = 1"
            " WHERE relnamespace = 'ledger'::regnamespace AND relname = ANY ($1)",
            sorted(LARGE),
        )
        for setting in (
            "LOAD 'auto_explain'",
            "SET auto_explain.log_min_duration = 0",
            "SET auto_explain.log_nested_statements = on",
            "SET auto_explain.log_format = json",
            "SET auto_explain.log_level = notice",
            "SET plan_cache_mode = force_generic_plan",
        ):
            await connection.execute(setting)
        plans = await plans_of(connection, name)
    finally:
        await connection.close()
    assert plans
    assert [table for plan in plans for table in read_whole(plan)] == []
