"""The streams of flows and signals, and the way from here to the ledger's streams.

Entries are deleted once the flush that decided them is committed, and every one of them may be
decided again without harm: a flow's id and a signal's message are known for ever. So reading begins
at the beginning of each stream, and no position has to be kept.
"""

import asyncio
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.errors import TryAgainError
from engine.ledger.nouns import stream_name
from engine.streams.bounds import ANSWERS_ENTRIES_MAX, ANSWERS_SECONDS
from engine.streams.sender import Sender, Words

READ_ENTRIES: Final = 500
CLUSTER_PAUSE_SECONDS: Final = 0.02
"""Between two looks at streams in which there is nothing."""

_BEGINNING: Final = b"0-0"


class FlowEntry(msgspec.Struct, frozen=True):
    """One entry as it came, by the name of its stream."""

    stream: str
    id: bytes
    fields: list[bytes]


def flow_stream(prefix: str, kind: str, shard: int) -> str:
    """The stream of starts (`flows`) or signals (`signals`) of a shard."""
    return f"{prefix}:{kind}:{{{shard:04d}}}"


class FlowStreams:
    """What a flow worker reads and writes in Redis.

    Args:
        url: As for `engine.streams`.
        prefix: Of the names of the streams.
        reply: The last part of the name of the stream where it is answered itself.
    """

    def __init__(self, url: str, prefix: str, reply: str) -> None:
        self.prefix = prefix
        self.reply = f"{prefix}:answers:{reply}"
        self._url = url
        self._senders: list[Sender] = []
        self._after: dict[str, bytes] = {}

    async def open(self) -> None:
        """Connect. Raises TryAgainError or ConfigurationError."""
        await self.close()
        self._after.clear()
        # One waits for entries, one for answers, one writes.
        self._senders = [Sender(self._url) for _ in range(3)]
        for sender in self._senders:
            await sender.open()

    async def close(self) -> None:
        """Close all connections."""
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.close()

    async def read(self, streams: Collection[str], block_ms: int) -> tuple[list[FlowEntry], bool]:
        """What came after what was read before.

        Returns:
            The entries, and whether nothing was left in any of the streams.
        """
        answer = await self._read(0, streams, block_ms)
        entries = []
        whole = True
        for name, found in answer:
            stream = bytes(name).decode()
            self._after[stream] = found[-1][0]
            whole &= len(found) < READ_ENTRIES
            entries += [FlowEntry(stream, bytes(e[0]), list(e[1])) for e in found if e[1]]
        return entries, whole

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
            if isinstance(answer, Exception):
                raise TryAgainError(f"Redis answers: {answer}") from answer
            found += answer or ()
        if sender.is_cluster and not found:
            await asyncio.sleep(CLUSTER_PAUSE_SECONDS)
        return found

    async def send(self, entries: Sequence[tuple[str, Mapping[bytes, bytes]]]) -> list[bytes]:
        """Add entries; returns their ids."""
        commands: list[Words] = [
            ("XADD", stream, "*", *itertools.chain(*fields.items())) for stream, fields in entries
        ]
        return [bytes(entry_id) for entry_id in await self._send(commands)]

    async def answer(self, answers: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        """Answer those who asked; what cannot be written is given up."""
        commands: list[Words] = [
            ("XADD", stream, "MAXLEN", "~", ANSWERS_ENTRIES_MAX, "*", *itertools.chain(*f.items()))
            for stream, f in answers
        ]
        commands += [("EXPIRE", stream, ANSWERS_SECONDS) for stream in {s for s, _ in answers}]
        await self._send(commands, is_needed=False)

    async def remove(self, entries: Sequence[FlowEntry]) -> None:
        """Delete entries that are decided and committed."""
        by_stream: dict[str, list[bytes]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry.id)
        await self._send([("XDEL", stream, *ids) for stream, ids in by_stream.items()])

    async def are_queued(self, entries: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Whether entries are still in their streams."""
        answers = await self._send([("XRANGE", s, i, i) for s, i in entries], is_needed=False)
        return [bool(answer) and not isinstance(answer, Exception) for answer in answers]

    async def backlog(self, shards: Collection[int]) -> int:
        """How many entries wait for the ledger's workers."""
        names = [stream_name(self.prefix, shard) for shard in shards]
        answers = await self._send([("XLEN", name) for name in names], is_needed=False)
        return max((a for a in answers if isinstance(a, int)), default=0)

    async def _send(self, commands: Sequence[Words], *, is_needed: bool = True) -> list[Any]:
        if not commands:
            return []
        if not self._senders:
            raise TryAgainError("the streams are not open")
        replies = await self._senders[2].send(commands)
        for reply in replies:
            if is_needed and isinstance(reply, Exception):
                raise TryAgainError(f"Redis answers: {reply}") from reply
        return replies
