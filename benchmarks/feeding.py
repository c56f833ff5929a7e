"""Producers: a process of its own that adds entries and times the answers.

Commands are packed and replies parsed by bare hiredis, so that little of the machine goes
into the producer.
"""

import multiprocessing
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import hiredis
import numpy as np
import numpy.typing as npt

from benchmarks.workload import BATCH, Accounts, Transfers
from engine.ledger.nouns import stream_name
from engine.wire.layout import Rows

BLOCK_MS = 180_000
"""For so long a producer waits for an answer; then it gives up."""


class Sent(NamedTuple):
    """What one producer saw; times are seconds since 1970, a row an entry."""

    outcomes: npt.NDArray[np.uint8]
    """By transfer, in the order in which they were given; 255 where no answer came."""
    due: npt.NDArray[np.float64]
    """When each entry was to be sent: in a closed loop, when it was sent."""
    answered: npt.NDArray[np.float64]
    cpu_seconds: float

    @property
    def seconds(self) -> float:
        """From the first entry to the last answer."""
        return float(self.answered.max() - self.due.min())

    def latencies_ms(self, skip_seconds: float = 0) -> npt.NDArray[np.float64]:
        """Of each entry but the first ones, in milliseconds."""
        counted = self.due >= self.due.min() + skip_seconds
        return (self.answered - self.due)[counted] * 1000


def faults_of(sent: Sent, transfers: Transfers) -> list[str]:
    """Where the answers differ from what must come."""
    wrong = int(((sent.outcomes == 0) != transfers.created).sum())
    missing = int((sent.outcomes == 255).sum())
    return [f"{wrong:,} were answered otherwise, {missing:,} not at all"] if wrong else []


def send(
    url: str,
    accounts: Accounts,
    transfers: Transfers,
    *,
    batch: int = BATCH,
    in_flight_max: int = 40,
    per_second: float | None = None,
) -> Sent:
    """Send all of it by the streams of the debit accounts' shards, from another process.

    Args:
        url: Of Redis.
        accounts: Whose transfers they are.
        transfers: What to send.
        batch: Transfers an entry.
        in_flight_max: Closed loop: entries sent and not answered yet.
        per_second: Open loop: entries are due at random times, so many a second on average,
            whatever the answers do.
    """
    places = [*entries(accounts.shards[transfers.debit], batch)]
    order = np.concatenate([chosen for _, chosen in places])
    sending = Entries(
        transfers.rows[order],
        [shard for shard, _ in places],
        np.cumsum([0] + [len(chosen) for _, chosen in places]).tolist(),
    )
    # A fork, so that nothing is imported or copied again.
    context = multiprocessing.get_context("fork")
    result, given = context.Pipe(duplex=False)
    process = context.Process(
        target=_produce, args=(given, url, sending, in_flight_max, per_second)
    )
    process.start()
    given.close()
    try:
        sent: Sent = result.recv()
    except EOFError:
        raise SystemExit("the producer ended without a result") from None
    finally:
        process.kill()
        process.join()
    outcomes = np.empty(len(order), np.uint8)
    outcomes[order] = sent.outcomes
    return sent._replace(outcomes=outcomes)


def entries(shards: npt.NDArray[np.int64], batch: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Entries for the stream of each shard, taken in turn from all: the places of transfers."""
    parts = [np.flatnonzero(shards == shard) for shard in range(int(shards.max()) + 1)]
    for start in range(0, max(map(len, parts)), batch):
        for shard, part in enumerate(parts):
            if start < len(part):
                yield shard, part[start : start + batch]


class Wire:
    """A bare connection to Redis."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        if address.password:
            self.write([("AUTH", address.username or "default", unquote(address.password))])
            self.read()

    def write(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Send commands, at once."""
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))

    def read(self) -> Any:
        """Wait for the next reply."""
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(1 << 20)
            if not data:
                raise SystemExit("Redis closed the connection")
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise SystemExit(f"Redis answers: {reply}")
        return reply


class Entries:
    """What a producer is to send, and what it noted."""

    def __init__(self, rows: Rows, shards: Sequence[int], ends: Sequence[int]) -> None:
        self._rows = rows
        self._shards = shards
        self._ends = ends
        self.count = len(shards)
        self.reply = f"engine:answers:{uuid.uuid4().hex}"
        self.due = np.zeros(self.count)
        self.answered = np.zeros(self.count)
        self.outcomes = np.full(ends[-1], 255, np.uint8)
        self._seen = b"0"

    def add(self, number: int) -> tuple[Any, ...]:
        """The command that sends an entry."""
        data = self._rows[self._ends[number] : self._ends[number + 1]].tobytes()
        stream = stream_name("engine", self._shards[number])
        return ("XADD", stream, "*", "bin", data, "reply", self.reply, "request", number)

    def ask(self) -> tuple[Any, ...]:
        """The command that waits for the next answers."""
        return ("XREAD", "BLOCK", BLOCK_MS, "STREAMS", self.reply, self._seen)

    def note(self, reply: Any) -> int:
        """Take in what `ask` gave; returns how many entries were answered."""
        if reply is None:
            return 0
        now = time.time()
        for entry_id, words in reply[0][1]:
            fields = dict(zip(words[::2], words[1::2], strict=True))
            number = int(fields[b"request"])
            outcomes = np.frombuffer(fields[b"outcomes"], np.uint8)
            self.outcomes[self._ends[number] : self._ends[number + 1]] = outcomes
            self.answered[number] = now
            self._seen = entry_id
        return len(reply[0][1])


def _produce(
    given: Connection, url: str, sending: Entries, in_flight_max: int, per_second: float | None
) -> None:
    wire = Wire(url)
    began = time.process_time()
    if per_second is None:
        _closed_loop(wire, sending, in_flight_max)
    else:
        _open_loop(wire, Wire(url), sending, per_second)
    cpu = time.process_time() - began
    given.send(Sent(sending.outcomes, sending.due, sending.answered, cpu))


def _closed_loop(wire: Wire, sending: Entries, in_flight_max: int) -> None:
    """Send a bounded number ahead of the answers."""
    sent = answered = 0
    while answered < sending.count:
        until = min(sending.count, answered + in_flight_max)
        commands = [sending.add(number) for number in range(sent, until)]
        sending.due[sent:until] = time.time()
        wire.write([*commands, sending.ask()])
        for _ in range(sent, until):
            wire.read()
        sent = until
        found = sending.note(wire.read())
        if not found:
            return
        answered += found


def _open_loop(writer: Wire, reader: Wire, sending: Entries, per_second: float) -> None:
    """Send when it is due, whether or not anything was answered; a thread takes the answers.

    What is sent late counts from when it was due.
    """
    gaps = np.random.default_rng(9).exponential(1 / per_second, sending.count)
    sending.due[:] = time.time() + 0.2 + np.cumsum(gaps)
    reading = threading.Thread(target=_take_answers, args=(reader, sending))
    draining = threading.Thread(target=_drain, args=(writer, sending.count))
    reading.start()
    draining.start()
    sent = 0
    while sent < sending.count:
        time.sleep(max(0.0, sending.due[sent] - time.time()))
        until = int(np.searchsorted(sending.due, time.time(), side="right"))
        writer.write([sending.add(number) for number in range(sent, until)])
        sent = until
    reading.join()
    draining.join()


def _take_answers(wire: Wire, sending: Entries) -> None:
    answered = 0
    while answered < sending.count:
        wire.write([sending.ask()])
        found = sending.note(wire.read())
        if not found:
            return
        answered += found


def _drain(wire: Wire, count: int) -> None:
    for _ in range(count):
        wire.read()
