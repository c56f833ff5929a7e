"""A payout whose worker is killed at every point of it: it ends as without."""

import asyncio
import uuid

import pytest

from tests.flow_examples import payout
from tests.simulation.flow_world import FlowWorld
from tests.simulation.judge_flows import faults_of
from tests.simulation.loop import simulate
from tests.simulation.world import told_to

STEP = 0.0001
"""How long a message takes in this world: between two such times lie at most two awaits."""

FLOW = "00000000-0000-0000-0000-000000000700"
PIECES = 4


async def _live(world: FlowWorld, kill_at: float | None) -> tuple[float, str]:
    """Returns when the worker had started and how long the payout took, and its end."""
    world.accounts_by_name = {name: world.account(0) for name in ("wallet", "in-transit")}
    world.define()
    world.participant("w0")
    victim = world.flow_participant("f0")
    await world.until(lambda: len(victim.owned) == 1, "the shard")
    begun = asyncio.get_running_loop().time()
    item = {"id": FLOW, "wallet": world.accounts_by_name["wallet"], "amount": 5}
    signal = {"flow": FLOW, "name": "bank", "event": "settled", "message_id": "1"}

    async def kill() -> None:
        if kill_at is not None:
            await asyncio.sleep(kill_at)
            victim.kill()
            world.flow_participant("f1")

    async def ask() -> None:
        [outcome] = await world.ask("flows", [item], flow="payout", by="ann")
        assert outcome in {"created", "exists"}
        [outcome] = await world.ask("signals", [signal])
        assert outcome in {"created", "exists"}

    killing = asyncio.ensure_future(kill())
    await ask()
    flow = uuid.UUID(FLOW).bytes
    await world.until(lambda: world.last_rows()[flow].state == "ended", "the end")
    took = asyncio.get_running_loop().time() - begun
    await killing
    end = world.last_rows()[flow].event
    await world.end()
    return took, end


def _payout(kill_at: float | None) -> float:
    world = FlowWorld(None, 1, payout())
    with told_to(world):
        took, end = simulate(_live(world, kill_at))
    assert end == "paid"
    assert faults_of(world) == []
    created = [s for s in world.spent().values() if s.transfer is not None]
    assert len(created) == 2
    assert len([r for r in world.rows("steps") if r["signal"]]) == 1
    return took


@pytest.mark.parametrize("piece", range(PIECES))
def test_sigkill_between_every_two_awaits_of_a_payout(piece: int) -> None:
    took = _payout(None)
    points = int(took / STEP)
    assert points > 40
    for place in range(piece, points, PIECES):
        _payout(place * STEP)
