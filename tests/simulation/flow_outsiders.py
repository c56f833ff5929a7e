"""Who is no part of any flow, and meddles: takes ids, ends holds by hand."""

import asyncio
import random
import uuid
from typing import Any

from engine.flows.ids import transfer_id
from engine.ledger.nouns import TransferFlags, shard_of
from tests.simulation.flow_world import FlowWorld


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
        await asyncio.gather(*acts)

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
