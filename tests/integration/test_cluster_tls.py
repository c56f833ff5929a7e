"""A cluster behind servers that end TLS, one before each node: each node is verified."""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from engine.errors import TryAgainError
from engine.ledger.outcomes import Outcome
from engine.streams.sender import Sender
from tests.clients import make_accounts, move, open_client
from tests.clusters import PASSWORD, Cluster, ask, clustered
from tests.ledgers import make_ledger, until
from tests.tls import expired, over_tls
from tests.verifying import assert_verified


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


@contextlib.asynccontextmanager
async def announced(cluster: Cluster, *certificates: trustme.LeafCert) -> AsyncIterator[str]:
    """The primaries tell their clients of the servers before them, by the name `localhost`."""
    async with contextlib.AsyncExitStack() as stack:
        places = []
        for node, certificate in zip(cluster.nodes[:3], certificates, strict=True):
            url = await stack.enter_async_context(over_tls(node.url, certificate))
            place = url.rpartition("@")[2].removesuffix("/0")
            port = place.rpartition(":")[2]
            places.append(place)
            for name, value in (
                ("cluster-announce-port", port),
                ("cluster-announce-hostname", "localhost"),
                ("cluster-preferred-endpoint-type", "hostname"),
            ):
                await ask(node, "CONFIG", "SET", name, value)

        async def agreed() -> bool:
            told = [await ask(node, "CLUSTER", "SLOTS") for node in cluster.nodes[:3]]
            ports = {place.rpartition(":")[2] for place in places}
            return all(
                {str(slots[2][1]) for slots in each} == ports
                and {slots[2][0] for slots in each} == {b"localhost"}
                for each in told
            )

        await until(agreed, "the nodes to know where their clients find them")
        yield f"rediss+cluster://:{PASSWORD}@{','.join(places)}"


async def test_a_cluster_whose_nodes_are_verified(
    postgres_dsn: str, tmp_path: Path, ca: trustme.CA, ca_file: Path
) -> None:
    good = [ca.issue_cert("localhost") for _ in range(3)]
    directory = tmp_path / "nodes"
    await asyncio.to_thread(directory.mkdir)
    async with clustered(directory) as cluster, announced(cluster, *good) as url:
        trusted = f"{url}?ssl_ca_certs={ca_file}"
        ledger = await make_ledger(postgres_dsn, trusted)
        ledger.redis_url = trusted
        async with ledger.working(), open_client(ledger, trusted) as client:
            accounts = await make_accounts(client, 40)
            outcomes = await client.create_transfers(
                [move(a, b) for a, b in itertools.pairwise(accounts)]
            )
            assert set(outcomes) == {Outcome.created}
        await assert_verified(ledger)
        with pytest.raises(TryAgainError, match="certificate verify failed"):
            await Sender(url).send([("PING",)])
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(str(other))
        with pytest.raises(TryAgainError, match="certificate verify failed"):
            await Sender(f"{url}?ssl_ca_certs={other}").send([("PING",)])


@pytest.mark.parametrize("wrong", ["another authority", "another host", "expired"])
async def test_a_node_that_is_not_trusted_takes_its_own_streams_along_alone(
    tmp_path: Path, ca: trustme.CA, ca_file: Path, wrong: str
) -> None:
    bad = {
        "another authority": lambda: trustme.CA().issue_cert("localhost"),
        "another host": lambda: ca.issue_cert("elsewhere.example"),
        "expired": lambda: expired(ca),
    }[wrong]()
    good = [ca.issue_cert("localhost") for _ in range(2)]
    directory = tmp_path / "nodes"
    await asyncio.to_thread(directory.mkdir)
    async with clustered(directory) as cluster, announced(cluster, *good, bad) as url:
        sender = Sender(f"{url}?ssl_ca_certs={ca_file}")
        keys = [uuid.uuid4().hex for _ in range(60)]
        replies = await sender.send([("SET", key, "1") for key in keys])
        for key, reply in zip(keys, replies, strict=True):
            is_good = cluster.primary_of(key) is not cluster.nodes[2]
            assert (reply == b"OK") is is_good, (key, reply)
        sender.close()
