"""A ledger that cannot be worked on is refused, with what mends it; a clock is waited for."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.errors import ClockError, ConfigurationError, TryAgainError
from engine.ledger.outcomes import Outcome
from engine.store import migrate as migrating
from engine.store.client_store import ClientStore
from engine.store.ledger_checks import CLOCK_SECONDS_MAX
from engine.store.migrate import migrate
from engine.store.reports import open_reports
from engine.store.snapshot import connect_reader
from engine.store.worker_store import WorkerStore
from tests.bounds import CONDITION_SECONDS_MAX, UNAIDED_SECONDS_MAX
from tests.desks import A, Desk, batch, desk, transfer
from tests.ledgers import clock, until
from tests.verifying import assert_verified

YEAR = 365 * 24 * 3600 * 1_000_000


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url) as made:
        yield made


async def opened(dsn: str) -> WorkerStore:
    store = WorkerStore(dsn, uuid.uuid4().bytes)
    await store.open()
    return store


@pytest.mark.parametrize(
    "sequence",
    [
        "ledger.flush_numbers",
        "ledger.accounts_number_seq",
        "ledger.moves_move_seq",
    ],
)
async def test_sequences_behind_their_data(at: Desk, sequence: str) -> None:
    """As in a copy that brought rows without sequences: refused, with what mends it."""
    async with at.ledger.working(at.ledger.worker([0])):
        await at.send(batch(3))
        await at.answers(1)
    await at.ledger.sql(
        "INSERT INTO ledger.moves (shard, source, target, asked_by, state, ended_at)"
        " SELECT 0, gen_random_uuid(), gen_random_uuid(), '', 'done', now()"
        " FROM generate_series(1, 3)"
    )
    await at.ledger.sql(f"SELECT setval('{sequence}', 1)")
    worker = at.ledger.worker([0])
    with pytest.raises(ConfigurationError, match=f"{sequence} stands at 1, behind") as it:
        await asyncio.wait_for(worker.run(), UNAIDED_SECONDS_MAX)
    await at.ledger.sql(str(it.value).rpartition("run: ")[2])
    async with at.ledger.working(at.ledger.worker([0])):
        await at.send(batch(1))
        await at.answers(2)
    await assert_verified(at.ledger)


async def test_an_outcome_by_another_name_is_refused(at: Desk) -> None:
    await at.ledger.sql("UPDATE ledger.outcomes SET name = 'made' WHERE number = 0")
    store = await opened(at.ledger.dsn)
    with pytest.raises(ConfigurationError, match=r"0 is made in ledger\.outcomes and created"):
        await store.check_ledger(clock)
    store.drop()
    with pytest.raises(ConfigurationError, match="outcome 0 is made"):
        await migrate(at.ledger.dsn)


async def test_every_outcome_is_named_in_the_ledger(at: Desk) -> None:
    rows = await at.ledger.sql("SELECT number, name FROM ledger.outcomes")
    assert {row["number"]: row["name"] for row in rows} == {int(o): o.name for o in Outcome}


async def test_entry_that_the_encoding_has_not(postgres_dsn: str) -> None:
    """A database that cannot hold each entry is refused when the ledger is made, and afterwards."""
    name = f"latin_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(
        f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'"
        " TEMPLATE template0"
    )
    await connection.close()
    dsn = postgres_dsn.rsplit("/", 1)[0] + "/" + name
    with pytest.raises(ConfigurationError, match=r"encoding LATIN1.*ENCODING 'UTF8'"):
        await migrate(dsn)
    with pytest.raises(ConfigurationError, match="encoding LATIN1"):
        await opened(dsn)


async def test_clock_a_year_ahead(at: Desk) -> None:
    """For a while: nothing is dated by it, no hold released; what was sent meanwhile is decided."""
    skew = 0
    worker = at.ledger.worker([0])
    worker.clock = lambda: clock() + skew
    hold = transfer(flags=["pending"], timeout=3600)
    with capture_logs() as logs:
        async with at.ledger.working(worker):
            await at.send([hold])
            assert await at.answers(1) == [["created"]]
            skew = YEAR
            await at.send(batch(1))
            await at.send(batch(900))

            def refused() -> bool:
                ended = [entry for entry in logs if entry["event"] == "session_ended"]
                return any("clock" in entry["reason"] for entry in ended)

            await until(refused, "the clock to be refused")
            assert await at.count() == 1
            skew = 0
            assert await at.answers(3) == [["created"], ["created"], ["created"] * 900]
    rows = await at.ledger.sql(
        "SELECT max(time) < clock_timestamp() AS now FROM ledger.flushes"
        " UNION ALL SELECT status = 'pending' FROM ledger.holds"
    )
    assert [row[0] for row in rows] == [True, True]
    await assert_verified(at.ledger)


async def test_a_worker_whose_clock_is_far_off_does_not_begin(at: Desk) -> None:
    store = await opened(at.ledger.dsn)
    for seconds in (-2 * CLOCK_SECONDS_MAX, 2 * CLOCK_SECONDS_MAX):
        with pytest.raises(ClockError, match=r"s (ahead of|behind) that of Postgres"):
            await store.check_ledger(lambda off=seconds: clock() + round(off * 1_000_000))
    await store.check_ledger(clock)
    store.drop()


async def test_a_ledger_whose_times_are_ahead_already_goes_on(at: Desk) -> None:
    """Somebody's mistake of the past: no time goes back, and none gets further ahead."""
    async with at.ledger.working(at.ledger.worker([0])):
        await at.send(batch(1))
        await at.answers(1)
    connection = await asyncpg.connect(at.ledger.dsn)
    await connection.execute("SET session_replication_role = replica")
    for table in ("flushes", "positions"):
        await connection.execute(f"UPDATE ledger.{table} SET time = time + interval '1 year'")
    ahead = await connection.fetchval("SELECT max(time) FROM ledger.flushes")
    await connection.close()
    async with at.ledger.working(at.ledger.worker([0])):
        await at.send(batch(1))
        await at.send(batch(900))
        assert await at.answers(3) == [["created"], ["created"], ["created"] * 900]
    [row] = await at.ledger.sql(
        "SELECT max(time) - $1 BETWEEN interval '0' AND interval '1 s' AS near FROM ledger.flushes",
        ahead,
    )
    assert row["near"]
    await assert_verified(at.ledger)


