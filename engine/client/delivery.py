"""Delivery: entries out, answers back, each bounded in time, each sent again when in doubt.

An entry is sent again when nobody knows whether Redis took it (the connection was lost), and
when Redis has it no more but no answer came (the answer was lost, or Redis lost the entry).
While it still waits in its stream, sending it again would help nobody.
"""

import asyncio
import hmac
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

from engine.client.background import Background
from engine.client.backpressure import Backpressure
from engine.client.entry import OutgoingEntry
from engine.client.listener import Listener
from engine.client.reconnecting import ReconnectingConnection, back_off
from engine.client.routes import Routes
from engine.errors import (
    BackpressureError,
    EngineError,
    InputError,
    OutcomeUnknownError,
    TryAgainError,
)
from engine.ledger.nouns import stream_name
from engine.patience import Patience
from engine.streams.connection import pack_command
from engine.streams.refusals import LostError, NotNowError
from engine.streams.server_checks import check_streams_belong
from engine.streams.users import answers_of
from engine.wire.answers import Answer

SENDS_MAX: Final = 8
"""How often one entry is sent."""

RETRY_SECONDS: Final = 0.1
"""After which an entry is added again that Redis did not take."""

REQUEST_BYTES_MAX: Final = 80
"""Of a request: a secret of 32 digits and two numbers."""

LOOK_SECONDS: Final = 1.0
"""How long an answer may take before the stream is looked at for its entry, and again."""

Resend: TypeAlias = Callable[[OutgoingEntry, bytes], Awaitable[bytes]]


