"""The producer's client: `async with connect() as client`."""

from engine.client.connection import Client, ClientStatistics, connect

__all__ = ["Client", "ClientStatistics", "connect"]
