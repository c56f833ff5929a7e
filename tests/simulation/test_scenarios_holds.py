"""Holds and time: ended once, where they were decided, by clocks that differ."""

import asyncio

import msgspec

from tests.simulation.scenes import DEBIT_LIMIT, Scene, scenario
from tests.simulation.world import SETTINGS


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


@scenario()
async def test_post_with_zero_accounts_right_after_pending(scene: Scene) -> None:
    """The hold is in flight; its accounts are nowhere but there."""
    a, b = scene.account(0), scene.account(1)
    worker = await scene.worker("worker")
    gate = scene.before("flush_small", worker)
    hold = scene.transfer(a, b, 5, "pending")
    first = await scene.push(0, hold)
    await scene.reached(gate)
    second = await scene.push(0, scene.ending(hold))
    await asyncio.sleep(0.2)
    gate.open()
    assert [await scene.answer(first), await scene.answer(second)] == [["created"], ["created"]]
    assert scene.balance(b) == (0, 0, 0, 5)


@scenario()
async def test_void_while_the_post_is_in_flight(scene: Scene) -> None:
    """Postgres still has the hold as pending; what is under way ends it all the same."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker")
    hold = scene.transfer(a, b, 5, "pending")
    assert await scene.ask(0, hold) == ["created"]
    gate = scene.before("flush_small", worker)
    post = await scene.push(0, scene.ending(hold))
    await scene.reached(gate)
    void = await scene.push(0, scene.ending(hold, "void_pending_transfer"))
    await asyncio.sleep(0.2)
    gate.open()
    assert await scene.answer(post) == ["created"]
    assert await scene.answer(void) == ["pending_transfer_already_posted"]
    assert worker.worker.statistics.conflicts == 0


@scenario()
async def test_post_versus_expiry_across_handover_with_clock_set_back(scene: Scene) -> None:
    """By the old owner's time the hold has lapsed; the new one's clock is before that."""
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0], skew=5.0)
    hold = scene.transfer(a, b, 5, "pending", timeout=1)
    assert await scene.ask(0, hold) == ["created"]
    await scene.until(lambda: scene.count("resolutions") == 1, "the lapse")
    old.worker.stop()
    await scene.worker("new", [0])
    assert await scene.ask(0, scene.ending(hold)) == ["pending_transfer_expired"]
    assert scene.balance(b) == (0, 0, 0, 0)


@scenario()
async def test_post_before_expiry_stays_across_handover_with_clock_set_forward(
    scene: Scene,
) -> None:
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    hold = scene.transfer(a, b, 5, "pending", timeout=2)
    assert await scene.ask(0, hold, scene.ending(hold)) == ["created", "created"]
    old.worker.stop()
    await scene.worker("new", [0], skew=10.0)
    assert await scene.ask(0, scene.ending(hold)) == ["pending_transfer_already_posted"]
    assert scene.balance(b) == (0, 0, 0, 5)


@scenario()
async def test_hold_resolved_after_its_accounts_moved(scene: Scene) -> None:
    """The row knows which shard decided it, whoever owns that and the accounts by now."""
    a, b = scene.account(0), scene.account(1)
    old = await scene.worker("old", [0, 1])
    hold, other = scene.transfer(a, b, 5, "pending"), scene.transfer(a, b, 3, "pending")
    assert await scene.ask(0, hold, other) == ["created", "created"]
    old.worker.stop()
    await scene.worker("zero", [0])
    await scene.worker("one", [1])
    assert await scene.ask(1, scene.ending(hold)) == ["created"]
    assert await scene.ask(0, scene.ending(other, "void_pending_transfer")) == ["created"]
    assert await scene.ask(0, scene.ending(hold)) == ["pending_transfer_already_posted"]
    assert scene.balance(b) == (0, 0, 0, 5)


@scenario()
async def test_hold_created_between_look_up_and_refresh(scene: Scene) -> None:
    """One entry looks for a hold and for funds: what comes in between brings both, or neither."""
    rich, poor, a = scene.account(0), scene.account(1, DEBIT_LIMIT), scene.account(1)
    here, there = await scene.worker("here", [0]), await scene.worker("there", [1])
    hold = scene.transfer(rich, poor, 9, "pending")
    gate = scene.before("other_stripes", there)
    request = await scene.push(1, scene.ending(hold), scene.transfer(poor, a, 5))
    await scene.reached(gate)
    assert await scene.ask(0, hold, scene.transfer(rich, poor, 5)) == ["created", "created"]
    gate.open()
    told = await scene.answer(request)
    # The funds are there by now, and so is the hold that was created with them.
    assert told == ["created", "created"]
    assert here.running


@scenario()
async def test_expired_was_answered_under_lock_then_posted_by_a_slower_clock(scene: Scene) -> None:
    """The time of the shard is stored by whoever decided for it under lock."""
    a, b = scene.account(0), scene.account(0)
    slow = await scene.worker("slow", [0], skew=-3.0)
    await scene.worker("fast", [1], skew=3.0)
    hold = scene.transfer(a, b, 5, "pending", timeout=2)
    assert await scene.ask(0, hold) == ["created"]
    # By the fast clock it has lapsed, and the hold is ended under the slow one's lock.
    assert await scene.ask(1, scene.ending(hold)) == ["pending_transfer_expired"]
    assert await scene.ask(0, scene.ending(hold)) == ["pending_transfer_expired"]
    assert slow.running
    assert scene.balance(b) == (0, 0, 0, 0)


@scenario(by_copy=True)
async def test_expiry_twice_is_once(scene: Scene) -> None:
    """The old owner's lapse is on its way when the new owner writes the same."""
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    hold = scene.transfer(a, b, 5, "pending", timeout=1)
    assert await scene.ask(0, hold) == ["created"]
    gate = scene.before("BEGIN", old)
    await scene.reached(gate)
    old.freeze()
    gate.open()
    await scene.worker("new", [0])
    old.thaw()
    await scene.until(lambda: scene.count("resolutions", status="expired") == 1, "the lapse")
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    assert scene.balance(b) == (0, 0, 0, 1)


