"""Least privilege in Postgres: what each role may do, and all that it may not."""

import uuid

import pytest

from engine.store.roles import Login, apply_roles, find_roles
from tests.ledgers import Ledger, as_user
from tests.privileges import CONTRACT, Connected, logins_of, refused

APPEND_ONLY = (
    "ledger.dead_letters", "ledger.events", "ledger.flushes", "ledger.letter_acts",
    "ledger.chain_began", "ledger.migrations", "ledger.outcomes", "ledger.ownership",
    "ledger.positions", "ledger.posted",
    "ledger.freezes", "ledger.released", "ledger.resolutions", "ledger.roles", "ledger.spent",
    "ledger.verifications", "ledger.waiting",
    "flows.dead_letters", "flows.definitions", "flows.early", "flows.flows", "flows.flushes",
    "flows.inbox", "flows.misfits", "flows.ownership", "flows.steps",
)  # fmt: skip
"""What is never rewritten."""

CHANGING = (
    "ledger.accounts", "ledger.heartbeats", "ledger.loads", "ledger.moves", "ledger.owners",
    "ledger.plans", "ledger.settings", "ledger.workers", "flows.heartbeats", "flows.open",
    "flows.owners", "flows.reviews", "flows.schedules", "flows.workers",
)  # fmt: skip
"""Of which some columns change."""

