"""Commands that go together and their replies, over a connection that is made when it is needed."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import hiredis

from engine.errors import TryAgainError
from engine.patience import TICK_SECONDS
from engine.streams.address import Address, parse_address
from engine.streams.cluster_connection import AnyConnection, open_connection
from engine.streams.connection import Parser
from engine.streams.refusals import CutOffError, LostError, ReplyTooLongError

Words: TypeAlias = tuple[Any, ...]
"""A command and its arguments, as text, bytes or numbers."""

LOSSES_MAX: Final = 3
"""So often may the connection be lost: with others, and twice for one command alone."""


class Sender:
    """One connection after the other, each until it is lost.

    Args:
        address: Of a server or a cluster.
        silent_seconds_max: How long replies may be waited for while nothing comes; None for what
            the address says.
        parser: Makes what parses replies.
        in_turn: Whether one call goes after the other. So it has to be where several ask, and some
            with a bound: a reply that is too long cuts what all have under way.
    """

    def __init__(
        self,
        address: str | Address,
        silent_seconds_max: float | None = None,
        parser: Callable[[], Parser] = hiredis.Reader,
        *,
        in_turn: bool = False,
    ) -> None:
        self._address = parse_address(address) if isinstance(address, str) else address
        self._silent_seconds_max = silent_seconds_max or self._address.silent_seconds_max
        self._parser = parser
        self._connection: AnyConnection | None = None
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock() if in_turn else contextlib.nullcontext()

    @property
    def is_cluster(self) -> bool:
        """Whether it leads to several nodes."""
        return self._address.is_cluster

    @property
    def reply_seconds(self) -> float:
        """How long the bytes of the last reply were under way."""
        return self._connection.reply_seconds if self._connection is not None else 0.0

    async def open(self) -> bool:
        """Connect, where that is still to be done; returns whether it was.

        Raises:
            ConfigurationError: Redis refuses us.
            TryAgainError: Redis is out of reach.
        """
        if self._connection is not None and not self._connection.is_lost:
            return False
        async with self._opening:  # Of several who find it lost, one connects.
            if self._connection is not None and not self._connection.is_lost:
                return False
            self._connection = await open_connection(self._address, parser=self._parser)
            return True

    async def send(
        self, commands: Sequence[Words], reply_bytes_max: int | None = None
    ) -> list[Any]:
        """Send commands, and return their replies in order; a refusal is a value among them.

        Raises:
            TryAgainError: Redis is out of reach or does not answer; what was executed is unknown.
        """
        replies = await self.try_to_send(commands, reply_bytes_max)
        lost = next((reply for reply in replies if isinstance(reply, LostError)), None)
        if lost is not None:
            raise lost
        return replies

    async def try_to_send(
        self, commands: Sequence[Words], reply_bytes_max: int | None = None
    ) -> list[Any]:
        """As `send`, but that a connection was lost is a value too, where a reply should be."""
        if not commands:
            return []
        async with self._turn:
            return await self._send(commands, reply_bytes_max)

    async def _send(self, commands: Sequence[Words], reply_bytes_max: int | None) -> list[Any]:
        replies: list[Any] = [None] * len(commands)
        missing = len(commands)
        done = asyncio.get_running_loop().create_future()

        def take_reply(place: int, reply: Any) -> None:
            nonlocal missing
            replies[place] = reply
            missing -= 1
            if missing == 0 and not done.done():
                done.set_result(None)

        await self.open()
        connection = self._connection
        assert connection is not None
        for place, command in enumerate(commands):
            on_reply = partial(take_reply, place)
            connection.send(hiredis.pack_command(command), on_reply, reply_bytes_max)
        with self._impatient(connection, done):
            await done
        return replies

    @contextlib.contextmanager
    def _impatient(self, connection: AnyConnection, done: asyncio.Future[None]) -> Iterator[None]:
        """While in the block, a connection that is silent for too long is cut and given up."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            timer = loop.call_later(TICK_SECONDS, look)
            if connection.silent_seconds() > self._silent_seconds_max and not done.done():
                done.set_exception(
                    TryAgainError(
                        f"Redis at {self._address.place} does not answer for "
                        f"{self._silent_seconds_max:g} s"
                    )
                )
                self.close()

        timer = loop.call_later(TICK_SECONDS, look)
        try:
            yield
        finally:
            timer.cancel()

    async def send_apart(self, commands: Sequence[Words], reply_bytes_max: int | None) -> list[Any]:
        """As `send`, of commands that may be sent again: one too long a reply is a value.

        Where a reply is too long the connection is cut, and what follows is asked for anew. Where
        it is lost each is asked by itself: one that it is lost for again is a CutOffError.
        """
        replies: list[Any] = []
        losses = 0
        while len(replies) < len(commands):
            rest = commands[len(replies) :]
            lost = None
            is_cut = False
            for reply in await self.try_to_send(rest[:1] if losses else rest, reply_bytes_max):
                if isinstance(reply, ReplyTooLongError):
                    is_cut = True
                elif isinstance(reply, LostError):
                    lost = None if is_cut else reply
                    break
                replies.append(reply)
                losses = min(losses, 1)
            if lost is not None:
                losses += 1
                if losses == LOSSES_MAX:
                    replies.append(CutOffError(lost))
                    losses = 1
        return replies

    def close(self) -> None:
        """Cut the connection; the next `send` makes another."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
