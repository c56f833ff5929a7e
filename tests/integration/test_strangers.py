"""Rows that strangers write or wrote: what cannot be used stops what names it, and nothing else."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.store.client_store import ClientStore
from engine.store.reports import open_reports
from engine.verify.run import verify
from tests.bounds import CONDITION_SECONDS_MAX
from tests.desks import A, B, Desk, desk, transfer
from tests.ledgers import Ledger

STRANGE = [str(uuid.UUID(int=(0x77 << 64) + (n << 16))) for n in range(9)]
"""Ids of accounts at home in shard 0."""

NEW = (
    "INSERT INTO ledger.accounts (id, ledger, code, {}) OVERRIDING SYSTEM VALUE"
    " VALUES ('{}', 1, 1, {})"
)
REFUSED = [
    ("number", "9007199254740991", "cannot have the number"),
    ("number", "4503599627370496", "cannot have the number"),
    ("number", "1000000", "cannot have the number"),
    ("number", "0", "cannot have the number"),
    ("number", "-1", "cannot have the number"),
    ("number", "1", "accounts_number_key"),
    ("flags", "'{{debits_must_not_exceed_credits}}'", "cannot have the flags"),
    ("flags", "'[0:0]={debits_must_not_exceed_credits}'", "cannot have the flags"),
    ("flags", "'{debits_must_not_exceed_credits,debits_must_not_exceed_credits}'", "the flags"),
    ("flags", "'{debits_must_not_exceed_credits,credits_must_not_exceed_debits}'", "the flags"),
    ("flags", "'{debits_must_not_exceed_credits,NULL}'", "cannot have the flags"),
    ("flags", "'{NULL}'", "cannot have the flags"),
    ("flags", "'{closed}'", "cannot have the flags"),
    ("flags", "NULL", "not-null"),
    ("closed", "true", "cannot be created closed"),
    ("name", "repeat('x', 10000000)", "1000 in 2600 are the most"),
    ("name", "repeat('\U0001f600', 900)", "1000 in 2600 are the most"),
    ("created_at", "'infinity'", "cannot have been created at"),
    ("created_at", "'0044-03-15 BC'", "cannot have been created at"),
    ("user_data_64", "'NaN'", "user_data_64"),
    ("user_data_32", "-1", "user_data_32"),
]


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url) as made:
        yield made


async def as_before_the_guards(ledger: Ledger, *statements: str) -> None:
    """Rows that were there before the ledger refused them: no trigger, no constraint."""
    connection = await asyncpg.connect(ledger.dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            "ALTER TABLE ledger.accounts DROP CONSTRAINT accounts_number_usable,"
            " DROP CONSTRAINT accounts_flags_usable, DROP CONSTRAINT accounts_flags_check"
        )
        for statement in statements:
            await connection.execute(statement)
        await connection.execute(
            "ALTER TABLE ledger.accounts ADD CONSTRAINT accounts_number_usable"
            " CHECK (number BETWEEN 1 AND 4503599627370495) NOT VALID"
        )
    finally:
        await connection.close()


@pytest.mark.parametrize(("column", "value", "why"), REFUSED, ids=lambda text: text[:40])
async def test_an_account_that_cannot_be_used_is_refused(
    at: Desk, column: str, value: str, why: str
) -> None:
    with pytest.raises(asyncpg.PostgresError, match=why):
        await at.ledger.sql(NEW.format(column, STRANGE[0], value))


async def test_who_may_only_insert_accounts_creates_them(at: Desk) -> None:
    """The guard looks at a sequence that such a role may not read."""
    connection = await asyncpg.connect(at.ledger.dsn)
    try:
        await connection.execute("DROP ROLE IF EXISTS opener")
        await connection.execute("CREATE ROLE opener")
        await connection.execute("GRANT USAGE ON SCHEMA ledger TO opener")
        await connection.execute("GRANT INSERT ON ledger.accounts TO opener")
        await connection.execute("SET ROLE opener")
        await connection.execute(
            f"INSERT INTO ledger.accounts (id, ledger, code) VALUES ('{STRANGE[0]}', 1, 1)"
        )
        await connection.execute("RESET ROLE")
        await connection.execute("DROP OWNED BY opener")
        await connection.execute("DROP ROLE opener")
    finally:
        await connection.close()


async def test_account_with_a_strange_number(at: Desk) -> None:
    """And with strange flags, from before they were refused: not found, and all else goes on."""
    strange = {
        "number": ["9007199254740991", "0", "-9007199254740992", "4503599627370496"],
        "flags": [
            "'{{debits_must_not_exceed_credits}}'",
            "'{debits_must_not_exceed_credits,debits_must_not_exceed_credits}'",
            "'{NULL}'",
            "'{frozen}'",
        ],
    }
    made = [(column, value) for column, values in strange.items() for value in values]
    pairs = list(zip(STRANGE, made, strict=False))
    await as_before_the_guards(
        at.ledger,
        *(NEW.format(column, account_id, value) for account_id, (column, value) in pairs),
    )
    worker = at.ledger.worker([0])
    with capture_logs() as logs:
        async with at.ledger.working(worker):
            for account_id, _ in pairs:
                await at.send([transfer(A, account_id), transfer(account_id, B), transfer()])
            answers = await at.answers(len(pairs))
        assert answers == [
            ["credit_account_not_found", "debit_account_not_found", "created"]
        ] * len(pairs)
    assert worker.statistics.sessions == 1
    told = [entry["account"] for entry in logs if entry["event"] == "account_not_usable"]
    assert sorted(told) == sorted(account_id for account_id, _ in pairs)
    report = await verify(at.ledger.dsn, None)
    # The guards are off, which is named too.
    references, _ = [check for check in report.checks if not check.passed]
    assert references.name == "references"
    named = {offender["account_id"] for offender in references.offenders}
    assert named == {account_id for account_id, _ in pairs}
    await reads_everything(at, [account_id for account_id, _ in pairs])


async def reads_everything(at: Desk, accounts: list[str]) -> None:
    """Whatever people read is there, of these accounts and of all others."""
    rows = await at.ledger.sql("SELECT account_id, debits_posted FROM ledger.balances")
    assert {str(row["account_id"]) for row in rows} == {A, B, *accounts}
    ids = [uuid.UUID(account_id).bytes for account_id in (A, *accounts)]
    async with open_reports(at.ledger.dsn) as reports:
        assert len(await reports.accounts(100)) == len(accounts) + 2
        assert len(await reports.find_accounts(ids, [])) == len(ids)
        assert len(await reports.balances(ids)) == len(ids)
        assert await reports.history(ids[0], 10)
    store = ClientStore(at.ledger.dsn, CONDITION_SECONDS_MAX)
    assert len(await store.lookup_accounts(ids)) == len(ids)
    await store.close()


async def test_counters_that_sum_beyond_a_bigint_stop_their_account_alone(at: Desk) -> None:
    """Two stripes of one account near the end of their counters, as a defect once left them."""
    one = STRANGE[0]
    await at.ledger.sql(f"INSERT INTO ledger.accounts (id, ledger, code) VALUES ('{one}', 1, 1)")
    await as_before_the_guards(
        at.ledger,
        "INSERT INTO ledger.posted (stripe, version, run, number, transfer_id, credits_posted)"
        " SELECT number * 1024 + through, 1, 1, 5, gen_random_uuid(), 9223372036854775806"
        f" FROM ledger.accounts, generate_series(0, 3) AS through WHERE id = '{one}'",
    )
    async with at.ledger.working(at.ledger.worker([0])):
        await at.send([transfer(A, one), transfer(one, B), transfer()])
        assert await at.answers(1) == [
            ["credit_account_not_found", "debit_account_not_found", "created"]
        ]
    rows = await at.ledger.sql(
        f"SELECT credits_posted FROM ledger.balances WHERE account_id = '{one}'"
    )
    assert rows[0]["credits_posted"] == 2**63 - 1
    await reads_everything(at, [one])
    report = await verify(at.ledger.dsn, None)
    assert not report.passed
    assert one in json.dumps([check.offenders for check in report.checks], default=str)


async def test_a_counter_that_wraps_is_refused_by_the_ledger(at: Desk) -> None:
    for name in ("debits_pending", "debits_posted", "credits_pending", "credits_posted"):
        with pytest.raises(asyncpg.CheckViolationError, match="posted_counters"):
            await at.ledger.sql(
                f"INSERT INTO ledger.posted (stripe, version, run, number, transfer_id, {name})"
                " VALUES (1024, 1, 1, 1, gen_random_uuid(), -4611686018427387905)"
            )


@pytest.mark.parametrize("strange", ["outcome = 99", "amount = NULL", "amount = -5", "code = -1"])
async def test_a_transfer_that_no_flush_wrote_stands_as_declined(at: Desk, strange: str) -> None:
    hold = transfer(flags=["pending"])
    columns = {"amount": "1", "outcome": "0", "code": "1"}
    name, _, value = strange.partition(" = ")
    columns[name] = value
    await at.ledger.sql(
        "INSERT INTO ledger.spent (id, number, debit_account, credit_account, flags, shard,"
        f" {', '.join(columns)}) VALUES ('{hold['id']}', 1, 1, 2, 2, 0,"
        f" {', '.join(columns.values())})"
    )
    post: dict[str, Any] = transfer(pending_id=hold["id"], flags=["post_pending_transfer"])
    async with at.ledger.working(at.ledger.worker([0])):
        await at.send([hold, post, transfer()])
        [answer] = await at.answers(1)
    assert answer == ["id_already_failed", "pending_transfer_not_found", "created"]


async def test_a_column_that_somebody_adds_breaks_nothing_that_reads(
    full_ledger: Ledger,
) -> None:
    """To every table of the ledger; under names that our own queries use too."""
    connection = await asyncpg.connect(full_ledger.dsn)
    account = await connection.fetchval("SELECT account_id FROM ledger.postings LIMIT 1")
    before = await connection.fetch("SELECT * FROM ledger.history($1)", account)
    assert before
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'ledger'::regnamespace AND relkind = 'r'"
    )
    transaction = connection.transaction()
    await transaction.start()
    try:
        added = ["noted text", "place tid", "newer bigint", "oldest bigint", "newest bigint"]
        for table in tables:
            for column in (*added, "dropped integer"):
                await connection.execute(
                    f"ALTER TABLE ledger.{table['relname']} ADD COLUMN {column}"
                )
            await connection.execute(f"ALTER TABLE ledger.{table['relname']} DROP COLUMN dropped")
        assert await connection.fetch("SELECT * FROM ledger.history($1)", account) == before
        views = await connection.fetch(
            "SELECT relname FROM pg_class"
            " WHERE relnamespace = 'ledger'::regnamespace AND relkind = 'v'"
        )
        assert len(views) >= 6
        for view in views:
            await connection.fetch(f"SELECT * FROM ledger.{view['relname']}")
    finally:
        await transaction.rollback()
        await connection.close()


async def test_no_number_is_shown_with_decimals(full_ledger: Ledger) -> None:
    columns = await full_ledger.sql(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'ledger' AND data_type = 'numeric'"
    )
    assert {"declined", "transfers"} <= {row["table_name"] for row in columns}
    for table, column in columns:
        [row] = await full_ledger.sql(
            f"SELECT count(*) AS n FROM ledger.{table} WHERE scale({column}) <> 0"
        )
        assert row["n"] == 0, (table, column)
    assert await full_ledger.sql("SELECT FROM ledger.declined")
