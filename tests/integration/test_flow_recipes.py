"""Recipes: flows that a payments company needs, each run to its ends on real servers."""

import asyncio
import uuid
from typing import Any

import pytest

from engine.flows import Account, Amount, Flow, Input
from tests.flow_desks import flow_desk
from tests.ledgers import until


class Escrow(Input):
    buyer: Account
    seller: Account
    amount: Amount
    fee: Amount


def escrow() -> Flow:
    """The buyer's money is held until delivery; a dispute is a person's."""
    flow = Flow("escrow", version=1, input=Escrow, ledger=1)
    hold = flow.hold(debit=Escrow.buyer, credit="in-transit", amount=Escrow.amount, code=1)
    delivery = flow.wait("delivery", within="14d", nothing_sent=True)
    release = flow.post(hold)
    share = flow.chain(
        {"debit": "in-transit", "credit": Escrow.seller, "amount": Escrow.amount, "code": 2},
        {"debit": Escrow.seller, "credit": "b", "amount": Escrow.fee, "code": 3},
    )
    back = flow.void(hold)
    dispute = flow.review("who is right?", within="30d")
    hold.created.go(delivery)
    hold.declined.end("declined")
    delivery.on("delivered").go(release)
    delivery.on("disputed").go(dispute)
    delivery.late.go(release)
    dispute.approved.go(release)
    dispute.refused.go(back)
    dispute.late.go(back)
    release.done.go(share)
    share.created.end("released")
    share.declined.review("not shared: what now?", seen=flow.end("released, not shared"))
    back.done.end("returned")
    return flow


class Plan(Input):
    payer: Account
    payee: Account
    amount: Amount


def instalments() -> Flow:
    """Three instalments; one that is declined is tried again once, then a person decides."""
    flow = Flow("instalments", version=1, input=Plan, ledger=1)
    pay = flow.move("pay", debit=Plan.payer, credit=Plan.payee, amount=Plan.amount, code=1)
    pause = flow.sleep("200ms", name="pause")
    again = flow.sleep("100ms", name="again")
    person = flow.review("unpaid: forgive?")
    pay.created.go(pause)
    pause.done.go(pay, limit=2, otherwise=flow.end("paid"))
    pay.declined.go(again, limit=1, otherwise=person)
    again.done.go(pay)
    person.approved.end("forgiven")
    person.refused.end("defaulted")
    return flow


def top_up() -> Flow:
    """Money is credited at once, and moved back where the card is charged back."""
    flow = Flow("top-up", version=1, input=Plan, ledger=1)
    credit = flow.move(debit=Plan.payer, credit=Plan.payee, amount=Plan.amount, code=1)
    card = flow.wait("card", within="120d")
    back = flow.reverse(credit)
    credit.created.go(card)
    credit.declined.end("declined")
    card.on("settled").end("kept")
    card.on("charged back").go(back)
    card.late.review("did it settle?", settled=flow.end("kept"), charged_back=back)
    back.created.end("taken back")
    back.declined.review("spent already", seen=flow.end("owed"))
    return flow


def subscription() -> Flow:
    """A payment a period, until it is declined or the periods are over."""
    flow = Flow("subscription", version=1, input=Plan, ledger=1)
    pay = flow.move(debit=Plan.payer, credit=Plan.payee, amount=Plan.amount, code=1)
    period = flow.sleep("100ms")
    pay.created.go(period)
    pay.declined.end("stopped for want of funds")
    period.done.go(pay, limit=3, otherwise=flow.end("over"))
    return flow


async def started(desk: Any, name: str, **written: Any) -> str:
    flow = str(uuid.uuid4())
    assert await desk.client.start(name, [{"id": flow} | written]) == ["created"]
    return flow


