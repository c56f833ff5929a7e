"""Connections for producers to all nodes of a cluster, used as one; see `streams_fast`.

When one of them is lost, all are: whoever uses them opens others, and learns who holds what now.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from engine.errors import EngineError, TryAgainError
from engine.streams.connection import (
    ElsewhereError,
    FastConnection,
    LostError,
    NotNowError,
    OnReply,
    pack_command,
)
from engine.streams.slots import (
    REDIRECTIONS_MAX,
    Node,
    is_cluster,
    primaries_of,
    redirection,
    seeds_of,
    slot_of,
    url_of,
)

_ASKING: Final = pack_command(b"ASKING")


class FastCluster:
    """A connection to each primary of a cluster; make one with `open`. Used by one event loop."""

    def __init__(self, url: str, on_lost: Callable[[], None]) -> None:
        self._url = url
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._connections: dict[Node, FastConnection] = {}
        self._primaries: list[Node | None] = []
        self.is_lost = False

    @classmethod
    async def open(cls, url: str, on_lost: Callable[[], None] = lambda: None) -> "FastCluster":
        """Connect to all primaries, as the first node that answers knows them.

        Args:
            url: `redis+cluster://...`
            on_lost: Called once when a connection is lost.

        Raises:
            ConfigurationError, TryAgainError: As `FastConnection.open`.
        """
        cluster = cls(url, on_lost)
        try:
            await cluster._learn()
            for node in {node for node in cluster._primaries if node is not None}:
                await cluster._connect(node)
        except BaseException:
            cluster.abort()
            raise
        if cluster.is_lost:
            raise TryAgainError("Redis is out of reach: a node closed the connection")
        return cluster

    async def _learn(self) -> None:
        seeds = seeds_of(self._url)
        for seed in seeds:
            try:
                asked = await FastConnection.open(url_of(self._url, seed))
            except TryAgainError:
                if seed == seeds[-1]:
                    raise
                continue
            try:
                self._primaries = primaries_of(await asked.ask(b"CLUSTER", b"SLOTS"), seed)
            finally:
                asked.close()
            return

    async def _connect(self, node: Node) -> None:
        self._connections[node] = await FastConnection.open(url_of(self._url, node), self._lose)

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.abort()
            self._on_lost()

    def send(self, command: bytes, on_reply: OnReply) -> None:
        """Send a packed command to the node that holds its key; as `FastConnection.send`."""
        if self.is_lost:
            on_reply(LostError("the connection to Redis is lost"))
            return
        slot = slot_of(_key_of(command))
        node = self._primaries[slot]
        if node is None:
            on_reply(NotNowError(f"no node of the cluster holds slot {slot}"))
            return
        self._send(node, command, on_reply, 0)

    def _send(
        self, node: Node, command: bytes, on_reply: OnReply, sent: int, *, asking: bool = False
    ) -> None:
        connection = self._connections.get(node)
        if connection is None:
            # A node that became one since: all is learned anew.
            on_reply(NotNowError(f"the cluster has changed: {node.host}:{node.port} is new in it"))
            self._lose()
            return
        if asking:
            connection.send(_ASKING, lambda _: None)
        connection.send(command, partial(self._replied, node, command, on_reply, sent))

    def _replied(
        self, node: Node, command: bytes, on_reply: OnReply, sent: int, reply: Any
    ) -> None:
        if not isinstance(reply, ElsewhereError):
            on_reply(reply)
        elif sent == REDIRECTIONS_MAX:
            on_reply(NotNowError(f"sent from node to node for too long: {reply.where}"))
        else:
            kind, _, where = reply.where.partition(" ")
            slot, there = redirection(where, node)
            if kind == "MOVED":
                self._primaries[slot] = there
            self._send(there, command, on_reply, sent + 1, asking=kind == "ASK")

    async def ask(self, *words: bytes) -> Any:
        """Send a command and return its reply; as `FastConnection.ask`."""
        reply: asyncio.Future[Any] = self._loop.create_future()

        def on_reply(value: Any) -> None:
            if not reply.done():
                if isinstance(value, EngineError):
                    reply.set_exception(value)
                else:
                    reply.set_result(value)

        self.send(pack_command(*words), on_reply)
        return await reply

    def silent_seconds(self) -> float:
        """For how long a node has kept something waiting without any reply coming."""
        return max((one.silent_seconds() for one in self._connections.values()), default=0.0)

    def close(self) -> None:
        """Close the connections once what was sent has left."""
        self.is_lost = True
        for connection in self._connections.values():
            connection.close()

    def abort(self) -> None:
        """Cut the connections; what waits for a reply is told that it is lost."""
        for connection in self._connections.values():
            connection.abort()


Fast: TypeAlias = FastConnection | FastCluster
"""A connection to one Redis, or to a cluster."""


async def open_fast(url: str, on_lost: Callable[[], None] = lambda: None) -> Fast:
    """Connect to what an address names, as `FastConnection.open`."""
    if is_cluster(url):
        return await FastCluster.open(url, on_lost)
    return await FastConnection.open(url, on_lost)


def _key_of(command: bytes) -> bytes:
    """The key of a packed command: what follows STREAMS in XREAD, else the second word."""
    at = command.index(b"\r\n$", command.index(b"\r\n$") + 3) if command else 0
    if command[at - 5 : at] == b"XREAD":
        at = command.index(b"\r\nSTREAMS\r\n") + 9
    start = command.index(b"\r\n", at + 2) + 2
    length = int(command[at + 3 : start - 2])
    return command[start : start + length]
