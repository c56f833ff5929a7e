"""A small world: servers in memory, workers of the real code, and all that happened."""

import asyncio
import contextlib
import hashlib
import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import structlog

import engine.book.seen_ids
import engine.deciding.sorting
import engine.store.small_flush
import engine.worker.flush_builder
import engine.worker.locked_decider
import engine.worker.pipeline
import engine.worker.waiting_room
import engine.worker.waiting_shard
from engine.book.id_table import key_hashes
from engine.deciding.sorting import CUT_ROWS
from engine.settings import WorkerSettings
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.worker import Worker
from tests.simulation.connection import Connector
from tests.simulation.database import START, Database
from tests.simulation.log_client import LogClient
from tests.simulation.log_server import LogServer
from tests.simulation.loop import Process
from tests.simulation.network import Network

# A seed repeats its run in any process: what the filter of ids takes for seen, too.
key_hashes(b"the simulator's.")

PREFIX = "engine"
SETTINGS = WorkerSettings(
    lease_seconds=1.5, block_ms=1000, claim_seconds=0.4, backoff_seconds_max=0.5
)

STATEMENTS = (
    "BEGIN", "COMMIT", "flush_small", "fence", "COPY spent", "COPY posted", "lock_workers",
    "owners", "append_lent_flush", "change_owner", "look_at_shards", "ownership", "accounts_by_id",
    "other_stripes", "spent_by_id", "move_positions", "resolve_holds", "find_flush",
)  # fmt: skip
"""At which a worker may be frozen."""


def id_of(text: str) -> bytes:
    return uuid.UUID(text).bytes


class Append(msgspec.Struct, gc=False):
    """An entry as it was added to a stream."""

    time: float
    commit: int
    """The newest commit of the ledger when its producer began to send it."""
    shard: int
    request: str
    transfers: list[dict[str, Any]]


class Answer(msgspec.Struct, gc=False):
    """An answer as it was given."""

    time: float
    commit: int
    """The newest commit of the ledger by then."""
    request: str
    outcomes: list[str] | None
    """None where the entry could not be read."""


class Participant:
    """One worker in a process of its own."""

    def __init__(self, world: "World", name: str, shards: Sequence[int] | None) -> None:
        self.world = world
        self.process = Process(name)
        self.shards = shards
        """Those that it was told to work on; None where it takes its share."""
        self.skew = 0.0
        """Seconds by which its clock is ahead."""
        self.id = world.random.getrandbits(128).to_bytes(16, "big")
        world.names[str(uuid.UUID(bytes=self.id))] = name
        self.worker = Worker(
            WorkerStore("postgresql://memory", self.id, Connector(world.database, world.network)),
            Streams("redis://memory", PREFIX, lambda _: LogClient(world.log, world.network)),
            shards,
            self.clock,
            world.settings,
        )
        self.task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def connection_name(self) -> str:
        """What its connections are called in Postgres."""
        return f"engine {uuid.UUID(bytes=self.id)}"

    statements = STATEMENTS

    @property
    def owned(self) -> set[int]:
        """The shards that it has, as far as it knows."""
        return set(self.worker.owned)

    def owner_of(self, shard: int) -> bytes:
        """The worker that owns a shard."""
        return self.world.owner_of(shard)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return bool(self.worker.stopping)

    def clock(self) -> int:
        """Microseconds since 1970, by its own clock."""
        seconds = asyncio.get_running_loop().time() + self.skew
        return START + round(seconds * 1_000_000)

    def start(self) -> None:
        self.task = self.process.start(self.worker.run())
        self.world.trace(self.name, "starts")

    def kill(self) -> None:
        self.world.trace(self.name, "killed")
        self.process.kill()

    def freeze(self) -> None:
        self.world.trace(self.name, "frozen")
        self.process.freeze()

    def thaw(self) -> None:
        self.world.trace(self.name, "thawed")
        self.process.thaw()

    @property
    def running(self) -> bool:
        return not self.process.dead and self.task is not None and not self.task.done()


