"""Redis: what it forgets, brings back or loses on the way."""

import asyncio
import json
from typing import Any

from redis.exceptions import ResponseError

from engine.worker.bounds import SET_ASIDE_MAX, SET_ASIDE_SECONDS
from tests.simulation.log_server import Stream
from tests.simulation.scenes import Scene, scenario
from tests.simulation.test_scenarios_set_aside import id_of, refusing
from tests.simulation.world import Append

STREAM = b"engine:transfers:{0000}"


def old_stream(scene: Scene) -> Stream:
    """The stream as a Redis has it that knows only of long ago."""
    scene.log_lost = True
    scene.log.streams[STREAM] = stream = Stream()
    stream.last = (5, 0)
    return stream


def add_by_hand(scene: Scene, entry_id: str, transfer: Any) -> None:
    """Add an entry with an id of one's own."""
    scene.sending[entry_id] = Append(0.0, len(scene.database.commits), 0, entry_id, [transfer])
    words = ("json", json.dumps(transfer), "request", entry_id)
    scene.log.run("XADD", STREAM, entry_id, *words)


@scenario()
async def test_entry_added_while_the_stream_is_moved_forward(scene: Scene) -> None:
    """A Redis that came back older gives ids below the position: it is read from its beginning."""
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first", [0])
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    first.kill()
    old_stream(scene)
    late = scene.transfer(a, b, 2)

    def add() -> None:
        # As by a Redis whose clock is far behind: below the position, above the last id.
        add_by_hand(scene, "6-0", late)

    scene.log.before["xlen"] = add
    await scene.worker("second", [0])
    await scene.until(lambda: scene.balance(b)[3] == 3, "the entry that came in between")
    assert await scene.ask(0, scene.transfer(a, b, 4)) == ["created"]
    assert scene.balance(b) == (0, 0, 0, 7)


@scenario()
async def test_crash_between_commit_and_trim_answers_nothing_twice(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first", [0])
    scene.log.before["xdel"] = first.kill
    request = await scene.push(0, scene.transfer(a, b, 5))
    assert await scene.answer(request) == ["created"]
    await scene.until(lambda: first.process.dead, "the crash")
    await scene.worker("second", [0])
    await asyncio.sleep(3)
    assert scene.told(request) == ["created"]
    assert not scene.log.streams[STREAM].entries
    assert scene.balance(b) == (0, 0, 0, 5)


@scenario()
async def test_redis_wiped_stream_missing(scene: Scene) -> None:
    """Nothing that was answered is lost, and what is sent then has ids above the position."""
    a, b = scene.account(0), scene.account(0)
    await scene.worker("worker", [0])
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    scene.log_lost = True
    scene.log.stop()
    await asyncio.sleep(0.5)
    scene.log.start({})
    again = scene.transfer(a, b, 2)
    await asyncio.sleep(1)
    assert await scene.ask(0, again) == ["created"]
    assert await scene.ask(0, again) == ["exists"]


@scenario()
async def test_what_could_not_be_deleted_is_deleted_later(scene: Scene) -> None:
    """Though nothing else comes by the stream."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker", [0])

    def refuse() -> None:
        raise ResponseError("BUSY Redis is busy running a script")

    scene.log.before["xdel"] = refuse
    request = await scene.push(0, scene.transfer(a, b, 5))
    assert await scene.answer(request) == ["created"]
    await scene.until(lambda: not scene.log.streams[STREAM].entries, "the stream to be trimmed", 10)
    assert worker.running


@scenario()
async def test_maximal_id_poison(scene: Scene) -> None:
    """The stream is replaced, what was unread in it kept, and takes entries again."""
    a, b = scene.account(0), scene.account(0)
    first = scene.transfer(a, b, 1)
    top = 2**64 - 1
    add_by_hand(scene, f"{top}-{top}", first)
    await scene.worker("worker", [0])
    await scene.until(lambda: scene.balance(b)[3] == 1, "what came with the highest id")
    assert await scene.ask(0, scene.transfer(a, b, 2)) == ["created"]


@scenario()
async def test_what_is_known_is_confirmed_before_it_is_deleted(scene: Scene) -> None:
    """What a lost COMMIT left visible a standby may not have: the entry is all there is then."""
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first", [0])
    gate = scene.after("flush_small", first)
    await scene.push(0, scene.transfer(a, b, 5))
    await scene.reached(gate)
    first.kill()
    gate.open()
    second = scene.participant("second", [0])
    gate = scene.before("commit_own", second)
    await scene.reached(gate)
    assert scene.log.streams[STREAM].entries
    gate.open()
    await scene.ready(second)
    assert not scene.log.streams[STREAM].entries


@scenario()
async def test_what_cannot_be_decided_below_the_position_is_not_deleted(scene: Scene) -> None:
    """More fails than is set aside in a while: the rest stays in the stream until it can."""
    scene.may_set_aside = True
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first", [0])
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    first.kill()
    old_stream(scene)
    bad = [scene.transfer(a, b, 1) for _ in range(3 * SET_ASIDE_MAX)]
    for place, transfer in enumerate(bad):
        add_by_hand(scene, f"6-{place}", transfer)
        writing = "flush_small", "COPY spent"
        scene.database.triggers.append(refusing(id_of(transfer), *writing))
    second = await scene.worker("second")
    unread = second.worker.statistics.unread
    await scene.until(lambda: 0 in unread and "cannot be" in unread[0].reason, "it to stand")
    scene.database.triggers.clear()
    kept = 3 * SET_ASIDE_MAX - SET_ASIDE_MAX
    await scene.until(
        lambda: scene.balance(b)[3] == 1 + kept, "what is left to be decided", 3 * SET_ASIDE_SECONDS
    )
    assert scene.count("dead_letters") == SET_ASIDE_MAX


@scenario()
async def test_an_entry_without_transfers_below_the_position_is_answered(scene: Scene) -> None:
    """Nothing of it is in the ledger by which it could be known."""
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first", [0])
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    first.kill()
    old_stream(scene)
    reply = b"engine:answers:nothing"
    scene.log.run("XADD", STREAM, "6-0", "json", "[]", "reply", reply, "request", "nothing")
    await scene.worker("second", [0])
    await scene.until(lambda: reply in scene.log.streams, "an answer")
