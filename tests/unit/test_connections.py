"""The connections of a worker while they are being made anew."""

import asyncio
from typing import Any

import pytest

from engine.errors import TryAgainError
from engine.store.connections import Connections


class Connection:
    """A connection whose listener is added when the test says so."""

    def __init__(self, listens: asyncio.Event, heard: asyncio.Event) -> None:
        self._listens, self._heard = listens, heard
        self.busy = self.closed = False

    async def add_listener(self, *_: Any) -> None:
        self.busy = True
        self._listens.set()
        await self._heard.wait()
        self.busy = False

    async def fetch(self, *_: Any) -> list[Any]:
        assert not self.busy, "another operation is in progress"
        return []

    def is_closed(self) -> bool:
        return self.closed

    def add_log_listener(self, _: Any) -> None:
        """Nothing is warned of."""

    def terminate(self) -> None:
        self.closed = True


class Opening:
    """A link that is being opened, and stands where it listens."""

    def __init__(self) -> None:
        self.listens, self.heard = asyncio.Event(), asyncio.Event()
        self.made: list[Connection] = []
        self.connections = Connections("", bytes(16), self._connect)

    async def _connect(self, *_: Any, **__: Any) -> Any:
        self.made.append(Connection(self.listens, self.heard))
        return self.made[-1]

    async def begin(self) -> "asyncio.Task[None]":
        opening = asyncio.create_task(self.connections.open())
        await self.listens.wait()
        return opening


async def test_a_connection_that_does_not_listen_yet_is_not_used() -> None:
    at = Opening()
    opening = await at.begin()
    with pytest.raises(TryAgainError):
        await at.connections.watch("heartbeat")
    at.heard.set()
    await opening
    assert await at.connections.watch("heartbeat") == []


async def test_a_connection_whose_opening_was_given_up_is_closed() -> None:
    at = Opening()
    opening = await at.begin()
    opening.cancel()
    await asyncio.wait([opening])
    assert at.made[-1].closed
    assert opening.cancelled()