@scenario(settings=msgspec.structs.replace(SETTINGS, horizon_seconds=1))
async def test_a_hold_in_flight_while_the_horizon_moves_past_its_end_lapses(scene: Scene) -> None:
    """Postgres does not show it yet, and does not ask again for what lapses by then."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker", [0])
    gate = scene.before("flush_small", worker)
    hold = await scene.push(0, scene.transfer(a, b, 5, "pending", timeout=2))
    await scene.reached(gate)
    await asyncio.sleep(1.5)
    other = await scene.push(0, scene.transfer(a, b, 1))
    await asyncio.sleep(0.1)
    gate.open()
    assert [await scene.answer(hold), await scene.answer(other)] == [["created"], ["created"]]
    await scene.until(lambda: scene.count("resolutions", status="expired") == 1, "the lapse")


@scenario(shard_count=2)
async def test_half_a_million_holds_expire_together_and_the_worker_dies_halfway(
    scene: Scene,
) -> None:
    """What a flush had no room for is found by whoever goes on, however late flushes are."""
    a, b, c = scene.account(0), scene.account(0), scene.account(1)
    first = await scene.worker("first")
    holds = [scene.transfer(a, b, 1, "pending", timeout=2) for _ in range(20)]
    assert await scene.ask(0, *holds) == ["created"] * 20
    gates = [scene.before("flush_small", first)]
    first.worker.subscribe(lambda _: gates.append(scene.before("flush_small", first)))
    await scene.reached(gates[0])
    gates[0].open()
    await scene.until(lambda: len(gates) > 1, "a flush")
    await scene.reached(gates[1])
    first.kill()
    assert 0 < scene.count("resolutions") < 20
    await scene.worker("second")
    assert await scene.ask(1, scene.transfer(c, a, 1)) == ["created"]
    assert await scene.ask(0, scene.ending(holds[-1])) == ["pending_transfer_expired"]
    await scene.until(lambda: scene.count("resolutions", status="expired") == 20, "all to expire")
    assert scene.balance(b) == (0, 0, 0, 0)


@scenario(shard_count=2)
async def test_a_locked_flush_leaves_holds_that_expire_together_to_the_next(scene: Scene) -> None:
    a, b, away = scene.account(0), scene.account(0), scene.account(1)
    here = await scene.worker("here", [0])
    there = await scene.worker("there", [1])
    holds = [scene.transfer(a, b, 1, "pending", timeout=2) for _ in range(9)]
    await scene.ask(0, *holds)
    hold = scene.transfer(away, b, 1, "pending", timeout=600)
    await scene.ask(1, hold)
    # All are due at once by the clock of the locked flush; who goes on begins from what it says.
    gate = scene.before("flush_small", here)
    here.skew = 5.0
    assert await scene.ask(0, scene.transfer(away, b, 1), scene.ending(hold)) == ["created"] * 2
    await scene.reached(gate)
    here.kill()
    assert scene.count("resolutions", status="expired") == 2
    assert there.running
    await scene.worker("next", [0])
    await scene.until(lambda: scene.count("resolutions", status="expired") == 9, "all to expire")


@scenario(shard_count=2)
async def test_holds_that_a_locked_flush_came_before_expire_after_it(scene: Scene) -> None:
    """They were taken for a flush that came to nothing; the locked one had room for others'."""
    a, b, away, beside = (scene.account(shard) for shard in (0, 0, 1, 1))
    here = await scene.worker("here", [0])
    there = await scene.worker("there", [1])
    await scene.ask(1, *(scene.transfer(away, beside, 1, "pending", timeout=3) for _ in range(2)))
    await scene.ask(0, *(scene.transfer(a, b, 1, "pending", timeout=4) for _ in range(2)))
    there.freeze()
    here.skew = 6.0
    assert await scene.ask(0, scene.transfer(away, b, 1)) == ["created"]
    await scene.until(lambda: scene.count("resolutions", status="expired") == 4, "all", 5)
