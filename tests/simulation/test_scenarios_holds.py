"""Holds and time: ended once, where they were decided, by clocks that differ."""

import asyncio

from tests.simulation.scenes import Scene, scenario


@scenario()
async def test_a_hold_lapses_while_its_id_is_taken_for_a_new_one(scene: Scene) -> None:
    """Sent again to a worker that has forgotten it; the flush that takes it is still under way."""
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first", [0])
    hold = scene.transfer(a, b, 5, "pending", timeout=3)
    assert await scene.ask(0, hold) == ["created"]
    first.kill()
    second = await scene.worker("second", [0])
    gate = scene.before("flush_small", second)
    again = await scene.push(0, hold)
    await scene.reached(gate)
    await asyncio.sleep(4)
    other = await scene.push(0, scene.transfer(a, b, 1))
    await asyncio.sleep(0.1)
    gate.open()
    assert await scene.answer(again) == ["exists"]
    assert await scene.answer(other) == ["created"]
    await scene.until(lambda: scene.count("resolutions", status="expired") == 1, "the lapse")