LOCKS = (
    "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)  # fmt: skip

NEITHER_ENGINE_NOR_CREATOR = (
    "ALTER TABLE ledger.posted DISABLE TRIGGER ALL",
    "ALTER TABLE ledger.posted DISABLE TRIGGER keep",
    "DROP TRIGGER keep ON ledger.posted",
    "DROP TABLE ledger.loads",
    "CREATE TRIGGER mine BEFORE INSERT ON ledger.posted EXECUTE FUNCTION ledger.refuse_change()",
    "CREATE INDEX mine ON ledger.posted (amount)",
    "ALTER FUNCTION ledger.refuse_change() OWNER TO CURRENT_USER",
    "CREATE OR REPLACE FUNCTION ledger.saturated(sum numeric) RETURNS bigint RETURN 0::bigint",
    "CREATE OR REPLACE VIEW ledger.balances AS SELECT 1",
    "CREATE TABLE ledger.mine (n int)",
    "CREATE FUNCTION ledger.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TABLE public.mine (n int)",
    "CREATE SCHEMA mine",
    "SET session_replication_role = replica",
    "SELECT setval('ledger.flush_numbers', 1)",
    "SELECT setval('ledger.accounts_number_seq', 1)",
    "SELECT nextval('ledger.accounts_number_seq')",
    "ALTER SEQUENCE ledger.flush_numbers RESTART",
    "ALTER TABLE ledger.accounts OWNER TO CURRENT_USER",
    "INSERT INTO ledger.migrations (number, name) VALUES (9999, 'mine')",
    "INSERT INTO ledger.outcomes (number, name) VALUES (999, 'mine')",
    "INSERT INTO ledger.settings (one, shard_count) VALUES (true, 1)",
    "INSERT INTO ledger.owners (shard, worker) SELECT 999, worker FROM ledger.workers",
    "INSERT INTO ledger.roles (kind, role) VALUES ('reader', 'mine')",
    "UPDATE ledger.accounts SET flags = '{}'",
    "UPDATE ledger.accounts SET user_data_64 = 1",
    "UPDATE ledger.accounts SET created_at = now()",
    "UPDATE ledger.settings SET shard_count = 1",
    "UPDATE ledger.settings SET identity = gen_random_uuid()",
    "UPDATE ledger.workers SET host = 'elsewhere'",
    "UPDATE ledger.owners SET shard = 7 WHERE shard = 0",
    "UPDATE ledger.moves SET target = source",
    "UPDATE ledger.plans SET document = '{}'",
    "UPDATE flows.reviews SET question = ''",
    "UPDATE flows.open SET shard = 0",
    "UPDATE flows.schedules SET input = ''",
    "CREATE ROLE mine SUPERUSER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "COPY ledger.spent TO PROGRAM 'cat'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT * FROM pg_authid",
    "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION ledger.refuse_change()",
)  # fmt: skip

AT_WORK = (
    "applied_plans", "decisions", "freeze_acts", "leases", "letter_history", "owner_changes",
    "recorded_events", "shard_loads", "shard_moves", "shard_owners", "shard_progress",
    "verify_runs", "versions", "waits",
)  # fmt: skip
"""What a reader is told of the engine at work."""

BENEATH = (
    "ledger.spent", "ledger.posted", "ledger.resolutions", "ledger.positions", "ledger.owners",
    "ledger.heartbeats", "ledger.loads", "ledger.moves", "ledger.plans", "ledger.events",
    "ledger.letter_acts", "ledger.migrations", "ledger.ownership", "ledger.roles", "ledger.legs",
    "ledger.verifications", "flows.flows", "flows.steps", "flows.inbox", "flows.owners",
)  # fmt: skip
"""Which a reader does not see."""


@pytest.mark.parametrize("who", ["engine_dsn", "app_dsn", "client_dsn"])
async def test_no_role_rewrites_what_is_append_only(
    ledger: Ledger, who: str, connected: Connected
) -> None:
    connection = await connected(getattr(ledger, who))
    for table in (*APPEND_ONLY, *CHANGING):
        await refused(connection, f"DELETE FROM {table}")
        await refused(connection, f"TRUNCATE {table}")
        for mode in LOCKS:
            await refused(connection, f"LOCK TABLE {table} IN {mode} MODE")
    for table in APPEND_ONLY:
        columns = await ledger.sql(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
            " AND NOT attisdropped",
            table,
        )
        for row in columns:
            await refused(connection, f'UPDATE {table} SET "{row["attname"]}" = DEFAULT')
        await refused(connection, f"SELECT FROM {table} FOR UPDATE")
    for statement in NEITHER_ENGINE_NOR_CREATOR:
        await refused(connection, statement)


async def test_every_table_and_every_column_is_decided_upon(ledger: Ledger) -> None:
    """Whoever adds a table says here and in `grants.sql` what it is."""
    rows = await ledger.sql(
        "SELECT n.nspname || '.' || c.relname AS name FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('ledger', 'flows') AND c.relkind = 'r'"
    )
    assert {row["name"] for row in rows} == {*APPEND_ONLY, *CHANGING}
    [worker, _, _] = [dsn.split("//")[1].split(":")[0] for dsn in logins_of(ledger)]
    whole = await ledger.sql(
        "SELECT n.nspname || '.' || c.relname AS name, privilege FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " CROSS JOIN unnest('{UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege"
        " WHERE n.nspname IN ('ledger', 'flows') AND c.relkind IN ('r', 'v')"
        " AND has_table_privilege($1, c.oid, privilege)",
        worker,
    )
    assert whole == []


async def test_public_may_nothing(ledger: Ledger, connected: Connected) -> None:
    rows = await ledger.sql(
        "SELECT p.oid::regprocedure::text AS name FROM pg_proc p"
        " JOIN pg_namespace n ON n.oid = p.pronamespace"
        " CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
        " WHERE n.nspname IN ('ledger', 'flows') AND a.grantee = 0 AND p.proname <> 'shard_of'"
    )
    assert rows == [], "PUBLIC may EXECUTE"
    name = f"{ledger.prefix}_stranger"
    await ledger.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    connection = await connected(as_user(ledger.dsn, name))
    for statement in (
        *NEITHER_ENGINE_NOR_CREATOR,
        *(f"TABLE ledger.{table}" for table in CONTRACT),
        "SELECT ledger.shard_of(gen_random_uuid())",
        "SELECT ledger.end_frozen_backend(1, 1)",
        "SELECT flows.end_open('{}')",
        "SELECT flows.end_early('{}')",
        "SELECT flows.forget_early('{}')",
        "SELECT flows.remove_schedule(gen_random_uuid())",
    ):
        await refused(connection, statement)


async def test_a_creator_creates_accounts_and_no_more(ledger: Ledger, connected: Connected) -> None:
    names = await find_roles(ledger.dsn)
    alone = f"{ledger.prefix}_creates"
    await apply_roles(ledger.dsn, logins=[Login(alone, "secret", ("creator",))])
    connection = await connected(as_user(ledger.dsn, alone))
    account = uuid.uuid4()
    for _ in range(2):  # as the client does: what is there stays
        await connection.execute(
            "INSERT INTO ledger.accounts (id, ledger, code, flags, name, user_data_128,"
            " user_data_64, user_data_32) VALUES ($1, 1, 1, '{}', 'a name', NULL, 5, 6)"
            " ON CONFLICT DO NOTHING RETURNING id",
            account,
        )
    for statement in (
        "INSERT INTO ledger.accounts (number) OVERRIDING SYSTEM VALUE VALUES (77)",
        "INSERT INTO ledger.accounts (closed) VALUES (true)",
        "INSERT INTO ledger.accounts (created_at) VALUES ('1999-01-01')",
        "SELECT name FROM ledger.accounts",
        "UPDATE ledger.accounts SET closed = true",
        "DELETE FROM ledger.accounts",
        "SELECT FROM ledger.accounts FOR UPDATE",
        "INSERT INTO ledger.spent (shard, flags, outcome, number) VALUES (0, 0, 0, 1)",
        *(f"TABLE ledger.{table}" for table in (*CONTRACT, "spent", "posted", "settings")),
    ):
        await refused(connection, statement)
    assert await ledger.sql("SELECT FROM ledger.accounts WHERE id = $1", account)
    assert names.creator != names.reader


async def test_a_reader_reads_views_and_functions_and_nothing_beneath(
    full_ledger: Ledger, connected: Connected
) -> None:
    name = f"{full_ledger.prefix}_reads"
    await apply_roles(full_ledger.dsn, logins=[Login(name, "secret", ("reader",))])
    connection = await connected(as_user(full_ledger.dsn, name))
    for table in CONTRACT:
        mine = await connection.fetchval(f"SELECT count(*) FROM ledger.{table}")
        [its] = await full_ledger.sql(f"SELECT count(*) AS n FROM ledger.{table}")
        assert mine == its["n"] > 0, table
        # As text, so that every function in the view is called.
        await connection.fetch(f"SELECT t::text FROM ledger.{table} t")
    for view in AT_WORK:
        await connection.fetch(f"SELECT t::text FROM ledger.{view} t")
    assert await connection.fetch("SELECT * FROM ledger.hold_counts(2)")
    for view in ("current", "unknown", "unmatched"):
        await connection.fetch(f"SELECT t::text FROM flows.{view} t")
    [busy] = await full_ledger.sql(
        "SELECT account_id FROM ledger.postings GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )
    history = "SELECT h::text FROM ledger.history($1) h"
    assert await connection.fetch(history, busy["account_id"])
    assert await connection.fetch(history, busy["account_id"]) == await full_ledger.sql(
        history, busy["account_id"]
    )
    [some] = await full_ledger.sql("SELECT id FROM ledger.transfers LIMIT 1")
    assert await connection.fetch("SELECT * FROM ledger.postings_of($1)", some["id"])
    [refusal] = await full_ledger.sql(
        "SELECT id FROM ledger.declined WHERE outcome LIKE 'exceeds_%s' LIMIT 1"
    )
    assert await connection.fetch("SELECT * FROM ledger.why_declined($1)", refusal["id"])
    await connection.fetch(
        "SELECT ledger.flush_of_entry(0, 0, 1, 1), ledger.shard_of($1)", some["id"]
    )
    for statement in (
        *(f"TABLE {table}" for table in BENEATH),
        *NEITHER_ENGINE_NOR_CREATOR,
        "INSERT INTO ledger.accounts (id, ledger, code) VALUES (gen_random_uuid(), 1, 1)",
        "SELECT ledger.newest(1)",
        "SELECT ledger.rows_of_flush(1, 1)",
        "SELECT ledger.end_frozen_backend(1, 1)",
        "SELECT FROM ledger.settings FOR UPDATE",
        "SELECT FROM ledger.workers FOR UPDATE",
    ):
        await refused(connection, statement)


async def test_nobody_beneath_the_views_is_fooled_by_a_path(ledger: Ledger) -> None:
    """A function with the owner's rights calls what it says, whatever stands before it."""
    rows = await ledger.sql(
        "SELECT p.oid::regprocedure::text AS name, p.proconfig FROM pg_proc p"
        " JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname IN ('ledger', 'flows') AND p.prosecdef"
    )
    assert rows
    for row in rows:
        assert "search_path=pg_catalog, pg_temp" in row["proconfig"], row["name"]
