"""Freezing a shard, declining, and the act itself."""

import asyncio

import pytest

from engine.errors import InputError, TryAgainError
from tests.simulation.freezer import freeze, thaw
from tests.simulation.scenes import Scene, scenario
from tests.simulation.test_scenarios_freezes import parked


@scenario()
async def test_freeze_a_shard_its_stream_is_not_read(scene: Scene) -> None:
    """Debits homed there wait wherever they come by; its own stream is let be; holds expire."""
    here, there = scene.account(0), scene.account(1)
    await scene.worker("w", [0, 1, 2, 3])
    hold = scene.transfer(here, there, 5, "pending", timeout=1)
    assert await scene.ask(0, hold) == ["created"]
    await freeze(scene, "shard", 0)
    unread = await scene.push(0, scene.transfer(here, there, 1))
    astray = await scene.push(1, scene.transfer(here, there, 2))
    await parked(scene, 1)
    # Credits to it, and other streams, go on.
    assert await scene.ask(1, scene.transfer(there, here, 3)) == ["created"]
    await scene.until(lambda: scene.count("resolutions", status="expired") == 1, "the expiry")
    stream = scene.log.streams[b"engine:transfers:{0000}"]
    assert len(stream.entries) == 1
    assert scene.told(unread) is None
    await thaw(scene, "shard", 0)
    assert await scene.answer(unread) == ["created"]
    assert await scene.answer(astray) == ["created"]


@scenario()
async def test_freeze_a_frozen_shard_is_moved_without_reading(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    await freeze(scene, "shard", 0)
    unread = await scene.push(0, scene.transfer(a, b, 1))
    new = scene.participant("new", [0])
    await asyncio.sleep(1)
    scene.database.ask_move(0, new.id)
    old.worker.stop()
    await scene.ready(new)
    await scene.until(lambda: scene.owner(0) == "new", "the move")
    await asyncio.sleep(1)
    assert scene.told(unread) is None
    await thaw(scene, "shard", 0)
    assert await scene.answer(unread) == ["created"]


@scenario()
async def test_freeze_that_declines_spends_the_id(scene: Scene) -> None:
    """Per transfer; a chain fails as for any refusal (rule 10)."""
    a, b, c = scene.account(0), scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    known = scene.transfer(a, c, 1)
    assert await scene.ask(0, known) == ["created"]
    await freeze(scene, "account", c, declines=True)
    declined = scene.transfer(a, c, 1)
    assert await scene.ask(0, declined, scene.transfer(a, b, 1)) == ["frozen", "created"]
    chain = scene.transfer(a, b, 1, "linked"), scene.transfer(b, c, 1)
    assert await scene.ask(0, *chain) == ["linked_event_failed", "frozen"]
    assert await scene.ask(0, known) == ["exists"]
    await thaw(scene, "account", c)
    assert await scene.ask(0, declined) == ["id_already_failed"]
    assert scene.count("waiting") == 0


@scenario()
async def test_freeze_thaw_that_declines_what_waits(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "account", b)
    waits = await scene.push(0, scene.transfer(a, b, 1), scene.transfer(a, scene.account(0), 2))
    await parked(scene, 1)
    await thaw(scene, "account", b, declines=True)
    assert await scene.answer(waits) == ["frozen", "created"]
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]


@scenario()
async def test_freeze_by_two_freezes_it_waits_for_both(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "account", a)
    await freeze(scene, "code", 1)
    waits = await scene.push(0, scene.transfer(a, b, 1))
    await parked(scene, 1)
    await thaw(scene, "account", a)
    await asyncio.sleep(2)
    assert scene.told(waits) is None
    await thaw(scene, "code", 1)
    assert await scene.answer(waits) == ["created"]


@scenario()
async def test_freeze_what_cannot_be_read_is_a_dead_letter_all_the_same(scene: Scene) -> None:
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "ledger", 1)
    stream = "engine:transfers:{0000}"
    scene.log.run("XADD", stream, "*", "json", "[{", "request", "bad")
    await scene.until(lambda: scene.count("dead_letters") == 1, "the dead letter")
    assert scene.count("waiting") == 0


@scenario()
async def test_freeze_if_a_lock_times_out_nothing_is_set(scene: Scene) -> None:
    """And it says who stands in the way (rule 1)."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("w", [0, 1, 2, 3])
    gate = scene.database.gate("COMMIT", worker.connection_name)
    scene.log.run("XADD", "engine:transfers:{0000}", "*", "json", "[{", "request", "bad")
    await scene.reached(gate)
    with pytest.raises(TryAgainError, match=worker.connection_name):
        await freeze(scene, "account", a)
    assert scene.count("freezes") == 0
    gate.open()
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]


@scenario()
async def test_freeze_twice_is_refused(scene: Scene) -> None:
    a = scene.account(0)
    for act in (freeze, thaw):
        await act(scene, "account", a)
        with pytest.raises(InputError):
            await act(scene, "account", a)
