"""The producer's client: `async with connect() as client`."""

from engine.client.client import Client, ClientStatistics
from engine.client.connection import connect

__all__ = ["Client", "ClientStatistics", "connect"]
