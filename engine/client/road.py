"""The road: entries out, answers back, each bounded in time, each sent again when in doubt.

An entry is sent again when nobody knows whether Redis took it (the connection was lost), and
when Redis has it no more but no answer came (the answer was lost, or Redis lost the entry).
While it still waits in its stream, sending it again would help nobody.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from engine.client.gate import Gate
from engine.client.parcel import Parcel
from engine.errors import ConfigurationError, EngineError, InputError, TryAgainError
from engine.nouns import stream_name
from engine.streams_fast import FastConnection, LostError, NotNowError, pack_command
from engine.wire.answers import decode_answer
from engine.wire.requests import Format

SENDS_MAX: Final = 8
"""How often one entry is sent."""

SWEEP_SECONDS: Final = 0.1
"""How often time limits are looked at."""

LOOK_SECONDS: Final = 1.0
"""How long an answer may take before the stream is looked at for its entry, and again."""

SILENT_SECONDS_MAX: Final = 5.0
"""How long Redis may keep a reply waiting before the connection is cut."""

BLOCK_SECONDS: Final = 1
BACKOFF_SECONDS_MAX: Final = 0.5
ANSWERS_PER_READ: Final = 512

Settle = Callable[[Parcel, bytes], Awaitable[bytes]]


class Road:
    """Both connections of a client to Redis and all that is under way.

    Args:
        url: `redis://...`
        prefix: Of the names of the streams.
        gate: Told of every entry; uses the road's connection.
    """

    def __init__(self, url: str, prefix: str, gate: Gate) -> None:
        self.reply: Final = f"{prefix}:answers:{secrets.token_hex(16)}".encode()
        self.entries = self.resent = self.reconnects = 0
        self._url = url
        self._prefix = prefix
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[int, Parcel] = {}
        self._unsent: deque[Parcel] = deque()
        self._writer: FastConnection | None = None
        self._lost = asyncio.Event()
        self._trouble = ""
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # Opening and closing.

    async def open(self, settle: Settle, expire: Callable[[float], None]) -> None:
        """Connect.

        Args:
            settle: Finds the outcomes to tell when an entry was sent twice.
            expire: Called often with the loop's time.

        Raises:
            ConfigurationError: The address is wrong, or Redis refuses us.
            TryAgainError: Redis is out of reach.
        """
        self._settle = settle
        self._expire = expire
        listener = await FastConnection.open(self._url)
        try:
            await self._connect_writer()
        except BaseException:
            listener.abort()
            raise
        for work in (self._listen(listener), self._keep_writer(), self._sweep()):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Let go of all that is under way; what becomes of it can be looked up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_all(lambda: TryAgainError("the client was closed before the answer came"))
        if self._writer is not None:
            self._writer.send(pack_command(b"UNLINK", self.reply), lambda _: None)
            writer, self._writer, self._gate.connection = self._writer, None, None
            writer.close()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A defect in a task of the road must not leave anyone waiting."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail_all(lambda: error)
            raise error

    def _fail_all(self, error: Callable[[], Any]) -> None:
        for parcel in list(self._under_way.values()):
            self._finish(parcel, error())

    @property
    def in_flight(self) -> int:
        """Entries whose answers are waited for."""
        return len(self._under_way)

    # Sending.

    def send(self, parcel: Parcel) -> None:
        """Send a new parcel."""
        self._number += 1
        parcel.number = self._number
        self._under_way[parcel.number] = parcel
        self.entries += 1
        self._add(parcel)

    def _add(self, parcel: Parcel) -> None:
        if parcel.is_done:
            return
        if self._writer is None or self._writer.is_lost:
            self._unsent.append(parcel)
            return
        if parcel.attempt == SENDS_MAX:
            self._finish(parcel, TryAgainError(self._story(parcel, f"{SENDS_MAX} attempts")))
            return
        parcel.attempt += 1
        parcel.entry_id = None
        parcel.looked_at = self._loop.time()
        parcel.first_sent = parcel.first_sent or time.time_ns() // 1000
        command = pack_command(
            b"XADD",
            stream_name(self._prefix, parcel.shard).encode(),
            b"*",
            b"bin",
            parcel.payload,
            b"reply",
            self.reply,
            b"request",
            b"%d:%d" % (parcel.number, parcel.attempt),
        )
        self._writer.send(command, partial(self._added, parcel, parcel.attempt))
        self._gate.add(parcel.shard)

    def _added(self, parcel: Parcel, attempt: int, reply: Any) -> None:
        if parcel.is_done or attempt != parcel.attempt:
            return
        if isinstance(reply, bytes):
            parcel.entry_id = reply
        elif isinstance(reply, LostError):
            parcel.put_in_doubt()
            self._unsent.append(parcel)
        elif isinstance(reply, NotNowError):
            self._trouble = str(reply)
            self._loop.call_later(SWEEP_SECONDS, self._add, parcel)
        elif parcel.doubt is None:
            self._finish(parcel, reply)
        else:
            self._finish(parcel, TryAgainError(self._story(parcel, f"an end to this: {reply}")))

    def _finish(self, parcel: Parcel, result: bytes | EngineError) -> None:
        self._under_way.pop(parcel.number, None)
        parcel.finish(result)

    def _story(self, parcel: Parcel, waited: str) -> str:
        name = stream_name(self._prefix, parcel.shard)
        state = (
            "and waits there to be decided (is a worker running?)"
            if parcel.entry_id
            else f"and what became of it is not known ({self._trouble or 'no answer came'})"
        )
        if not parcel.attempt:
            state = f"but was never sent ({self._trouble or 'no connection to Redis'})"
        return (
            f"no outcome of {len(parcel)} transfers after {waited}: their entry goes to {name} "
            f"{state}; sending the same ids again is safe"
        )

    # Answers.

    async def _listen(self, connection: FastConnection) -> None:
        """Read the stream of answers for ever, over one connection after the other."""
        after = b"0-0"
        backoff = 0.0
        while True:
            try:
                while True:
                    async with asyncio.timeout(BLOCK_SECONDS + SILENT_SECONDS_MAX):
                        found = await connection.ask(
                            b"XREAD",
                            b"COUNT",
                            b"%d" % ANSWERS_PER_READ,
                            b"BLOCK",
                            b"%d" % (BLOCK_SECONDS * 1000),
                            b"STREAMS",
                            self.reply,
                            after,
                        )
                    backoff = 0.0
                    for entry_id, fields in found[0][1] if found else ():
                        after = entry_id
                        self._heard(fields)
                    if found:  # What was read need not lie in Redis for an hour.
                        trim = pack_command(b"XTRIM", self.reply, b"MINID", after)
                        connection.send(trim, lambda _: None)
            except (TryAgainError, ConfigurationError, TimeoutError) as error:
                self._trouble = str(error)
                connection.abort()
                backoff = await _back_off(backoff)
                try:
                    connection = await FastConnection.open(self._url)
                except (TryAgainError, ConfigurationError) as again:
                    self._trouble = str(again)
            except asyncio.CancelledError:
                connection.abort()
                raise

    def _heard(self, fields: list[bytes]) -> None:
        try:
            answer = decode_answer(dict(zip(fields[::2], fields[1::2], strict=True)), Format.bin)
            number, attempt = map(int, (answer.request or b"").split(b":"))
        except (InputError, ValueError):
            return  # Not an answer to this client; whoever waits will be told by the time limit.
        parcel = self._under_way.get(number)
        if parcel is None:
            return
        if answer.error is not None:
            self._finish(parcel, InputError(f"the entry could not be read: {answer.error}"))
        elif answer.outcomes is not None:
            outcomes = answer.outcomes.tobytes()
            if parcel.doubt is None or attempt <= parcel.doubt or not any(outcomes):
                self._finish(parcel, outcomes)
            else:
                task = asyncio.create_task(self._settle_in_time(parcel, outcomes))
                self._tasks.add(task)
                task.add_done_callback(self._ended)

    async def _settle_in_time(self, parcel: Parcel, outcomes: bytes) -> None:
        while not parcel.is_done:
            try:
                self._finish(parcel, await self._settle(parcel, outcomes))
            except TryAgainError as error:
                self._trouble = str(error)
                await asyncio.sleep(SWEEP_SECONDS)
            except ConfigurationError as error:
                self._finish(parcel, error)

    # Time limits, lost entries, lost connections.

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._loop.time()
            for parcel in list(self._under_way.values()):
                if parcel.deadline <= now:
                    self._finish(parcel, TryAgainError(self._story(parcel, "its time limit")))
            self._expire(now)
            if self._writer is None:
                continue
            if self._writer.silent_seconds() > SILENT_SECONDS_MAX:
                self._writer.abort()
                continue
            oldest: dict[int, Parcel] = {}
            for parcel in self._under_way.values():
                if parcel.entry_id is not None:
                    oldest.setdefault(parcel.shard, parcel)
            for parcel in oldest.values():
                if now - parcel.looked_at >= LOOK_SECONDS:
                    self._look(parcel, now)

    def _look(self, parcel: Parcel, now: float) -> None:
        """Send again what is neither in its stream any more nor answered."""
        entry_id = parcel.entry_id
        if entry_id is None or self._writer is None:
            return
        parcel.looked_at = now

        def on_reply(reply: Any) -> None:
            if reply == [] and parcel.entry_id == entry_id and not parcel.is_done:
                parcel.put_in_doubt()
                self.resent += 1
                self._add(parcel)

        name = stream_name(self._prefix, parcel.shard).encode()
        self._writer.send(pack_command(b"XRANGE", name, entry_id, entry_id), on_reply)

    async def _connect_writer(self) -> None:
        self._writer = await FastConnection.open(self._url, self._writer_lost)
        self._gate.connection = self._writer

    def _writer_lost(self) -> None:
        self._writer = self._gate.connection = None
        self._lost.set()

    async def _keep_writer(self) -> None:
        backoff = 0.0
        while True:
            await self._lost.wait()
            self._lost.clear()
            while self._writer is None:
                try:
                    await self._connect_writer()
                except (TryAgainError, ConfigurationError) as error:
                    self._trouble = str(error)
                    backoff = await _back_off(backoff)
            backoff = 0.0
            self.reconnects += 1
            unsent, self._unsent = self._unsent, deque()
            for parcel in unsent:
                self.resent += parcel.attempt > 0
                self._add(parcel)


async def _back_off(seconds: float) -> float:
    """Wait, and return for how long to wait the next time."""
    await asyncio.sleep(seconds)
    return min(BACKOFF_SECONDS_MAX, seconds * 2 + 0.01)
