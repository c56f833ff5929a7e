"""The road to the ledger: the streams of all shards, as workers and operators use them.

Nothing here is the truth. An entry counts once the flush that decided it is committed;
what is lost here was never answered.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from engine.errors import ConfigurationError, EngineError, TryAgainError
from engine.ledger.nouns import Position, stream_name
from engine.settings import PREFIX
from engine.streams.address import parse_address
from engine.streams.bounded_reader import BoundedReader
from engine.streams.bounds import (
    ANSWERS_ENTRIES_MAX,
    ANSWERS_SECONDS,
    ENTRY_KEPT_BYTES_MAX,
    ENTRY_READ_BYTES_MAX,
)
from engine.streams.entries import Entry
from engine.streams.operators import (
    StreamEnds,
    Waiting,
    describe_server,
    read_ends,
    read_waiting,
)
from engine.streams.reader import Reader, Reading, Sending
from engine.streams.recovery import Look, Recovery
from engine.streams.refusals import KeyRefusedError, LostError, NotNowError
from engine.streams.sender import Sender
from engine.streams.server_checks import check_policy, claim_streams
from engine.streams.strays import find_strays

__all__ = ["Entry", "Look", "Reading", "StreamEnds", "Streams", "Waiting"]


class Streams:
    """The streams of all shards.

    Args:
        url: As `engine.streams.address` says.
        prefix: Of the names of the streams.
        connect: How to reach them, where not over a `Sender`.
    """

    def __init__(
        self, url: str, prefix: str = PREFIX, connect: Callable[[str], Sending] | None = None
    ) -> None:
        self.prefix = prefix
        self.ledger_id: str | None = None
        """The identity of the ledger that the streams lead to, once it is known."""
        self.refused: dict[int, EngineError] = {}
        """Shards of whose streams decided entries could not be deleted, and why."""
        self.refused_answer: EngineError | None = None
        """Why an answer of the last write was refused, if one was."""
        self._url = url
        self._connect = connect
        self._reading: Sending | None = None
        self._writing: Sending | None = None
        self._looking: Sending | None = None
        self._large: Sending | None = None
        self._telling: Sending | None = None
        self._reader: Reader | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: Redis refuses us, forgets what it took, or is another ledger's.
            TryAgainError: Redis is out of reach.
        """
        await self.close()
        if self._connect is not None:
            made = [self._connect(self._url) for _ in range(5)]
            self._reading, self._writing, self._looking, self._large, self._telling = made
        else:
            address = parse_address(self._url)
            self._reading, self._writing = Sender(address), Sender(address)
            # Shards are mended while others are looked at.
            self._looking, self._telling = Sender(address, in_turn=True), Sender(address)
            self._large = Sender(
                address,
                parser=lambda: BoundedReader(ENTRY_READ_BYTES_MAX, ENTRY_KEPT_BYTES_MAX),
            )
        if self._reader is None:
            self._reader = Reader(self._reading, self.prefix)
        self._reader.use(self._reading)
        await self._reader.open()
        await self._writing.open()

    async def close(self) -> None:
        """Close all connections."""
        senders = (self._reading, self._writing, self._looking, self._large, self._telling)
        for sender in senders:
            if sender is not None:
                sender.close()
        self._reading = self._writing = self._looking = self._large = self._telling = None

    async def check_server(self) -> None:
        """See that Redis is this ledger's, and that it forgets nothing.

        Raises:
            ConfigurationError: It does, or is another's.
            TryAgainError: It does not answer.
        """
        await check_policy(self._sender)
        if self.ledger_id is None:
            return
        try:
            await claim_streams(self._sender, self.prefix, self.ledger_id)
        except KeyRefusedError as error:
            # Somebody's key of that name: that the streams are read does not hang on it.
            import structlog  # noqa: PLC0415 - who asks one question does not wait for it

            structlog.get_logger().warning("ledger_key_refused", reason=str(error))

    @property
    def _sender(self) -> Sending:
        if self._writing is None:
            raise TryAgainError("the streams are not open")
        return self._writing

    # Reading.

    async def read(self, positions: Mapping[int, Position], block_ms: int) -> Reading:
        """Read what follows `positions`; see `Reader.read`."""
        if self._reader is None or self._reading is None:
            raise TryAgainError("the streams are not open")
        reading = await self._reader.read(positions, block_ms)
        if self._reader.is_made_again:
            await self._check_again()
        return reading

    async def _check_again(self) -> None:
        """See that a connection made again leads to the same ledger's Redis."""
        try:
            await self.check_server()
        except ConfigurationError as error:
            raise LostError(f"Redis is another by now: {error}") from error

    async def interrupt(self) -> None:
        """Let a `read` that waits for entries return at once."""
        if self._reader is None:
            return
        if self._sender.is_cluster:
            self._reader.interrupt()
        elif self._reader.client_id is not None:
            await self._sender.send([("CLIENT", "UNBLOCK", self._reader.client_id)])

    @property
    def recovery(self) -> Recovery:
        """What looks at streams that are not as the ledger left them."""
        if self._looking is None or self._large is None:
            raise TryAgainError("the streams are not open")
        return Recovery(self._looking, self._large, self.prefix)

    async def read_below(self, shard: int, position: Position) -> list[Entry]:
        """Entries at or below a committed position, which should be none but after a crash."""
        return await self.recovery.read_below(shard, position)

    # Writing.

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Delete entries that are decided and committed, by their ids and no others.

        Where a stream refuses it, for which others are as before, `refused` says so.

        Raises:
            TryAgainError: Redis is out of reach or takes nothing now.
        """
        await self.answer([], entries)

    async def answer(
        self,
        answers: Sequence[tuple[bytes, Mapping[bytes, bytes]]],
        decided: Iterable[Entry] = (),
    ) -> None:
        """Add answers to the streams that wait for them; then delete entries as `remove` does.

        All of it leaves in one write. The streams of answers are capped and expire; one that
        cannot be written, as something else has its name, gets none: `refused_answer` says why.

        Raises:
            NotNowError: Redis deletes nothing now; answers were given as far as it took them.
            TryAgainError: Redis is out of reach.
        """
        commands = _answering(answers)
        by_name = self._ids_by_name(decided)
        commands += [("XDEL", name, *ids) for (_, name), ids in by_name.items()]
        replies = await self._sender.send(commands)
        self._note_answers(replies[: len(answers)])
        passing: EngineError | None = None
        for (shard, _), reply in zip(reversed(by_name), reversed(replies), strict=False):
            if isinstance(reply, NotNowError):
                passing = reply
            elif isinstance(reply, EngineError):
                self.refused[shard] = reply
        if passing is not None:
            raise passing

    async def answer_apart(self, answers: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        """Add answers by a connection of their own, so that nothing else waits for them.

        Raises:
            TryAgainError: Redis is out of reach.
        """
        if self._telling is None:
            raise TryAgainError("the streams are not open")
        self._note_answers((await self._telling.send(_answering(answers)))[: len(answers)])

    def _note_answers(self, replies: Sequence[Any]) -> None:
        if replies:
            refused = (reply for reply in replies if isinstance(reply, EngineError))
            self.refused_answer = next(refused, None)

    def _ids_by_name(self, entries: Iterable[Entry]) -> dict[tuple[int, str], list[str]]:
        """Ids of entries by shard and the stream that they are in."""
        by_name: dict[tuple[int, str], list[str]] = {}
        for entry in entries:
            name, entry_id = entry.ended or (
                stream_name(self.prefix, entry.shard),
                entry.position.entry_id,
            )
            by_name.setdefault((entry.shard, name), []).append(entry_id)
        return by_name

    # What an operator asks.

    async def waiting(self, positions: Mapping[int, Position]) -> dict[int, Waiting]:
        """What waits behind `positions`, by shard; see `read_waiting`."""
        return await read_waiting(self._sender, self.prefix, positions)

    async def strays(self, shard_count: int) -> dict[str, int]:
        """What stands in streams that nobody reads; see `find_strays`."""
        return await find_strays(self._sender, self.prefix, shard_count)

    async def describe(self) -> dict[str, str]:
        """What the server says about itself: version, memory, whether its file is written."""
        return await describe_server(self._sender)

    async def ends(self, shards: Collection[int]) -> dict[int, StreamEnds]:
        """Where the streams of some shards begin and end; positions are of generation 0."""
        return await read_ends(self._sender, self.prefix, shards)


def _answering(answers: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[tuple[Any, ...]]:
    """The commands that add answers to their streams, which are capped and expire."""
    commands: list[tuple[Any, ...]] = [
        ("XADD", stream, "MAXLEN", "~", ANSWERS_ENTRIES_MAX, "*", *itertools.chain(*pairs))
        for stream, pairs in ((stream, fields.items()) for stream, fields in answers)
    ]
    return commands + [("EXPIRE", stream, ANSWERS_SECONDS) for stream in dict(answers)]