async def test_recipes_run_to_their_ends(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        for make in (escrow, instalments, top_up, subscription):
            await desk.define(make())
        order = {"buyer": "wallet", "seller": "a", "amount": 100, "fee": 7}
        plan = {"payer": "wallet", "payee": "b", "amount": 10}

        released = await started(desk, "escrow", **order)
        disputed = await started(desk, "escrow", **order)
        for flow, event in ((released, "delivered"), (disputed, "disputed")):
            signal = {"flow": flow, "name": "delivery", "event": event, "message_id": "1"}
            assert await desk.client.signal([signal]) == ["created"]
        await desk.waits(disputed, "review")
        assert await desk.ask(disputed, "decide", "refused", by="ben") == "decided"
        await desk.ends(released, "released")
        await desk.ends(disputed, "returned")
        assert await desk.balance("wallet") == (0, 100, 0, 0)
        assert await desk.balance("a") == (0, 7, 0, 100)

        paid = await started(desk, "instalments", **plan)
        over = await started(desk, "subscription", **plan)
        await desk.ends(paid, "paid")
        await desk.ends(over, "over")
        assert (await desk.balance("wallet"))[1] == 100 + 3 * 10 + 4 * 10

        kept = await started(desk, "top-up", **plan)
        gone = await started(desk, "top-up", **plan)
        for flow, event in ((kept, "settled"), (gone, "charged back")):
            signal = {"flow": flow, "name": "card", "event": event, "message_id": "1"}
            assert await desk.client.signal([signal]) == ["created"]
        await desk.ends(kept, "kept")
        await desk.ends(gone, "taken back")
        assert (await desk.balance("wallet")) == (0, 190, 0, 10)
        await desk.verify()


class Order(Input):
    wallet: Account
    amount: Amount


async def test_a_parent_waits_for_its_child(postgres_dsn: str, redis_url: str) -> None:
    parent = Flow("parent", version=1, input=Order, ledger=1)
    child = parent.start(
        "subscription",
        input={"payer": Order.wallet, "payee": "a", "amount": Order.amount},
        wait_end=True,
    )
    child.on("over").end("all paid")
    child.ended.end("not all paid")
    child.declined.end("not started")
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(subscription())
        await desk.define(parent)
        flow = await started(desk, "parent", wallet="wallet", amount=3)
        await desk.ends(flow, "all paid")
        refused = await started(desk, "parent", wallet="wallet", amount=3)
        await desk.ends(refused, "all paid")
        assert await desk.balance("a") == (0, 0, 0, 24)


# Cut off while it connects it leaves a socket to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_kills_at_random_under_load(postgres_dsn: str, redis_url: str) -> None:
    """Flow workers are cut off at random points, again and again: all flows end as without."""
    plan = {"payer": "wallet", "payee": "b", "amount": 1}
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(escrow())
        await desk.define(top_up())
        orders = [
            {"id": str(uuid.uuid4()), "buyer": "wallet", "seller": "a", "amount": 10, "fee": 1}
            for _ in range(150)
        ]
        plans = [{"id": str(uuid.uuid4())} | plan for _ in range(150)]
        signals = [
            {"flow": o["id"], "name": "delivery", "event": "delivered", "message_id": "1"}
            for o in orders
        ] + [
            {"flow": p["id"], "name": "card", "event": "charged back", "message_id": "1"}
            for p in plans
        ]
        stopping = asyncio.Event()

        async def work_and_die() -> None:
            while not stopping.is_set():
                worker = desk.worker(lease_seconds=0.5)
                task = asyncio.create_task(worker.run())
                await asyncio.sleep(0.7)
                # As a kill: everything is cut, nothing is given back.
                while not task.done():
                    task.cancel()
                    await asyncio.sleep(0.01)
                worker.store.drop()
                await worker.streams.close()

        dying = asyncio.create_task(work_and_die())
        pending: list[Any] = [
            asyncio.create_task(desk.client.start("escrow", orders)),
            asyncio.create_task(desk.client.signal(signals)),
            asyncio.create_task(desk.client.start("top-up", plans)),
        ]
        await asyncio.sleep(7)
        stopping.set()
        await dying
        async with desk.working(desk.worker(lease_seconds=1.0)):
            await asyncio.gather(*pending, return_exceptions=True)
            await desk.client.start("escrow", orders)
            await desk.client.start("top-up", plans)
            await desk.client.signal(signals)

            async def over() -> bool:
                rows = await desk.ledger.sql("SELECT count(*) AS n FROM flows.open")
                return bool(rows[0]["n"] == 0)

            await until(over, "all flows to end")
        ends = await desk.ledger.sql(
            'SELECT definition, "end", count(*) AS n FROM flows.current GROUP BY 1, 2 ORDER BY 1'
        )
        assert [tuple(row) for row in ends] == [
            ("escrow", "released", 150),
            ("top-up", "taken back", 150),
        ]
        assert await desk.balance("wallet") == (0, 1650, 0, 150)
        await desk.verify()
