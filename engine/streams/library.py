"""redis-py's client, for what is asked now and then and must not hold up anybody.

Workers and producers have a connection of their own (`connection`): redis-py serves one caller at
a time and sends again what timed out. Here neither matters, and a library that many keep knows
more of Redis than we would write.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import redis.asyncio
import redis.exceptions
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from engine.errors import TryAgainError
from engine.streams.address import Address
from engine.streams.refusals import refusal_of

LibraryClient: TypeAlias = redis.asyncio.Redis | redis.asyncio.RedisCluster


@contextlib.asynccontextmanager
async def open_library(address: Address) -> AsyncIterator[LibraryClient]:
    """A client for the length of a block.

    Raises:
        ConfigurationError: Redis refuses.
        TryAgainError: Redis is out of reach, or refuses for now.
    """
    try:
        client = _client(address)
        try:
            yield client
        finally:
            await client.aclose()
    except redis.exceptions.ResponseError as error:
        raise refusal_of(str(error)) from error
    except (redis.exceptions.RedisError, OSError) as error:
        raise TryAgainError(f"Redis at {address.place} is out of reach: {error}") from error


def _client(address: Address) -> LibraryClient:
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "socket_timeout": address.silent_seconds_max,
        "socket_connect_timeout": address.connect_seconds_max,
        "retry": Retry(NoBackoff(), 0),
    }
    tls = address.tls
    if tls is not None:
        options |= {
            "ssl": True,
            "ssl_cert_reqs": tls.cert_reqs,
            "ssl_check_hostname": tls.check_hostname,
            "ssl_ca_certs": tls.ca_certs,
            "ssl_ca_path": tls.ca_path,
            "ssl_ca_data": tls.ca_data,
            "ssl_certfile": tls.certfile,
            "ssl_keyfile": tls.keyfile,
            "ssl_password": tls.password,
            "ssl_ciphers": tls.ciphers,
            "ssl_min_version": tls.min_version,
        }
    if address.is_cluster:
        nodes = [ClusterNode(node.host, node.port) for node in address.nodes]
        return redis.asyncio.RedisCluster(startup_nodes=nodes, **options)
    options["db"] = address.database
    if address.path is not None:
        return redis.asyncio.Redis(unix_socket_path=address.path, **options)
    [node] = address.nodes
    return redis.asyncio.Redis(host=node.host, port=node.port, **options)
