"""A ledger with flow workers, on real servers, and a client of theirs."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from engine.flows import Flow
from engine.flows.client import FlowClient, connect_flows
from engine.flows.store import FlowStore
from engine.flows.streams import FlowStreams
from engine.flows.worker import FlowWorker
from tests.bounds import CONDITION_SECONDS_MAX
from tests.ledgers import Ledger, make_ledger, ready, until
from tests.verifying import assert_verified


class FlowDesk:
    """Accounts wallet, in-transit, a, b; one ledger worker; flow workers as asked for."""

    def __init__(self, ledger: Ledger, client: FlowClient) -> None:
        self.ledger = ledger
        self.client = client

    def worker(self, lease_seconds: float = 5.0, **functions: Any) -> FlowWorker:
        worker = uuid.uuid4().bytes
        streams = FlowStreams(self.ledger.redis_url, self.ledger.prefix, f"flows-{worker.hex()}")
        store = FlowStore(self.ledger.engine_dsn, worker)
        return FlowWorker(store, streams, self.ledger.shard_count, functions, lease_seconds)

    @contextlib.asynccontextmanager
    async def working(self, *workers: FlowWorker) -> AsyncIterator[list[FlowWorker]]:
        running = list(workers) or [self.worker()]
        tasks = [asyncio.create_task(worker.run()) for worker in running]
        try:
            for worker, task in zip(running, tasks, strict=True):
                await ready(worker, task)  # type: ignore[arg-type]
            yield running
        finally:
            for worker in running:
                worker.stop()
            done, stuck = await asyncio.wait(tasks, timeout=CONDITION_SECONDS_MAX)
            assert not stuck, "a flow worker does not stop"
            for task in done:
                await task

    async def define(self, flow: Flow) -> None:
        await self.client.define(flow.table())

    async def start(self, name: str = "payout", **more: Any) -> str:
        """Start one payout of 500; returns its id."""
        written = {"id": str(uuid.uuid4()), "wallet": "wallet", "amount": 500} | more
        flow = str(written["id"])
        assert await self.client.start(name, [written], by="ann") == ["created"]
        return flow

    async def signal(self, flow: str, event: str, message_id: str = "m1", **more: Any) -> str:
        written = {"flow": flow, "name": "bank", "event": event, "message_id": message_id} | more
        return (await self.client.signal([written]))[0]

    async def ask(self, flow: str, what: str, event: str = "", **body: Any) -> str:
        written = {
            "flow": flow,
            "name": f":{what}",
            "event": event,
            "message_id": uuid.uuid4().hex,
            "body": body,
        }
        return (await self.client.signal([written]))[0]

    async def current(self, flow: str) -> Mapping[str, Any]:
        found = await self.client.current([uuid.UUID(flow).bytes])
        return found[0] if found else {}

    async def ends(self, flow: str, end: str, seconds_max: float = CONDITION_SECONDS_MAX) -> None:
        async def ended() -> bool:
            return (await self.current(flow)).get("end") is not None

        await until(ended, f"the end of flow {flow}: {await self.current(flow)}", seconds_max)
        assert (await self.current(flow))["end"] == end

    async def waits(self, flow: str, what: str, seconds_max: float = CONDITION_SECONDS_MAX) -> None:
        async def waiting() -> bool:
            return (await self.current(flow)).get("waiting_for") == what

        await until(waiting, f"flow {flow} to wait for {what}", seconds_max)

    async def balance(self, name: str) -> tuple[int, int, int, int]:
        [row] = await self.ledger.sql(
            "SELECT b.* FROM ledger.balances b JOIN ledger.accounts a ON a.id = b.account_id"
            " WHERE a.name = $1",
            name,
        )
        return tuple(  # type: ignore[return-value]
            row[f"{side}_{kind}"]
            for side in ("debits", "credits")
            for kind in ("pending", "posted")
        )

    async def verify(self) -> None:
        await assert_verified(self.ledger)


@contextlib.asynccontextmanager
async def flow_desk(
    dsn: str, redis_url: str, *, shard_count: int = 4, working: bool = True
) -> AsyncIterator[FlowDesk]:
    """A desk over a new ledger with a ledger's worker."""
    ledger = await make_ledger(dsn, redis_url, shard_count=shard_count)
    for name in ("wallet", "in-transit", "a", "b"):
        flags = ["debits_must_not_exceed_credits"] if name == "poor" else []
        await ledger.sql(
            "INSERT INTO ledger.accounts (id, ledger, code, name, flags) VALUES ($1, 1, 1, $2, $3)",
            uuid.uuid4(),
            name,
            flags,
        )
    async with contextlib.AsyncExitStack() as stack:
        if working:
            await stack.enter_async_context(ledger.working())
        client = await stack.enter_async_context(
            connect_flows(ledger.app_dsn, ledger.redis_url, prefix=ledger.prefix)
        )
        yield FlowDesk(ledger, client)
