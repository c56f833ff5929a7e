"""Who is no part of any flow, and meddles: takes ids, ends holds by hand, starts what cannot be
started, signals what never starts, spoils streams, and has schedules."""

import asyncio
import contextlib
import random
import uuid
from typing import Any

from redis.exceptions import ResponseError

from engine.flows.ids import transfer_id
from engine.flows.streams import flow_stream
from engine.ledger.nouns import TransferFlags, shard_of
from tests.simulation.flow_world import FlowWorld
from tests.simulation.world import PREFIX

STRANGER_SECONDS = 5.0
"""After so long somebody deletes a key that is no stream."""

STARTED_IN_VAIN = ("account_not_found", "account_ambiguous", "definition_not_found")


class Outsiders:
    """Those who meddle in one world.

    Args:
        world: Theirs.
        flows: The ids of its flows, as they are written.
    """

    def __init__(self, world: FlowWorld, flows: list[str]) -> None:
        self._world = world
        self._flows = flows
        self._chance = random.Random(f"outsiders {world.chance.random()}")
        self._sent = 0

    async def meddle(self) -> None:
        """What the seed draws of it."""
        acts = []
        if self._chance.random() < 0.25:
            acts += [self._end_by_hand() for _ in range(3)]
        if self._chance.random() < 0.15:
            acts += [self._take_id(flow) for flow in self._flows]
        if self._chance.random() < 0.3:
            acts += [self._start_in_vain(way) for way in STARTED_IN_VAIN]
        if self._chance.random() < 0.3:
            acts += [self._signal_nobody(n) for n in range(8)]
        if self._chance.random() < 0.15:
            acts.append(self._spoil_stream())
        await asyncio.gather(*acts)

    async def _start_in_vain(self, way: str) -> None:
        """Start what the state of things refuses, again once it would not be refused."""
        world, draw = self._world, self._chance
        await asyncio.sleep(draw.random() * 4)
        accounts = world.accounts_by_name
        names = {"account_not_found": "nobody yet", "account_ambiguous": "two of a name"}
        item = {
            "id": str(uuid.UUID(int=draw.getrandbits(128))),
            "payer": accounts["payer"],
            "payee": names.get(way, accounts["payee"]),
        }
        if way == "account_ambiguous":
            self._name_accounts(item["payee"], 2)
        flow = "no such flow" if way == "definition_not_found" else "errand"
        [outcome] = await world.ask("flows", [item], flow=flow, by="outsider")
        if outcome not in {way, "id_already_failed"}:
            world.faults.append(f"a start that is refused as {way} is answered {outcome}")
        if way == "account_not_found":
            self._name_accounts(item["payee"], 1)
        [outcome] = await world.ask("flows", [item], flow="errand", by="outsider")
        if outcome != "id_already_failed":
            world.faults.append(f"a start whose id is spent is answered {outcome}")
        signal = {"flow": item["id"], "name": "x", "event": "y", "message_id": "1"}
        [outcome] = await world.ask("signals", [signal])
        if outcome != "flow_not_found":
            world.faults.append(f"a signal of a refused start is answered {outcome}")

    def _name_accounts(self, name: str, count: int) -> None:
        database = self._world.database
        for _ in range(count):
            made = uuid.UUID(self._world.account(0)).bytes
            row = database.tables["accounts"].one(database.snapshot(), "accounts_pkey", made)
            assert row is not None
            row["name"] = name

    async def _signal_nobody(self, number: int) -> None:
        """Signals of flows that never start."""
        await asyncio.sleep(self._chance.random() * 6)
        flow = str(uuid.UUID(int=self._chance.getrandbits(128)))
        signal = {"flow": flow, "name": "x", "event": "y", "message_id": str(number)}
        [outcome] = await self._world.ask("signals", [signal])
        if outcome not in {"created", "exists", "flow_not_found"}:
            self._world.faults.append(f"a signal of nobody is answered {outcome}")

    async def _spoil_stream(self) -> None:
        """Give a stream the last id there is, or put something else under its name."""
        await asyncio.sleep(self._chance.random() * 3)
        world = self._world
        homes = {uuid.UUID(f).bytes for f in self._flows}
        taken = {shard_of(home, world.database.shard_count) for home in homes}
        unused = sorted(set(range(world.database.shard_count)) - taken)
        kind = self._chance.choice(["flows", "signals"])
        if unused and self._chance.random() < 0.5:
            name = flow_stream(PREFIX, kind, unused[0]).encode()
            world.log.streams.pop(name, None)
            world.log.strangers.add(name)
            # What others put there meanwhile waits until somebody deletes it.
            await asyncio.sleep(STRANGER_SECONDS)
            world.log.strangers.discard(name)
        elif world.log.up:
            shard = self._chance.randrange(world.database.shard_count)
            last = f"{2**64 - 1}-{2**64 - 1}"
            with contextlib.suppress(ResponseError):
                world.log.run("XADD", flow_stream(PREFIX, kind, shard), last, "spoilt", "1")

    async def _send(self, home: bytes, **written: Any) -> None:
        self._sent += 1
        transfer = {"id": str(uuid.UUID(int=self._chance.getrandbits(128)))} | written
        shard = shard_of(home, self._world.database.shard_count)
        if self._world.log.up:
            await self._world.send(shard, [transfer], f"outsider {self._sent}")

    async def _end_by_hand(self) -> None:
        """Void or post a hold of a flow."""
        await asyncio.sleep(self._chance.random() * 5)
        holds = sorted(self._world.open_holds().values(), key=lambda hold: hold.id)
        if not holds:
            return
        hold = self._chance.choice(holds)
        flag = self._chance.choice(
            [TransferFlags.void_pending_transfer, TransferFlags.post_pending_transfer]
        )
        amount = {} if flag is TransferFlags.void_pending_transfer else {"amount": hold.amount}
        pending = str(uuid.UUID(bytes=hold.id))
        await self._send(hold.debit_account_id, pending_id=pending, flags=[flag.name], **amount)

    async def _take_id(self, flow: str) -> None:
        """Create, or have declined, a transfer under an id that a flow will derive."""
        await asyncio.sleep(self._chance.random() * 2)
        steps = [
            number
            for number, step in enumerate(self._world.table.steps)
            if step.kind in {"hold", "move", "chain", "post"}
        ]
        if not steps:
            return
        taken = transfer_id(uuid.UUID(flow).bytes, self._chance.choice(steps), 0, 1)
        accounts = self._world.accounts_by_name
        nobody = str(uuid.UUID(int=self._chance.getrandbits(128)))
        debit = self._chance.choice([accounts["transit"], nobody])
        await self._send(
            uuid.UUID(debit).bytes,
            id=str(uuid.UUID(bytes=taken)),
            debit_account_id=debit,
            credit_account_id=accounts["payee"],
            amount=1,
            ledger=1,
            code=2,
        )
