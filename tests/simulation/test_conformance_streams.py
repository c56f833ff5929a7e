"""Streams in memory and in a real Valkey: the same commands, the same answers."""

import asyncio
import uuid
from typing import Any

import pytest

from engine.errors import EngineError
from engine.ledger.nouns import Position
from engine.streams.refusals import KeyRefusedError
from engine.streams.sender import Sender
from engine.streams.streams import Look, Streams
from tests.bounds import CONDITION_SECONDS_MAX
from tests.simulation.log_client import LogClient
from tests.simulation.log_server import LogServer
from tests.simulation.network import Network

TOP = 2**64 - 1


@pytest.fixture(params=["memory", "real"])
def connect(request: pytest.FixtureRequest) -> Any:
    """What makes a client."""
    if request.param == "memory":
        server, network = LogServer(), Network()
        return lambda _: LogClient(server, network)
    url = request.getfixturevalue("redis_url")
    return lambda _: Sender(url)


async def answers(client: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
    """What each command is answered; of errors the first word of what they say."""
    found: list[Any] = []
    for command in commands:
        [answer] = await client.send([command])
        found.append(type(answer).__name__ if isinstance(answer, EngineError) else answer)
    return found


def story(name: str) -> list[tuple[Any, ...]]:
    """Commands whose answers depend on no clock."""
    other = f"{name}:other"
    return [
        ("XINFO", "STREAM", name),
        ("XRANGE", name, "-", "+", "COUNT", 64),
        ("EXISTS", name),
        ("XADD", name, "5-1", "json", "a"),
        ("XADD", name, "5-1", "json", "b"),
        ("XADD", name, "5-2", "json", "b", "reply", "x"),
        ("XADD", name, "7-0", "json", "c"),
        ("XREAD", "COUNT", 16, "BLOCK", 1, "STREAMS", name, "5-1"),
        ("XREAD", "COUNT", 1, "BLOCK", 1, "STREAMS", name, other, "0-0", "0-0"),
        ("XREAD", "COUNT", 16, "BLOCK", 1, "STREAMS", name, "7-0"),
        ("XRANGE", name, "-", "5-2", "COUNT", 64),
        ("XRANGE", name, "(5-1", "+", "COUNT", 1),
        ("XDEL", name, "5-1", "6-6"),
        ("XLEN", name),
        ("XSETID", name, "6-0"),
        ("XSETID", name, "9-9"),
        ("XADD", name, "9-9", "json", "d"),
        ("XGROUP", "CREATE", name, "engine", "0", "MKSTREAM"),
        ("XGROUP", "CREATE", name, "engine", "0", "MKSTREAM"),
        ("XGROUP", "CREATE", other, "engine", "0"),
        ("XGROUP", "CREATE", other, "engine", "0", "MKSTREAM"),
        ("XSETID", other, "3-3"),
        ("RENAMENX", name, other),
        ("UNLINK", other),
        ("RENAMENX", name, other),
        ("RENAMENX", name, other),
        ("EXISTS", other),
        ("XADD", other, f"{TOP}-{TOP}", "json", "e"),
        ("XADD", other, "*", "json", "f"),
        ("XRANGE", other, "-", "+"),
        ("UNLINK", other),
    ]


async def test_commands_are_answered_alike(redis_url: str) -> None:
    name = f"test:{uuid.uuid4()}"
    real, memory = Sender(redis_url), LogClient(LogServer(), Network())
    expected = await answers(real, story(name))
    assert await answers(memory, story(name)) == expected
    real.close()


async def test_a_read_waits_for_what_comes_and_can_be_interrupted(connect: Any) -> None:
    prefix = f"test{uuid.uuid4().hex}"
    streams = Streams("redis://", prefix, connect)
    await streams.open()
    reading = asyncio.create_task(streams.read({0: Position(), 1: Position()}, 10_000))
    await asyncio.sleep(0.1)
    await streams.interrupt()
    assert (await asyncio.wait_for(reading, CONDITION_SECONDS_MAX)).entries == []
    reading = asyncio.create_task(streams.read({0: Position(), 1: Position()}, 10_000))
    await asyncio.sleep(0.1)
    other = connect("redis://")
    await other.send([("XADD", f"{prefix}:transfers:{{0001}}", "5-1", "json", "a")])
    (entry,) = (await asyncio.wait_for(reading, CONDITION_SECONDS_MAX)).entries
    assert (entry.shard, entry.position, entry.fields) == (1, Position(0, 5, 1), [b"json", b"a"])
    await streams.remove([entry])
    assert await streams.read_below(1, Position(0, 9, 9)) == []
    other.close()
    await streams.close()


async def test_what_is_below_a_position_and_a_stream_that_went_back_are_found(
    connect: Any,
) -> None:
    prefix = f"test{uuid.uuid4().hex}"
    name = f"{prefix}:transfers:{{0000}}"
    streams, client = Streams("redis://", prefix, connect), connect("redis://")
    await streams.open()
    recovery = streams.recovery
    await client.send([("XADD", name, "5-1", "json", "a")])
    position = Position(0, 9, 9)
    looks = await recovery.look({0: position, 1: Position()})
    assert looks == {0: Look(below="5-1"), 1: Look()}
    assert await recovery.last_entry(0, position) == Position(0, 5, 1)
    (below,) = await recovery.read_below(0, position)
    assert below.below
    await streams.remove([below])
    assert await recovery.look({0: position}) == {0: Look(is_behind=True)}
    assert await recovery.look({0: Position(4)}) == {0: Look()}
    assert not await recovery.end_stream(0, Position(4))
    await streams.answer([(f"{prefix}:answers:a".encode(), {b"request": b"1"})])
    [[answer]] = await client.send([("XRANGE", f"{prefix}:answers:a", "-", "+")])
    assert answer[1] == [b"request", b"1"]
    client.close()
    await streams.close()


async def test_a_stream_whose_ids_have_ended_is_called_otherwise(connect: Any) -> None:
    """Whatever has that name already; its entries are found there, each at a place of its own."""
    prefix = f"test{uuid.uuid4().hex}"
    name = f"{prefix}:transfers:{{0000}}"
    streams, client = Streams("redis://", prefix, connect), connect("redis://")
    await streams.open()
    recovery = streams.recovery
    await client.send([("XADD", f"{name}:poisoned", "1-1", "a", "b")])
    for entry_id in ("5-1", f"5-{2**63 + 1}", f"{2**63 + 5}-1", f"{TOP}-{TOP}"):
        await client.send([("XADD", name, entry_id, "json", entry_id)])
    with pytest.raises(KeyRefusedError):
        await recovery.last_entry(0, Position(4))
    assert await recovery.end_stream(0, Position(4))
    assert not await recovery.end_stream(0, Position(4))
    assert (await recovery.look({0: Position(4)}))[0].has_ended
    found = []
    while entries := await recovery.read_ended(0, Position(4, 3)):
        found += [entry.position for entry in entries]
        await streams.remove(entries)
    top = 2**63 - 1
    assert found == [
        Position(4, 1, 1),
        Position(4, 5, 1),
        Position(5, 5, 1),
        Position(6, 5, 1),
        Position(7, top, top),
    ]
    assert await recovery.look({0: Position(8)}) == {0: Look()}
    client.close()
    await streams.close()
