"""TLS to Postgres: the same for producers, workers, operators and verify."""

from pathlib import Path

import pytest
import trustme

from engine.errors import TryAgainError
from engine.operating.facts import gather
from engine.store.driver import connect
from engine.store.snapshot import connect_reader
from engine.verify.run import verify
from tests.clients import make_accounts, move, open_client
from tests.ledgers import Ledger
from tests.tls import expired, postgres_over_tls


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


async def reached(dsn: str) -> None:
    for way in (connect(dsn, "a test"), connect_reader(dsn)):
        connection = await way
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


async def refused(dsn: str, says: str) -> None:
    for way in (connect(dsn, "a test"), connect_reader(dsn)):
        with pytest.raises(TryAgainError, match=says) as error:
            await way
        assert "localhost" in str(error.value)
        assert ":secret" not in str(error.value)


async def test_the_right_authority_is_trusted(
    ledger: Ledger, ca: trustme.CA, ca_file: Path
) -> None:
    certificate = ca.issue_cert("localhost")
    options = f"?sslmode=verify-full&sslrootcert={ca_file}"
    async with (
        postgres_over_tls(ledger.engine_dsn, certificate) as engine_dsn,
        postgres_over_tls(ledger.client_dsn, certificate) as client_dsn,
        postgres_over_tls(ledger.app_dsn, certificate) as app_dsn,
    ):
        ledger.engine_dsn = engine_dsn + options
        ledger.client_dsn = client_dsn + options
        async with ledger.working(), open_client(ledger) as client:
            [a, b] = await make_accounts(client, 2)
            outcomes = await client.create_transfers([move(a, b) for _ in range(900)])
            assert {outcome.name for outcome in outcomes} == {"created"}
        report = await verify(app_dsn + options, None)
        assert report.passed
        facts = await gather(app_dsn + options, ledger.redis_url, ledger.prefix)
        assert facts.postgres_error is None


async def test_another_authority_is_not_trusted(
    ledger: Ledger, ca: trustme.CA, ca_file: Path
) -> None:
    async with postgres_over_tls(ledger.app_dsn, trustme.CA().issue_cert("localhost")) as dsn:
        for mode in ("verify-full", "verify-ca", "require"):  # as libpq: a root is verified by
            await refused(
                f"{dsn}?sslmode={mode}&sslrootcert={ca_file}", "not the one that it should be"
            )
        await refused(
            f"{dsn}?sslmode=verify-full&sslrootcert=system", "not the one that it should be"
        )
        await reached(f"{dsn}?sslmode=require")
    async with postgres_over_tls(ledger.app_dsn, ca.issue_cert("localhost")) as dsn:
        await refused(
            f"{dsn}?sslmode=verify-full&sslrootcert=system", "not the one that it should be"
        )


async def test_another_host_is_not_trusted(ledger: Ledger, ca: trustme.CA, ca_file: Path) -> None:
    async with postgres_over_tls(ledger.app_dsn, ca.issue_cert("elsewhere.example")) as dsn:
        await refused(f"{dsn}?sslmode=verify-full&sslrootcert={ca_file}", "localhost")
        await reached(f"{dsn}?sslmode=verify-ca&sslrootcert={ca_file}")


async def test_an_expired_certificate_is_not_trusted(
    ledger: Ledger, ca: trustme.CA, ca_file: Path
) -> None:
    async with postgres_over_tls(ledger.app_dsn, expired(ca)) as dsn:
        for mode in ("verify-full", "verify-ca"):
            await refused(f"{dsn}?sslmode={mode}&sslrootcert={ca_file}", "expired")


async def test_a_server_that_asks_who_its_client_is(
    ledger: Ledger, ca: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    mine = ca.issue_cert("client.example")
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    (tmp_path / "client.key").chmod(0o600)
    async with postgres_over_tls(ledger.app_dsn, ca.issue_cert("localhost"), ca) as plain:
        dsn = f"{plain}?sslmode=verify-full&sslrootcert={ca_file}"
        await reached(f"{dsn}&sslcert={tmp_path}/client.pem&sslkey={tmp_path}/client.key")
        with pytest.raises(TryAgainError):
            await connect(dsn, "a test")


async def test_a_server_without_tls_is_refused_where_tls_was_asked_for(
    ledger: Ledger, ca_file: Path
) -> None:
    for mode in ("require", "verify-ca", "verify-full"):
        with pytest.raises(TryAgainError, match="SSL"):
            await connect(f"{ledger.app_dsn}?sslmode={mode}&sslrootcert={ca_file}", "a test")
