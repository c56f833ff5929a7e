"""The streams of flows and signals, and the way from here to the ledger's streams.

Entries are deleted once the flush that decided them is committed, and every one of them may be
decided again without harm: a flow's id and a signal's message are known for ever. So reading begins
at the beginning of each stream, and no position has to be kept.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from engine.errors import BackpressureError, EngineError, TryAgainError
from engine.ledger.nouns import stream_name
from engine.streams.bounds import (
    ANSWERS_ENTRIES_MAX,
    ANSWERS_SECONDS,
    ENDED_STREAMS_MAX,
    ID_PART_MAX,
)
from engine.streams.refusals import KeyRefusedError
from engine.streams.sender import Sender, Words

READ_ENTRIES: Final = 500
CLUSTER_PAUSE_SECONDS: Final = 0.02
"""Between two looks at streams in which there is nothing."""

_BEGINNING: Final = b"0-0"
_ITS_OWN: Final = (KeyRefusedError, BackpressureError)
_log = structlog.get_logger()


class FlowEntry(msgspec.Struct, frozen=True, gc=False):
    """One entry as it came, by the name of its stream."""

    stream: str
    id: bytes
    fields: list[bytes]


def flow_stream(prefix: str, kind: str, shard: int) -> str:
    """The stream of starts (`flows`) or signals (`signals`) of a shard."""
    return f"{prefix}:{kind}:{{{shard:04d}}}"


def _aside_names(name: str) -> list[str]:
    """What a stream that has come to its end is called, the first name that is free."""
    return [f"{name}:poisoned:{number}" for number in range(1, ENDED_STREAMS_MAX + 1)]


class FlowStreams:
    """What a flow worker reads and writes in Redis.

    Args:
        url: As for `engine.streams`.
        prefix: Of the names of the streams.
        reply: The last part of the name of the stream where it is answered itself.
        connect: How to reach the server.
    """

    def __init__(
        self, url: str, prefix: str, reply: str, connect: Callable[[str], Any] = Sender
    ) -> None:
        self.prefix = prefix
        self.reply = f"{prefix}:answers:{reply}"
        self._url = url
        self._connect = connect
        self._senders: list[Sender] = []
        self._after: dict[str, bytes] = {}
        self._refused: set[str] = set()
        """Names under which something is that is no stream."""
        self._sound: set[str] = set()
        """Streams that were looked after: what they hold is all there is."""
        self._renamed: Counter[str] = Counter()

    async def open(self) -> None:
        """Connect. Raises TryAgainError or ConfigurationError."""
        await self.close()
        self._after.clear()
        self._sound.clear()
        # One waits for entries, one for answers, one writes.
        self._senders = [self._connect(self._url) for _ in range(3)]
        for sender in self._senders:
            await sender.open()

    async def close(self) -> None:
        """Close all connections."""
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.close()

    async def read(
        self, streams: Collection[str], block_ms: int
    ) -> tuple[list[FlowEntry], set[str]]:
        """What came after what was read before.

        Returns:
            The entries, and the streams that were read to their end.
        """
        readable = [name for name in streams if name not in self._refused]
        if not readable:
            await asyncio.sleep(block_ms / 1000)
            return [], set()
        renamed = self._renamed.copy()
        try:
            answer = await self._read(0, readable, block_ms)
        except KeyRefusedError:
            # One of them is no stream, and Redis does not say which.
            await self.mend(readable)
            return [], set()
        entries = []
        ended = self._sound & set(readable)
        for name, found in answer:
            stream = bytes(name).decode()
            if self._renamed[stream] != renamed[stream]:
                ended.discard(stream)
                continue  # what it held is added again
            self._after[stream] = found[-1][0]
            if len(found) >= READ_ENTRIES:
                ended.discard(stream)
            entries += [FlowEntry(stream, bytes(e[0]), list(e[1])) for e in found if e[1]]
        return entries, ended

    async def read_answers(self, block_ms: int) -> list[dict[bytes, bytes]]:
        """Answers to what this worker asked."""
        answers = []
        for _, found in await self._read(1, [self.reply], block_ms):
            self._after[self.reply] = found[-1][0]
            answers += [dict(zip(e[1][::2], e[1][1::2], strict=True)) for e in found if e[1]]
        return answers

    async def _read(self, place: int, streams: Collection[str], block_ms: int) -> list[Any]:
        """What follows in some streams; in a cluster a command reads one of them."""
        if not self._senders:
            raise TryAgainError("the streams are not open")
        sender = self._senders[place]
        after = [self._after.get(name, _BEGINNING) for name in streams]
        if not sender.is_cluster:
            blocking = ("XREAD", "COUNT", READ_ENTRIES, "BLOCK", block_ms, "STREAMS")
            commands: list[Words] = [(*blocking, *streams, *after)]
        else:
            commands = [
                ("XREAD", "COUNT", READ_ENTRIES, "STREAMS", name, last)
                for name, last in zip(streams, after, strict=True)
            ]
        found: list[Any] = []
        for answer in await sender.send(commands):
            if isinstance(answer, KeyRefusedError):
                raise answer
            if isinstance(answer, Exception):
                raise TryAgainError(f"Redis answers: {answer}") from answer
            found += answer or ()
        if sender.is_cluster and not found:
            await asyncio.sleep(CLUSTER_PAUSE_SECONDS)
        return found

    async def send(
        self, entries: Sequence[tuple[str, Mapping[bytes, bytes]]]
    ) -> list[bytes | EngineError]:
        """Add entries; returns their ids, and for those that Redis does not take why.

        Who is not answered asks again, so that one bad stream, or one that is full, stops nobody
        else, nor that what is decided is deleted.
        """
        commands: list[Words] = [
            ("XADD", stream, "*", *itertools.chain(*fields.items())) for stream, fields in entries
        ]
        replies = await self._send(commands)
        for (stream, _), reply in zip(entries, replies, strict=True):
            if isinstance(reply, EngineError):
                _log.error("flow_entry_not_taken", stream=stream, reason=str(reply))
        return [reply if isinstance(reply, EngineError) else bytes(reply) for reply in replies]

    async def answer(self, answers: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        """Answer those who asked; what their stream does not take is given up."""
        commands: list[Words] = [
            ("XADD", stream, "MAXLEN", "~", ANSWERS_ENTRIES_MAX, "*", *itertools.chain(*f.items()))
            for stream, f in answers
        ]
        commands += [
            ("EXPIRE", stream, ANSWERS_SECONDS) for stream in dict.fromkeys(s for s, _ in answers)
        ]
        await self._send(commands)

    async def remove(self, entries: Sequence[FlowEntry]) -> None:
        """Delete entries that are decided and committed."""
        by_stream: dict[str, list[bytes]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry.id)
        await self._send([("XDEL", stream, *ids) for stream, ids in by_stream.items()])

    async def are_queued(self, entries: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Whether entries are still in their streams."""
        answers = await self._send([("XRANGE", s, i, i) for s, i in entries])
        return [bool(answer) and not isinstance(answer, Exception) for answer in answers]

    async def backlog(self, shards: Collection[int]) -> int:
        """How many entries wait for the ledger's workers."""
        names = [stream_name(self.prefix, shard) for shard in shards]
        answers = await self._send([("XLEN", name) for name in names])
        return max((a for a in answers if isinstance(a, int)), default=0)

    async def mend(self, names: Sequence[str]) -> None:
        """Look after streams: what is no stream is let be, one that has come to its end goes on.

        A stream with the highest id there is takes no more entries: it is renamed, and what it
        holds is added to a new one. What comes twice by that is decided once.
        """
        infos = await self._send([("XINFO", "STREAM", name) for name in names])
        before, self._refused = self._refused, set()
        for name, info in zip(names, infos, strict=True):
            if isinstance(info, Exception):
                if "no such key" not in str(info):
                    self._refused.add(name)
                    if name not in before:
                        _log.error("flow_stream_refused", stream=name, reason=str(info))
                continue
            last = dict(zip(info[::2], info[1::2], strict=True))[b"last-generated-id"]
            if max(map(int, last.split(b"-"))) > ID_PART_MAX:
                await self._rename(name)
        aside = [_aside_names(name) for name in names]
        found = await self._send([("EXISTS", *each) for each in aside])
        for name, poisoned, count in zip(names, aside, found, strict=True):
            left = [each for each in poisoned if count and not await self._add_again(name, each)]
            (self._sound.discard if left or name in self._refused else self._sound.add)(name)

    async def _rename(self, name: str) -> None:
        self._sound.discard(name)
        self._renamed[name] += 1
        self._after.pop(name, None)
        for aside in _aside_names(name):
            [renamed] = await self._send([("RENAMENX", name, aside)])
            if renamed:
                _log.error("flow_stream_poisoned", stream=name, renamed=aside)
                return
        raise TryAgainError(f"{name} takes no more entries, and all names beside it are taken")

    async def _add_again(self, name: str, poisoned: str) -> bool:
        """Add what a renamed stream holds, as much as is read at once; returns whether all is."""
        [entries] = await self._send([("XRANGE", poisoned, "-", "+", "COUNT", READ_ENTRIES)])
        if isinstance(entries, Exception):
            return False
        added = await self._send([("XADD", name, "*", *fields) for _, fields in entries])
        if any(isinstance(reply, Exception) for reply in added):
            return False
        if entries:
            await self._send([("XDEL", poisoned, *(entry_id for entry_id, _ in entries))])
        if len(entries) < READ_ENTRIES:
            await self._send([("DEL", poisoned)])
        return len(entries) < READ_ENTRIES

    async def _send(self, commands: Sequence[Words]) -> list[Any]:
        """Replies in order; what Redis refuses of one key, or for want of memory, is a value.

        Raises:
            TryAgainError: Redis is away, or takes nothing now.
        """
        if not commands:
            return []
        if not self._senders:
            raise TryAgainError("the streams are not open")
        replies: list[Any] = await self._senders[2].send(commands)
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, _ITS_OWN):
                raise TryAgainError(f"Redis answers: {reply}") from reply
        return replies
