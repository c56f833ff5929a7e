"""A connection to Redis that is made again whenever it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from engine.errors import ConfigurationError, TryAgainError
from engine.streams.cluster_connection import AnyConnection, open_connection

SILENT_SECONDS_MAX: Final = 5.0
"""How long Redis may keep a reply waiting before the connection is cut."""

BACKOFF_SECONDS_MAX: Final = 0.5

Check: TypeAlias = Callable[[AnyConnection], Awaitable[None]]


class ReconnectingConnection:
    """One connection at a time.

    Args:
        url: `redis://...`
        on_again: Called when it is there again.
        check: Asks over each new connection whether it may be used; raises where not.
    """

    def __init__(self, url: str, on_again: Callable[[], None], check: Check) -> None:
        self.reconnects = 0
        self.trouble = ""
        """What was last in the way."""
        self._url = url
        self._on_again = on_again
        self._check = check
        self._connection: AnyConnection | None = None
        self._lost = asyncio.Event()

    @property
    def connection(self) -> AnyConnection | None:
        """The connection, while there is one."""
        connection = self._connection
        return None if connection is None or connection.is_lost else connection

    async def open(self) -> None:
        """Connect. Raises ConfigurationError or TryAgainError."""
        connection = await open_connection(self._url, self._lost.set)
        try:
            await self._check(connection)
        except BaseException:
            connection.abort()
            raise
        self._connection = connection

    def close(self, last: bytes) -> None:
        """Send a last command and close."""
        if self._connection is not None:
            self._connection.send(last, lambda _: None)
            self._connection.close()

    def cut_if_silent(self) -> None:
        """Cut a connection over which no reply comes any more."""
        if self._connection and self._connection.silent_seconds() > SILENT_SECONDS_MAX:
            self.trouble = f"Redis was silent for {SILENT_SECONDS_MAX:.0f} s"
            self._connection.abort()

    async def keep(self) -> None:
        """Connect again, for ever."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            await self._open_again()
            self.reconnects += 1
            self._on_again()

    async def _open_again(self) -> None:
        backoff = 0.0
        while True:
            try:
                return await self.open()
            except (TryAgainError, ConfigurationError) as error:
                self.trouble = str(error)
                backoff = await back_off(backoff)


async def back_off(seconds: float) -> float:
    """Wait, and return for how long to wait the next time."""
    await asyncio.sleep(seconds)
    return min(BACKOFF_SECONDS_MAX, seconds * 2 + 0.01)
