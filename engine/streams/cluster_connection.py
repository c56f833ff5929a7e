"""Connections to all nodes of a cluster, used as one; see `connection`.

When one of them is lost, all are: whoever uses them opens others, and learns who holds what now. A
node that is away when they are opened takes only its own streams along; it is tried again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import hiredis

from engine.errors import EngineError, TryAgainError
from engine.streams.address import Address, Node, parse_address
from engine.streams.bounds import RECONNECT_SECONDS
from engine.streams.connection import Connection, OnReply, Parser, pack_command, resolve
from engine.streams.refusals import ElsewhereError, LostError, NotNowError
from engine.streams.slots import REDIRECTIONS_MAX, primaries_of, redirection, slot_of

_ASKING: Final = pack_command(b"ASKING")

_WITHOUT_KEY: Final = frozenset({b"PING", b"TIME", b"INFO", b"CONFIG", b"CLUSTER", b"CLIENT"})


class Sent(NamedTuple):
    """A command, until it is replied to."""

    command: bytes
    on_reply: OnReply
    reply_bytes_max: int | None


class ClusterConnection:
    """A connection to each primary of a cluster; make one with `open`. Used by one event loop."""

    def __init__(
        self, address: Address, on_lost: Callable[[], None], parser: Callable[[], Parser]
    ) -> None:
        self._address = address
        self._on_lost = on_lost
        self._parser = parser
        self._loop = asyncio.get_running_loop()
        self._connections: dict[Node, Connection] = {}
        self._away: set[Node] = set()
        self._trying: asyncio.Task[None] | None = None
        self._primaries: list[Node | None] = []
        self.is_lost = False

    @classmethod
    async def open(
        cls,
        address: Address,
        on_lost: Callable[[], None] = lambda: None,
        parser: Callable[[], Parser] = hiredis.Reader,
    ) -> "ClusterConnection":
        """Connect to all primaries that can be reached, as the first node that answers knows them.

        Args:
            address: Of a cluster.
            on_lost: Called once when a connection is lost.
            parser: Makes what parses replies.

        Raises:
            ConfigurationError, TryAgainError: As `Connection.open`.
        """
        cluster = cls(address, on_lost, parser)
        try:
            cluster._primaries = await cluster._learn_primaries()
            nodes = list({node for node in cluster._primaries if node is not None})
            away = await asyncio.gather(*(cluster._try_to_connect(node) for node in nodes))
            if nodes and all(away):
                cluster._raise_first(away)
        except BaseException:
            cluster.abort()
            raise
        if cluster.is_lost:
            raise TryAgainError(f"Redis at {address.place} is out of reach: a node closed the link")
        if cluster._away:
            cluster._trying = asyncio.create_task(cluster._try_nodes_again())
        return cluster

    @staticmethod
    def _raise_first(errors: Sequence[TryAgainError | None]) -> None:
        for error in errors:
            if error is not None:
                raise error

    async def _learn_primaries(self) -> list[Node | None]:
        seeds = [*self._address.nodes, *self._connections]
        for seed in seeds:
            try:
                asked = await Connection.open(self._address.at(seed))
            except TryAgainError:
                if seed == seeds[-1]:
                    raise
                continue
            try:
                return primaries_of(await asked.ask(b"CLUSTER", b"SLOTS"), seed)
            finally:
                asked.close()
        raise TryAgainError("the address of the cluster names no node")

    async def _try_to_connect(self, node: Node) -> TryAgainError | None:
        try:
            self._connections[node] = await Connection.open(
                self._address.at(node), self._lose, self._parser()
            )
        except TryAgainError as error:
            self._away.add(node)
            return error
        return None

    async def _try_nodes_again(self) -> None:
        """Until those that were away are back, or others hold their slots: then all begins anew."""
        while not self.is_lost:
            await asyncio.sleep(RECONNECT_SECONDS)
            with contextlib.suppress(EngineError):
                nodes = set(await self._learn_primaries()) - self._connections.keys()
                for node in nodes:
                    if node is not None and await self._answers(node):
                        self._lose()
                        return

    async def _answers(self, node: Node) -> bool:
        try:
            asked = await Connection.open(self._address.at(node))
        except EngineError:
            return False
        asked.close()
        return True

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.abort()
            self._on_lost()

    @property
    def reply_seconds(self) -> float:
        """How long the bytes of the last reply of the slowest node were under way."""
        return max((c.reply_seconds for c in self._connections.values()), default=0.0)

    def send(self, command: bytes, on_reply: OnReply, reply_bytes_max: int | None = None) -> None:
        """Send a packed command to the node that holds its key; as `Connection.send`."""
        if self.is_lost:
            on_reply(LostError("the connection to Redis is lost"))
            return
        key = key_of(command)
        if key is None:
            next(iter(self._connections.values())).send(command, on_reply, reply_bytes_max)
            return
        slot = slot_of(key)
        node = self._primaries[slot]
        if node is None or node in self._away:
            at = f" but {node}, which is out of reach" if node is not None else ""
            on_reply(NotNowError(f"no node of the cluster holds slot {slot}{at}"))
            return
        self._send(node, Sent(command, on_reply, reply_bytes_max), 0)

    def _send(self, node: Node, asked: Sent, times: int, *, asking: bool = False) -> None:
        connection = self._connections.get(node)
        if node in self._away:
            asked.on_reply(NotNowError(f"{node} of the cluster is out of reach"))
            return
        if connection is None:
            # A node that became one since: all is learned anew.
            asked.on_reply(NotNowError(f"the cluster has changed: {node} is new in it"))
            self._lose()
            return
        if asking:
            connection.send(_ASKING, lambda _: None)
        on_reply = partial(self._replied, node, asked, times)
        connection.send(asked.command, on_reply, asked.reply_bytes_max)

    def _replied(self, node: Node, asked: Sent, times: int, reply: Any) -> None:
        if not isinstance(reply, ElsewhereError):
            asked.on_reply(reply)
        elif times == REDIRECTIONS_MAX:
            asked.on_reply(NotNowError(f"sent from node to node for too long: {reply.where}"))
        else:
            kind, _, where = reply.where.partition(" ")
            slot, there = redirection(where, node)
            if kind == "MOVED":
                self._primaries[slot] = there
            self._send(there, asked, times + 1, asking=kind == "ASK")

    async def ask(self, *words: bytes) -> Any:
        """Send a command and return its reply; as `Connection.ask`."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        self.send(pack_command(*words), lambda value: resolve(reply, value))
        return await reply

    def silent_seconds(self) -> float:
        """For how long a node has kept something waiting without any reply coming."""
        return max((c.silent_seconds() for c in self._connections.values()), default=0.0)

    def close(self) -> None:
        """Close the connections once what was sent has left."""
        self.is_lost = True
        if self._trying is not None:
            self._trying.cancel()
        for connection in self._connections.values():
            connection.close()

    def abort(self) -> None:
        """Cut the connections; what waits for a reply is told that it is lost."""
        if self._trying is not None and self._trying is not asyncio.current_task():
            self._trying.cancel()
        for connection in list(self._connections.values()):
            connection.abort()


