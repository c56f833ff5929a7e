"""The statements of flow workers say the same in memory and on a real Postgres."""

import asyncio
from typing import Any

import msgspec
import pytest

from engine.errors import ChainMovedError, ConflictError
from engine.flows.early import EARLY_KEPT
from engine.flows.flush import FlowFlush, FlowRecord, Message, Move, Review, ReviewEnd
from engine.flows.journal import Row
from engine.flows.ownership import NOBODY
from engine.flows.store import FlowStore
from tests.flow_examples import payout
from tests.ledgers import make_ledger
from tests.simulation.connection import Connector
from tests.simulation.database import Database
from tests.simulation.loop import simulate
from tests.simulation.network import Network

FIRST, SECOND = b"first worker.16b", b"second worker 16"
FLOWS = [bytes([n]) * 15 + bytes([n % 4]) for n in range(1, 6)]
HOUR = 3_600_000_000


def a_flush(number: int, now: int) -> FlowFlush:
    """One of everything."""
    records = [FlowRecord(f, 1, "created", "payout", b"{}", {"a": "b"}, "ann") for f in FLOWS[:2]]
    refused = FlowRecord(FLOWS[2], None, "account_not_found", "payout", b"{}", {})
    rows = [
        Row(FLOWS[0], 1, 0, "asked", due_at=now + HOUR, transfer_id=FLOWS[3], request=bytes(128)),
        Row(FLOWS[0], 2, 1, "waiting", signal=number << 20, reference="m", detail={"a": 1}),
        Row(FLOWS[1], 1, 4, "ended", "paid"),
    ]
    kept = Message(FLOWS[0], "bank", "m", "settled", '{"a": 1}', "created", number << 20)
    asked = Message(FLOWS[0], ":cancel", "m", "", None, "too_late", (number << 20) + 1)
    soon = Message(FLOWS[4], "bank", "m", "settled", None, "created", (number << 20) + 2)
    return FlowFlush(
        [*records, refused],
        rows,
        {FLOWS[0]: now + HOUR},
        [FLOWS[1]],
        [Review(FLOWS[0], 2, "sure?", ["no", "yes"], 0)],
        [ReviewEnd(FLOWS[0], 2, "yes", "ben", "")],
        [kept, asked, soon],
        [Message(FLOWS[1], "bank", "m", "settled", None, "flow_ended")] * 2,
        [("engine:flows:{0000}", "1-1", "no JSON", [b"json", b"{"])],
        [((number << 20) + 2, FLOWS[4])],
        [FLOWS[0]],
        [(number << 20) + 2],
        [Move(FLOWS[0], 1, 2, now, "created")],
    )


