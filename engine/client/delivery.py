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
from typing import Any, Final, TypeAlias

from engine.client.background import Chores
from engine.client.backpressure import Gate
from engine.client.listener import Listener
from engine.client.outgoing import Parcel
from engine.client.reconnecting import Line, back_off
from engine.client.routes import Routes
from engine.errors import BackpressureError, EngineError, InputError, TryAgainError
from engine.ledger.nouns import stream_name
from engine.streams.connection import LostError, NotNowError, pack_command
from engine.wire.answers import Answer

SENDS_MAX: Final = 8
"""How often one entry is sent."""

SWEEP_SECONDS: Final = 0.1
"""How often time limits are looked at."""

LOOK_SECONDS: Final = 1.0
"""How long an answer may take before the stream is looked at for its entry, and again."""

Settle: TypeAlias = Callable[[Parcel, bytes], Awaitable[bytes]]


class Road:
    """Both connections of a client to Redis and all that is under way.

    Args:
        url: `redis://...`
        prefix: Of the names of the streams.
        gate: Told of every entry; asks over the road's connection.
        routes: Told of every hold that was answered.
    """

    def __init__(self, url: str, prefix: str, gate: Gate, routes: Routes) -> None:
        self.entries = self.resent = self.answered = 0
        self._url = url
        self._prefix = prefix
        self._gate = gate
        gate.connection = lambda: self._writer.connection
        self._routes = routes
        self._closed = "the client is not open"
        self._loop = asyncio.get_running_loop()
        self._reply = f"{prefix}:answers:{secrets.token_hex(16)}".encode()
        self._listener = Listener(url, self._reply, self._heard)
        self._under_way: dict[int, Parcel] = {}
        self._unsent: deque[Parcel] = deque()
        self._writer = Line(url, self._send_unsent)
        self._passing = (NotNowError, BackpressureError) if gate.waits else (NotNowError,)
        self._trouble = ""
        self._number = 0
        self._chores = Chores(self._end)

    # Opening and closing.

    async def open(self, settle: Settle, expire: Callable[[float], None]) -> None:
        """Connect.

        Args:
            settle: Finds the outcomes to tell when an entry was sent twice.
            expire: Called often, with the loop's time.

        Raises:
            ConfigurationError: The address is wrong, or Redis refuses us.
            TryAgainError: Redis is out of reach.
        """
        self._settle = settle
        self._expire = expire
        await self._listener.open()
        try:
            await self._writer.open()
        except BaseException:
            self._listener.abort()
            raise
        self._chores.start(self._listener.run())
        self._chores.start(self._writer.keep())
        self._chores.start(self._sweep())
        self._closed = ""

    async def close(self) -> None:
        """Let go of all that is under way; what becomes of it can be looked up."""
        await self._chores.stop()
        self._end("the client was closed before the answer came")
        self._listener.abort()
        self._writer.close(pack_command(b"UNLINK", self._reply))

    def _end(self, reason: str) -> None:
        self._closed = reason
        for parcel in list(self._under_way.values()):
            self._finish(parcel, TryAgainError(reason))

    @property
    def reconnects(self) -> int:
        """How often the connection for sending was made again."""
        return self._writer.reconnects

    @property
    def in_flight(self) -> int:
        """Entries whose answers are waited for."""
        return len(self._under_way)

    # Sending.

    def send(self, parcel: Parcel) -> None:
        """Send a new parcel; it is told its outcomes, or why there are none, in time."""
        if self._closed:
            parcel.finish(TryAgainError(self._closed))
            return
        self._number += 1
        parcel.number = self._number
        self._under_way[parcel.number] = parcel
        self.entries += 1
        self._add(parcel)

    def _add(self, parcel: Parcel) -> None:
        if parcel.is_done:
            return
        connection = self._writer.connection
        if connection is None:
            self._unsent.append(parcel)
            return
        if parcel.attempt == SENDS_MAX:
            self._refuse(parcel, f"{SENDS_MAX} attempts")
            return
        self.resent += parcel.attempt > 0
        parcel.begin_attempt(time.time_ns() // 1000, self._loop.time())
        command = pack_command(
            b"XADD",
            stream_name(self._prefix, parcel.shard).encode(),
            b"*",
            b"bin",
            parcel.payload,
            b"reply",
            self._reply,
            b"request",
            b"%d:%d" % (parcel.number, parcel.attempt),
        )
        connection.send(command, partial(self._added, parcel, parcel.attempt))
        self._gate.add(parcel.shard)

    def _added(self, parcel: Parcel, attempt: int, reply: Any) -> None:
        if parcel.is_done or attempt != parcel.attempt:
            return
        if isinstance(reply, bytes):
            parcel.entry_id = reply
        elif isinstance(reply, LostError):
            parcel.put_in_doubt()
            self._unsent.append(parcel)
        elif isinstance(reply, self._passing):
            self._trouble = str(reply)
            parcel.take_back()
            self._loop.call_later(SWEEP_SECONDS, self._add, parcel)
        elif parcel.doubt is None:
            self._finish(parcel, reply)
        else:
            self._trouble = str(reply)
            self._refuse(parcel, f"{parcel.attempt} attempts")

    def _finish(self, parcel: Parcel, result: bytes | EngineError) -> None:
        self._under_way.pop(parcel.number, None)
        if isinstance(result, bytes):
            self.answered += len(result)
            self._routes.remember(parcel.rows, parcel.shard)
        parcel.finish(result)

    def _refuse(self, parcel: Parcel, waited: str) -> None:
        """End in doubt: tell what was waited for, and that it may be sent again."""
        trouble = self._trouble or self._writer.trouble or self._listener.trouble
        name = stream_name(self._prefix, parcel.shard)
        self._finish(parcel, TryAgainError(parcel.story(name, waited, trouble)))

    # Answers.

    def _heard(self, answer: Answer) -> None:
        number, _, attempt = (answer.request or b"").partition(b":")
        parcel = self._under_way.get(int(number)) if number.isdigit() else None
        if parcel is None or not attempt.isdigit():
            return  # Told already, by the answer to an earlier attempt.
        if answer.outcomes is None:
            self._finish(parcel, InputError(f"the entry could not be read: {answer.error}"))
            return
        outcomes = answer.outcomes.tobytes()
        if parcel.doubt is None or int(attempt) <= parcel.doubt or not any(outcomes):
            self._finish(parcel, outcomes)
        else:
            self._chores.start(self._settle_in_time(parcel, outcomes))

    async def _settle_in_time(self, parcel: Parcel, outcomes: bytes) -> None:
        backoff = 0.0
        while not parcel.is_done:
            try:
                self._finish(parcel, await self._settle(parcel, outcomes))
            except TryAgainError as error:
                self._trouble = str(error)
                backoff = await back_off(backoff)
            except EngineError as error:
                self._finish(parcel, error)

    # Time limits, lost entries, lost connections.

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._loop.time()
            oldest: dict[int, Parcel] = {}
            for parcel in list(self._under_way.values()):
                if parcel.deadline <= now:
                    self._refuse(parcel, "the time limit")
                elif parcel.entry_id is not None:
                    oldest.setdefault(parcel.shard, parcel)
            self._expire(now)
            self._writer.cut_if_silent()
            for parcel in oldest.values():
                if now - parcel.looked_at >= LOOK_SECONDS:
                    parcel.looked_at = now
                    self._look(parcel)

    def _look(self, parcel: Parcel) -> None:
        """Send again what is neither in its stream any more nor answered."""
        entry_id, connection = parcel.entry_id, self._writer.connection
        if entry_id is None or connection is None:
            return

        def on_reply(reply: Any) -> None:
            if reply == [] and parcel.entry_id == entry_id and not parcel.is_done:
                parcel.put_in_doubt()
                self._add(parcel)

        name = stream_name(self._prefix, parcel.shard).encode()
        connection.send(pack_command(b"XRANGE", name, entry_id, entry_id), on_reply)

    def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, deque()
        for parcel in unsent:
            self._add(parcel)