AnyConnection: TypeAlias = Connection | ClusterConnection
"""A connection to one Redis, or to a cluster."""


async def open_connection(
    address: str | Address,
    on_lost: Callable[[], None] = lambda: None,
    parser: Callable[[], Parser] = hiredis.Reader,
) -> AnyConnection:
    """Connect to what an address names, as `Connection.open`."""
    if isinstance(address, str):
        address = parse_address(address)
    if address.is_cluster:
        return await ClusterConnection.open(address, on_lost, parser)
    return await Connection.open(address, on_lost, parser())


def key_of(command: bytes) -> bytes | None:
    """The key of a packed command; None where it has none.

    It is what follows STREAMS in XREAD, else the second word or, of commands in two words, the
    third.
    """
    name, at = _word_at(command, command.index(b"$"))
    if name in _WITHOUT_KEY:
        return None
    if name == b"XREAD":
        at = command.index(b"\r\nSTREAMS\r\n") + 11
    elif name in {b"XGROUP", b"XINFO"}:
        _, at = _word_at(command, at)
    return _word_at(command, at)[0]


def _word_at(command: bytes, at: int) -> tuple[bytes, int]:
    """The word whose length is written at a place, and where the next begins."""
    start = command.index(b"\r\n", at) + 2
    end = start + int(command[at + 1 : start - 2])
    return command[start:end], end + 2
