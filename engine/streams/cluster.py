"""A Redis Cluster as `Streams` uses it: one connection to each node, commands where their keys are.

A node that is away is an error, as Redis being away is: whoever uses this opens another, which
asks the nodes anew who holds what.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.exceptions

from engine.streams.slots import (
    REDIRECTIONS_MAX,
    Node,
    primaries_of,
    redirection,
    seeds_of,
    slot_of,
    url_of,
)

PAUSE_SECONDS_MIN: Final = 0.001
PAUSE_SECONDS_MAX: Final = 0.02
"""Between two looks at streams in which there is nothing; it grows while that is so."""


class ClusterClient:
    """Connections to the nodes of one cluster.

    Args:
        url: `redis+cluster://...`
        connect: Connects to one node.
    """

    def __init__(self, url: str, connect: Callable[[str], Any]) -> None:
        self._url = url
        self._connect = connect
        self._clients: dict[Node, Any] = {}
        self._primaries: list[Node | None] = []
        self._interrupted = asyncio.Event()

    async def ping(self) -> None:
        """Find out which node holds what, from whichever node answers first."""
        known = [*seeds_of(self._url), *self._clients]
        for node in known:
            try:
                reply = await self._client(node).execute_command("CLUSTER SLOTS")
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError):
                if node == known[-1]:
                    raise
            else:
                self._primaries = primaries_of(reply, node)
                return

    async def client_id(self) -> int:
        """As `ping`; `interrupt` ends a read here, and needs no id."""
        await self.ping()
        return 0

    async def aclose(self) -> None:
        """Close all connections."""
        clients = list(self._clients.values())
        self._clients.clear()
        for client in clients:
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                await client.aclose()

    def interrupt(self) -> None:
        """Let a read that waits for entries return at once."""
        self._interrupted.set()

    def _client(self, node: Node) -> Any:
        if node not in self._clients:
            client = self._connect(url_of(self._url, node))
            client.set_response_callback("CLUSTER SLOTS", lambda answer, **_: answer)
            self._clients[node] = client
        return self._clients[node]

    def _node_of(self, key: str | bytes) -> Node:
        name = key if isinstance(key, bytes) else key.encode()
        node = self._primaries[slot_of(name)] if self._primaries else None
        if node is None:
            raise redis.exceptions.ClusterDownError(f"no node of the cluster holds {name.decode()}")
        return node

    # Commands.

    async def execute_command(self, *words: Any) -> Any:
        """Execute where the key is; follows it where it has moved."""
        if words[0] == "XREAD" and "BLOCK" in words:
            return await self._read(words)
        node = self._node_of(key_of(words))
        return await self._follow(node, words, await self._try(node, words))

    async def _try(self, node: Node, words: Sequence[Any], *, asking: bool = False) -> Any:
        try:
            if not asking:
                return await self._client(node).execute_command(*words)
            pipeline = self._client(node).pipeline(transaction=False)
            pipeline.execute_command("ASKING")
            pipeline.execute_command(*words)
            return (await pipeline.execute(raise_on_error=False))[1]
        except redis.exceptions.ResponseError as error:
            return error

    async def _follow(self, node: Node, words: Sequence[Any], answer: Any) -> Any:
        for _ in range(REDIRECTIONS_MAX):
            if isinstance(answer, redis.exceptions.MovedError):
                slot, node = redirection(str(answer), node)
                self._primaries[slot] = node
                answer = await self._try(node, words)
            elif isinstance(answer, redis.exceptions.AskError):
                _, node = redirection(str(answer), node)
                answer = await self._try(node, words, asking=True)
            elif isinstance(answer, Exception):
                raise answer
            else:
                return answer
        raise redis.exceptions.ClusterError(f"{words[0]} was sent from node to node for too long")

    async def time(self) -> Any:
        """The clock of one node."""
        return await self._client(self._any()).time()

    async def info(self, section: str) -> Any:
        """What one node says about itself."""
        return await self._client(self._any()).info(section)

    def _any(self) -> Node:
        return next(node for node in self._primaries if node is not None)

    def pipeline(self, *, transaction: bool) -> "ClusterPipeline":
        """Commands that are sent together to each node."""
        if transaction:
            raise ValueError("the nodes of a cluster have no transaction together")
        return ClusterPipeline(self)

    async def send_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Execute commands, each node's in one round trip; an error is an answer."""
        by_node: dict[Node, list[int]] = {}
        for at, words in enumerate(commands):
            by_node.setdefault(self._node_of(key_of(words)), []).append(at)
        answers: list[Any] = [None] * len(commands)

        async def execute(node: Node, places: list[int]) -> None:
            pipeline = self._client(node).pipeline(transaction=False)
            for at in places:
                pipeline.execute_command(*commands[at])
            found = await pipeline.execute(raise_on_error=False)
            for at, answer in zip(places, found, strict=True):
                try:
                    answers[at] = await self._follow(node, commands[at], answer)
                except redis.exceptions.ResponseError as error:
                    answers[at] = error

        await asyncio.gather(*(execute(node, places) for node, places in by_node.items()))
        return answers

    # Reading.

    async def _read(self, words: Sequence[Any]) -> list[Any]:
        """`XREAD COUNT n BLOCK ms STREAMS names... ids...`.

        A cluster takes one stream a command, and a connection waits for one command: so each
        node is asked for all its streams in one round trip, again and again.
        """
        count, block_ms, streams = words[2], words[4], words[6:]
        half = len(streams) // 2
        commands = [
            ("XREAD", "COUNT", count, "STREAMS", name, after)
            for name, after in zip(streams[:half], streams[half:], strict=True)
        ]
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + block_ms / 1000
        pause_seconds = PAUSE_SECONDS_MIN
        while True:
            self._interrupted.clear()
            answers = await self.send_all(commands)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            found = [stream for answer in answers for stream in answer or ()]
            if found or self._interrupted.is_set() or loop.time() >= ends_at:
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._interrupted.wait(), pause_seconds)
                return []
            pause_seconds = min(pause_seconds * 2, PAUSE_SECONDS_MAX)


class ClusterPipeline:
    """Commands that are gathered, then executed; made by `ClusterClient.pipeline`."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._commands: list[Sequence[Any]] = []

    def execute_command(self, *words: Any) -> None:
        """Add a command."""
        self._commands.append(words)

    def xlen(self, name: str) -> None:
        """Add XLEN."""
        self.execute_command("XLEN", name)

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Execute them; the answers in order."""
        answers = await self._client.send_all(self._commands)
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers


def key_of(words: Sequence[Any]) -> str | bytes:
    """The key of a command that has one."""
    place = {"XGROUP": 2, "XREAD": 4}.get(words[0], 1)
    key: str | bytes = words[place]
    return key
