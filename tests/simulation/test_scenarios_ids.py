"""Ids: each takes effect once, whatever is sent again, wherever, and when."""

import asyncio
import json
import uuid

import msgspec

from tests.simulation.scenes import DEBIT_LIMIT, Scene, scenario
from tests.simulation.world import SETTINGS


@scenario()
async def test_duplicate_in_batch(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    await scene.worker("worker")
    transfer = scene.transfer(a, b, 5)
    assert await scene.ask(0, transfer, transfer, transfer | {"amount": 6}) == [
        "created",
        "exists",
        "exists_with_different_amount",
    ]


@scenario()
async def test_duplicate_in_pipeline(scene: Scene) -> None:
    """The first is in flight, the second decided meanwhile: both wait for the same commit."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker")
    transfer = scene.transfer(a, b, 5)
    gate = scene.before("flush_small", worker)
    first = await scene.push(0, transfer)
    await scene.reached(gate)
    second = await scene.push(0, transfer)
    await asyncio.sleep(0.5)
    assert scene.told(second) is None
    gate.open()
    assert [await scene.answer(first), await scene.answer(second)] == [["created"], ["exists"]]


@scenario()
async def test_duplicate_after_restart(scene: Scene) -> None:
    a, b = scene.account(0, DEBIT_LIMIT), scene.account(0)
    first = await scene.worker("first")
    created, declined = scene.transfer(b, a, 5), scene.transfer(a, b, 6)
    assert await scene.ask(0, created, declined) == ["created", "exceeds_credits"]
    first.kill()
    await scene.worker("second")
    assert await scene.ask(0, scene.transfer(b, a, 5), created, declined) == [
        "created",
        "exists",
        "id_already_failed",
    ]


@scenario()
async def test_duplicate_after_restart_beside_what_closes(scene: Scene) -> None:
    """The book is thrown away with all that it has seen; ids are looked up before the next try."""
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first")
    created = scene.transfer(b, a, 5)
    assert await scene.ask(0, created) == ["created"]
    first.kill()
    second = await scene.worker("second")
    closed, c = scene.account(1), scene.account(1)
    closing = scene.transfer(closed, c, 0, "pending", "closing_debit")
    assert await scene.ask(0, closing, created) == ["created", "exists"]
    assert second.worker.statistics.conflicts == 1


@scenario()
async def test_duplicate_with_other_content_in_other_shard(scene: Scene) -> None:
    a, b, c = scene.account(0), scene.account(0), scene.account(1)
    await scene.worker("here", [0])
    await scene.worker("there", [1])
    transfer = scene.transfer(a, b, 5)
    assert await scene.ask(0, transfer) == ["created"]
    assert await scene.ask(1, scene.transfer(c, b, 5) | {"id": transfer["id"]}) == [
        "exists_with_different_debit_account_id"
    ]


@scenario()
async def test_same_id_two_shards_created_and_declined(scene: Scene) -> None:
    """Both are decided before either commits: one index for both kinds lets one of them be."""
    a, b, poor = scene.account(0), scene.account(0), scene.account(1, DEBIT_LIMIT)
    here, there = await scene.worker("here", [0]), await scene.worker("there", [1])
    gates = [scene.before("flush_small", here), scene.before("fence", there)]
    transfer = scene.transfer(a, b, 5)
    first = await scene.push(0, transfer)
    second = await scene.push(1, scene.transfer(poor, b, 5) | {"id": transfer["id"]})
    for gate in gates:
        await scene.reached(gate)
    for gate in gates:
        gate.open()
    told = [await scene.answer(first), await scene.answer(second)]
    assert told in (
        [["created"], ["exists_with_different_debit_account_id"]],
        [["id_already_failed"], ["exceeds_credits"]],
    )


@scenario(by_copy=True)
async def test_exists_on_uncommitted_id_in_other_shard(scene: Scene) -> None:
    """The other's flush may still fail: nothing is said about its id before it is committed."""
    a, b, c = scene.account(0), scene.account(0), scene.account(1)
    here, there = await scene.worker("here", [0]), await scene.worker("there", [1])
    gate = scene.before("COMMIT", here)
    transfer = scene.transfer(a, b, 5)
    first = await scene.push(0, transfer)
    await scene.reached(gate)
    second = await scene.push(1, transfer | {"debit_account_id": c})
    await asyncio.sleep(2)
    assert scene.told(second) is None
    scene.database.terminate_backend(gate.backend.pid)
    told = [await scene.answer(second), await scene.answer(first)]
    assert told == [["created"], ["exists_with_different_debit_account_id"]]
    assert there.running


@scenario(by_copy=True)
async def test_duplicate_behind_a_frozen_flush(scene: Scene) -> None:
    """Its id stands uncommitted for ever: the other shard ends the frozen backend and goes on."""
    a, b, c = scene.account(0), scene.account(0), scene.account(1)
    here, there = await scene.worker("here", [0]), await scene.worker("there", [1])
    gate = scene.after("COPY spent", here)
    transfer = scene.transfer(a, b, 5)
    await scene.push(0, transfer)
    await scene.reached(gate)
    here.freeze()
    gate.open()
    second = await scene.push(1, transfer | {"debit_account_id": c})
    third = await scene.push(1, scene.transfer(c, a, 1))
    assert await scene.answer(second, 10) == ["created"]
    assert await scene.answer(third, 1) == ["created"]
    assert there.running


@scenario()
async def test_dead_letter_read_twice(scene: Scene) -> None:
    """Kept once, though the flush that buried it was answered by nobody."""
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first", [0])
    gate = scene.after("COMMIT", first)
    stream = "engine:transfers:{0000}"
    scene.log.run("XADD", stream, "*", "json", json.dumps({"id": str(uuid.UUID(int=1))}))
    await scene.reached(gate)
    first.kill()
    gate.open()
    await scene.worker("second", [0])
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    assert scene.count("dead_letters") == 1
    await scene.until(lambda: not scene.log.streams[stream.encode()].entries, "an empty stream")


@scenario()
async def test_duplicate_of_a_post_in_pipeline(scene: Scene) -> None:
    """The hold is ended by what is in flight; its id comes before that."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker")
    hold = scene.transfer(a, b, 5, "pending")
    assert await scene.ask(0, hold) == ["created"]
    gate = scene.before("flush_small", worker)
    post = scene.ending(hold)
    first = await scene.push(0, post)
    await scene.reached(gate)
    second = await scene.push(0, post)
    await asyncio.sleep(0.2)
    gate.open()
    assert [await scene.answer(first), await scene.answer(second)] == [["created"], ["exists"]]


@scenario(settings=msgspec.structs.replace(SETTINGS, flush_transfers_max=1))
async def test_hold_twice_under_way_lapses_once(scene: Scene) -> None:
    """The filter of ids has lost it: it is created a second time, and lapses at another time by
    then, until the flush of the second is refused."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker")
    gate = scene.before("flush_small", worker)
    hold = scene.transfer(a, b, 5, "pending", timeout=1)
    first = await scene.push(0, hold)
    await scene.reached(gate)
    await asyncio.sleep(0.5)
    book = worker.worker._session._pipeline._builder.book
    book.seen.forget_all()
    second = await scene.push(0, hold)
    await asyncio.sleep(0.6)
    third = await scene.push(0, scene.transfer(a, b, 1))
    await asyncio.sleep(0.1)
    gate.open()
    assert await scene.answer(first) == ["created"]
    assert await scene.answer(second) == ["exists"]
    assert await scene.answer(third) == ["created"]
    await scene.until(lambda: scene.balance(b) == (0, 0, 0, 1), "the hold to lapse")
    assert scene.count("resolutions") == 1
