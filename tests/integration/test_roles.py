"""Least privilege in Postgres: how the roles are made, changed and kept apart."""

import asyncio
import time
import uuid
from typing import Any

import asyncpg
import pytest

from engine.errors import ConfigurationError
from engine.store.connections import CHANGES_PER_SECOND_MAX
from engine.store.migrate import migrate
from engine.store.roles import Login, apply_roles, find_roles, grants, script
from engine.store.scram import scram_of
from tests.desks import A, B, batch, desk
from tests.ledgers import Ledger, as_user, make_ledger, until
from tests.privileges import CONTRACT, DENIED, Connected, logins_of, refused
from tests.verifying import assert_verified

BLOCKERS = "SELECT cardinality(pg_blocking_pids($1))"


async def test_two_ledgers_in_one_cluster_have_roles_of_their_own(
    ledger: Ledger, postgres_dsn: str, redis_url: str, connected: Connected
) -> None:
    other = await make_ledger(postgres_dsn, redis_url)
    here, there = await find_roles(ledger.dsn), await find_roles(other.dsn)
    assert {here.engine, here.creator, here.reader}.isdisjoint(
        {there.engine, there.creator, there.reader}
    )
    place = other.dsn.rsplit("/", 1)[1]
    for dsn in logins_of(ledger):
        connection = await connected(f"{dsn.rsplit('/', 1)[0]}/{place}")
        for statement in (
            *(f"TABLE ledger.{table}" for table in CONTRACT),
            "INSERT INTO ledger.accounts (id, ledger, code) VALUES (gen_random_uuid(), 1, 1)",
            "SELECT FROM ledger.workers FOR UPDATE",
            "SELECT ledger.end_frozen_backend(1, 1)",
        ):
            await refused(connection, statement)


async def test_only_the_owner_migrates(ledger: Ledger) -> None:
    for dsn in logins_of(ledger):
        with pytest.raises(ConfigurationError, match="ENGINE_OWNER_DSN"):
            await migrate(dsn)
        with pytest.raises(ConfigurationError, match="ENGINE_OWNER_DSN"):
            await apply_roles(dsn)
    assert await migrate(ledger.dsn) == []


async def test_an_owner_who_is_no_superuser_makes_ledger_and_roles(
    postgres_dsn: str, redis_url: str, connected: Connected
) -> None:
    name = f"own_{uuid.uuid4().hex[:8]}"
    connection = await connected(postgres_dsn)
    await connection.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'secret'")
    await connection.execute(f"CREATE DATABASE {name} OWNER {name}")
    dsn = as_user(postgres_dsn.rsplit("/", 1)[0] + "/" + name, name)
    await migrate(dsn, 1)
    logins = [Login(f"{name}_{n}", "secret", ("engine",)) for n in "ab"]
    for _ in range(2):
        roles = await apply_roles(dsn, logins=logins)
    assert roles.owner == name
    ledger = Ledger(dsn, redis_url, name, 1, as_user(dsn, logins[0].name))
    async with ledger.working():
        assert [
            row["n"] for row in await ledger.sql("SELECT count(*) AS n FROM ledger.workers")
        ] == [2]


