"""What somebody adds to the tables can drop or alter rows: nothing of it is committed."""

import asyncio
import re
from collections.abc import AsyncIterator
from importlib.resources import files

import pytest

from engine.errors import ConfigurationError
from engine.worker import session
from tests.clients import make_accounts, open_client
from tests.desks import A, Desk, account, batch, desk, transfer
from tests.integration.test_set_aside import execute
from tests.ledgers import until
from tests.verifying import assert_verified

SWALLOW = """
CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION public.swallow();
"""
UNSWALLOW = "DROP TRIGGER swallow ON {}; DROP FUNCTION public.swallow();"
ALTER = """
CREATE FUNCTION public.alter() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.amount := NEW.amount + 1; RETURN NEW; END $$;
CREATE TRIGGER alter BEFORE INSERT ON ledger.spent FOR EACH ROW EXECUTE FUNCTION public.alter();
"""

TABLES = ["flushes", "posted", "positions", "spent"]
C = account(0, 3)


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url, C) as made:
        yield made


@pytest.mark.parametrize("size", [1, 20, 900], ids=["one", "one statement", "by COPY"])
@pytest.mark.parametrize("table", TABLES)
async def test_rows_that_a_trigger_swallows_are_missed_and_nothing_is_committed(
    at: Desk, table: str, size: int
) -> None:
    worker = at.ledger.worker()
    async with at.ledger.working(worker):
        await at.send(batch(1))
        await at.answers(1)
        before = await counts(at)
        await execute(at.ledger.dsn, SWALLOW.format(f"ledger.{table}"))
        await at.send(batch(size))
        await until(lambda: waits(at), "the worker to say what it waits for")
        assert f"ledger.{table}" in await waits(at)
        assert await counts(at) == before
        await execute(at.ledger.dsn, UNSWALLOW.format(f"ledger.{table}"))
        assert await at.answers(2) == [["created"], ["created"] * size]
    await assert_verified(at.ledger)


async def test_the_end_of_a_hold_that_a_trigger_swallows_is_missed(at: Desk) -> None:
    hold = transfer(flags=["pending"])
    async with at.ledger.working():
        await at.send([hold])
        await at.answers(1)
        await execute(at.ledger.dsn, SWALLOW.format("ledger.resolutions"))
        end = transfer(flags=["void_pending_transfer"], pending_id=hold["id"], amount=0)
        await at.send([end])
        await until(lambda: waits(at), "the worker to say what it waits for")
        assert "ledger.resolutions" in await waits(at)
        await execute(at.ledger.dsn, UNSWALLOW.format("ledger.resolutions"))
        assert await at.answers(2) == [["created"], ["created"]]
    await assert_verified(at.ledger)


async def test_a_dead_letter_that_a_trigger_swallows_is_missed(at: Desk) -> None:
    async with at.ledger.working():
        await at.send(batch(1))
        await at.answers(1)
        await execute(at.ledger.dsn, SWALLOW.format("ledger.dead_letters"))
        await at.redis.xadd(at.stream(), {"json": "nonsense"})
        await until(lambda: waits(at), "the worker to say what it waits for")
        assert "ledger.dead_letters" in await waits(at)
        assert await at.redis.xlen(at.stream()) == 1
        await execute(at.ledger.dsn, UNSWALLOW.format("ledger.dead_letters"))
        await at.drained()
    assert len(await at.ledger.sql("SELECT FROM ledger.dead_letters")) == 1


STRANGE = [
    (
        ALTER,
        "DROP TRIGGER alter ON ledger.spent; DROP FUNCTION public.alter()",
        "the trigger alter on ledger.spent",
    ),
    (
        "CREATE RULE double AS ON INSERT TO ledger.loads DO ALSO NOTIFY somebody",
        "DROP RULE double ON ledger.loads",
        "the rule double on ledger.loads",
    ),
    (
        "ALTER TABLE ledger.dead_letters ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE ledger.dead_letters DISABLE ROW LEVEL SECURITY",
        "row security on ledger.dead_letters",
    ),
    (
        "ALTER TABLE ledger.posted DISABLE TRIGGER keep",
        "ALTER TABLE ledger.posted ENABLE TRIGGER keep",
        "the trigger keep on ledger.posted, which is off",
    ),
]


