"""The demo's second part: a payout in several steps, with a person and a partner that times out."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from engine.client import Client
from engine.commands.demo_load import LEDGER
from engine.commands.flow_worker import make_worker
from engine.commands.screen import out, print_table
from engine.errors import InvariantBroken
from engine.flows import Account, Amount, Flow, Input
from engine.flows.calls import Item
from engine.flows.client import FlowClient, connect_flows
from engine.operating.account_names import new_id
from engine.servers import Addresses
from engine.settings import stream_prefix
from engine.store.reports import Reports
from engine.wire.fields import uuid_of, uuid_text

LOOKS: Final = 3
"""The partner knows at the third look what became of the payment."""

SECONDS_MAX: Final = 60.0
_LOOK_SECONDS: Final = 0.05


class Payout(Input):
    """What a payout is started with."""

    shop: Account
    amount: Amount


class Partner:
    """A bank that pays, and says so too late."""

    def __init__(self) -> None:
        self.paid: list[bytes] = []
        """Keys of the payments that it has made."""
        self._looks = 0

    async def pay(self, items: list[Item]) -> list[str]:
        """Make payments; the answer comes when nobody waits for it any more."""
        self.paid += [item.key for item in items]
        await asyncio.sleep(5)
        return ["done"] * len(items)

    async def look(self, items: list[Item]) -> list[str]:
        """Say what became of payments, once it is known."""
        self._looks += 1
        return ["done" if self._looks >= LOOKS else "unknown"] * len(items)


def payout(partner: Partner) -> Flow:
    """Hold, a review where it is large, the partner, and if need be a look what it did."""
    flow = Flow("payout", version=1, input=Payout, ledger=LEDGER)
    hold = flow.hold(debit=Payout.shop, credit="in transit", amount=Payout.amount, code=30)
    check = flow.review("large payout", when=Payout.amount > 10_00, within="24h")
    pay = flow.call(partner.pay, within="1s")
    look = flow.call(partner.look, within="5s")
    later = flow.sleep("300ms")
    person = flow.review("what became of it?")
    settle = flow.post(hold)
    free = flow.void(hold)
    hold.created.go(check)
    hold.declined.end("declined")
    check.approved.go(pay)
    check.refused.go(free)
    check.late.go(free)
    for step in (pay, look):
        step.done.go(settle)
        step.refused.go(free)
    pay.unknown.go(look)
    look.unknown.go(later, limit=10, otherwise=person)
    later.done.go(look)
    person.on("paid").go(settle)
    person.on("not paid").go(free)
    settle.done.end("paid")
    free.done.end("not paid")
    return flow


class FlowStory:
    """Tells it, with what is held and moved at each turn, and the journal at the end.

    Args:
        client: To create an account by.
        reports: To look balances up in Postgres.
        addresses: Of the servers.
        shop: The id of an account with money on it.
        silent: Do it all and print nothing.
    """

    def __init__(
        self,
        client: Client,
        reports: Reports,
        addresses: Addresses,
        shop: str,
        *,
        silent: bool,
    ) -> None:
        self._client = client
        self._reports = reports
        self._addresses = addresses
        self._shop = shop
        self._silent = silent
        self._flow = uuid.UUID(bytes=new_id())
        self.end = ""

    async def tell(self) -> None:
        """Start a payout, decide its review, wait until it is known to be paid."""
        self._say("The bakery is paid out 20.00 in several steps: a flow, and all of it is rows.")
        account = {"id": uuid_text(new_id()), "ledger": LEDGER, "code": 4, "name": "in transit"}
        await self._client.create_accounts([account])
        partner = Partner()
        flow = payout(partner)
        async with self._working(flow) as client:
            await client.define(flow.table())
            item = {"id": str(self._flow), "shop": self._shop, "amount": 20_00}
            await self._ask(client.start("payout", [item], by="ann"), "created")
            await self._until(client, lambda now: now["waiting_for"] == "review")
            self._say("The money is held. Above 10.00 a person is asked, and not who started it.")
            await self._decide(client, "ann", "not_by_starter")
            await self._decide(client, "ben", "decided")
            await self._until(client, lambda now: now["step"] in {"look", "later"})
            self._say(
                "The partner does not answer within a second: done or not, nobody knows. Nothing "
                "is\nvoided or sent again; it is asked what became of it."
            )
            await self._show_held()
            ended = await self._until(client, lambda now: now["state"] == "ended")
            self.end = str(ended["end"])
            self._say(f"It has paid after all, once: the flow ends as {self.end}. The journal:")
            steps = await client.steps(self._flow.bytes)
            self._table(
                ["seq", "step", "state", "event", "transfer"],
                [(r["seq"], r["step"], r["state"], r["event"] or "",
                  "" if r["transfer_id"] is None else uuid_text(r["transfer_id"])) for r in steps],
            )  # fmt: skip
        if self.end != "paid" or len(partner.paid) != 1:
            raise InvariantBroken(f"a payout ended as {self.end}, paid {len(partner.paid)} times")

    @asynccontextmanager
    async def _working(self, flow: Flow) -> AsyncIterator[FlowClient]:
        """A flow worker, and a client of it."""
        worker = make_worker(self._addresses, flow.functions)
        task = asyncio.create_task(worker.run())
        try:
            async with connect_flows(*self._addresses, prefix=stream_prefix()) as client:
                yield client
        finally:
            worker.stop()
            await task

    async def _until(
        self, client: FlowClient, condition: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                [now] = await client.current([self._flow.bytes])
                if condition(now):
                    return now
                await asyncio.sleep(_LOOK_SECONDS)

    async def _ask(self, asking: Coroutine[Any, Any, list[str]], expected: str) -> None:
        [outcome] = await asking
        if outcome != expected:
            raise InvariantBroken(f"a payout was answered {outcome}, and not {expected}")

    async def _decide(self, client: FlowClient, by: str, expected: str) -> None:
        [review] = await client.reviews(self._flow.bytes)
        message = {
            "flow": str(self._flow), "name": ":decide", "event": "approved",
            "message_id": uuid.uuid4().hex, "body": {"by": by, "seq": review["seq"]},
        }  # fmt: skip
        await self._ask(client.signal([message]), expected)
        self._line(f"  {by} approves {review['question']!r}: {expected}")

    async def _show_held(self) -> None:
        [balance] = await self._reports.balances([uuid_of(self._shop)])
        held = balance.debits_pending
        self._line(f"  bakery: {held // 100}.{held % 100:02} held, spendable by nobody")

    def _say(self, text: str) -> None:
        self._line(f"\n{text}", style="bold")

    def _line(self, text: str, style: str = "") -> None:
        if not self._silent:
            out.print(text, style=style)

    def _table(self, columns: list[str], rows: list[tuple[object, ...]]) -> None:
        if not self._silent:
            print_table(columns, rows, numbers=columns[:1])
