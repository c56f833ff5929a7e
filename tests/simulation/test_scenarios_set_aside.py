"""One entry or hold that cannot be written is found among many, and stops nobody else."""

import uuid
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from engine.book.book import Book
from engine.worker.bounds import SET_ASIDE_MAX, SET_ASIDE_SECONDS
from tests.simulation.scenes import Scene, scenario


def names(arguments: Any, wanted: bytes) -> bool:
    """Whether some bytes are among the arguments of a statement."""
    if isinstance(arguments, bytes):
        return wanted in arguments
    if isinstance(arguments, list | tuple):
        return any(names(argument, wanted) for argument in arguments)
    return False


def refusing(wanted: bytes, *statements: str) -> Callable[[str, Any], None]:
    """A database that takes no row with these bytes."""

    def trigger(statement: str, arguments: Any) -> None:
        if statement in statements and names(arguments, wanted):
            raise asyncpg.CheckViolationError("violates a check of a stranger's")

    return trigger


def id_of(transfer: Any) -> bytes:
    return uuid.UUID(transfer["id"]).bytes


@scenario(shard_count=2)
async def test_an_entry_that_postgres_refuses_is_found_and_set_aside(scene: Scene) -> None:
    scene.may_set_aside = True
    a, b, c = scene.account(0), scene.account(0), scene.account(1)
    worker = await scene.worker("worker")
    gate = scene.before("flush_small", worker)
    first = await scene.push(0, scene.transfer(a, b, 1))
    await scene.reached(gate)
    bad = scene.transfer(a, b, 1)
    writing = "flush_small", "COPY spent"
    scene.database.triggers.append(refusing(id_of(bad), *writing))
    before = [await scene.push(0, scene.transfer(a, b, 1)) for _ in range(40)]
    wrong = await scene.push(0, scene.transfer(a, b, 1), bad)
    after = [await scene.push(0, scene.transfer(a, b, 1)) for _ in range(40)]
    beside = [await scene.push(1, scene.transfer(c, b, 1)) for _ in range(5)]
    gate.open()
    for request in [first, *before, *after, *beside]:
        assert await scene.answer(request, 3 * SET_ASIDE_SECONDS) == ["created"]
    assert await scene.answer(wrong) is None
    assert scene.count("dead_letters") == len(scene.set_aside) == 1
    assert scene.count("spent") == 86
    assert worker.worker.statistics.sessions == 1


@scenario(shard_count=1, by_copy=True)
async def test_a_dead_letter_that_breaks_the_one_who_buries_it_is_set_aside_too(
    scene: Scene,
) -> None:
    """Then that it was there is kept; and where even that fails, the stream goes on."""
    scene.may_set_aside = True
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker")
    scene.database.triggers.append(refusing(b"unspeakable", "insert_dead_letters"))
    scene.log.run("XADD", "engine:transfers:{0000}", "*", "json", "unspeakable")
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    (letter,) = scene.database.tables["dead_letters"].all(scene.database.snapshot())
    assert letter["fields"] == []
    scene.database.triggers.append(refusing(b"", "insert_dead_letters"))

    def nothing(statement: str, _: Any) -> None:
        if statement == "insert_dead_letters":
            raise asyncpg.CheckViolationError("no dead letter at all")

    scene.database.triggers.append(nothing)
    scene.log.run("XADD", "engine:transfers:{0000}", "*", "json", "unspeakable")
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    assert scene.count("dead_letters") == 1
    assert worker.worker.statistics.sessions == 1


