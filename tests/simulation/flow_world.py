"""Flow workers beside the ledger's, and everybody around them: senders, partners, people.

All of it misbehaves by the seed. Senders send twice, by the wrong stream, too early and too late,
and again until they are answered; partners do it and do not say so, hang, raise, forget items;
people decide twice, void by hand and resume. What is answered is held against what is committed in
the very moment.
"""

import asyncio
import contextlib
import itertools
import random
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

import engine.flows.early
from engine.flows.definition import Flow
from engine.flows.journal import Row
from engine.flows.money import Spent, nobody_id, unpack
from engine.flows.store import FlowStore, row_of, spent_of
from engine.flows.streams import FlowStreams, flow_stream
from engine.flows.worker import FlowWorker
from engine.ledger.nouns import Transfer, TransferFlags, shard_of
from engine.ledger.outcomes import Outcome
from engine.wire.answers import decode_answer
from engine.wire.requests import Format
from tests.flow_programs import draw_flow, errand, nested
from tests.simulation.connection import Connector
from tests.simulation.log_client import LogClient
from tests.simulation.loop import Process
from tests.simulation.statements_flows import flows_spent
from tests.simulation.world import PREFIX, Participant, World

SECONDS: Final = {
    "1s": 0.1, "10s": 0.4, "1m": 0.6, "30m": 1.5, "1h": 2.0, "2h": 3.0,
}  # fmt: skip
"""How long what is written takes in this world."""

FLOW_STATEMENTS: Final = (
    "BEGIN", "COMMIT", "flows_fence", "COPY flows.flows", "COPY flows.steps", "flows_set_open",
    "COPY flows.inbox", "flows_lock_workers", "flows_change_owner", "flows_sequence",
    "flows_look", "flows_load", "flows_journals", "flows_signals", "flows_messages", "flows_spent",
    "flows_find_flush", "flows_due",
)  # fmt: skip

CHILDREN: Final = ("errand", "errand", "nested")
REFUSED: Final = frozenset(
    {"account_not_found", "account_ambiguous", "definition_not_found", "id_already_failed"}
)
"""What a start is answered whose id is spent."""

REPLY: Final = f"{PREFIX}:answers:outside"


class FlowParticipant(Participant):
    """One flow worker in a process of its own."""

    statements = FLOW_STATEMENTS
    worker: FlowWorker  # type: ignore[assignment]

    def __init__(self, world: "FlowWorld", name: str) -> None:
        self.world = world
        self.process = Process(name)
        self.shards = None
        self.skew = 0.0
        self.id = world.random.getrandbits(128).to_bytes(16, "big")
        world.names[f"flows {uuid.UUID(bytes=self.id)}"] = name
        world.names[str(uuid.UUID(bytes=self.id))] = name
        connect = Connector(world.database, world.network)
        self.worker = FlowWorker(
            FlowStore("postgresql://memory", self.id, connect),
            FlowStreams(
                "redis://memory",
                PREFIX,
                f"flows-{self.id.hex()}",
                lambda _: LogClient(world.log, world.network),
            ),
            world.database.shard_count,
            {"partner": world.partner, "look": world.partner},
            world.settings.lease_seconds,
        )
        self.task: asyncio.Task[None] | None = None

    @property
    def connection_name(self) -> str:
        return f"engine flows {uuid.UUID(bytes=self.id)}"

    @property
    def owned(self) -> set[int]:
        snapshot = self.world.database.snapshot()
        rows = self.world.database.tables["flows.owners"].all(snapshot)
        return {row["shard"] for row in rows if row["worker"] == self.id}

    def owner_of(self, shard: int) -> bytes:
        return self.id if shard in self.owned else b""

    @property
    def stopping(self) -> bool:
        return self.worker.stopping.is_set()


class Attempt(msgspec.Struct, frozen=True):
    """An attempt of a call as its partner saw it."""

    flow: bytes
    seq: tuple[bytes, int]
    key: bytes
    function: str = "partner"


class Decision(msgspec.Struct, frozen=True):
    """A decision as its author knows it."""

    flow: bytes
    seq: int
    answer: str
    by: str
    seen: int
    outcome: str


