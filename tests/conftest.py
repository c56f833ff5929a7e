"""What tests of every kind may ask for."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from engine.servers import Servers

# A failure prints what repeats it; a slow machine is no failure.
settings.register_profile("engine", settings(), print_blob=True, deadline=None)
settings.load_profile("engine")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A Postgres and a Valkey for the whole run; a test that kills one starts it again."""
    directory = tmp_path_factory.mktemp("servers")
    with Servers(directory, postgres_settings={"shared_buffers": "128MB"}) as running:
        yield running


@pytest.fixture
def postgres_dsn(servers: Servers) -> str:
    return servers.postgres.dsn


@pytest.fixture
def redis_url(servers: Servers) -> str:
    return servers.valkey.url
