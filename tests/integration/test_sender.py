"""Commands sent together: replies in order, refusals as values, lost connections made again."""

import asyncio

import pytest

from engine.errors import EngineError, TryAgainError
from engine.servers import ValkeyServer
from engine.streams.sender import Sender


async def test_replies_come_in_order_and_a_refusal_is_one_of_them(redis_url):
    sender = Sender(redis_url, 10)
    commands = [
        ("SET", "sender:a", "1"),
        ("XADD", b"sender:a", "*", b"outcomes", b"\0\r\n\xff"),
        ("GET", "sender:a"),
        ("EXPIRE", b"sender:a", 60),
    ]
    first, refused, third, fourth = await sender.send(commands)
    assert (first, third, fourth) == (b"OK", b"1", 1)
    assert isinstance(refused, EngineError)
    assert "WRONGTYPE" in str(refused)
    assert await sender.send([]) == []
    sender.close()


async def test_a_connection_that_was_lost_is_made_again(tmp_path):
    server = ValkeyServer(tmp_path)
    server.start()
    try:
        sender = Sender(server.url, 10)
        assert await sender.send([("INCR", "n")]) == [1]
        server.stop()
        with pytest.raises(TryAgainError):
            await sender.send([("INCR", "n")])
        server.start()
        assert await sender.send([("INCR", "n"), ("INCR", "n")]) == [2, 3]
        sender.close()
    finally:
        server.stop()


async def test_of_several_who_find_no_connection_one_connects(redis_url):
    sender = Sender(redis_url, 10)
    told = await asyncio.gather(*(sender.send([("CLIENT", "ID")]) for _ in range(3)))
    assert told == [told[0]] * 3
    sender.close()


async def test_an_answer_that_does_not_come_ends_the_wait(redis_url):
    sender = Sender(redis_url, 0.05)
    with pytest.raises(TryAgainError, match="does not answer"):
        await sender.send([("XREAD", "BLOCK", 10_000, "STREAMS", "sender:none", "$")])
    assert await sender.send([("PING",)]) == [b"PONG"]
    sender.close()
