"""The door of the producer's client: backpressure, what Redis refuses, addresses and rights."""

import asyncio

import pytest

import engine
from engine import Outcome
from engine.errors import BackpressureError, ConfigurationError, TryAgainError
from engine.ledger.nouns import stream_name
from engine.servers import Servers
from engine.settings import DATA_VARIABLE, POSTGRES_VARIABLE, PREFIX_VARIABLE, REDIS_VARIABLE
from engine.store.migrate import migrate
from engine.streams.connection import Connection
from engine.streams.refusals import refusal_of
from tests.clients import entries_in, make_accounts, move, open_client
from tests.ledgers import Ledger, as_user, until


class TestDoor:
    async def test_a_full_stream_is_an_error(self, ledger: Ledger) -> None:
        async with open_client(ledger, backlog_entries_max=2) as client:
            [a, b] = await make_accounts(client, 2)
            shard = a.int & 15
            sent: list[asyncio.Task[list[Outcome]]] = []

            async def all_wait() -> bool:
                return await entries_in(ledger, shard) == len(sent)

            for _ in range(2):
                sent.append(asyncio.create_task(client.create_transfers([move(a, b)])))
                await until(all_wait, "the entry")
            for call in (client.create_transfer(move(a, b)), client.create_transfers([move(a, b)])):
                with pytest.raises(BackpressureError, match="backlog of 2 entries"):
                    await call
            assert (await client.backlog())[shard] == 2
            assert sum((await client.backlog()).values()) == 2
            async with ledger.working():
                assert [await call for call in sent] == [[Outcome.created]] * 2
                assert await client.create_transfer(move(a, b)) is Outcome.created

    async def test_a_full_stream_is_waited_for(self, ledger: Ledger) -> None:
        async with open_client(ledger, backlog_entries_max=1, when_full="wait") as client:
            [a, b] = await make_accounts(client, 2)
            first = asyncio.create_task(client.create_transfers([move(a, b)]))
            await until(lambda: entries_in(ledger, a.int & 15), "the entry")
            calls = [asyncio.create_task(client.create_transfer(move(a, b))) for _ in range(5)]
            calls.append(asyncio.create_task(client.create_transfer(move(a, b, flags=["linked"]))))
            async with ledger.working():
                assert await first == [Outcome.created]
                outcomes = await asyncio.gather(*calls)
            assert outcomes == [Outcome.created] * 5 + [Outcome.linked_event_chain_open]

    async def test_waiting_for_room_ends_with_the_time_limit(self, ledger: Ledger) -> None:
        how = {"backlog_entries_max": 1, "when_full": "wait", "timeout_seconds": 0.3}
        async with open_client(ledger, **how) as client, ledger.redis() as redis:
            [a, b] = await make_accounts(client, 2)
            await redis.xadd(stream_name(ledger.prefix, a.int & 15), {"json": "[]"})
            with pytest.raises(BackpressureError):
                await client.create_transfer(move(a, b))
            with pytest.raises(BackpressureError):
                await client.create_transfers([move(a, b)])
            assert await entries_in(ledger, a.int & 15) == 1

    async def test_what_redis_refuses_is_refused_at_the_door(self, ledger: Ledger) -> None:
        async with open_client(ledger) as client, ledger.redis() as redis:
            [a, b] = await make_accounts(client, 2)
            await redis.set(stream_name(ledger.prefix, a.int & 15), "no stream")
            with pytest.raises(ConfigurationError, match="WRONGTYPE"):
                await client.create_transfer(move(a, b))
        assert isinstance(refusal_of("OOM command not allowed"), BackpressureError)
        assert isinstance(refusal_of("LOADING data"), TryAgainError)

    async def test_redis_without_memory_is_an_error_or_waited_for(self, ledger: Ledger) -> None:
        async with (
            open_client(ledger) as impatient,
            open_client(ledger, when_full="wait") as patient,
            ledger.redis() as redis,
        ):
            [a, b] = await make_accounts(patient, 2)
            await redis.config_set("maxmemory", "1")
            try:
                with pytest.raises(BackpressureError, match="out of memory"):
                    await impatient.create_transfer(move(a, b))
                call = asyncio.create_task(patient.create_transfer(move(a, b)))
                await until(lambda: patient._delivery._trouble, "a refusal")
            finally:
                await redis.config_set("maxmemory", "0")
            async with ledger.working():
                assert await call is Outcome.created

    async def test_a_primary_that_becomes_a_replica_for_a_while(self, ledger: Ledger) -> None:
        async with open_client(ledger) as client, ledger.redis() as redis:
            [a, b] = await make_accounts(client, 2)
            await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
            try:
                call = asyncio.create_task(client.create_transfer(move(a, b)))
                await until(lambda: client.statistics().reconnects, "another connection")
            finally:
                await redis.execute_command("REPLICAOF", "NO", "ONE")
            async with ledger.working():
                assert await call is Outcome.created

    async def test_a_user_of_redis_needs_no_more_than_the_streams(self, ledger: Ledger) -> None:
        name = ledger.prefix
        url = as_user(ledger.redis_url, name)
        rules = f"on >secret ~{name}:transfers:* ~{name}:answers:* -@all +ping +select"
        streams = "+xadd +xlen +xrange +xread +xtrim +unlink"
        async with ledger.redis() as redis:
            await redis.execute_command("ACL", "SETUSER", name, *rules.split(), *streams.split())
            try:
                async with ledger.working(), open_client(ledger, url) as client:
                    [a, b] = await make_accounts(client, 2)
                    assert await client.create_transfer(move(a, b)) is Outcome.created
                    await redis.execute_command("ACL", "SETUSER", name, "-xadd")
                    with pytest.raises(ConfigurationError, match="NOPERM"):
                        await client.create_transfer(move(a, b))
                with pytest.raises(ConfigurationError, match="WRONGPASS"):
                    await Connection.open(url.replace("secret", "wrong"))
            finally:
                await redis.execute_command("ACL", "DELUSER", name)

    async def test_addresses_come_from_the_environment_or_are_asked_for(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ENGINE_POSTGRES_DSN", raising=False)
        monkeypatch.delenv("ENGINE_REDIS_URL", raising=False)
        for dsn, url, missing in (
            (None, None, "ENGINE_POSTGRES_DSN"),
            (ledger.dsn, None, "ENGINE_REDIS_URL"),
        ):
            with pytest.raises(ConfigurationError, match=missing):
                async with engine.connect(dsn, url):
                    pass
        monkeypatch.setenv("ENGINE_POSTGRES_DSN", ledger.dsn)
        monkeypatch.setenv("ENGINE_REDIS_URL", ledger.redis_url)
        async with engine.connect() as client:
            assert len(await client.backlog()) == 16
        with pytest.raises(ConfigurationError, match="write redis://"):
            await Connection.open("nonsense")
        with pytest.raises(TryAgainError, match="out of reach"):
            await Connection.open("redis://127.0.0.1:1")

    async def test_connect_reads_the_environment_as_the_commands_do(
        self, ledger: Ledger, servers: Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A producer beside workers with another prefix wrote where nobody reads."""
        for name in (POSTGRES_VARIABLE, REDIS_VARIABLE, DATA_VARIABLE, PREFIX_VARIABLE):
            monkeypatch.delenv(name, raising=False)
        await migrate(servers.postgres.dsn)
        running = Ledger(*servers.addresses, f"{ledger.prefix}_up", 16)
        monkeypatch.setenv(PREFIX_VARIABLE, running.prefix)
        monkeypatch.setenv(DATA_VARIABLE, str(servers.directory))
        async with running.working(), engine.connect() as client:
            [a, b] = await make_accounts(client, 2)
            assert await client.create_transfer(move(a, b)) is Outcome.created
        # Addresses of the environment go before its directory, those given before both.
        monkeypatch.setenv(POSTGRES_VARIABLE, ledger.dsn)
        monkeypatch.setenv(REDIS_VARIABLE, ledger.redis_url)
        async with engine.connect(prefix=ledger.prefix) as client:
            assert await client.lookup_accounts([a]) == []
        async with engine.connect(*servers.addresses) as client:
            assert len(await client.lookup_accounts([a])) == 1
        async with engine.connect(data=servers.directory) as client:
            assert len(await client.lookup_accounts([a])) == 1
        for wrong, says in (
            ({"data": servers.directory, "postgres_dsn": ledger.dsn}, "not both"),
            ({"data": servers.directory / "postgres"}, "no `engine up` runs in"),
            ({"prefix": "a{b}"}, "cannot be the prefix"),
        ):
            with pytest.raises(ConfigurationError, match=says):
                async with engine.connect(**wrong):
                    pass