@pytest.mark.parametrize(("begin", "end", "says"), STRANGE, ids=lambda text: text[:40].strip())
async def test_a_worker_waits_while_something_strange_stands_on_a_table(
    at: Desk, monkeypatch: pytest.MonkeyPatch, begin: str, end: str, says: str
) -> None:
    """One that has begun waits, and says for what; one that begins says so and ends."""
    monkeypatch.setattr(session, "CHECK_SECONDS", 0.2)
    worker = at.ledger.worker()
    async with at.ledger.working(worker):
        await at.send(batch(1))
        await at.answers(1)
        await execute(at.ledger.dsn, begin)
        await until(lambda: waits(at), "the worker to say what it waits for")
        said = await waits(at)
        assert says in said
        assert "until its owner runs: " in said
        await at.send(batch(1))
        with pytest.raises(ConfigurationError, match=re.escape(says)):
            await at.ledger.worker().run()
        assert len(await at.answered()) == 1
        await execute(at.ledger.dsn, end)
        await at.answers(2)
    await assert_verified(at.ledger)


async def test_tables_of_others_may_refer_to_accounts(at: Desk) -> None:
    """A key of somebody's table makes triggers of Postgres's own."""
    await execute(
        at.ledger.dsn,
        "CREATE TABLE public.customers (account uuid REFERENCES ledger.accounts (id))",
        f"INSERT INTO public.customers VALUES ('{A}')",
    )
    async with at.ledger.working():
        await at.send(batch(1))
        await at.answers(1)


AUDIT = """
CREATE TABLE public.audit (number bigint);
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN INSERT INTO public.audit VALUES (NEW.number); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT ON ledger.spent FOR EACH ROW EXECUTE FUNCTION public.audit();
"""


async def test_what_somebody_does_after_a_row_stops_nothing(
    at: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can neither drop nor alter it; that it is there, `verify` says."""
    monkeypatch.setattr(session, "CHECK_SECONDS", 0.2)
    await execute(at.ledger.dsn, AUDIT)
    async with at.ledger.working():
        for size in (1, 20, 900):
            await at.send(batch(size))
        await at.answers(3)
        await asyncio.sleep(1)
        await at.send(batch(1))
        await at.answers(4)
        assert await waits(at) == ""
    [row] = await at.ledger.sql("SELECT count(*) AS n FROM public.audit")
    assert row["n"] == 922
    await assert_verified(at.ledger, but="definitions")


@pytest.mark.parametrize("body", ["RETURN NULL", "NEW.code := 7; RETURN NEW"])
async def test_accounts_that_a_trigger_drops_or_alters_are_not_said_to_be_created(
    at: Desk, body: str
) -> None:
    await execute(at.ledger.dsn, SWALLOW.format("ledger.accounts").replace("RETURN NULL", body))
    async with open_client(at.ledger) as client:
        with pytest.raises(ConfigurationError, match=re.escape("ledger.accounts")):
            await make_accounts(client, 3)
    assert len(await at.ledger.sql("SELECT FROM ledger.accounts")) == 3


def test_the_triggers_of_the_migrations_are_named() -> None:
    made = (files("engine.verify") / "definitions_made" / "18.txt").read_text()
    named = (files("engine.store") / "queries/ledger/strange_objects.sql").read_text()
    triggers = re.findall(r"^\S+ trigger (\w+) on ledger\.(\w+)$", made, re.MULTILINE)
    assert triggers
    assert {f"{table} {name}" for name, table in triggers} == set(re.findall(r"'(\w+ \w+)'", named))


async def waits(at: Desk) -> str:
    """What a worker says that it waits for."""
    rows = await at.ledger.sql(
        "SELECT waits_for FROM ledger.heartbeats WHERE waits_for IS NOT NULL"
    )
    return rows[0]["waits_for"] if rows else ""


async def counts(at: Desk) -> list[int]:
    """Rows of each table that a flush writes."""
    return [
        (await at.ledger.sql(f"SELECT count(*) AS n FROM ledger.{table}"))[0]["n"]
        for table in ("spent", "posted", "positions")
    ]
