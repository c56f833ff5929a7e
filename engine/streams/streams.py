"""The road to the ledger: the only module that speaks Redis (or Valkey).

Nothing here is the truth. An entry counts once the flush that decided it is committed;
what is lost here was never answered.
"""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import redis.asyncio
import redis.exceptions
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from engine.errors import ConfigurationError, TryAgainError
from engine.ledger.nouns import Position, stream_name
from engine.settings import PREFIX
from engine.streams.cluster import ClusterClient
from engine.streams.connection import Sender
from engine.streams.slots import is_cluster

READ_BYTES: Final = 8 * 1024 * 1024
"""About as much is read at once; how many entries that is follows from those read before."""

READ_ENTRIES_MAX: Final = 4096
ANSWERS_ENTRIES_MAX: Final = 10_000
ANSWERS_SECONDS: Final = 3600
SOCKET_SECONDS_MAX: Final = 10.0
POSITION_MAX: Final = 2**63 - 1
"""Redis counts to 2^64-1; a stream that got there takes no more entries."""

_log = structlog.get_logger()


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a shard's stream, as it came: fields and values in turn."""

    shard: int
    position: Position
    fields: list[bytes]
    below: bool = False
    """At or below the committed position: decided before a crash, or from an older Redis."""


class Waiting(msgspec.Struct, frozen=True):
    """What of a shard's stream is not decided yet."""

    entries: int
    oldest_seconds: float | None
    """How long the oldest of them waits, by the clock of Redis; None where none waits."""


class StreamEnds(msgspec.Struct, frozen=True):
    """Both ends of a shard's stream."""

    first: Position | None
    """The oldest entry; None where there is none."""
    last: Position
    """The last id that was ever given; zero where there is no such stream."""
    length: int


