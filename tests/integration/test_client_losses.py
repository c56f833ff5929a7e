"""What the producer's client does about lost connections, entries and answers."""

import asyncio
import contextlib
from typing import Any

import pytest

from engine import Outcome
from engine.client import delivery, resends
from engine.errors import TryAgainError
from engine.ledger.nouns import stream_name
from tests.bounds import CONDITION_SECONDS_MAX
from tests.clients import (
    LIMITED,
    entries_in,
    expect_exactly_once,
    make_accounts,
    move,
    open_client,
)
from tests.ledgers import Ledger, until
from tests.proxies import proxied


def lose_answers(worker: Any, count: int) -> list[Any]:
    """Let a worker's next answers vanish, as those of a worker that dies after its commit."""
    answer = worker.streams.answer
    lost: list[Any] = []

    async def lose(answers: Any, *decided: Any) -> None:
        if len(lost) < count:
            lost.append(answers)
            answers = []
        await answer(answers, *decided)

    worker.streams.answer = lose
    return lost


class TestLosses:
    async def test_a_connection_lost_after_redis_took_an_entry(
        self, ledger: Ledger, redis_url: str
    ) -> None:
        async with (
            proxied(redis_url) as (proxy, through),
            open_client(ledger, through) as client,
        ):
            [a, b] = await make_accounts(client, 2)
            one, many = move(a, b), [move(a, b) for _ in range(5)]
            proxy.lose("answer", b"XADD")
            calls = [
                asyncio.create_task(client.create_transfer(one)),
                asyncio.create_task(client.create_transfers(many)),
            ]
            await until(lambda: client.statistics().resent, "the entry to be sent again")
            shard = a.int & 15
            await until(lambda: entries_in(ledger, shard), "entries")
            async with ledger.working():
                assert await calls[0] is Outcome.created
                assert set(await calls[1]) == {Outcome.created}
            assert proxy.lost.is_set()
            assert client.statistics().reconnects == 1
            await expect_exactly_once(ledger, [one, *many])

    async def test_lost_answers_are_asked_for_again(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "LOOK_SECONDS", 0.05)
        worker = ledger.worker()
        async with ledger.working(worker), open_client(ledger) as client:
            [bank] = await make_accounts(client, 1)
            [poor] = await make_accounts(client, 1, flags=LIMITED)
            known = move(bank, poor, 1)
            assert await client.create_transfer(known) is Outcome.created

            def batch() -> list[dict[str, Any]]:
                twice = move(bank, poor)
                return [
                    move(bank, poor, 1),
                    move(poor, bank, 100),
                    move(bank, poor, 1, flags=["linked"]),
                    move(bank, poor, 1),
                    move(bank, poor, 1, flags=["linked"]),
                    move(poor, bank, 100),
                    move(bank, poor, 1, code=0),
                    twice,
                    twice,
                ]

            first = batch()
            expected = await client.create_transfers(first)
            assert [o.name for o in expected] == [
                "created",
                "exceeds_credits",
                "created",
                "created",
                "linked_event_failed",
                "exceeds_credits",
                "code_must_not_be_zero",
                "created",
                "exists",
            ]
            lost = lose_answers(worker, 1)
            assert await client.create_transfers(batch()) == expected
            assert len(lost) == 1
            assert client.statistics().resent >= 1
            # A caller who sends the same again is told so, as ever ...
            again = await client.create_transfers(first[:2])
            assert again == [Outcome.exists, Outcome.id_already_failed]
            # ... and also when the answer to that is lost, if it was longer ago than clocks differ.
            monkeypatch.setattr(resends, "CLOCK_SECONDS_MAX", 0)
            lost = lose_answers(worker, 1)
            again = await client.create_transfers(first[:2])
            assert len(lost) == 1
            assert again == [Outcome.exists, Outcome.id_already_failed]

    async def test_entries_that_redis_lost_are_sent_again(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "LOOK_SECONDS", 0.05)
        async with open_client(ledger) as client:
            [a, b] = await make_accounts(client, 2)
            call = asyncio.create_task(client.create_transfer(move(a, b)))
            await until(lambda: entries_in(ledger, a.int & 15), "the entry")
            async with ledger.redis() as redis:
                await redis.delete(stream_name(ledger.prefix, a.int & 15))
            await until(lambda: entries_in(ledger, a.int & 15), "the entry, sent again")
            async with ledger.working():
                assert await call is Outcome.created

    async def test_connections_killed_under_load_lose_nothing_and_repeat_nothing(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "LOOK_SECONDS", 0.1)
        async with ledger.working(), open_client(ledger) as client, ledger.redis() as redis:
            accounts = await make_accounts(client, 20)
            wanted = [move(accounts[n % 20], accounts[(n + 1) % 20]) for n in range(2000)]
            told: list[Outcome] = []

            async def caller(mine: list[dict[str, Any]]) -> None:
                for one in mine:
                    outcome = await client.create_transfer(one)
                    told.append(outcome)

            calls = [asyncio.create_task(caller(wanted[n::100])) for n in range(100)]
            for share in (200, 800, 1400):
                await until(lambda share=share: len(told) >= share, "outcomes")
                await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.gather(*calls)
            assert set(told) == {Outcome.created}
            assert client.statistics().reconnects >= 1
            await expect_exactly_once(ledger, wanted)

    async def test_without_a_worker_it_says_so_within_the_time_limit(self, ledger: Ledger) -> None:
        async with open_client(ledger, timeout_seconds=0.4) as client:
            [a, b] = await make_accounts(client, 2)
            calls = [client.create_transfer(move(a, b)) for _ in range(3)]
            calls += [client.create_transfers([move(b, a)])]
            async with asyncio.timeout(CONDITION_SECONDS_MAX):
                results = await asyncio.gather(*calls, return_exceptions=True)
            for result in results:
                assert isinstance(result, TryAgainError)
                assert "sending the same ids again is safe" in str(result)
                assert "is a worker of this shard running?" in str(result)
            assert client.statistics().in_flight == 0

    async def test_without_redis_it_says_so_within_the_time_limit(
        self, ledger: Ledger, redis_url: str
    ) -> None:
        listening = contextlib.AsyncExitStack()
        _, through = await listening.enter_async_context(proxied(redis_url))
        async with listening, open_client(ledger, through, timeout_seconds=0.4) as client:
            [a, b] = await make_accounts(client, 2)
            await listening.aclose()  # Nothing listens there any more.
            async with ledger.redis() as redis:
                await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(TryAgainError, match=r"Redis|connection"):
                await client.create_transfer(move(a, b))
            with pytest.raises(TryAgainError, match=r"Redis|connection"):
                await client.create_transfers([move(a, b)])

    async def test_a_closed_client_leaves_nobody_waiting(self, ledger: Ledger) -> None:
        async with open_client(ledger) as client:
            [a, b] = await make_accounts(client, 2)
            call = asyncio.create_task(client.create_transfer(move(a, b)))
            await until(lambda: entries_in(ledger, a.int & 15), "the entry")
        with pytest.raises(TryAgainError, match="closed"):
            await call
        with pytest.raises(TryAgainError, match="closed"):
            await client.create_transfer(move(a, b))
