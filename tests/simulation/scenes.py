"""A scene: a small world on a network that is always the same, and what happens in it."""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from engine.settings import WorkerSettings
from tests.simulation.database import Gate
from tests.simulation.judge import Judge
from tests.simulation.loop import simulate
from tests.simulation.world import SETTINGS, Participant, World, sized, told_to

DEBIT_LIMIT, CREDIT_LIMIT = "debits_must_not_exceed_credits", "credits_must_not_exceed_debits"


class Scene(World):
    """A world with short words for what tests do in it."""

    def __init__(self, shard_count: int, settings: WorkerSettings) -> None:
        super().__init__(None, shard_count, settings)
        self._numbers = itertools.count(1)
        self._requests = itertools.count(1)

    def transfer(self, debit: str, credit: str, amount: Any, *flags: str, **more: Any) -> Any:
        """A transfer with an id of its own."""
        made = {
            "id": str(uuid.UUID(int=next(self._numbers) | (7 << 120))),
            "debit_account_id": debit,
            "credit_account_id": credit,
            "amount": amount,
            "ledger": 1,
            "code": 1,
        }
        return made | ({"flags": list(flags)} if flags else {}) | more

    def ending(self, hold: Any, flag: str = "post_pending_transfer", **more: Any) -> Any:
        """A post or void of a hold."""
        made = str(uuid.UUID(int=next(self._numbers) | (7 << 120)))
        return {"id": made, "pending_id": hold["id"], "flags": [flag]} | more

    async def push(self, shard: int, *transfers: Any) -> str:
        """Add an entry; returns its request."""
        request = f"r{next(self._requests)}"
        await self.send(shard, list(transfers), request)
        return request

    async def answer(self, request: str, seconds_max: float = 60.0) -> list[str]:
        """What a request is answered, once it is."""
        await asyncio.wait_for(self.heard[request].wait(), seconds_max)
        return self.told(request)

    def told(self, request: str) -> Any:
        """What a request was answered; None where it was not."""
        found = [one.outcomes for one in self.answers if one.request == request]
        assert len(found) <= 1, f"{request} was answered twice: {found}"
        return found[0] if found else None

    async def ask(self, shard: int, *transfers: Any) -> list[str]:
        """Add an entry and wait for its answer."""
        return await self.answer(await self.push(shard, *transfers))

    async def worker(
        self, name: str, shards: Sequence[int] | None = None, skew: float = 0.0
    ) -> Participant:
        """A worker that reads all its shards by now."""
        made = self.participant(name, shards)
        made.skew = skew
        await self.ready(made)
        return made

    async def ready(self, one: Participant) -> None:
        """Wait until a worker reads all its shards."""
        await self.until(one.worker.ready.is_set, f"{one.name} to be ready")

    def before(self, statement: str, one: Participant) -> Gate:
        """A gate before a worker's next statement of that name."""
        return self.database.gate(statement, one.connection_name)

    def after(self, statement: str, one: Participant) -> Gate:
        """A gate behind it, before the answer."""
        return self.database.gate(statement, one.connection_name, after=True)

    async def reached(self, gate: Gate, seconds_max: float = 60.0) -> None:
        """Wait until somebody stands at a gate."""
        await asyncio.wait_for(gate.reached.wait(), seconds_max)

    def balance(self, account: str) -> tuple[int, int, int, int]:
        """The four counters of an account as they are committed."""
        snapshot, tables = self.database.snapshot(), self.database.tables
        row = tables["accounts"].one(snapshot, "accounts_pkey", uuid.UUID(account).bytes)
        assert row is not None
        newest: dict[int, Any] = {}
        for posting in tables["posted"].all(snapshot):
            if posting["stripe"] >> 10 == row["number"]:
                last = newest.setdefault(posting["stripe"], posting)
                if posting["version"] > last["version"]:
                    newest[posting["stripe"]] = posting
        names = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
        a, b, c, d = (sum(one[name] for one in newest.values()) for name in names)
        return a, b, c, d

    def number_of(self, account: str) -> int:
        """The number of an account."""
        snapshot, tables = self.database.snapshot(), self.database.tables
        row = tables["accounts"].one(snapshot, "accounts_pkey", uuid.UUID(account).bytes)
        assert row is not None
        number: int = row["number"]
        return number

    def owner(self, shard: int) -> str:
        """The name of who owns a shard."""
        return self.name_of(self.owner_of(shard))

    def count(self, table: str, **wanted: Any) -> int:
        """How many committed rows of a table are like this."""
        rows = self.database.tables[table].all(self.database.snapshot())
        return sum(all(row[name] == value for name, value in wanted.items()) for row in rows)


def scenario(
    *,
    shard_count: int = 4,
    settings: WorkerSettings = SETTINGS,
    by_copy: bool = False,
    ahead_transfers_min: int = 1,
    waiting_max: int = 100_000,
) -> Callable[[Callable[[Scene], Awaitable[None]]], Callable[[], None]]:
    """Make a test of a scene, judged as every run is.

    Args:
        shard_count: Of the ledger.
        settings: Of the workers.
        by_copy: Whether every flush goes by COPY.
        ahead_transfers_min: While a flush is under way fewer than these wait.
        waiting_max: Of each shard so many transfers may wait for a thaw.
    """

    def decorate(play: Callable[[Scene], Awaitable[None]]) -> Callable[[], None]:
        def test() -> None:
            scene = Scene(shard_count, settings)

            async def whole() -> None:
                try:
                    await play(scene)
                finally:
                    await scene.end()

            small = 0 if by_copy else 400
            sizes = sized(
                small_postings_max=small,
                ahead_transfers_min=ahead_transfers_min,
                waiting_max=waiting_max,
            )
            with told_to(scene), sizes:
                try:
                    simulate(whole())
                    Judge(scene).judge()
                except BaseException:
                    print("\n".join(scene.story()))
                    raise

        test.__name__ = getattr(play, "__name__", "test")
        test.__doc__ = play.__doc__
        return test

    return decorate
