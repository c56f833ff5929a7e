"""A Redis in memory, as far as streams go: entries, ids, a crash that forgets the newest."""

import asyncio
import copy
import itertools
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

TOP = 2**64 - 1
START_MS = 1_700_000_000_000

Id = tuple[int, int]


class Stream:
    """One stream."""

    def __init__(self) -> None:
        self.entries: dict[Id, list[bytes]] = {}
        self.last: Id = (0, 0)
        self.groups: set[bytes] = set()


def _id(text: Any, *, low: bool = True) -> Id:
    word = text.decode() if isinstance(text, bytes) else str(text)
    if word == "-":
        return 0, 0
    if word == "+":
        return TOP, TOP
    ms, dash, seq = word.partition("-")
    return int(ms), int(seq) if dash else (0 if low else TOP)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _text(entry_id: Id) -> bytes:
    return f"{entry_id[0]}-{entry_id[1]}".encode()


class LogServer:
    """The server. Commands and answers are those of Redis, with bytes.

    Args:
        trace: Called with each thing that happens.
    """

    def __init__(self, trace: Callable[..., None] = lambda *_: None) -> None:
        self.trace = trace
        self.streams: dict[bytes, Stream] = {}
        self.values: dict[bytes, bytes] = {}
        self.strangers: set[bytes] = set()
        """Names under which something is that is no stream."""
        self.up = True
        self.clients: dict[Any, None] = {}
        self._numbers = itertools.count(1)
        self.on_add: list[Callable[[bytes, Id, list[bytes]], None]] = []
        """Called with each entry that is added."""
        self.before: dict[str, Callable[[], Any]] = {}
        """By command, what happens just before the next of its kind."""
        self._readers: dict[int, asyncio.Future] = {}

    # What tests do to it.

    def checkpoint(self) -> dict[bytes, Stream]:
        """What it would know again after a crash from now on."""
        return copy.deepcopy(self.streams)

    def stop(self) -> None:
        """The process is gone; clients learn at once."""
        self.up = False
        for client in list(self.clients):
            client.cut()
        self.trace("redis", "down")

    def start(self, streams: dict[bytes, Stream] | None = None) -> None:
        """Come back, as it was or with what a checkpoint kept; connections are new ones."""
        if self.up:  # Another outage has ended meanwhile.
            self.stop()
        self.up = True
        if streams is not None:
            self.streams = streams
        self.trace("redis", "up", "as it was" if streams is None else "older")

    def new_client(self) -> int:
        """The number of the next connection."""
        return next(self._numbers)

    # Commands.

    def run(self, *command: Any) -> Any:
        """Run a command that does not wait.

        Raises:
            ResponseError: Redis refuses it.
        """
        words = [*str(command[0]).lower().split(), *command[1:]]
        length = 2 if words[0] in ("xinfo", "xgroup", "client") else 1
        name = "_".join(str(word).lower() for word in words[:length])
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise ResponseError(f"unknown command '{name}'")
        happens = self.before.pop(name, None)
        if happens is not None:
            happens()
        if name.startswith("x"):
            self._refuse(words[length:])
        return method(*words[length:])

    def _refuse(self, names: Any) -> None:
        if self.strangers and any(_bytes(name) in self.strangers for name in names):
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")

    async def read(
        self, client: int, count: int, block_ms: int, names: list[bytes], after: list[str]
    ) -> Any:
        """XREAD; waits where there is nothing, unless it is unblocked."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + block_ms / 1000
        self._refuse(names)
        while True:
            found = []
            for name, text in zip(names, after, strict=True):
                stream = self.streams.get(_bytes(name))
                if stream is None:
                    continue
                newer = [(i, f) for i, f in sorted(stream.entries.items()) if i > _id(text)]
                if newer:
                    found.append([_bytes(name), [[_text(i), list(f)] for i, f in newer[:count]]])
            if found or loop.time() >= deadline:
                return found or None
            future = loop.create_future()
            self._readers[client] = future
            timer = loop.call_at(
                deadline, lambda f=future: None if f.done() else f.set_result(False)
            )
            unblocked = await future
            timer.cancel()
            if unblocked:
                return None

    def _client_unblock(self, client: int) -> int:
        future = self._readers.pop(client, None)
        if future is None or future.done():
            return 0
        future.set_result(True)
        return 1

    def _exists(self, *names: Any) -> int:
        return sum(_bytes(name) in self.streams for name in names)

    def _type(self, name: Any) -> bytes:
        return b"stream" if _bytes(name) in self.streams else b"none"

    def _info(self, _section: str) -> bytes:
        return b"# Memory\r\nmaxmemory_policy:noeviction\r\n"

    def _set(self, name: Any, value: Any, *_nx: Any) -> bytes | None:
        if _bytes(name) in self.values:
            return None
        self.values[_bytes(name)] = _bytes(value)
        return b"OK"

    def _get(self, name: Any) -> bytes | None:
        return self.values.get(_bytes(name))

    def _xread(self, *words: Any) -> Any:
        names = words[words.index("STREAMS") + 1 :]
        half = len(names) // 2
        found = []
        for name, after in zip(names[:half], names[half:], strict=True):
            entries = self._xrange(name, f"({after}", "+", "COUNT", words[1])
            if entries:
                found.append([_bytes(name), entries])
        return found or None

    def _xrevrange(self, name: Any, end: Any, start: Any, *count: Any) -> list[Any]:
        found = self._xrange(name, start, end)[::-1]
        return found[: int(count[1])] if count else found

    def _ping(self) -> bytes:
        return b"PONG"

    def _xadd(self, name: Any, *words: Any) -> bytes:
        key, rest = _bytes(name), list(words)
        if str(rest[0]).upper() == "MAXLEN":
            rest = rest[3:] if rest[1] in ("~", "=") else rest[2:]
        stream = self.streams.get(key)
        last = stream.last if stream is not None else (0, 0)
        entry_id = self._next_id(last) if rest[0] in ("*", b"*") else _id(rest[0])
        if entry_id <= last:
            raise ResponseError(
                "The ID specified in XADD is equal or smaller than the target stream top item"
            )
        stream = self.streams.setdefault(key, Stream())
        fields = [_bytes(word) for word in rest[1:]]
        stream.entries[entry_id] = fields
        stream.last = entry_id
        for seen in self.on_add:
            seen(key, entry_id, fields)
        for future in self._readers.values():
            if not future.done():
                future.set_result(False)
        self._readers.clear()
        return _text(entry_id)

    @staticmethod
    def _next_id(last: Id) -> Id:
        if last == (TOP, TOP):
            raise ResponseError(
                "The stream has exhausted the last possible ID, unable to add more items"
            )
        now = START_MS + int(asyncio.get_running_loop().time() * 1000)
        if now > last[0]:
            return now, 0
        return (last[0], last[1] + 1) if last[1] < TOP else (last[0] + 1, 0)

    def _xrange(self, name: Any, start: Any, end: Any, *count: Any) -> list[Any]:
        stream = self.streams.get(_bytes(name))
        if stream is None:
            return []
        exclusive = str(start).startswith("(")
        low = _id(str(start)[1:] if exclusive else start)
        high = _id(end, low=False)
        found = [
            [_text(i), list(fields)]
            for i, fields in sorted(stream.entries.items())
            if low <= i <= high and not (exclusive and i == low)
        ]
        return found[: int(count[1])] if count else found

    def _xdel(self, name: Any, *ids: Any) -> int:
        stream = self.streams.get(_bytes(name))
        if stream is None:
            return 0
        return sum(stream.entries.pop(_id(one), None) is not None for one in ids)

    def _xlen(self, name: Any) -> int:
        stream = self.streams.get(_bytes(name))
        return len(stream.entries) if stream is not None else 0

    def _xinfo_stream(self, name: Any) -> list[Any]:
        stream = self.streams.get(_bytes(name))
        if stream is None:
            raise ResponseError("no such key")
        ids = sorted(stream.entries)
        ends = [[_text(i), stream.entries[i]] for i in (ids[:1] + ids[-1:])]
        first, last = (ends[0], ends[-1]) if ends else (None, None)
        return [
            b"length", len(ids), b"last-generated-id", _text(stream.last),
            b"groups", len(stream.groups), b"first-entry", first, b"last-entry", last,
        ]  # fmt: skip

    def _xgroup_create(self, name: Any, group: Any, _at: Any, *more: Any) -> bytes:
        key = _bytes(name)
        if key not in self.streams and "MKSTREAM" not in more:
            raise ResponseError("The XGROUP subcommand requires the key to exist")
        stream = self.streams.setdefault(key, Stream())
        if _bytes(group) in stream.groups:
            raise ResponseError("Consumer Group name already exists")
        stream.groups.add(_bytes(group))
        return b"OK"

    def _xsetid(self, name: Any, to: Any) -> bytes:
        stream = self.streams.get(_bytes(name))
        if stream is None:
            raise ResponseError("no such key")
        wanted = _id(to)
        if stream.entries and wanted < max(stream.entries):
            raise ResponseError(
                "The ID specified in XSETID is smaller than the target stream top item"
            )
        stream.last = wanted
        return b"OK"

    def _renamenx(self, name: Any, to: Any) -> int:
        if _bytes(name) not in self.streams:
            raise ResponseError("no such key")
        if _bytes(to) in self.streams:
            return 0
        self.streams[_bytes(to)] = self.streams.pop(_bytes(name))
        return 1

    def _del(self, *names: Any) -> int:
        return self._unlink(*names)

    def _unlink(self, *names: Any) -> int:
        return sum(self.streams.pop(_bytes(name), None) is not None for name in names)

    def _expire(self, name: Any, _seconds: int) -> int:
        return int(_bytes(name) in self.streams)
