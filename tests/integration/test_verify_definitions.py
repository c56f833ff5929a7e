"""What the ledger is made of, altered by a superuser: the object is named."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from engine.verify.chain import verify_chain
from engine.verify.definitions import check_definitions, digest_of_migrations, made_by
from engine.verify.report import CheckResult
from engine.verify.run import verify
from tests.definitions import text_for
from tests.ledgers import Ledger, make_ledger


async def test_what_the_migrations_make_is_written_down(ledger: Ledger) -> None:
    file, text = await text_for(ledger)
    assert file.read_text() == text, "run scripts/definitions: a migration was changed or added"


@contextlib.asynccontextmanager
async def altered(ledger: Ledger, sql: str) -> AsyncIterator[CheckResult]:
    """What is said once something is altered, which is taken back at the end."""
    connection = await asyncpg.connect(ledger.dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(sql)
        yield await check_definitions(connection)
        await transaction.rollback()
    finally:
        await connection.close()


ALTERED = {
    "ALTER TABLE ledger.posted DISABLE TRIGGER keep": "trigger keep on ledger.posted",
    "DROP TRIGGER link ON ledger.flushes": "trigger link on ledger.flushes",
    "ALTER TABLE ledger.accounts DROP CONSTRAINT accounts_flags_usable": (
        "constraint accounts_flags_usable on ledger.accounts"
    ),
    "DROP INDEX ledger.posted_run": "unique index ledger.posted_run",
    "ALTER FUNCTION ledger.shard_of COST 7": "function ledger.shard_of(uuid)",
    "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN NULL; END $$": "function ledger.refuse_change()",
    "CREATE OR REPLACE FUNCTION ledger.seal_of(a ledger.accounts) RETURNS bytea LANGUAGE sql STABLE"
    " RETURN a.seal": "function ledger.seal_of(ledger.accounts)",
    "CREATE OR REPLACE VIEW ledger.frozen AS SELECT f.freeze_number, f.kind, f.what, f.declines,"
    " f.acted_by, f.reason, f.role, f.time FROM ledger.freezes f WHERE false": "view ledger.frozen",
    "ALTER TABLE ledger.flushes ALTER kind DROP NOT NULL": "column ledger.flushes.kind",
    "ALTER TABLE ledger.accounts ALTER code SET DEFAULT 7": "column ledger.accounts.code",
    "CREATE FUNCTION ledger.mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$":
        "function ledger.mine()",
    "CREATE RULE mine AS ON INSERT TO ledger.dead_letters DO INSTEAD NOTHING": (
        "rule mine on ledger.dead_letters"
    ),
    "CREATE POLICY mine ON ledger.accounts USING (false)": "policy mine on ledger.accounts",
    "ALTER TABLE ledger.accounts ENABLE ROW LEVEL SECURITY": "table ledger.accounts",
    "ALTER TABLE ledger.loads SET UNLOGGED": "table ledger.loads",
    "CREATE TABLE mine () INHERITS (ledger.events)": "table ledger.events",
    "ALTER TABLE ledger.released DISABLE TRIGGER ALL": "table ledger.released",
    "ALTER SEQUENCE ledger.flush_numbers INCREMENT 2": "sequence ledger.flush_numbers",
    "CREATE UNIQUE INDEX mine ON ledger.outcomes (name, number)": "unique index ledger.mine",
    "UPDATE ledger.outcomes SET name = 'made' WHERE number = 0": "outcome 0",
}  # fmt: skip


@pytest.mark.parametrize("sql", list(ALTERED))
async def test_an_altered_object_is_named(full_ledger: Ledger, sql: str) -> None:
    if sql.startswith("UPDATE"):
        sql = f"SET LOCAL session_replication_role = replica; {sql}"
    async with altered(full_ledger, sql) as result:
        assert not result.passed
    named = ALTERED[sql.partition("; ")[2] if sql.startswith("SET") else sql]
    assert named in {offender["object"] for offender in result.offenders}, result.offenders


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX mine ON ledger.spent (user_data_64)",
        "ALTER TABLE ledger.accounts ADD note text",
        "CREATE VIEW ledger.mine AS SELECT 1 AS one",
        "SET LOCAL search_path = ledger, public",
    ],
)
async def test_what_harms_nothing_passes(full_ledger: Ledger, sql: str) -> None:
    async with altered(full_ledger, sql) as result:
        assert result.passed, result.offenders
    assert result.counted["compared"] > 400


async def test_it_does_not_depend_on_the_number_of_shards(
    postgres_dsn: str, redis_url: str
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, 64)
    for report in (await verify(ledger.app_dsn, None), await verify_chain(ledger.app_dsn)):
        [defined] = [check for check in report.checks if check.name == "definitions"]
        assert defined.passed, defined.offenders
        assert defined.counted["compared"] > 400


def test_what_is_not_known_is_not_compared() -> None:
    assert made_by(18)
    assert made_by(9) is None
    assert len(digest_of_migrations()) == 32