class Delivery:
    """Both connections of a client to Redis and all that is under way.

    Args:
        url: `redis://...`
        prefix: Of the names of the streams.
        backpressure: Told of every entry; asks over its connection.
        routes: Told of every hold that was answered.
        patience: The clock of time limits.
        ledger_id: The identity of the ledger that the streams must lead to.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        backpressure: Backpressure,
        routes: Routes,
        patience: Patience,
        ledger_id: str,
    ) -> None:
        self.entries = self.resent = self.answered = 0
        self._url = url
        self._prefix = prefix
        self._backpressure = backpressure
        backpressure.connection = lambda: self._writer.connection
        self._routes = routes
        self._closed = "the client is not open"
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._secret = secrets.token_hex(16).encode()
        """Begins every request: who knows the stream of answers knows no request to answer."""
        self._reply = answers_of(prefix, url).encode()
        self._listener = Listener(url, self._reply, self._take_answer)
        self._under_way: dict[int, OutgoingEntry] = {}
        self._unsent: deque[OutgoingEntry] = deque()
        self._writer = ReconnectingConnection(
            url,
            self._send_unsent,
            partial(check_streams_belong, prefix=prefix, ledger_id=ledger_id),
        )
        self._passing = (NotNowError, BackpressureError) if backpressure.waits else (NotNowError,)
        self._trouble = ""
        self._number = 0
        self._background = Background(self._end_all)

    # Opening and closing.

    async def open(self, resend: Resend, expire: Callable[[float], None]) -> None:
        """Connect.

        Args:
            resend: Finds the outcomes to tell when an entry was sent twice.
            expire: Called often, with the client's time.

        Raises:
            ConfigurationError: The address is wrong, or Redis refuses us.
            TryAgainError: Redis is out of reach.
        """
        self._resend = resend
        self._expire = expire
        await self._listener.open()
        try:
            await self._writer.open()
        except BaseException:
            self._listener.abort()
            raise
        self._patience.start()
        self._background.start(self._listener.run())
        self._background.start(self._writer.keep())
        self._background.start(self._keep_time_limits())
        self._closed = ""

    async def close(self) -> None:
        """Let go of all that is under way; what becomes of it can be looked up."""
        await self._background.stop()
        self._patience.stop()
        self._end_all("the client was closed before the answer came")
        self._listener.abort()
        self._writer.close(pack_command(b"UNLINK", self._reply))

    def _end_all(self, reason: str) -> None:
        self._closed = reason
        for outgoing in list(self._under_way.values()):
            kind = OutcomeUnknownError if outgoing.attempt else TryAgainError
            self._finish_entry(outgoing, kind(reason))

    @property
    def reconnects(self) -> int:
        """How often the connection for sending was made again."""
        return self._writer.reconnects

    @property
    def in_flight(self) -> int:
        """Entries whose answers are waited for."""
        return len(self._under_way)

    # Sending.

    def send(self, outgoing: OutgoingEntry) -> None:
        """Send a new entry; it is told its outcomes, or why there are none, in time."""
        if self._closed:
            outgoing.finish(TryAgainError(self._closed))
            return
        self._number += 1
        outgoing.number = self._number
        self._under_way[outgoing.number] = outgoing
        self.entries += 1
        self._add_entry(outgoing)

    def _add_entry(self, outgoing: OutgoingEntry) -> None:
        if outgoing.is_done:
            return
        connection = self._writer.connection
        if connection is None:
            self._unsent.append(outgoing)
            return
        if outgoing.attempt == SENDS_MAX:
            self._give_up_entry(outgoing, f"{SENDS_MAX} attempts")
            return
        self.resent += outgoing.attempt > 0
        outgoing.begin_attempt(time.time_ns() // 1000, self._patience.time())
        command = pack_command(
            b"XADD",
            stream_name(self._prefix, outgoing.shard).encode(),
            b"*",
            b"bin",
            outgoing.payload,
            b"reply",
            self._reply,
            b"request",
            b"%s:%d:%d" % (self._secret, outgoing.number, outgoing.attempt),
        )
        connection.send(command, partial(self._on_added, outgoing, outgoing.attempt))
        self._backpressure.add(outgoing.shard)

    def _on_added(self, outgoing: OutgoingEntry, attempt: int, reply: Any) -> None:
        if outgoing.is_done or attempt != outgoing.attempt:
            return
        if isinstance(reply, bytes):
            outgoing.entry_id = reply
        elif isinstance(reply, LostError):
            outgoing.put_in_doubt()
            self._unsent.append(outgoing)
        elif isinstance(reply, self._passing):
            self._trouble = str(reply)
            outgoing.take_back()
            self._loop.call_later(RETRY_SECONDS, self._add_entry, outgoing)
        elif outgoing.doubt is None:
            self._finish_entry(outgoing, reply)
        else:
            self._trouble = str(reply)
            self._give_up_entry(outgoing, f"{outgoing.attempt} attempts")

    def _finish_entry(self, outgoing: OutgoingEntry, result: bytes | EngineError) -> None:
        self._under_way.pop(outgoing.number, None)
        if isinstance(result, bytes):
            self.answered += len(result)
            self._routes.remember(outgoing.rows, outgoing.shard)
        outgoing.finish(result)

    def _give_up_entry(self, outgoing: OutgoingEntry, waited: str) -> None:
        """End in doubt: tell what was waited for, and that it may be sent again."""
        trouble = self._trouble or self._writer.trouble or self._listener.trouble
        name = stream_name(self._prefix, outgoing.shard)
        self._finish_entry(outgoing, outgoing.unanswered(name, waited, trouble))

    # Answers.

    def _take_answer(self, answer: Answer) -> None:
        named = self._read_request(answer.request or b"")
        if named is None:
            return
        outgoing, attempt = named
        if answer.outcomes is None:
            self._finish_entry(outgoing, InputError(f"the entry could not be read: {answer.error}"))
            return
        outcomes = answer.outcomes.tobytes()
        if len(outcomes) != len(outgoing):
            self._trouble = f"an answer has {len(outcomes)} outcomes of {len(outgoing)} transfers"
        elif outgoing.doubt is None or attempt <= outgoing.doubt or not any(outcomes):
            self._finish_entry(outgoing, outcomes)
        else:
            self._background.start(self._resend_in_time(outgoing, outcomes))

    def _read_request(self, request: bytes) -> tuple[OutgoingEntry, int] | None:
        """The entry that is answered and which attempt; None where it is none of ours, or told."""
        words = request.split(b":", 3) if len(request) <= REQUEST_BYTES_MAX else []
        if len(words) != 3 or not hmac.compare_digest(words[0], self._secret):
            return None
        number, attempt = words[1:]
        if not (number.isdigit() and attempt.isdigit()):
            return None
        outgoing = self._under_way.get(int(number))
        return None if outgoing is None else (outgoing, int(attempt))

    async def _resend_in_time(self, outgoing: OutgoingEntry, outcomes: bytes) -> None:
        backoff = 0.0
        while not outgoing.is_done:
            try:
                self._finish_entry(outgoing, await self._resend(outgoing, outcomes))
            except TryAgainError as error:
                self._trouble = str(error)
                backoff = await back_off(backoff)
            except EngineError as error:
                self._finish_entry(outgoing, error)

    # Time limits, lost entries, lost connections.

    async def _keep_time_limits(self) -> None:
        ticked = asyncio.Event()
        self._patience.on_tick = ticked.set
        while True:
            await ticked.wait()
            ticked.clear()
            now = self._patience.time()
            oldest: dict[int, OutgoingEntry] = {}
            for outgoing in list(self._under_way.values()):
                if outgoing.deadline <= now:
                    self._give_up_entry(outgoing, "the time limit")
                elif outgoing.entry_id is not None:
                    oldest.setdefault(outgoing.shard, outgoing)
            self._expire(now)
            self._writer.cut_if_silent()
            self._listener.cut_if_silent()
            for outgoing in oldest.values():
                if now - outgoing.looked_at >= LOOK_SECONDS:
                    outgoing.looked_at = now
                    self._look_for_entry(outgoing)

    def _look_for_entry(self, outgoing: OutgoingEntry) -> None:
        """Send again what is neither in its stream any more nor answered."""
        entry_id, connection = outgoing.entry_id, self._writer.connection
        if entry_id is None or connection is None:
            return

        def on_reply(reply: Any) -> None:
            if reply == [] and outgoing.entry_id == entry_id and not outgoing.is_done:
                outgoing.put_in_doubt()
                self._add_entry(outgoing)

        name = stream_name(self._prefix, outgoing.shard).encode()
        connection.send(pack_command(b"XRANGE", name, entry_id, entry_id), on_reply)

    def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, deque()
        for outgoing in unsent:
            self._add_entry(outgoing)
