"""What people and programs ask of flows: definitions, starts, signals, and how things stand."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.errors import EngineError, InputError, TryAgainError
from engine.flows.catalogue import encode_input
from engine.flows.inputs import read_input
from engine.flows.recurrence import Recurrence
from engine.flows.schedules import MISSED_WORDS
from engine.flows.store import uuid_bytes
from engine.flows.streams import FlowStreams, flow_stream
from engine.flows.table import Table, read_table
from engine.ledger.nouns import shard_of
from engine.patience import within
from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.statements import statement

ENTRY_ITEMS_MAX: Final = 1000
LIST_MAX: Final = 10_000


class AddedSchedule(msgspec.Struct, frozen=True):
    """A schedule to be added."""

    id: bytes
    name: str
    """Of the definition; the newest version is taken at each occurrence."""
    input: Mapping[str, Any]
    rule: str
    timezone: str
    missed: str = "last"
    """What is made up for of what was missed: all, the last, or none."""
    by: str = ""


class FlowClient:
    """Made by `connect_flows`."""

    def __init__(
        self, connection: Any, streams: FlowStreams, shard_count: int, timeout_seconds: float
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._shard_count = shard_count
        self._timeout_seconds = timeout_seconds
        self._waiting: dict[bytes, asyncio.Future[list[str]]] = {}
        self._asking = asyncio.Lock()

    async def _fetch(self, name: str, *args: Any) -> list[dict[str, Any]]:
        async with self._asking:
            with translated():
                return [dict(row) for row in await self._connection.fetch(statement(name), *args)]

    # Definitions.

    async def define(self, table: Table) -> str:
        """Add a definition: `created`, or `exists` where the very same is there.

        Raises:
            InputError: Another one of that name and version is there, or an account that it
                names is not there exactly once.
        """
        accounts = {}
        for name in table.account_names:
            found = uuid_bytes(name)
            wanted = [] if found is None else [found]
            rows = await self._fetch("flows_accounts", table.ledger, wanted, [name])
            if len(rows) != 1:
                raise InputError(
                    f"flow {table.name}: {len(rows)} accounts of ledger {table.ledger} are called "
                    f"{name!r}, and a definition needs exactly one: "
                    + ("name it by its id" if rows else "create it first")
                )
            accounts[name] = str(uuid.UUID(bytes=rows[0]["id"]))
        made = await self._fetch(
            "flows_define",
            table.name,
            table.version,
            table.hash,
            table.source.decode(),
            msgspec.json.encode(accounts).decode(),
        )
        if made:
            return "created"
        [kept] = await self._fetch("flows_defined", table.name, table.version)
        if kept["hash"] != table.hash:
            raise InputError(
                f"flow {table.name} version {table.version} is defined otherwise, and a version "
                f"never changes ({kept['open']} flows of it are open): define version "
                f"{table.version + 1}"
            )
        return "exists"

    async def definitions(self, name: str | None = None) -> list[dict[str, Any]]:
        """Definitions with how many flows of each are open."""
        return await self._fetch("flows_defined", name, None)

    async def table(self, name: str) -> Table:
        """The newest version of a definition. Raises InputError where there is none."""
        found = await self.definitions(name)
        if not found:
            raise InputError(f"there is no flow {name}: see `engine flows list`")
        return read_table(found[-1]["source"])

    # Starts and signals.

    async def start(
        self,
        name: str,
        items: Sequence[Mapping[str, Any]],
        *,
        by: str = "",
        start_at: int = 0,
    ) -> list[str]:
        """Start flows: mappings with `id` and the fields of the input; outcomes in their order.

        Raises:
            TryAgainError: Not all were answered in time; sending them again is safe.
        """
        fields = {b"flow": name.encode(), b"by": by.encode(), b"start_at": b"%d" % start_at}
        homes = [_home(item.get("id"), self._shard_count) for item in items]
        return await self._ask("flows", homes, items, fields)

    async def signal(self, signals: Sequence[Mapping[str, Any]]) -> list[str]:
        """Send signals: mappings with flow, name, event, message_id and body; as `start`."""
        homes = [_home(signal.get("flow"), self._shard_count) for signal in signals]
        return await self._ask("signals", homes, signals, {})

    async def _ask(
        self,
        kind: str,
        homes: Sequence[int],
        items: Sequence[Mapping[str, Any]],
        more: Mapping[bytes, bytes],
    ) -> list[str]:
        by_home: dict[int, list[int]] = {}
        for place, home in enumerate(homes):
            by_home.setdefault(home, []).append(place)
        outcomes = [""] * len(items)
        entries = []
        waited: list[tuple[list[int], asyncio.Future[list[str]]]] = []
        for home, places in by_home.items():
            for start in range(0, len(places), ENTRY_ITEMS_MAX):
                piece = places[start : start + ENTRY_ITEMS_MAX]
                token = uuid.uuid4().hex.encode()
                future = asyncio.get_running_loop().create_future()
                self._waiting[token] = future
                waited.append((piece, future))
                fields = {
                    **more,
                    b"json": msgspec.json.encode([items[place] for place in piece]),
                    b"reply": self._streams.reply.encode(),
                    b"request": token,
                }
                entries.append((flow_stream(self._streams.prefix, kind, home), fields))
        for taken in await self._streams.send(entries):
            if isinstance(taken, EngineError):
                raise taken
        try:
            async with within(self._timeout_seconds):
                for piece, future in waited:
                    for place, outcome in zip(piece, await future, strict=True):
                        outcomes[place] = outcome
        except TimeoutError as error:
            raise TryAgainError(
                f"no flow worker answered within {self._timeout_seconds:g} s; is one running? "
                "Sending the same again is safe"
            ) from error
        return outcomes

    async def listen(self) -> None:
        """Read answers, for ever."""
        while True:
            for fields in await self._streams.read_answers(100):
                future = self._waiting.pop(fields.get(b"request", b""), None)
                if future is None or future.done():
                    continue
                if b"error" in fields:
                    future.set_exception(InputError(fields[b"error"].decode()))
                else:
                    names = msgspec.json.decode(fields[b"outcomes"], type=list[str])
                    future.set_result(names)

    # Schedules.

    async def add_schedule(self, added: AddedSchedule) -> str:
        """Add a schedule, of which the first time is the next one: `created`, or `exists`.

        Raises:
            InputError: Its rule, its input or its flow is none; or another has its id.
        """
        recurrence = Recurrence(added.rule, added.timezone)
        table = await self.table(added.name)
        read_input(added.input, table.struct)
        if added.missed not in MISSED_WORDS:
            raise InputError(f"missed: Expected one of {', '.join(MISSED_WORDS)}")
        packed = encode_input(dict(added.input))
        first = recurrence.first_after(time.time_ns() // 1000)
        made = await self._fetch(
            "flows_add_schedule",
            added.id,
            shard_of(added.id, self._shard_count),
            added.name,
            packed,
            added.rule,
            added.timezone,
            added.missed,
            added.by,
            first.nominal,
            first.at,
        )
        if made:
            return "created"
        [kept] = await self.schedules(added.id)
        there = (kept["name"], kept["input"], kept["rule"], kept["timezone"], kept["missed"])
        if there != (added.name, packed, added.rule, added.timezone, added.missed):
            raise InputError("another schedule has this id: remove it first, or take another id")
        return "exists"

    async def schedules(self, schedule: bytes | None = None) -> list[dict[str, Any]]:
        """Schedules, those that are due first."""
        return await self._fetch("flows_schedules", schedule, LIST_MAX)

    async def remove_schedule(self, schedule: bytes) -> bool:
        """Remove a schedule; what it has started goes on. Returns whether it was there."""
        [row] = await self._fetch("flows_remove_schedule", schedule)
        return bool(row["is_removed"])

    # How things stand.

    async def current(self, ids: Sequence[bytes]) -> list[dict[str, Any]]:
        """Flows as they are now; ids that are none are left out."""
        return await self._fetch("flows_current", ids)

    async def steps(self, flow: bytes) -> list[dict[str, Any]]:
        """The journal of a flow."""
        return await self._fetch("flows_steps", flow)

    async def open_flows(self, older_seconds: float = 0) -> list[dict[str, Any]]:
        """Flows that have not ended, the oldest first."""
        return await self._fetch("flows_open_flows", older_seconds, LIST_MAX)

    async def reviews(self, flow: bytes | None = None) -> list[dict[str, Any]]:
        """Reviews that are open, the oldest first."""
        return await self._fetch("flows_open_reviews", flow, LIST_MAX)


def _home(written: object, shard_count: int) -> int:
    """The shard of an id; any where it is none, which is said when it is read."""
    found = uuid_bytes(written) if isinstance(written, str) else None
    return 0 if found is None else shard_of(found, shard_count)


@contextlib.asynccontextmanager
async def connect_flows(
    postgres_dsn: str, redis_url: str, *, prefix: str = "engine", timeout_seconds: float = 30.0
) -> AsyncIterator[FlowClient]:
    """Open a client of flows for the length of an `async with`."""
    connection = await connect(postgres_dsn, "engine flows client")
    streams = FlowStreams(redis_url, prefix, f"flows-{uuid.uuid4().hex}")
    try:
        with translated():
            shard_count = await connection.fetchval(statement("shard_count"))
        await streams.open()
        client = FlowClient(connection, streams, shard_count, timeout_seconds)
        listening = asyncio.create_task(client.listen())
        try:
            yield client
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    finally:
        connection.terminate()
        await streams.close()