class Streams:
    """The streams of all shards.

    Args:
        url: `redis://...`, or `redis+cluster://...` as `engine.streams.slots` says.
        prefix: Of the names of the streams.
        connect: How to reach them.
    """

    def __init__(
        self, url: str, prefix: str = PREFIX, connect: Callable[[str], Any] | None = None
    ) -> None:
        self.prefix = prefix
        self._url = url
        self._connect = connect or connect_redis
        self._reader: Any = None
        self._writer: Any = None
        self._reader_id = 0
        self._count = 16

    async def open(self) -> None:
        """Connect. Raises TryAgainError or ConfigurationError."""
        await self.close()
        with _translated():
            self._reader = self._connect(self._url)
            self._writer = self._connect(self._url)
            self._reader_id = await self._reader.client_id()
            await self._writer.ping()

    async def close(self) -> None:
        """Close both connections."""
        for client in (self._reader, self._writer):
            if client is not None:
                with contextlib.suppress(redis.exceptions.RedisError, OSError):
                    await client.aclose()
        self._reader = self._writer = None

    def _client(self, client: Any) -> Any:  # its stubs leave execute_command untyped
        if client is None:
            raise TryAgainError("the streams are not open")
        return client

    # Reading.

    async def read(self, positions: Mapping[int, Position], block_ms: int) -> list[Entry]:
        """Read what follows `positions` in the streams of their shards.

        Args:
            positions: By shard, the last entry read.
            block_ms: How long to wait when there is nothing.
        """
        names = {stream_name(self.prefix, shard).encode(): shard for shard in positions}
        after = [position.entry_id for position in positions.values()]
        with _translated():
            answer = await self._client(self._reader).execute_command(
                "XREAD", "COUNT", self._count, "BLOCK", block_ms, "STREAMS", *names, *after
            )
        entries = []
        for name, found in answer or ():
            shard = names[bytes(name)]
            generation = positions[shard].generation
            entries += [Entry(shard, _position(e[0], generation), e[1]) for e in found]
            if max(entries[-1].position.ms, entries[-1].position.seq) > POSITION_MAX:
                raise TryAgainError(f"an entry of {name.decode()} has an id beyond all others")
        self._adapt(entries)
        return entries

    def _adapt(self, entries: Sequence[Entry]) -> None:
        """Keep a read at about READ_BYTES, whatever the size of the entries."""
        if entries:
            size = sum(len(value) for entry in entries for value in entry.fields)
            wanted = int(READ_BYTES * len(entries) / max(size, 1))
            self._count = max(1, min(READ_ENTRIES_MAX, wanted, self._count * 4))

    async def interrupt(self) -> None:
        """Let a `read` that waits for entries return at once."""
        if isinstance(self._reader, ClusterClient):
            self._reader.interrupt()
            return
        with _translated():
            await self._client(self._writer).execute_command("CLIENT UNBLOCK", self._reader_id)

    async def read_below(self, shard: int, position: Position) -> list[Entry]:
        """Entries at or below a committed position, which should be none but after a crash."""
        with _translated():
            answer = await self._client(self._writer).execute_command(
                "XRANGE", stream_name(self.prefix, shard), "-", position.entry_id, "COUNT", 64
            )
        return [
            Entry(shard, _position(e[0], position.generation), e[1], below=True) for e in answer
        ]

    async def out_of_step(self, positions: Mapping[int, Position]) -> set[int]:
        """Shards whose streams have entries at or below the position, or may get them.

        Found in one round trip; for the others nothing is left to be looked at.
        """
        with _translated():
            pipeline = self._client(self._writer).pipeline(transaction=False)
            for shard, position in positions.items():
                name = stream_name(self.prefix, shard)
                pipeline.execute_command("XRANGE", name, "-", position.entry_id, "COUNT", 1)
                # Asked after the entries: whatever is added later has a higher id than this.
                pipeline.execute_command("XINFO STREAM", name)
                pipeline.execute_command("EXISTS", f"{name}:poisoned")
            answers = await pipeline.execute(raise_on_error=False)
        found = set()
        for at, (shard, position) in enumerate(positions.items()):
            below, info, poisoned = answers[3 * at : 3 * at + 3]
            last = Position(position.generation)
            if isinstance(info, list):
                facts = dict(zip(info[::2], info[1::2], strict=True))
                last = _position(facts[b"last-generated-id"], position.generation)
            is_in_step = below == [] and poisoned == 0 and position <= last
            if not is_in_step or max(last.ms, last.seq) > POSITION_MAX:
                found.add(shard)
        return found

    async def move_forward(self, shard: int, position: Position) -> None:
        """Let the stream's next id be above `position`, as in a Redis that came back older.

        Call again `read_below` afterwards: an entry may have come in between.
        """
        name = stream_name(self.prefix, shard)
        writer = self._client(self._writer)
        with _translated():
            try:
                answer = await writer.execute_command("XINFO STREAM", name)
                info = dict(zip(answer[::2], answer[1::2], strict=True))
                last = _position(info[b"last-generated-id"], position.generation)
            except redis.exceptions.ResponseError as error:
                if "no such key" not in str(error):
                    raise
                last = Position(position.generation)
            await self._replace_poisoned(name, position, last)
            if last >= position:
                return
            _log.warning(
                "stream_moved_forward", stream=name, last=last.entry_id, to=position.entry_id
            )
            with contextlib.suppress(redis.exceptions.ResponseError):  # the group is there
                await writer.execute_command("XGROUP", "CREATE", name, "engine", "0", "MKSTREAM")
            with contextlib.suppress(redis.exceptions.ResponseError):  # a newer entry is there
                await writer.execute_command("XSETID", name, position.entry_id)

    async def _replace_poisoned(self, name: str, position: Position, last: Position) -> None:
        """Put a new stream in the place of one whose ids have come to their end.

        Whoever adds an entry with the highest id leaves a stream that takes no more. It is
        renamed, and what is unread in it is added again, in order. After a crash in between
        this goes on; what was added twice is harmless, since ids of transfers are.
        """
        writer = self._client(self._writer)
        poisoned = f"{name}:poisoned"
        if last.ms > POSITION_MAX or last.seq > POSITION_MAX:
            _log.error("stream_poisoned", stream=name, last=last.entry_id, renamed=poisoned)
            await writer.execute_command("RENAMENX", name, poisoned)
        while found := await writer.execute_command("XRANGE", poisoned, "-", "+", "COUNT", 64):
            for entry_id, fields in found:
                if _position(entry_id, position.generation) > position:
                    await writer.execute_command("XADD", name, "*", *fields)
                await writer.execute_command("XDEL", poisoned, entry_id)
        await writer.execute_command("UNLINK", poisoned)

    # Writing.

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Delete entries that are decided and committed, by their ids and no others."""
        by_shard: dict[int, list[str]] = {}
        for entry in entries:
            by_shard.setdefault(entry.shard, []).append(entry.position.entry_id)
        await self._send(
            [("XDEL", stream_name(self.prefix, shard), *ids) for shard, ids in by_shard.items()]
        )

    async def answer(self, answers: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        """Add answers to the streams that wait for them; these are capped and expire.

        A stream that cannot be written, as something else has its name, gets none.
        """
        commands: list[tuple[Any, ...]] = [
            ("XADD", stream, "MAXLEN", "~", ANSWERS_ENTRIES_MAX, "*", *itertools.chain(*pairs))
            for stream, pairs in ((stream, fields.items()) for stream, fields in answers)
        ]
        commands += [("EXPIRE", stream, ANSWERS_SECONDS) for stream in {s for s, _ in answers}]
        await self._send(commands, raise_refusals=False)

    async def _send(
        self, commands: Sequence[tuple[Any, ...]], *, raise_refusals: bool = True
    ) -> None:
        with _translated():
            replies = await self._client(self._writer).send_all(commands)
        for reply in replies:
            if raise_refusals and isinstance(reply, Exception):
                raise TryAgainError(f"Redis answers: {reply}") from reply

    # What an operator asks.

    async def waiting(self, positions: Mapping[int, Position]) -> dict[int, Waiting]:
        """What waits behind `positions`, by shard.

        An entry that is decided and not yet deleted is counted until nothing waits behind it.
        """
        with _translated():
            writer = self._client(self._writer)
            seconds, microseconds = await writer.time()
            lengths = writer.pipeline(transaction=False)
            for shard in positions:
                lengths.xlen(stream_name(self.prefix, shard))
            found = dict(zip(positions, await lengths.execute(), strict=True))
            oldest = writer.pipeline(transaction=False)
            filled = [shard for shard in positions if found[shard]]
            for shard in filled:
                after = f"({positions[shard].entry_id}"
                name = stream_name(self.prefix, shard)
                oldest.execute_command("XRANGE", name, after, "+", "COUNT", 1)
            first = dict(zip(filled, await oldest.execute(), strict=True))
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        waiting = {}
        for shard in positions:
            if first.get(shard):
                ms = _position(first[shard][0][0], 0).ms
                waiting[shard] = Waiting(found[shard], max(now_ms - ms, 0) / 1000)
            else:
                waiting[shard] = Waiting(0, None)
        return waiting

    async def describe(self) -> dict[str, str]:
        """What the server says about itself: version, memory, whether its file is written."""
        with _translated():
            writer = self._client(self._writer)
            facts: dict[str, Any] = {}
            for section in ("server", "memory", "persistence"):
                facts |= await writer.info(section)
        return {name: str(value) for name, value in facts.items()}

    async def ends(self, shards: Collection[int]) -> dict[int, StreamEnds]:
        """Where the streams of some shards begin and end; positions are of generation 0."""
        ends = {}
        for shard in shards:
            try:
                with _translated():
                    answer = await self._client(self._writer).execute_command(
                        "XINFO STREAM", stream_name(self.prefix, shard)
                    )
            except TryAgainError as error:
                if "no such key" not in str(error):
                    raise
                ends[shard] = StreamEnds(None, Position(), 0)
                continue
            info = dict(zip(answer[::2], answer[1::2], strict=True))
            first, last = info[b"first-entry"], info[b"last-generated-id"]
            ends[shard] = StreamEnds(
                _position(first[0], 0) if first else None, _position(last, 0), info[b"length"]
            )
        return ends


class Client(redis.asyncio.Redis):
    """redis-py's client, and beside it a connection that costs little.

    That takes what is sent often: reads of streams, answers, deletions.
    Measured, CPU time of an answer to a producer: 46 us by a pipeline of redis-py and 11 us by
    `send_all` where 1,000 go together; 520 us and 260 us where one goes alone.
    """

    sender: Sender

    async def client_id(self, **_: Any) -> int:
        """The number of the connection that reads streams."""
        [number] = await self.send_all([("CLIENT", "ID")])
        return int(number)

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        """Send one command and return its answer."""
        if words[0] != "XREAD":
            execute: Any = super().execute_command  # its stubs leave it untyped
            return await execute(*words, **options)
        [answer] = await self.send_all([words])
        if isinstance(answer, Exception):
            if "WRONGTYPE" in str(answer):  # A stranger's key: it may go again.
                raise TryAgainError(str(answer)) from answer
            raise answer
        return answer

    async def send_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands together; see `Sender.send`."""
        return await self.sender.send(commands)

    async def aclose(self, *args: Any, **options: Any) -> None:
        """Close both."""
        self.sender.close()
        await super().aclose(*args, **options)


def connect_redis(url: str) -> Any:
    """Connections that nobody else uses, with answers as the server gives them.

    The library would send a command again after a time-out, which for XADD means twice. No
    retries: what to do next is decided here.
    """
    if is_cluster(url):
        return ClusterClient(url, connect_redis)
    client: Any = Client.from_url(
        url,
        protocol=2,
        decode_responses=False,
        single_connection_client=True,
        socket_timeout=SOCKET_SECONDS_MAX,
        socket_connect_timeout=SOCKET_SECONDS_MAX,
        retry=Retry(NoBackoff(), 0),
    )
    for command in ("XREAD", "XRANGE", "XINFO STREAM"):
        client.set_response_callback(command, lambda answer, **_: answer)
    client.sender = Sender(url, SOCKET_SECONDS_MAX)
    return client


def _position(entry_id: bytes, generation: int) -> Position:
    ms, seq = entry_id.split(b"-")
    return Position(generation, int(ms), int(seq))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise ConfigurationError(f"Redis refuses: {error}") from error
    except redis.exceptions.ResponseError as error:
        raise TryAgainError(f"Redis answers: {error}") from error
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise TryAgainError(f"Redis is out of reach: {reason}") from error