class World:
    """The world of one run.

    Args:
        seed: Of all that is drawn; None for a network that is always the same.
        shard_count: Of the ledger.
        settings: Of the workers.
    """

    def __init__(
        self, seed: int | None = None, shard_count: int = 4, settings: WorkerSettings = SETTINGS
    ) -> None:
        self.random = random.Random(seed)
        self.settings = settings
        self.lines: list[tuple[float, tuple[Any, ...]]] = []
        self.names: dict[str, str] = {str(uuid.UUID(int=0)): "nobody"}
        self.network = Network(random.Random(f"network {seed}") if seed is not None else None)
        self.database = Database(shard_count, self.network, self.trace)
        self.log = LogServer(self.trace)
        self.log.on_add.append(self._added)
        self.participants: list[Participant] = []
        self.appends: dict[str, Append] = {}
        self.sending: dict[str, Append] = {}
        """Entries on their way: they count once they are added."""
        self.answers: list[Answer] = []
        self.heard: dict[str, asyncio.Event] = {}
        """By request, set once it is answered."""
        self.pauses = (0, 0, 0.01, 0.3)
        """Seconds between two entries of a producer."""
        self.log_lost = False
        """Whether Redis ever forgot something."""
        self.set_aside: list[str] = []
        """Entries and holds that a worker could not decide."""
        self.may_set_aside = False
        """Whether the test makes it so."""
        self.accounts: dict[bytes, tuple[int, tuple[str, ...]]] = {}

    # Making things.

    def account(self, shard: int, *flags: str, ledger: int = 1) -> str:
        """An account whose home is a shard; returns its id as it is written on the wire."""
        number = len(self.accounts) + 1
        account_id = uuid.UUID(int=(number << 64) | (number << 16) | shard)
        self.accounts[account_id.bytes] = (ledger, flags)
        self.database.create_account(account_id.bytes, ledger, flags)
        return str(account_id)

    def participant(self, name: str, shards: Sequence[int] | None = None) -> Participant:
        """Another worker, started."""
        made = Participant(self, name, shards)
        self.participants.append(made)
        made.start()
        return made

    async def send(
        self, shard: int, transfers: list[dict[str, Any]], request: str, client: Any = None
    ) -> asyncio.Event:
        """Add an entry; returns what is set once it is answered."""
        loop = asyncio.get_running_loop()
        heard = self.heard.setdefault(request, asyncio.Event())
        commit = len(self.database.commits)
        self.sending[request] = Append(loop.time(), commit, shard, request, transfers)
        words = {
            "json": msgspec.json.encode(transfers),
            "reply": f"{PREFIX}:answers:producer",
            "request": request,
        }
        pairs = [word for pair in words.items() for word in pair]
        stream = f"{PREFIX}:transfers:{{{shard:04d}}}"
        if client is None:
            self.log.run("XADD", stream, "*", *pairs)
        else:
            await client.execute_command("XADD", stream, "*", *pairs)
        return heard

    def _added(self, name: bytes, _id: Any, fields: list[bytes]) -> None:
        by_name = dict(zip(fields[::2], fields[1::2], strict=True))
        request = by_name.get(b"request", b"").decode()
        if name.startswith(f"{PREFIX}:transfers:".encode()):
            if request in self.sending:
                self.appends[request] = self.sending[request]
        elif name == f"{PREFIX}:answers:producer".encode():
            outcomes = by_name.get(b"outcomes")
            time = asyncio.get_running_loop().time()
            told = msgspec.json.decode(outcomes) if outcomes is not None else None
            self.answers.append(Answer(time, len(self.database.commits), request, told))
            self.trace("answered", request, told)
            if request in self.heard:
                self.heard[request].set()

    def owner_of(self, shard: int) -> bytes:
        """The worker that owns a shard."""
        row = self.database.tables["owners"].one(self.database.snapshot(), "owners_pkey", shard)
        owner: bytes = row["worker"] if row is not None else b""
        return owner

    # What happened.

    def trace(self, *words: Any) -> None:
        """Note that something happened."""
        try:
            time = asyncio.get_running_loop().time()
        except RuntimeError:
            time = 0.0
        self.lines.append((time, words))

    def name_of(self, worker: bytes) -> str:
        """The name of a worker."""
        return self.names.get(str(uuid.UUID(bytes=worker)), worker.hex())

    def story(self) -> Iterator[str]:
        """What happened, line by line."""
        for time, words in self.lines:
            text = " ".join(str(word) for word in words)
            for long, short in self.names.items():
                text = text.replace(f"engine {long}", short)
            yield f"{time:10.6f} {text}"

    def fingerprint(self) -> str:
        """The same for the same run."""
        digest = hashlib.sha256()
        for line in self.story():
            digest.update(line.encode())
        return digest.hexdigest()[:16]

    async def until(self, condition: Any, what: str, seconds_max: float = 60.0) -> None:
        """Wait until something is so, by the virtual clock."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds_max
        while not condition():
            for one in self.participants:
                if not one.process.dead and one.task is not None and one.task.done():
                    one.task.result()
            if loop.time() > deadline:
                raise AssertionError(f"waited {seconds_max} s for {what}")
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        """End whatever still runs."""
        for one in self.participants:
            one.process.kill()
        tasks = [one.task for one in self.participants if one.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        for backend in list(self.database.backends.values()):
            backend.terminate()
        current = asyncio.current_task()
        rest = [task for task in asyncio.all_tasks() if task is not current]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


@contextlib.contextmanager
def told_to(world: World) -> Iterator[None]:
    """Let the trace have what is logged."""
    before = structlog.get_config()

    def note(_logger: Any, _method: str, event: dict[str, Any]) -> Any:
        if str(event.get("event")).endswith("_set_aside"):
            world.set_aside.append(str(event))
        words = [f"{name}={value}" for name, value in event.items() if name != "event"]
        world.trace("log", event.get("event"), *words)
        raise structlog.DropEvent

    structlog.configure(processors=[note], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


@contextlib.contextmanager
def sized(
    *,
    seen_bits: int = 8,
    small_postings_max: int = 400,
    ahead_transfers_min: int = 1,
    expiries_max: int = 2,
    waiting_max: int = 100_000,
    released_max: int = 1_000,
    cut_rows: int = CUT_ROWS,
) -> Iterator[None]:
    """Sizes that suit a small world: a filter of ids that forgets, flushes by COPY, much ahead,
    more holds that expire than go into a flush, and batches that are cut."""
    sizes = (
        (engine.book.seen_ids, "SEEN_BITS", seen_bits),
        (engine.store.small_flush, "SMALL_POSTINGS_MAX", small_postings_max),
        (engine.worker.pipeline, "AHEAD_TRANSFERS_MIN", ahead_transfers_min),
        (engine.worker.flush_builder, "EXPIRIES_MAX", expiries_max),
        (engine.worker.flush_builder, "EXPIRIES_READ_MAX", expiries_max + 1),
        (engine.worker.locked_decider, "EXPIRIES_MAX", expiries_max),
        (engine.worker.waiting_shard, "WAITING_TRANSFERS_MAX", waiting_max),
        (engine.worker.waiting_room, "RELEASED_ENTRIES_MAX", released_max),
        (engine.deciding.sorting, "CUT_ROWS", cut_rows),
    )
    before = [getattr(module, name) for module, name, _ in sizes]
    for module, name, size in sizes:
        setattr(module, name, size)
    try:
        yield
    finally:
        for (module, name, _), size in zip(sizes, before, strict=True):
            setattr(module, name, size)