class FlowWorld(World):
    """A world with one definition, mostly a drawn one, and some flows of it.

    Args:
        seed: As of any world.
        shard_count: Of the ledger.
        flow: The definition, where it is not drawn.
    """

    def __init__(self, seed: int | None, shard_count: int, flow: Flow | None = None) -> None:
        super().__init__(seed, shard_count)
        self.chance = random.Random(f"flows {seed}")
        self.table = (flow or draw_flow(self.chance, seconds=SECONDS, children=CHILDREN)).table()
        self.tables = [self.table, errand().table(), nested().table()]
        """All definitions; flows are judged by the first, errands by their starters."""
        self.is_odd = self.chance.random() < 0.1
        """Whether partners say what nobody can keep."""
        self.log.on_add.append(self._flow_added)
        self.faults: list[str] = []
        """What was told or sent and does not rest on anything."""
        self.called: list[tuple[Attempt, str]] = []
        self.arrived: list[tuple[int, bytes, dict[str, Any]]] = []
        """Signals by the stream of their flow's shard, and when they were added to it."""
        self.decided: dict[str, Decision] = {}
        """By message."""
        self.told: dict[bytes, set[str]] = {}
        """By the id of a transfer, what the ledger has answered."""
        self.on_asked: dict[bytes, asyncio.Event] = {}
        """By flow, set once something is asked of the ledger for it."""
        self.cancelled: dict[bytes, str] = {}
        self.schedules: list[Any] = []
        """What they have to start."""
        self.quiet_at = 0
        """When nothing was left to do."""
        self._asking: dict[str, Any] = {}
        self._waiting: dict[str, asyncio.Future[list[str]]] = {}
        self._requests: dict[bytes, bytes] = {}
        self._sent: dict[bytes, bytes] = {}
        """By the name of a request to the ledger, its transfers."""
        self._queued: dict[tuple[bytes, bytes], tuple[bytes, Any, bytes]] = {}
        """By session and transfer, the stream, entry and name under which it was sent last."""
        self._answered: set[bytes] = set()
        self._read_commits = 0
        self._numbers = itertools.count(1)
        self.clients: list[LogClient] = []

    def flow_participant(self, name: str) -> FlowParticipant:
        """Another flow worker, started."""
        made = FlowParticipant(self, name)
        self.participants.append(made)
        made.start()
        return made

    def define(self) -> None:
        """The definitions as they stand in their table."""
        made = self.database.begin(None)
        for number, table in enumerate(self.tables, 1):
            accounts = {name: self.accounts_by_name[name] for name in table.account_names}
            row = {
                "definition": number,
                "name": table.name,
                "version": 1,
                "source": table.source.decode(),
                "accounts": msgspec.json.encode(accounts).decode(),
            }
            self.database.put("flows.definitions", row, made)
        self.database.commit(made, "define")

    accounts_by_name: dict[str, str]

    # What is asked from outside.

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table of flows that are committed now."""
        return list(self.database.tables[f"flows.{table}"].all(self.database.snapshot()))

    async def ask(self, kind: str, items: list[dict[str, Any]], **fields: Any) -> list[str]:
        """Send starts or signals again and again until they are answered."""
        client = LogClient(self.log, self.network)
        flow = uuid.UUID(items[0].get("id") or items[0]["flow"]).bytes
        try:
            while True:
                request = f"q{next(self._numbers)}"
                home = shard_of(flow, self.database.shard_count)
                if self.chance.random() < 0.15:
                    home = self.chance.randrange(self.database.shard_count)
                future = self._waiting[request] = asyncio.get_running_loop().create_future()
                self._asking[request] = (kind, items)
                words = {"json": msgspec.json.encode(items), "reply": REPLY, "request": request}
                pairs = [word for pair in (words | fields).items() for word in pair]
                try:
                    name = flow_stream(PREFIX, kind, home)
                    await client.execute_command("XADD", name, "*", *pairs)
                    async with asyncio.timeout(self.chance.choice([0.5, 2.0, 6.0])):
                        return await future
                except TimeoutError:
                    continue
                except Exception as error:
                    if (
                        not isinstance(error, ConnectionError)
                        and "redis" not in type(error).__module__
                    ):
                        raise
                    await asyncio.sleep(0.2)
        finally:
            await client.aclose()

    def _flow_added(self, name: bytes, entry: Any, fields: list[bytes]) -> None:
        by_name = dict(zip(fields[::2], fields[1::2], strict=True))
        if name == REPLY.encode():
            self._hear(by_name)
        elif b":transfers:" in name and b"bin" in by_name:
            self._check_asked(by_name[b"bin"])
            self._check_queued(name, entry, by_name)
        elif b":answers:flows-" in name and by_name.get(b"request") in self._sent:
            self._note_told(by_name)
        elif b":signals:" in name and b"json" in by_name:
            for signal in msgspec.json.decode(by_name[b"json"]):
                flow = uuid.UUID(signal["flow"]).bytes
                home = shard_of(flow, self.database.shard_count)
                if name == flow_stream(PREFIX, "signals", home).encode():
                    self.arrived.append((self.database.clock(), flow, signal))

    def _hear(self, fields: Mapping[bytes, bytes]) -> None:
        request = fields[b"request"].decode()
        kind, items = self._asking[request]
        outcomes = msgspec.json.decode(fields.get(b"outcomes", b"[]"))
        self.trace("answered", request, outcomes, fields.get(b"error", b"").decode())
        if len(outcomes) != len(items):
            self.faults.append(f"{request} is answered {outcomes} {fields.get(b'error')!r}")
        snapshot = self.database.snapshot()
        self._count_early()
        for item, outcome in zip(items, outcomes, strict=False):
            if outcome not in {"created", "exists", "decided"} | REFUSED:
                continue
            if kind == "flows":
                key: Any = uuid.UUID(item["id"]).bytes
                table, index = "flows.flows", "flows.flows_pkey"
            else:
                key = (uuid.UUID(item["flow"]).bytes, item["name"], item["message_id"])
                table, index = "flows.inbox", "flows.inbox_pkey"
            if self.database.tables[table].one(snapshot, index, key) is None:
                self.faults.append(f"{request} is answered {outcome}, and nothing is committed")
        future = self._waiting.get(request)
        if future is not None and not future.done():
            future.set_result(outcomes)

    def _count_early(self) -> None:
        """So many signals of flows that have not started are kept of a shard, and no more."""
        kept = Counter(row["shard"] for row in self.rows("early"))
        if kept and max(kept.values()) > engine.flows.early.EARLY_MAX:
            self.faults.append(f"by shard, so many signals are kept of flows unknown: {kept}")

    def _check_asked(self, packed: bytes) -> None:
        """Whatever flow workers send to the ledger was asked for by a committed row."""
        for commit in self.database.commits[self._read_commits :]:
            for table, row in commit.made:
                if table == "flows.steps" and row["request"] and len(row["request"]) % 128 == 0:
                    for place, leg in enumerate(unpack(row["request"])):
                        self._requests[leg.id] = row["request"][128 * place : 128 * place + 128]
        self._read_commits = len(self.database.commits)
        for place, leg in enumerate(unpack(packed)):
            known = self._requests.get(leg.id)
            piece = packed[128 * place : 128 * place + 128]
            is_burn = leg.debit_account_id == nobody_id(leg.id)
            if known is None or (known != piece and not is_burn):
                self.faults.append(f"transfer {leg.id.hex()[:8]} was sent, and no row asks for it")

    def _check_queued(self, name: bytes, entry: Any, fields: Mapping[bytes, bytes]) -> None:
        """Nobody asks again for what still waits for the ledger, as far as he can know."""
        token, packed = fields[b"request"], fields[b"bin"]
        session = token.partition(b"-")[0]
        for place, leg in enumerate(unpack(packed)):
            key = session, packed[128 * place : 128 * place + 128]
            before = self._queued.get(key)
            if before is not None and not self.log_lost:
                stream, former, request = before
                waits = former in self.log.streams[stream].entries
                if waits and request not in self._answered:
                    self.faults.append(f"{leg.id.hex()[:8]} waits, and was sent again")
            self._queued[key] = name, entry, token
            if leg.user_data_128 in self.on_asked:
                self.on_asked[leg.user_data_128].set()
        self._sent[token] = packed

    def _note_told(self, fields: Mapping[bytes, bytes]) -> None:
        """What the ledger says of transfers."""
        self._answered.add(fields[b"request"])
        outcomes = decode_answer(fields, Format.bin).outcomes
        if outcomes is None:
            return
        for leg, outcome in zip(unpack(self._sent[fields[b"request"]]), outcomes, strict=True):
            self.told.setdefault(leg.id, set()).add(Outcome(int(outcome)).name)

    # Partners.

    async def partner(self, items: list[Any]) -> Any:
        """Does it once a key; says so, or not, or too late, or of some alone, or what nobody
        can keep."""
        told: list[Any] = []
        for item in items:
            before = [
                truth
                for attempt, truth in self.called
                if attempt.key == item.key and truth in {"done", "refused"}
            ]
            truth = self.chance.choice(["done", "done", "refused", "again"])
            if before:  # this attempt may have done nothing all the same
                truth = before[0] if self.chance.random() < 0.8 else "again"
            self.note_call(item, truth)
            told.append(truth if self.chance.random() < 0.8 else "unknown")
            if self.is_odd and self.chance.random() < 0.3:
                told[-1] = (truth, {"receipt": object()})
        await asyncio.sleep(self.chance.choice([0.001, 0.001, 0.05, 0.3, 2.0]))
        trouble = self.chance.random()
        if trouble < 0.1:
            raise RuntimeError("the partner hung up")
        if trouble < 0.2:
            return told[:-1]
        return None if trouble < 0.25 else told

    def note_call(self, item: Any, truth: str) -> None:
        """An attempt was made, and what came of it."""
        attempt = Attempt(item.flow, (item.key, item.attempt), item.key)
        self.called.append((attempt, truth))

    # Senders.

    async def live(self, flow: str, amount: int) -> None:
        """Start a flow, and send what it may wait for."""
        draw = self.chance
        tasks = [asyncio.ensure_future(self._start(flow, amount))]
        for name, events in self.table.signals.items():
            event = draw.choice(sorted(events))
            waits = [s for s in self.table.steps if s.kind == "wait" and s.signal == name]
            least = int(any(not step.within for step in waits))
            for copy in range(draw.choice([least, 1, 1, 1, 2])):
                delay = draw.random() * draw.choice([0.1, 1.0, 3.0, 12.0])
                task = self._signal(flow, name, event, f"{name} {copy}", delay)
                tasks.append(asyncio.ensure_future(task))
        if draw.random() < 0.3:
            tasks.append(asyncio.ensure_future(self._cancel(flow)))
        await asyncio.gather(*tasks)

    async def _start(self, flow: str, amount: int) -> None:
        draw = self.chance
        await asyncio.sleep(draw.random())
        written = {"payer": self.accounts_by_name["payer"], "payee": self.accounts_by_name["payee"]}
        item = {"id": flow, "amount": amount, "part": 3} | written
        for _ in range(draw.choice([1, 1, 2])):
            [outcome] = await self.ask("flows", [item], flow="drawn", by="starter")
            if outcome not in {"created", "exists"}:
                self.faults.append(f"a start is answered {outcome}")

    async def _signal(self, flow: str, name: str, event: str, message: str, delay: float) -> None:
        await asyncio.sleep(delay)
        signal = {"flow": flow, "name": name, "event": event, "message_id": message}
        for _ in range(self.chance.choice([1, 1, 2])):
            outcome = "flow_not_found"
            while outcome == "flow_not_found":  # as long as there is no room for it
                [outcome] = await self.ask("signals", [signal])
                await asyncio.sleep(0.3 * (outcome == "flow_not_found"))
            if outcome not in {"created", "exists", "flow_ended"}:
                self.faults.append(f"a signal is answered {outcome}")
            if outcome == "flow_ended":
                return
        [outcome] = await self.ask("signals", [signal | {"event": "another"}])
        if outcome not in {"exists_with_different_event", "flow_ended"}:
            self.faults.append(f"another event under a known message is answered {outcome}")

    async def _cancel(self, flow: str) -> None:
        """At any time, or in the moment in which the ledger is asked for something."""
        asked = self.on_asked[uuid.UUID(flow).bytes] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.chance.random() * 4):
                await (asked.wait() if self.chance.random() < 0.5 else asyncio.sleep(4))
        outcome = await self.say(flow, ":cancel", "", by="somebody")
        if outcome != "flow_not_found":
            self.cancelled[uuid.UUID(flow).bytes] = outcome

    async def say(self, flow: str, name: str, event: str, **body: Any) -> str:
        """Ask something of a flow."""
        message = f"m{next(self._numbers)}"
        written = {"flow": flow, "name": name, "event": event, "message_id": message, "body": body}
        [outcome] = await self.ask("signals", [written])
        if name == ":decide":
            made = uuid.UUID(flow).bytes, body["seq"], event, body["by"], body["seen"]
            self.decided[message] = Decision(*made, outcome)
        return outcome

    # What is there.

    def journals(self, definition: int = 1) -> dict[bytes, list[Row]]:
        """By flow of a definition, its rows in order."""
        found: dict[bytes, list[Row]] = {
            row["id"]: [] for row in self.rows("flows") if row["definition"] == definition
        }
        for row in sorted(self.rows("steps"), key=lambda row: (row["flow"], row["seq"])):
            if row["flow"] in found:
                found[row["flow"]].append(row_of(row))
        return found

    def last_rows(self) -> dict[bytes, Row]:
        """By flow, its newest row."""
        return {flow: rows[-1] for flow, rows in self.journals().items() if rows}

    def spent(self) -> dict[bytes, Spent]:
        """What the ledger has, by id."""
        snapshot = self.database.snapshot()

        class Reading:
            one = staticmethod(
                lambda table, index, key: self.database.tables[table].one(snapshot, index, key)
            )

        ids = [row["id"] for row in self.database.tables["spent"].all(snapshot)]
        reading = flows_spent(Reading(), ids)
        try:
            reading.send(None)
        except StopIteration as ended:
            return {row["id"]: spent_of(row) for row in ended.value}
        raise AssertionError("a read in memory waits for nothing")

    def open_holds(self) -> dict[bytes, Transfer]:
        """Holds that are neither posted nor voided, by id."""
        snapshot = self.database.snapshot()
        resolved = {r["hold_id"] for r in self.database.tables["resolutions"].all(snapshot)}
        return {
            found.transfer.id: found.transfer
            for found in self.spent().values()
            if found.transfer is not None
            and found.transfer.flags & TransferFlags.pending
            and found.transfer.id not in resolved
        }
