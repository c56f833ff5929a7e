"""A Postgres and a Valkey of our own, for `engine up`, the demo, the benchmarks and the tests."""

from engine.servers.data_directory import Addresses, Servers, find_owner, find_running
from engine.servers.postgres_server import PostgresServer
from engine.servers.valkey_server import ValkeyServer

__all__ = ["Addresses", "PostgresServer", "Servers", "ValkeyServer", "find_owner", "find_running"]
