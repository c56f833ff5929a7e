"""Flows for a run of kills: what they are, who asks for them, and what their partner does.

Everything follows from the seed and a flow's id, so that whoever is started again asks the same.
`python -m tests.chaos.flow_load work|send ...` is one of the processes that are killed.
"""

import argparse
import asyncio
import contextlib
import ctypes
import hashlib
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import structlog

from engine.errors import EngineError
from engine.flows import Account, Amount, Flow, Input
from engine.flows.calls import Item
from engine.flows.client import FlowClient, connect_flows
from engine.flows.store import FlowStore
from engine.flows.streams import FlowStreams
from engine.flows.worker import FlowWorker
from tests.processes import PR_SET_PDEATHSIG

CHUNK: Final = 250
LARGE: Final = 1000
"""Above it a person is asked."""

LEASE_SECONDS: Final = 1.5


class Payout(Input):
    wallet: Account
    amount: Amount


def drawn(flow: uuid.UUID, what: str) -> int:
    """A number that follows from a flow."""
    return int.from_bytes(hashlib.sha256(flow.bytes + what.encode()).digest()[:4])


def is_done(flow: uuid.UUID) -> bool:
    """Whether the partner does what a flow asks of it."""
    return drawn(flow, "partner") % 5 > 0


async def partner(items: list[Item]) -> list[str]:
    """It does it or refuses; of one in eight nothing is heard."""
    told = []
    for item in items:
        flow = uuid.UUID(bytes=item.flow)
        silent = drawn(flow, "silent") % 8 == 0
        told.append("unknown" if silent else "done" if is_done(flow) else "refused")
    await asyncio.sleep(0.05)
    return told


async def look(items: list[Item]) -> list[str]:
    """What became of it."""
    return ["done" if is_done(uuid.UUID(bytes=item.flow)) else "refused" for item in items]


def paying() -> Flow:
    """Hold, a review where it is large, a partner, the bank; post or void."""
    flow = Flow("paying", version=1, input=Payout, ledger=1)
    hold = flow.hold(debit=Payout.wallet, credit="in-transit", amount=Payout.amount, code=1)
    check = flow.review("so much?", when=Payout.amount > LARGE)
    call = flow.call(partner, within="2s")
    found = flow.call(look, within="2s", name="look")
    again, bank = flow.sleep("200ms"), flow.wait("bank")
    post, void = flow.post(hold), flow.void(hold)
    hold.created.go(check)
    hold.declined.end("declined")
    check.approved.go(call)
    check.refused.go(void)
    for step in (call, found):
        step.done.go(bank)
        step.refused.go(void)
    call.unknown.go(found)
    person = flow.review("was it done?", name="person")
    person.on("yes").go(bank)
    person.on("no").go(void)
    found.unknown.go(again, limit=200, otherwise=person)
    again.done.go(found)
    bank.on("settled").go(post)
    bank.on("rejected").go(void)
    post.done.end("paid")
    void.done.end("not paid")
    return flow


def item_of(seed: int, number: int) -> dict[str, Any]:
    """What a flow is started with."""
    flow = uuid.UUID(bytes=hashlib.sha256(f"{seed} {number}".encode()).digest()[:16])
    amount = LARGE + 1 if number % 50 == 0 else 1 + number % 90
    return {"id": str(flow), "wallet": "wallet", "amount": amount}


def signal_of(item: dict[str, Any]) -> dict[str, Any]:
    """What the bank says of a flow."""
    event = "settled" if drawn(uuid.UUID(item["id"]), "bank") % 3 else "rejected"
    return {"flow": item["id"], "name": "bank", "event": event, "message_id": "1"}


class Sender:
    """Starts, signals and decides, again until it is answered."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[FlowClient]:
        servers = self._options.postgres_dsn, self._options.redis_url
        async with connect_flows(
            *servers, prefix=self._options.prefix, timeout_seconds=3
        ) as client:
            yield client

    async def _until_answered(self, ask: Callable[[FlowClient], Awaitable[Any]]) -> Any:
        while True:
            try:
                async with self._client() as client:
                    return await ask(client)
            except (EngineError, OSError):
                await asyncio.sleep(0.2)

    async def send(self) -> None:
        """All flows, a chunk after the other; then people decide until none is open."""
        seed, flows = self._options.seed, self._options.flows
        record = self._options.record
        # Who comes after one that was killed does its last chunk once more.
        begin = int(record.read_text()) if record.exists() else 0
        for first in range(begin, flows, CHUNK):
            record.write_text(str(first))
            items = [item_of(seed, n) for n in range(first, min(first + CHUNK, flows))]
            signals = [signal_of(item) for item in items]
            await self._until_answered(lambda c, s=signals[::5]: c.signal(s))  # too early
            await self._until_answered(lambda c, i=items: c.start("paying", i, by="starter"))
            await self._until_answered(lambda c, s=signals: c.signal(s))
            await self._until_answered(self._decide)
            await asyncio.sleep(self._options.pause)
        while await self._until_answered(self._decide):  # noqa: ASYNC110 - it decides
            await asyncio.sleep(0.3)

    async def _decide(self, client: FlowClient) -> int:
        reviews = await client.reviews()
        decisions = [
            {
                "flow": str(uuid.UUID(bytes=review["id"])),
                "name": ":decide",
                "event": "refused" if drawn(uuid.UUID(bytes=review["id"]), "p") % 4 == 0
                else "approved",
                "message_id": uuid.uuid4().hex,
                "body": {"by": "ben", "seq": review["seq"]},
            }
            for review in reviews
            if review["question"] == "so much?"
        ]  # fmt: skip
        await client.signal(decisions)
        opened = await client.open_flows()
        return len(opened)


async def work(options: argparse.Namespace) -> None:
    """A flow worker, until it is killed."""
    worker = uuid.uuid4().bytes
    streams = FlowStreams(options.redis_url, options.prefix, f"flows-{worker.hex()}")
    store = FlowStore(options.postgres_dsn, worker)
    functions = {"partner": partner, "look": look}
    await FlowWorker(store, streams, 0, functions, LEASE_SECONDS).run()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["work", "send"])
    parser.add_argument("--postgres-dsn", required=True)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flows", type=int, default=0)
    parser.add_argument("--record", type=Path, help="what a sender has begun")
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(work(options) if options.what == "work" else Sender(options).send())


if __name__ == "__main__":
    main()