class Told:
    """What a store says, without what differs between two servers by nature."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.lines: list[Any] = []

    def add(self, *words: Any) -> None:
        self.lines.append(words)

    def relative(self, time: int) -> int:
        return round((time - self.now) / HOUR) if time else 0


def _plain(told: Told, row: Row) -> Row:
    due = told.relative(row.due_at)
    return msgspec.structs.replace(row, due_at=due, time=0, signal=bool(row.signal))


async def tell(first: FlowStore, second: FlowStore) -> list[Any]:
    """A story of two workers, and what they are told of it."""
    await first.open()
    await second.open()
    now = 0
    for store in (first, second):
        await store.ownership.register(3600)
        await store.ownership.register(3600)
        now = await store.ownership.heartbeat(3600)
    told = Told(now)
    told.add(await first.shard_count(), [row["name"] for row in await first.definitions(0)])
    told.add([tuple(dict(row).items()) for row in await first.ownership.look()])
    owned = await first.ownership.load_ownership()
    told.add(owned.sequence, owned.shards)
    told.add(await first.ownership.change_owner(owned, [0, 1, 2], NOBODY, FIRST))
    with pytest.raises(ChainMovedError):
        await first.ownership.change_owner(owned, [3], NOBODY, FIRST)
    other = await second.ownership.load_ownership()
    told.add(await second.ownership.change_owner(other, [0, 3], FIRST, SECOND))  # it is alive
    other = await second.ownership.load_ownership()
    told.add(await second.ownership.change_owner(other, [3], NOBODY, SECOND))
    owned = await first.ownership.load_ownership()
    told.add(owned.sequence, owned.shards)

    written = a_flush(owned.number, now)
    number = await first.flush(written, owned.sequence + 1, owned.number, now, 4)
    told.add("flushed", number > owned.number)
    with pytest.raises(ChainMovedError):
        await first.flush(FlowFlush(), owned.sequence + 1, number, now, 4)
    with pytest.raises(ConflictError):
        await first.flush(FlowFlush(rows=written.rows[:1]), owned.sequence + 2, number, now, 4)
    records = await first.load_flows(FLOWS)
    told.add(sorted((msgspec.structs.astuple(r) for r in records), key=lambda r: r[0]))
    journals = await first.load_journals(FLOWS)
    told.add(
        [
            (flow, [_plain(told, r)
                    for r in rows])
            for flow, rows in sorted(journals.items())
        ]
    )  # fmt: skip
    signals = await first.load_signals(FLOWS)
    told.add(
        [
            (flow, [(s.name, s.event, s.message_id) for s in found])
            for flow, found in signals.items()
        ]
    )
    keys = [(FLOWS[0], name, "m") for name in ("bank", ":cancel", "none")]
    messages = await first.load_messages(keys)
    told.add(sorted((key, m.event, m.body and msgspec.json.decode(m.body), m.answer)
                    for key, m in messages.items()))  # fmt: skip
    told.add([f for _, f in await first.due([0, 1, 2, 3], 0, now + 2 * HOUR)])
    told.add(await first.due([0, 1, 2, 3], 0, now), await first.due([9], 0, now + 2 * HOUR))
    told.add(await first.count_early([0, 1, 2, 3]))  # too young to be forgotten
    told.add(len(await first.old_early([0, 1, 2, 3], now + HOUR)))
    told.add(await first.old_early([0, 1, 2, 3], now - EARLY_KEPT))
    told.add(sorted((await first.ends_of(FLOWS)).items()))
    told.add(await first.load_spent(FLOWS), await first.holds_over(FLOWS))
    told.add(await first.due_schedules([0, 1, 2, 3], now + HOUR))
    await first.ownership.expire()
    other = await second.ownership.load_ownership()
    told.add(sorted(await second.ownership.change_owner(other, [0, 1, 2], FIRST, SECOND)))
    with pytest.raises(ChainMovedError):
        await first.flush(FlowFlush(), owned.sequence + 2, number, now, 4)
    other = await second.ownership.load_ownership()
    told.add(other.shards, other.sequence)
    told.add(sorted(await second.ownership.change_owner(other, [0, 1], SECOND, NOBODY)))
    told.add([(row["shard"], row["alive"]) for row in await second.ownership.look()])
    first.drop()
    second.drop()
    return told.lines


async def test_flow_statements_say_the_same_in_memory(postgres_dsn: str, redis_url: str) -> None:
    table = payout().table()
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=4)
    await ledger.sql(
        "INSERT INTO flows.definitions (name, version, hash, source, accounts)"
        " VALUES ('payout', 1, '', $1::jsonb, '{}')",
        table.source.decode(),
    )
    real = await tell(FlowStore(ledger.engine_dsn, FIRST), FlowStore(ledger.engine_dsn, SECOND))

    def in_memory() -> list[Any]:
        network = Network(None)
        database = Database(4, network)
        made = database.begin(None)
        row = {"definition": 1, "name": "payout", "version": 1, "source": table.source.decode()}
        database.put("flows.definitions", row | {"accounts": "{}"}, made)
        database.commit(made, "define")
        connect = Connector(database, network)
        stores = [FlowStore("postgresql://memory", w, connect) for w in (FIRST, SECOND)]

        async def play() -> list[Any]:
            lines = await tell(*stores)
            for backend in list(database.backends.values()):
                backend.terminate()
            await asyncio.sleep(1)
            return lines

        told: list[Any] = simulate(play())
        return told

    simulated = await asyncio.to_thread(in_memory)
    for there, here in zip(real, simulated, strict=True):
        assert here == there