async def test_what_a_migration_adds_is_granted_by_the_next_init(
    ledger: Ledger, connected: Connected
) -> None:
    await ledger.sql("CREATE FUNCTION ledger.later() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    connection = await connected(ledger.engine_dsn)
    await ledger.sql("REVOKE SELECT ON ledger.loads FROM " + (await find_roles(ledger.dsn)).engine)
    await refused(connection, "TABLE ledger.loads")
    await migrate(ledger.dsn)
    await connection.fetch("SELECT ledger.later() FROM ledger.loads")
    client = await connected(ledger.client_dsn)
    await refused(client, "SELECT ledger.later()")


async def test_a_privilege_given_by_hand_is_taken_back(
    ledger: Ledger, connected: Connected
) -> None:
    roles = await find_roles(ledger.dsn)
    await ledger.sql(f'GRANT UPDATE (amount), DELETE ON ledger.posted TO "{roles.engine}"')
    await ledger.sql(f'GRANT SELECT ON ledger.spent TO "{roles.reader}"')
    await apply_roles(ledger.dsn)
    for dsn, statement in (
        (ledger.engine_dsn, "UPDATE ledger.posted SET amount = 0"),
        (ledger.engine_dsn, "DELETE FROM ledger.posted"),
        (ledger.client_dsn, "TABLE ledger.spent"),
    ):
        connection = await connected(dsn)
        await refused(connection, statement)


async def test_a_role_that_may_too_much_is_not_taken(ledger: Ledger) -> None:
    mighty = f"{ledger.prefix}_mighty"
    await ledger.sql(f"CREATE ROLE {mighty} SUPERUSER")
    with pytest.raises(ConfigurationError, match="may more"):
        await apply_roles(ledger.dsn, logins=[Login(mighty, "secret", ("reader",))])
    with pytest.raises(ConfigurationError, match="too long"):
        await apply_roles(ledger.dsn, "x" * 63)


async def test_the_script_does_what_apply_does(
    postgres_dsn: str, redis_url: str, connected: Connected
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url)
    roles = await find_roles(ledger.dsn)
    acls = (
        "SELECT c.oid::regclass::text AS name, c.relacl::text[] AS acl FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('ledger', 'flows')"
        " ORDER BY 1"
    )
    before = await ledger.sql(acls)
    for role in (roles.engine, roles.creator, roles.reader):
        await ledger.sql(f'REVOKE ALL ON ALL TABLES IN SCHEMA ledger, flows FROM "{role}"')
    connection = await connected(ledger.dsn)
    await connection.execute(script(roles))
    assert [sorted(row["acl"] or []) for row in await ledger.sql(acls)] == [
        sorted(row["acl"] or []) for row in before
    ]
    assert ":engine" not in grants(roles)


async def test_a_frozen_worker_of_another_login_is_ended_by_the_function_alone(
    ledger: Ledger, connected: Connected
) -> None:
    """As while a password is rotated: two logins, and neither may signal the other."""
    second = f"{ledger.prefix}_second"
    await apply_roles(ledger.dsn, logins=[Login(second, "secret", ("engine",))])
    frozen, living = uuid.uuid4(), uuid.uuid4()
    for worker, seconds in ((frozen, -1), (living, 60)):
        await ledger.sql(
            "INSERT INTO ledger.workers (worker, host, process) VALUES ($1, 'here', 1)", worker
        )
        await ledger.sql(
            "INSERT INTO ledger.heartbeats VALUES ($1, now() + make_interval(secs => $2))",
            worker,
            float(seconds),
        )

    async def named(dsn: str, worker: uuid.UUID) -> asyncpg.Connection:
        return await connected(dsn, server_settings={"application_name": f"engine {worker}"})

    lock = "SELECT FROM ledger.workers WHERE worker = $1 FOR UPDATE"
    waiting = await connected(as_user(ledger.dsn, second))
    watching = await connected(as_user(ledger.dsn, second))
    end = "SELECT ledger.end_frozen_backend($1, $2)"
    for worker, is_ended in ((living, False), (frozen, True)):
        holder = await named(ledger.engine_dsn, worker)
        bystander = await named(ledger.engine_dsn, worker)
        await holder.execute("BEGIN")
        await holder.fetch(lock, worker)
        pid = holder.get_server_pid()
        # Nobody waits for it yet.
        assert not await watching.fetchval(end, pid, waiting.get_server_pid())
        with pytest.raises(DENIED):
            await watching.fetchval("SELECT pg_terminate_backend($1)", pid)
        task = asyncio.create_task(waiting.fetch(lock, worker))
        await until(
            lambda: watching.fetchval(BLOCKERS, waiting.get_server_pid()), "the lock to be wanted"
        )
        assert not await watching.fetchval(
            end, bystander.get_server_pid(), waiting.get_server_pid()
        )
        assert await watching.fetchval(end, pid, waiting.get_server_pid()) is is_ended
        if not is_ended:
            await holder.execute("ROLLBACK")
        assert await task
        bystander.terminate()
        holder.terminate()


async def test_a_password_is_never_sent_and_never_logged(
    ledger: Ledger, servers: Any, connected: Connected
) -> None:
    log = servers.postgres.log_path
    await ledger.sql("ALTER DATABASE " + ledger.prefix + " SET log_statement = 'all'")
    name, password = f"{ledger.prefix}_logged", "correct-horse-battery"
    await apply_roles(ledger.dsn, logins=[Login(name, password, ("reader",))])
    connection = await connected(as_user(ledger.dsn, name, password))
    assert await connection.fetchval("SELECT current_user") == name
    text = log.read_text(errors="replace")
    assert f'"{name}"' in text, "the statements are logged"
    assert password not in text
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connected(as_user(ledger.dsn, name, "wrong"))


def test_what_is_kept_of_a_password_is_as_postgres_makes_it() -> None:
    kept = scram_of("pencil", b"0123456789abcdef")
    assert kept.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    assert "pencil" not in kept


async def test_all_of_a_worker_runs_under_the_least_role(postgres_dsn: str, redis_url: str) -> None:
    async with desk(postgres_dsn, redis_url) as at:
        assert "_worker:" in at.ledger.engine_dsn
        async with at.ledger.working():
            for size in (1, 900):
                await at.send(batch(size))
            await at.redis.xadd(at.stream(), {"json": "nonsense"})
            outcomes = [name for answer in await at.answers(2) for name in answer]
            assert outcomes == ["created"] * 901
        await assert_verified(at.ledger)
        [row] = await at.ledger.sql("SELECT count(*) AS n FROM ledger.dead_letters")
        assert row["n"] == 1
        users = await at.ledger.sql("SELECT id FROM ledger.accounts WHERE id = ANY ($1)", [A, B])
        assert len(users) == 2


async def test_a_stranger_who_notifies_without_end_is_believed_now_and_then(
    ledger: Ledger, connected: Connected
) -> None:
    """Whoever may connect may NOTIFY: workers look no more than so often."""
    await ledger.sql(f"CREATE ROLE {ledger.prefix}_noise LOGIN PASSWORD 'secret'")
    stranger = await connected(as_user(ledger.dsn, f"{ledger.prefix}_noise"))
    worker = ledger.worker()
    looks = 0
    look = worker.store.ownership.look_at_shards

    async def counted() -> Any:
        nonlocal looks
        looks += 1
        return await look()

    worker.store.ownership.look_at_shards = counted  # type: ignore[method-assign]
    async with ledger.working(worker):
        looks, began = 0, time.monotonic()
        for _ in range(1000):
            await stranger.execute("NOTIFY ledger_shards")
            await asyncio.sleep(0.002)
        seconds = time.monotonic() - began
        print(f"{looks} looks in {seconds:.1f} s")
        assert looks <= CHANGES_PER_SECOND_MAX * (seconds + 2)
