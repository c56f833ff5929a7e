"""TLS to Redis, and options of its address: the same for producers, workers and clusters."""

import asyncio
from pathlib import Path

import pytest
import trustme

from engine.errors import ConfigurationError, TryAgainError
from engine.streams.connection import Connection
from engine.streams.sender import Sender
from tests.desks import desk
from tests.ledgers import until
from tests.spoiling import add, created
from tests.tls import expired, over_tls


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


async def ask_both(url: str) -> None:
    """By the connection of producers and by that of workers."""
    connection = await Connection.open(url)
    assert await connection.ask(b"PING") == b"PONG"
    connection.close()
    sender = Sender(url)
    assert await sender.send([("PING",)]) == [b"PONG"]
    sender.close()


async def refused(url: str, says: str) -> None:
    for attempt in (Connection.open(url), Sender(url).send([("PING",)])):
        with pytest.raises(TryAgainError, match=says) as error:
            await attempt
        assert "localhost" in str(error.value)


async def test_the_right_authority_is_trusted(
    redis_url: str, postgres_dsn: str, ca: trustme.CA, ca_file: Path
) -> None:
    async with over_tls(redis_url, ca.issue_cert("localhost")) as url:
        await ask_both(f"{url}?ssl_ca_certs={ca_file}")
        async with desk(postgres_dsn, redis_url) as producer:
            producer.ledger.redis_url = f"{url}?ssl_ca_certs={ca_file}"
            plain = redis_url
            async with producer.ledger.working():
                await created(producer, await add(producer))
            producer.ledger.redis_url = plain


async def test_another_authority_is_not_trusted(
    redis_url: str, ca: trustme.CA, ca_file: Path
) -> None:
    async with over_tls(redis_url, trustme.CA().issue_cert("localhost")) as url:
        await refused(f"{url}?ssl_ca_certs={ca_file}", "out of reach")
        await refused(url, "out of reach")
        await ask_both(f"{url}?ssl_cert_reqs=none")
    async with over_tls(redis_url, ca.issue_cert("localhost")) as url:
        await refused(url, "out of reach")


async def test_another_host_is_not_trusted(redis_url: str, ca: trustme.CA, ca_file: Path) -> None:
    async with over_tls(redis_url, ca.issue_cert("elsewhere.example")) as url:
        await refused(f"{url}?ssl_ca_certs={ca_file}", "out of reach")
        await ask_both(f"{url}?ssl_ca_certs={ca_file}&ssl_check_hostname=no")


async def test_an_expired_certificate_is_not_trusted(
    redis_url: str, ca: trustme.CA, ca_file: Path
) -> None:
    async with over_tls(redis_url, expired(ca)) as url:
        await refused(f"{url}?ssl_ca_certs={ca_file}", "expired")


async def test_a_server_that_asks_who_its_client_is(
    redis_url: str, ca: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    mine = ca.issue_cert("client.example")
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    async with over_tls(redis_url, ca.issue_cert("localhost"), ca) as plain:
        url = f"{plain}?ssl_ca_certs={ca_file}"
        own = f"&ssl_certfile={tmp_path}/client.pem&ssl_keyfile={tmp_path}/client.key"
        await ask_both(url + own)
        with pytest.raises(TryAgainError):
            await ask_both(url)


async def test_options_of_an_address_are_kept(redis_url: str) -> None:
    connection = await Connection.open(
        f"{redis_url}?client_name=of-a-test&lib_name=mine&lib_version=7&health_check_interval=1"
        "&db=3&socket_keepalive=yes"
    )
    facts = (await connection.ask(b"CLIENT", b"INFO")).decode()
    for fact in ("name=of-a-test ", "lib-name=mine ", "lib-ver=7", " db=3 "):
        assert fact in facts
    other = await Connection.open(redis_url)

    async def pinged() -> bool:
        clients = (await other.ask(b"CLIENT", b"LIST")).decode().splitlines()
        return any("name=of-a-test" in each and "cmd=ping" in each for each in clients)

    await until(pinged, "an idle connection to be tried")
    connection.close()
    other.close()


async def test_what_is_out_of_reach_is_named_without_the_password() -> None:
    for url in ("redis://:sEcReT@127.0.0.1:1/0", "redis+cluster://:sEcReT@127.0.0.1:1"):
        with pytest.raises(TryAgainError, match=r"127\.0\.0\.1:1") as error:
            await Sender(url).send([("PING",)])
        assert "sEcReT" not in str(error.value)
    with pytest.raises(TryAgainError, match=r"/nowhere/redis\.sock"):
        await Connection.open("unix:///nowhere/redis.sock")
    with pytest.raises(ConfigurationError, match="no databases"):
        Sender("redis+cluster://127.0.0.1:1/5")


async def test_time_limits_of_an_address_are_kept(redis_url: str) -> None:
    sender = Sender(f"{redis_url}?socket_timeout=0.5")
    with pytest.raises(TryAgainError, match=r"does not answer for 0\.5 s"):
        await sender.send([("BLPOP", "nothing", 60)])
    sender.close()
    connected: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, out: connected.append(out), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    with pytest.raises(TryAgainError, match=r"no answer within 0\.2 s"):
        await Connection.open(f"redis://127.0.0.1:{port}?socket_connect_timeout=0.2")
    silent.close()
    for out in connected:
        out.close()
        await out.wait_closed()
