"""Producers: small histories, hostile on purpose, sent again until they are answered."""

import asyncio
import random
import uuid
from typing import Any

import redis.exceptions

from tests.simulation.log_client import LogClient
from tests.simulation.world import World

EDGES = [base + by for base in (2**40, 2**51, 2**60, 2**61, 2**62, 2**63 - 1) for by in (-1, 0, 1)]
"""Amounts about which something changes: who decides, which stripe takes it, what overflows."""

LIMITS = ("debits_must_not_exceed_credits", "credits_must_not_exceed_debits")


class Traffic:
    """What the producers of one world send.

    Args:
        world: Where to.
        chance: Of all that is drawn.
        seed: Of what is drawn apart.
    """

    def __init__(self, world: World, chance: random.Random, seed: int) -> None:
        self.world = world
        self.random = chance
        shards = world.database.shard_count
        self.accounts: list[str] = []
        for number in range(chance.randint(3, 6)):
            limit = chance.choice([(), (), (LIMITS[0],), (LIMITS[0],), (LIMITS[1],)])
            # The first has no limit, so that there is money.
            flags = limit if number else ()
            self.accounts.append(world.account(chance.randrange(shards), *flags))
        self.sent: list[dict[str, Any]] = []
        self.holds: list[dict[str, Any]] = []
        self.closes = chance.random() < 0.3
        self.times = chance.random() < 0.5
        # Drawn apart, so that the other runs stay as they are.
        self._edges = random.Random(f"edges {seed}")
        self._large = self._edges.choice([0.0, 0.0, 0.2, 0.6])
        self._at = self._edges.sample(EDGES, 3)

    def _id(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128)))

    def _amount(self) -> int:
        """A small one, or, in some worlds, one of a few at the edges."""
        small = self.random.randint(0, 9)
        if self._edges.random() >= self._large:
            return small
        return self._edges.choice(self._at)

    def entry(self) -> tuple[int, list[dict[str, Any]]]:
        """The next entry: the shard by whose stream it goes, and its transfers."""
        draw = self.random
        transfers = [self._transfer() for _ in range(draw.choice([1, 1, 2, 3, 5]))]
        if draw.random() < 0.25:
            for transfer in transfers[:-1]:
                transfer["flags"] = [*transfer.get("flags", []), "linked"]
        self.sent += transfers
        first = next((t for t in transfers if "debit_account_id" in t), None)
        if first is None or draw.random() < 0.15:
            return draw.randrange(self.world.database.shard_count), transfers
        home = int(first["debit_account_id"][-8:], 16)
        return home % self.world.database.shard_count, transfers

    def _transfer(self) -> dict[str, Any]:
        draw = self.random
        if self.sent and draw.random() < 0.12:
            again = draw.choice(self.sent[-4:] if draw.random() < 0.5 else self.sent)
            return (
                {**again, "amount": 4} if draw.random() < 0.2 and "amount" in again else {**again}
            )
        debit, credit = draw.sample(self.accounts, 2)
        if draw.random() < 0.3:
            debit = self.accounts[0] if credit != self.accounts[0] else debit
        transfer: dict[str, Any] = {
            "id": self._id(), "debit_account_id": debit, "credit_account_id": credit,
            "amount": self._amount(), "ledger": 1, "code": 1,
        }  # fmt: skip
        kind = draw.random()
        if kind < 0.15:
            transfer["flags"] = ["pending"]
            if self.times and draw.random() < 0.6:
                transfer["timeout"] = draw.choice([1, 1, 2])
            if self.closes and draw.random() < 0.3:
                transfer["flags"].append(draw.choice(["closing_debit", "closing_credit"]))
            self.holds.append(transfer)
        elif kind < 0.35 and self.holds:
            hold = draw.choice(self.holds)
            flag = draw.choice(["post_pending_transfer", "void_pending_transfer"])
            transfer = {"id": self._id(), "pending_id": hold["id"], "flags": [flag]}
        elif kind < 0.42:
            transfer["flags"] = [draw.choice(["balancing_debit", "balancing_credit"])]
            transfer["amount"] = draw.choice([5, "max"])
        elif kind < 0.45:
            transfer["credit_account_id"] = self._id()
        elif kind < 0.47:
            transfer["code"] = 0
        return transfer


class Producer:
    """One producer.

    Args:
        traffic: What it sends.
        name: Begins its requests.
        count: How many entries.
    """

    def __init__(self, traffic: Traffic, name: str, count: int) -> None:
        self.traffic = traffic
        self.world = traffic.world
        self.random = random.Random(traffic.random.random())
        self.name = name
        self.count = count
        self.unanswered: set[str] = set()

    async def run(self) -> None:
        """Send every entry, the next when the last is answered, or sooner."""
        waits = self.random.random() < 0.6
        sending = []
        for number in range(self.count):
            name = f"{self.name}.{number}"
            self.unanswered.add(name)
            shard, transfers = self.traffic.entry()
            task = asyncio.ensure_future(self._until_answered(name, shard, transfers))
            sending.append(task)
            if waits:
                await task
            await asyncio.sleep(self.random.choice(self.world.pauses))
        for task in sending:
            await task

    async def _until_answered(self, name: str, shard: int, transfers: list[dict[str, Any]]) -> None:
        heard = asyncio.Event()
        client = LogClient(self.world.log, self.world.network)
        attempt = 0
        while not heard.is_set():
            attempt += 1
            request = f"{name}.{attempt}"
            if not self.random.random() < self.world.network.loss:
                self.world.heard[request] = heard
            try:
                await self.world.send(shard, transfers, request, client)
                async with asyncio.timeout(self.random.choice([0.3, 1.0, 3.0])):
                    await heard.wait()
            except TimeoutError:
                pass
            except redis.exceptions.RedisError:
                await asyncio.sleep(0.2)
            if attempt > 2 and self.random.random() < 0.2:
                shard = self.random.randrange(self.world.database.shard_count)
        await client.aclose()
        self.unanswered.discard(name)
