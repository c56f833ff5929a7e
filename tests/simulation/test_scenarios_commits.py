"""Commits of unknown fate: what was committed is answered `created`, once; nothing else is."""

import asyncio

import pytest

from tests.simulation.scenes import Scene, scenario
from tests.simulation.world import Participant


def writer_of(one: Participant):
    return one.worker.store._connections.writer


async def lose(scene: Scene, one: Participant, statement: str, *, applied: bool) -> None:
    """Cut the connection at what commits, before or after it is applied."""
    gate = scene.after(statement, one) if applied else scene.before(statement, one)
    await scene.reached(gate)
    if not applied:
        scene.database.terminate_backend(gate.backend.pid)
        await asyncio.sleep(0.1)
    writer_of(one).cut(0.5)
    gate.open()


@pytest.mark.parametrize("statement", ["flush_small", "COMMIT"])
@pytest.mark.parametrize("applied", [True, False])
def test_commit_ack_lost(statement: str, applied: bool) -> None:
    """`commit_ack_lost_applied`, `commit_ack_lost_aborted`: `created`, never `exists`."""

    async def play(scene: Scene) -> None:
        a, b = scene.account(0), scene.account(0)
        worker = await scene.worker("worker", [0])
        losing = asyncio.ensure_future(lose(scene, worker, statement, applied=applied))
        request = await scene.push(0, scene.transfer(a, b, 5))
        await losing
        assert await scene.answer(request) == ["created"]
        assert scene.balance(b) == (0, 0, 0, 5)

    scenario(by_copy=statement == "COMMIT")(play)()


@pytest.mark.parametrize("before", [True, False])
def test_commit_ack_lost_applied_after_a_read_back(before: bool) -> None:
    """It is looked for while its COMMIT is still on its way: whoever looks ends it first."""

    async def play(scene: Scene) -> None:
        a, b = scene.account(0), scene.account(0)
        worker = await scene.worker("worker", [0])
        gate = scene.before("COMMIT", worker)
        request = await scene.push(0, scene.transfer(a, b, 5))
        await scene.reached(gate)
        writer_of(worker).cut(30.0, drops=False)
        look = "find_flush"
        looking = scene.before(look, worker) if before else scene.after(look, worker)
        await scene.reached(looking)
        gate.open()
        await asyncio.sleep(0.1)
        looking.open()
        assert await scene.answer(request) == ["created"]
        assert scene.balance(b) == (0, 0, 0, 5)

    scenario(by_copy=True)(play)()


@scenario(by_copy=True)
async def test_commit_ack_lost_then_taken_over(scene: Scene) -> None:
    """The fenced worker answers nothing; who asks again learns that it is there."""
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    gate = scene.after("COMMIT", old)
    transfer = scene.transfer(a, b, 5)
    request = await scene.push(0, transfer)
    await scene.reached(gate)
    old.freeze()
    writer_of(old).cut(0.1)
    gate.open()
    new = await scene.worker("new", [0])
    assert await scene.ask(0, transfer) == ["exists"]
    old.thaw()
    await asyncio.sleep(3)
    # It may find out that its flush was committed, and tell; it may never tell anything else.
    assert scene.told(request) in (None, ["created"])
    assert new.worker.owned == {0}
    assert old.worker.owned == set()


@scenario()
async def test_first_flush_fails_second_never_commits(scene: Scene) -> None:
    """What was decided after a flush that failed is decided again, after it."""
    a, b, c = scene.account(0), scene.account(0, "debits_must_not_exceed_credits"), scene.account(0)
    worker = await scene.worker("worker", [0])
    other = await scene.worker("other", [1])
    far = scene.account(1, "debits_must_not_exceed_credits")
    gate = scene.before("flush_small", worker)
    first = await scene.push(0, scene.transfer(a, b, 5))
    await scene.reached(gate)
    second = await scene.push(0, scene.transfer(b, c, 5))
    # A locked flush writes in the worker's chain meanwhile.
    borrowed = await scene.push(1, scene.transfer(a, far, 1))
    assert await scene.answer(borrowed) == ["created"]
    gate.open()
    assert await scene.answer(first) == ["created"]
    assert await scene.answer(second) == ["created"]
    assert worker.worker.statistics.conflicts == 1
    assert other.running


@scenario()
async def test_registering_is_answered_by_nobody(scene: Scene) -> None:
    """It is registered all the same, and works."""
    a, b = scene.account(0), scene.account(0)
    worker = scene.participant("worker", [0])
    await lose(scene, worker, "register_worker", applied=True)
    await scene.ready(worker)
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]


@scenario()
async def test_a_claim_is_answered_by_nobody(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    worker = scene.participant("worker", [0])
    await lose(scene, worker, "COMMIT", applied=True)
    await scene.ready(worker)
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]


@scenario()
async def test_a_release_is_answered_by_nobody(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    old.worker.stop()
    await lose(scene, old, "COMMIT", applied=True)
    await scene.until(lambda: old.task is not None and old.task.done(), "it to end")
    await scene.worker("new", [0])
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]


@scenario()
async def test_a_claim_is_waited_for_when_redis_goes(scene: Scene) -> None:
    """What else ends a session does not end what commits."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker")
    other = await scene.worker("other")
    await scene.until(lambda: len(other.worker.owned) == 2, "the other to have its share")
    gate = scene.before("COMMIT", worker)
    other.kill()
    await scene.reached(gate)
    writer = writer_of(worker)
    scene.log.stop()
    await asyncio.sleep(0.5)
    assert not writer.is_closed()
    gate.open()
    scene.log.start()
    await scene.until(lambda: len(worker.worker.owned) == 4, "all shards to be the worker's")
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
