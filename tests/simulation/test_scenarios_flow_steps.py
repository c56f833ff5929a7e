"""Scenes of flows that once were ways to lose money: partners who time out, workers who freeze."""

import asyncio
import uuid
from typing import Any

from engine.flows import Flow
from engine.ledger.nouns import ID_ZERO
from tests.flow_programs import Errand
from tests.simulation.flow_world import FlowWorld
from tests.simulation.judge_flows import faults_of
from tests.simulation.loop import simulate
from tests.simulation.world import told_to

FLOW = "00000000-0000-0000-0000-000000000700"
FUNDS = 10


class Slow(FlowWorld):
    """Its partner does what it is asked and says so long after the time that it was given; who
    looks finds it."""

    async def partner(self, items: list[Any]) -> Any:
        is_first = not self.called
        for item in items:
            self.note_call(item, "done")
        await asyncio.sleep(3 * is_first)
        return ["done"] * len(items)


def _transfer() -> Flow:
    flow = Flow("transfer", version=1, input=Errand, ledger=1)
    hold = flow.hold(debit=Errand.payer, credit=Errand.payee, amount=FUNDS, code=1)
    partner = flow.call("partner", within=0.2)
    look = flow.call("look", within=1)
    nap = flow.sleep(1)
    post, void = flow.post(hold), flow.void(hold)
    person = flow.review("was it done?")
    hold.created.go(partner)
    hold.declined.end("declined")
    partner.done.go(post)
    partner.refused.go(void)
    partner.unknown.go(nap)
    nap.done.go(look)
    look.done.go(post)
    look.refused.go(void)
    look.unknown.go(person)
    person.on("yes").go(post)
    person.on("no").go(void)
    post.done.end("paid")
    void.done.end("not paid")
    return flow


async def _live(world: FlowWorld) -> list[str]:
    payer, payee = world.account(0, "debits_must_not_exceed_credits"), world.account(0)
    world.accounts_by_name = {"payer": payer, "payee": payee}
    world.define()
    world.participant("w0")
    world.flow_participant("f0")
    ids = (str(uuid.UUID(int=number)) for number in range(1, 100))

    async def move(debit: str, credit: str, amount: int) -> None:
        name = next(ids)
        moved = {
            "id": name, "debit_account_id": debit, "credit_account_id": credit,
            "amount": amount, "ledger": 1, "code": 1,
        }  # fmt: skip
        await (await world.send(0, [moved], name)).wait()

    await move(payee, payer, FUNDS)
    item = {"id": FLOW, "payer": payer, "payee": payee}
    await world.ask("flows", [item], flow="transfer", by="ann")
    flow = uuid.UUID(FLOW).bytes
    await world.until(lambda: world.last_rows()[flow].state == "waiting", "what is unknown")
    assert [row.event for row in world.journals()[flow]][-2] == "unknown"
    assert len(world.open_holds()) == 1
    await move(payer, payee, 1)
    await world.until(lambda: world.last_rows()[flow].state == "ended", "the end")
    await asyncio.sleep(3)
    told = [name for answer in world.answers for name in answer.outcomes or []]
    world.quiet_at = world.database.clock()
    await world.end()
    return told


def test_a_call_does_its_work_and_times_out_and_is_posted_once() -> None:
    """Unknown is a state: the hold is open, its money cannot be spent, a look finds it done."""
    world = Slow(None, 1, _transfer())
    with told_to(world):
        told = simulate(_live(world))
    assert told == ["created", "exceeds_credits"]
    assert world.last_rows()[uuid.UUID(FLOW).bytes].event == "paid"
    created = [spent.transfer for spent in world.spent().values() if spent.transfer is not None]
    assert len([post for post in created if post.pending_id != ID_ZERO]) == 1
    assert not world.open_holds()
    assert faults_of(world) == []
