"""Answers that are false, unreadable or late: none of them ends the client or fools it."""

import asyncio
import time

import msgspec
import pytest

from engine import Outcome
from engine.client import listener, reconnecting
from engine.client.client import Client
from engine.errors import OutcomeUnknownError, TryAgainError
from tests.bounds import CONDITION_SECONDS_MAX
from tests.clients import LIMITED, entries_in, make_accounts, move, open_client
from tests.ledgers import Ledger, until
from tests.processes import WorkerProcess, working

MANY_DIGITS = b"9" * 5000


def false_answers() -> list[dict[bytes, bytes]]:
    """What somebody may write who knows the name of the stream."""
    requests = [b"1", b"1:1", b"x:1:1", b"%s:1" % MANY_DIGITS, b"1:%s" % MANY_DIGITS, MANY_DIGITS]
    requests += [b":1:1", b"0" * 32 + b":1:1", b":".join([b"1"] * 9), b"\xff\x00", b"-1:-1", b""]
    fields: list[dict[bytes, bytes]] = [
        {b"request": request, b"outcomes": b"\0"} for request in requests
    ]
    fields += [{b"request": request, b"error": b"no" * 99_999} for request in requests[:2]]
    fields += [
        {b"outcomes": b"\0"},
        {b"request": b"1:1"},
        {b"request": b"1:1", b"outcomes": b"\xfe"},
        {b"request": b"1:1", b"outcomes": b"\0" * 8_000_000},
        {b"request": b"1:1", b"outcomes": msgspec.json.encode(["created"] * 9000)},
        {b"a": b"b"},
    ]
    return fields


async def feed(ledger: Ledger, client: Client, answers: list[dict[bytes, bytes]]) -> None:
    async with ledger.redis() as redis:
        for fields in answers:
            await redis.xadd(client._delivery._reply, fields)


async def test_false_answers_to_a_stream_whose_name_is_known_are_let_be(ledger: Ledger) -> None:
    async with open_client(ledger) as client:
        [poor, b] = await make_accounts(client, 2, flags=LIMITED)
        calls = [
            asyncio.create_task(client.create_transfer(move(poor, b))),
            asyncio.create_task(client.create_transfers([move(poor, b)])),
        ]
        await until(lambda: entries_in(ledger, poor.int & 15), "the entries")
        await feed(ledger, client, false_answers())
        # Even from who knows the secret: numbers are read to a bound.
        known = b"%s:%s:0" % (client._delivery._secret, MANY_DIGITS)
        await feed(ledger, client, [{b"request": known, b"outcomes": b"\0"}])
        async with ledger.working():
            assert await calls[0] is Outcome.exceeds_credits
            assert await calls[1] == [Outcome.exceeds_credits]
            assert await client.create_transfer(move(poor, b)) is Outcome.exceeds_credits


async def test_an_answer_of_another_length_is_none(ledger: Ledger) -> None:
    """Even where the request is known, as to who may read the streams of transfers."""
    async with open_client(ledger, timeout_seconds=2.0) as client, ledger.redis() as redis:
        [a, b] = await make_accounts(client, 2)
        call = asyncio.create_task(client.create_transfer(move(a, b)))
        stream = f"{ledger.prefix}:transfers:{{{a.int & 15:04d}}}"
        await until(lambda: entries_in(ledger, a.int & 15), "the entry")
        [[_, entry]] = await redis.xrange(stream)
        request = entry[b"request"]
        await feed(
            ledger,
            client,
            [{b"request": request, b"outcomes": b"\0" * n} for n in (0, 2, 8189)],
        )
        async with ledger.working():
            assert await asyncio.wait_for(call, CONDITION_SECONDS_MAX) is Outcome.created


async def test_no_two_clients_or_entries_have_a_request_that_one_could_guess(
    ledger: Ledger,
) -> None:
    requests = set()
    for _ in range(2):
        async with open_client(ledger, timeout_seconds=0.3) as client, ledger.redis() as redis:
            [a, b] = await make_accounts(client, 2)
            for _ in range(2):
                with pytest.raises(OutcomeUnknownError, match="sending the same ids again"):
                    await client.create_transfers([move(a, b)])
            for _, entry in await redis.xrange(f"{ledger.prefix}:transfers:{{{a.int & 15:04d}}}"):
                requests.add(entry[b"request"])
    assert len(requests) == 4
    secrets = {request.partition(b":")[0] for request in requests}
    assert len(secrets) == 2
    assert all(len(bytes.fromhex(secret.decode())) == 16 for secret in secrets)


async def test_time_in_which_the_callers_loop_was_busy_is_not_waited_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither taken for silence of Redis, nor counted against the time limit."""
    for module in (reconnecting, listener):
        monkeypatch.setattr(module, "SILENT_SECONDS_MAX", 0.5)
    async with (
        working(WorkerProcess(ledger)),
        open_client(ledger, timeout_seconds=5.0) as client,
    ):
        [a, b] = await make_accounts(client, 2)
        assert await client.create_transfer(move(a, b)) is Outcome.created
        call = asyncio.create_task(client.create_transfer(move(a, b)))
        await asyncio.sleep(0)
        for _ in range(8):  # between any two steps of sending, too
            time.sleep(1.0)  # noqa: ASYNC251 - a caller that computes
            await asyncio.sleep(0)
        assert await call is Outcome.created
        many = await client.create_transfers([move(a, b) for _ in range(3)])
        assert set(many) == {Outcome.created}
        assert (client.statistics().reconnects, client.statistics().resent) == (0, 0)
        assert not client._delivery._listener.trouble


async def test_what_was_never_sent_is_no_unknown_outcome(ledger: Ledger) -> None:
    async with open_client(ledger, timeout_seconds=0.5) as client, ledger.redis() as redis:
        [a, b] = await make_accounts(client, 2)
        client._delivery._writer._connection.abort()
        client._delivery._writer._url = "redis://127.0.0.1:1"
        await asyncio.sleep(0)
        with pytest.raises(TryAgainError, match="was never added") as raised:
            await client.create_transfers([move(a, b)])
        assert not isinstance(raised.value, OutcomeUnknownError)
        assert await redis.xlen(f"{ledger.prefix}:transfers:{{{a.int & 15:04d}}}") == 0
