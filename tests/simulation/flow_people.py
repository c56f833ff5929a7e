"""People who decide reviews, twice and late, and see to flows that have stopped."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from engine.ledger.nouns import TransferFlags, shard_of
from tests.simulation.flow_world import FlowWorld


class People:
    """Those who look after the flows of one world."""

    def __init__(self, world: FlowWorld) -> None:
        self._world = world
        self._chance = world.chance
        self._sent = 0

    async def see_to_reviews(self) -> None:
        """Decide what is asked, and see to what has stopped, for ever."""
        while True:
            await asyncio.sleep(self._chance.choice([0.2, 0.6, 1.5]))
            if not self._world.database.up:
                continue
            for review in self._world.rows("reviews"):
                if review["ended_at"] is None and self._chance.random() < 0.6:
                    await self._decide(review)
            for row in self._world.last_rows().values():
                if row.state == "stopped":
                    await self._resume(row.flow)

    async def _decide(self, review: Mapping[str, Any]) -> None:
        flow, answers = str(uuid.UUID(bytes=review["flow"])), sorted(review["answers"])
        signals = [r for r in self._world.rows("inbox") if r["flow"] == review["flow"]]
        seen = max((r["number"] for r in signals if not r["name"].startswith(":")), default=0)
        await asyncio.sleep(self._chance.choice([0.0, 0.0, 0.5]))
        people = self._chance.sample(["starter", "ann", "ben"], self._chance.choice([1, 1, 2]))
        acts = [
            self._world.say(
                flow, ":decide", self._chance.choice(answers), by=by, seq=review["seq"], seen=seen
            )
            for by in people
        ]
        outcomes = await asyncio.gather(*acts)
        if dict(zip(people, outcomes, strict=True)).get("starter") == "decided":
            self._world.faults.append(f"review {flow} was decided by who started the flow")
        if outcomes.count("decided") > 1:
            self._world.faults.append(f"review {flow} {review['seq']} was decided twice")

    async def _resume(self, flow: bytes) -> None:
        """Void by hand what a stopped flow has left open, and let it go on, or say that another
        has its id."""
        last = self._world.last_rows()[flow]
        bad = {"declined", "failed"} & set(self._world.table.steps[last.step].branches)
        if last.event.startswith("id_taken") and bad and self._chance.random() < 0.5:
            said = {"by": "ann", "reason": "by hand"}
            await self._world.say(str(uuid.UUID(bytes=flow)), ":resolve", bad.pop(), **said)
            return
        for hold in self._world.open_holds().values():
            if hold.user_data_128 == flow:
                voided = {
                    "id": str(uuid.UUID(int=self._chance.getrandbits(128))),
                    "pending_id": str(uuid.UUID(bytes=hold.id)),
                    "flags": [TransferFlags.void_pending_transfer.name],
                }
                home = shard_of(hold.debit_account_id, self._world.database.shard_count)
                self._sent += 1
                if self._world.log.up:
                    await self._world.send(home, [voided], f"by hand {self._sent}")
        await self._world.say(str(uuid.UUID(bytes=flow)), ":resume", "", by="ann")