async def test_a_role_that_may_only_connect_stops_nobody(at: Desk) -> None:
    """By the advisory locks that once were ours: of declining, and of making the ledger."""
    stranger = await asyncpg.connect(at.ledger.dsn)
    await stranger.execute("BEGIN")
    await stranger.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('ledger: declining for want of funds', 0)),"
        " pg_advisory_xact_lock(119182844683634)"
    )
    store = await opened(at.ledger.dsn)
    assert await store._connections.write("queue_to_decline") is not None
    store.drop()
    assert await asyncio.wait_for(migrate(at.ledger.dsn), CONDITION_SECONDS_MAX) == []
    await stranger.execute("ROLLBACK")
    await stranger.close()


async def test_a_migration_waits_for_a_table_without_stopping_who_writes(
    at: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader holds a table for long: flushes go on between the attempts."""
    monkeypatch.setattr(migrating, "LOCK_SECONDS", 0.2)
    await at.ledger.sql("ALTER TABLE ledger.posted DROP CONSTRAINT posted_counters")
    known = migrating.migrations()
    text = "ALTER TABLE ledger.posted ADD COLUMN noted text"
    monkeypatch.setattr(migrating, "migrations", lambda: [*known, (9999, "noted", text)])
    async with at.ledger.working(at.ledger.worker([0])):
        reader = await asyncpg.connect(at.ledger.dsn)
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await reader.execute("SELECT count(*) FROM ledger.posted")
        migration = asyncio.create_task(migrate(at.ledger.dsn))
        for sent in range(1, 6):
            await at.send(batch(1))
            await at.answers(sent)
        assert not migration.done()
        await reader.close()
        assert await asyncio.wait_for(migration, CONDITION_SECONDS_MAX) == ["9999_noted"]
        await at.send(batch(1))
        await at.answers(6)


async def test_a_migration_of_a_held_table_gives_up_in_the_end(
    at: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(migrating, "MIGRATE_SECONDS_MAX", 0.3)
    holder = await asyncpg.connect(at.ledger.dsn)
    await holder.execute("BEGIN")
    await holder.execute("LOCK TABLE ledger.migrations IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(TryAgainError, match="held by others"):
        await migrate(at.ledger.dsn)
    await holder.close()


HOSTILE = {
    "statement_timeout": "1ms",
    "idle_session_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "transaction_timeout": "1ms",
    "exit_on_error": "on",
    "search_path": "nowhere",
    "row_security": "on",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "client_min_messages": "error",
    "transform_null_equals": "on",
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "plan_cache_mode": "force_generic_plan",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "jit": "on",
}


async def test_no_setting_of_the_database_changes_what_is_done(at: Desk) -> None:
    """Not what ends a session, and not what words mean: for workers, clients and commands."""
    name = at.ledger.dsn.rsplit("/", 1)[1]
    connection = await asyncpg.connect(at.ledger.dsn)
    known = {row["name"] for row in await connection.fetch("SELECT name FROM pg_settings")}
    for setting, value in HOSTILE.items():
        if setting in known:
            await connection.execute(f"ALTER DATABASE {name} SET {setting} = {value!r}")
    await connection.close()
    worker = at.ledger.worker([0])
    async with at.ledger.working(worker):
        await at.send(batch(1))
        await at.send(batch(900))
        assert await at.answers(2) == [["created"], ["created"] * 900]
    assert worker.statistics.sessions == 1
    store = await opened(at.ledger.dsn)
    reader = await connect_reader(at.ledger.dsn)
    for session in (store._connections.writer, reader):
        for setting, value in HOSTILE.items():
            found = await session.fetchval("SELECT current_setting($1, true)", setting)
            said = setting in {"default_transaction_isolation", "client_min_messages",
                               "default_transaction_deferrable"} and session is reader  # fmt: skip
            assert said or found != value, setting
    await reader.close()
    store.drop()
    ids = [uuid.UUID(A).bytes]
    async with open_reports(at.ledger.dsn) as reports:
        assert (await reports.balances(ids))[0].debits_posted == 901
        assert (await reports.accounts(1))[0].created_at.endswith("Z")
    client = ClientStore(at.ledger.dsn, CONDITION_SECONDS_MAX)
    assert (await client.lookup_accounts(ids))[0].debits_posted == 901
    assert await client.ledger_identity() == await _identity(at)
    await client.close()
    await assert_verified(at.ledger)


async def _identity(at: Desk) -> bytes:
    store = await opened(at.ledger.dsn)
    identity = await store.ledger_identity()
    store.drop()
    return identity


async def test_triggers_that_are_off_are_refused(at: Desk) -> None:
    name = at.ledger.dsn.rsplit("/", 1)[1]
    await at.ledger.sql(f"ALTER DATABASE {name} SET session_replication_role = replica")
    with pytest.raises(ConfigurationError, match="session_replication_role not origin"):
        await opened(at.ledger.dsn)


async def test_who_is_out_of_reach_is_named_without_the_password(at: Desk) -> None:
    for address in (
        "postgresql://someone:hush@127.0.0.1:9/nowhere",
        "host=127.0.0.1 port=9 user=someone password=hush dbname=nowhere",
    ):
        with pytest.raises(TryAgainError, match=r"127\.0\.0\.1:9") as refused:
            await opened(address)
        assert "hush" not in str(refused.value)
    there = at.ledger.dsn.partition("@")[2]
    with pytest.raises(ConfigurationError, match="refuses") as wrong:
        await opened(f"postgresql+asyncpg://nobody:hush@{there}")
    assert "hush" not in str(wrong.value)