@scenario(shard_count=2)
async def test_where_every_entry_of_a_stream_fails_it_stands_and_others_go_on(
    scene: Scene,
) -> None:
    """It is no entry's fault then: few are dead letters, and the others are decided later."""
    scene.may_set_aside = True
    a, b, c = scene.account(0), scene.account(0), scene.account(1)
    worker = await scene.worker("worker")
    gate = scene.before("flush_small", worker)
    first = await scene.push(0, scene.transfer(a, b, 1))
    await scene.reached(gate)
    bad = [scene.transfer(a, b, 1) for _ in range(3 * SET_ASIDE_MAX)]
    for transfer in bad:
        writing = "flush_small", "COPY spent"
        scene.database.triggers.append(refusing(id_of(transfer), *writing))
    wrong = [await scene.push(0, transfer) for transfer in bad]
    gate.open()
    assert await scene.answer(first) == ["created"]
    unread = worker.worker.statistics.unread
    await scene.until(lambda: 0 in unread, "the stream to stand")
    assert "cannot be decided" in unread[0].reason
    assert scene.count("dead_letters") == SET_ASIDE_MAX
    assert await scene.ask(1, scene.transfer(c, b, 1)) == ["created"]
    scene.database.triggers.clear()
    for request in wrong[SET_ASIDE_MAX:]:
        assert await scene.answer(request, 3 * SET_ASIDE_SECONDS) == ["created"]
    assert scene.count("dead_letters") == SET_ASIDE_MAX
    assert worker.worker.statistics.sessions == 1


@scenario(shard_count=1)
async def test_a_hold_that_cannot_expire_stays_open_and_the_others_expire(scene: Scene) -> None:
    scene.may_set_aside = True
    a, b = scene.account(0), scene.account(0)
    first = await scene.worker("first")
    holds = [scene.transfer(a, b, 1, "pending", timeout=2) for _ in range(7)]
    await scene.ask(0, *holds)
    scene.database.triggers.append(refusing(id_of(holds[3]), "flush_small", "COPY resolutions"))
    await scene.until(lambda: scene.count("resolutions") == 6, "the others to expire")
    await scene.until(lambda: len(scene.set_aside) == 1, "the one that cannot")
    # Flushes are large again after a few more.
    first.worker._session._pipeline._attempts.portion = None
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    first.kill()
    scene.database.triggers.clear()
    await scene.worker("second")
    await scene.until(lambda: scene.count("resolutions") == 7, "the one that was skipped")


@scenario(shard_count=1)
async def test_where_every_hold_fails_to_expire_few_are_set_aside_and_transfers_go_on(
    scene: Scene,
) -> None:
    """It is no hold's fault then: the others expire once it is mended, without a new session."""
    scene.may_set_aside = True
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("worker")
    holds = [scene.transfer(a, b, 1, "pending", timeout=2) for _ in range(3 * SET_ASIDE_MAX)]
    await scene.ask(0, *holds)
    for hold in holds:
        writing = "flush_small", "COPY resolutions"
        scene.database.triggers.append(refusing(id_of(hold), *writing))
    builder = worker.worker._session._pipeline._builder
    await scene.until(lambda: builder.skipped.all_stand, "expiry to stand")
    assert len(builder.skipped) == SET_ASIDE_MAX
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    assert len(builder.skipped) == SET_ASIDE_MAX
    scene.database.triggers.clear()
    await scene.until(
        lambda: scene.count("resolutions") == 2 * SET_ASIDE_MAX,
        "the others to expire",
        3 * SET_ASIDE_SECONDS,
    )
    assert worker.worker.statistics.sessions == 1


def test_a_defect_in_deciding_one_entry_sets_aside_that_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it raises; as a row that a stranger wrote may make it do."""
    note = Book.note_decision

    def broken(book: Book, decided: Any) -> None:
        if 666 in decided.spent["amount"].tolist():
            raise KeyError("a strange row")
        note(book, decided)

    monkeypatch.setattr(Book, "note_decision", broken)

    @scenario(shard_count=1)
    async def play(scene: Scene) -> None:
        scene.may_set_aside = True
        a, b = scene.account(0), scene.account(0)
        worker = await scene.worker("worker")
        wrong = await scene.push(0, scene.transfer(a, b, 666))
        asked = [await scene.push(0, scene.transfer(a, b, 1)) for _ in range(9)]
        for request in asked:
            assert await scene.answer(request, 3 * SET_ASIDE_SECONDS) == ["created"]
        assert await scene.answer(wrong) is None
        assert worker.worker.statistics.sessions == 1

    play()
