"""What is told to one producer, however large and slow, holds back nothing for others."""

import uuid

import redis.asyncio

from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.large_answers import QUICK_BYTES_MAX, WAITING_BYTES_MAX, LargeAnswers, size_of
from engine.worker.worker import Worker
from tests.bounds import CONDITION_SECONDS_MAX
from tests.desks import Desk, batch, desk
from tests.ledgers import clock, until
from tests.proxies import proxied

REQUEST = b"R" * (QUICK_BYTES_MAX + 1)
"""Echoed in the answer, which is so long for it."""


async def send_large(at: Desk, request: bytes = REQUEST) -> str:
    reply = f"{at.ledger.prefix}:answers:far"
    await at.redis.xadd(at.stream(), {"json": "[]", "reply": reply, "request": request})
    return reply


async def test_an_answer_that_does_not_leave_holds_back_no_other_and_no_delete(
    postgres_dsn: str, redis_url: str
) -> None:
    async with desk(postgres_dsn, redis_url) as at, proxied(redis_url) as (proxy, through):
        store = WorkerStore(at.ledger.engine_dsn, uuid.uuid4().bytes)
        worker = Worker(store, Streams(through, at.ledger.prefix), [0], clock)
        async with at.ledger.working(worker):
            proxy.hold(b":answers:far")
            await at.send(batch(2))
            reply = await send_large(at)
            await at.send(batch(3))
            await proxy.held.wait()
            await at.answers(2)
            await at.send(batch(4))
            await at.answers(3)
            await at.drained()
            assert await at.redis.xlen(reply) == 0
            proxy.release()

            async def told() -> bool:
                return bool(await at.redis.xlen(reply))

            await until(told, "the large answer", CONDITION_SECONDS_MAX)
        assert worker.statistics.sessions == 1
        [(_, fields)] = await at.redis.xrange(reply)
        assert fields == {b"request": REQUEST, b"outcomes": b"[]"}


async def test_large_answers_keep_the_order_of_their_stream(
    postgres_dsn: str, redis_url: str
) -> None:
    async with desk(postgres_dsn, redis_url) as at:
        async with at.ledger.working():
            for number in range(6):
                large = REQUEST if number % 2 == 0 else b""
                reply = await send_large(at, large + b"%d" % number)
            await until(lambda: _has(at.redis, reply, 6), "all answers")
        found = await at.redis.xrange(reply)
        assert [fields[b"request"][-1:] for _, fields in found] == [b"%d" % n for n in range(6)]


async def _has(connection: redis.asyncio.Redis, stream: str, count: int) -> bool:
    return bool(await connection.xlen(stream) == count)


def answers_of(stream: bytes, size: int, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return [(stream, {b"outcomes": b"x" * size}) for _ in range(count)]


async def test_what_is_small_goes_at_once_and_what_is_too_much_is_given_up() -> None:
    answers = LargeAnswers(Streams("redis://127.0.0.1:1"))
    small, large = answers_of(b"small", 10, 3), answers_of(b"large", QUICK_BYTES_MAX, 200)
    assert answers.take_from(small) == small
    assert answers.take_from([*large, *small]) == small
    assert sum(map(size_of, answers._waiting)) <= WAITING_BYTES_MAX
    assert answers._waiting
    after = answers_of(b"large", 10, 1)
    assert answers.take_from([*after, *small]) == small, "it keeps its place behind the others"
