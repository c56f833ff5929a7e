"""The producer's client on real servers: outcomes, order, gathering, losses, backpressure."""

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import uvloop

import engine
from engine import AccountOutcome, Outcome, TransferFlags
from engine.client import Client, road, settle
from engine.errors import BackpressureError, ConfigurationError, InputError, TryAgainError
from engine.nouns import NewAccount, Transfer, stream_name
from engine.streams_fast import FastConnection, refusal_of
from engine.wire.layout import transfers_to_rows
from tests.histories import load_histories
from tests.ledgers import Ledger, make_ledger, until

LIMITED = ["debits_must_not_exceed_credits"]


@pytest.fixture
async def ledger(postgres_dsn: str, redis_url: str) -> Ledger:
    return await make_ledger(postgres_dsn, redis_url)


@contextlib.asynccontextmanager
async def open_client(ledger: Ledger, url: str | None = None, **how: Any) -> AsyncIterator[Client]:
    how.setdefault("timeout_seconds", 10.0)
    async with engine.connect(
        ledger.dsn, url or ledger.redis_url, prefix=ledger.prefix, **how
    ) as client:
        yield client


async def make_accounts(client: Client, count: int, **fields: Any) -> list[uuid.UUID]:
    ids = [uuid.uuid4() for _ in range(count)]
    outcomes = await client.create_accounts(
        [{"id": i, "ledger": 1, "code": 1, **fields} for i in ids]
    )
    assert set(outcomes) == {AccountOutcome.created}
    return ids


def move(debit: uuid.UUID, credit: uuid.UUID, amount: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": uuid.uuid4(),
        "debit_account_id": debit,
        "credit_account_id": credit,
        "amount": amount,
        "ledger": 1,
        "code": 1,
        **fields,
    }


def as_struct(one: dict[str, Any]) -> Transfer:
    return Transfer(
        one["id"].bytes,
        one["debit_account_id"].bytes,
        one["credit_account_id"].bytes,
        one["amount"],
        ledger=one["ledger"],
        code=one["code"],
    )


async def entries_in(ledger: Ledger, shard: int) -> int:
    async with ledger.redis() as redis:
        return int(await redis.xlen(stream_name(ledger.prefix, shard)))


async def expect_exactly_once(ledger: Ledger, transfers: list[dict[str, Any]]) -> None:
    rows = await ledger.sql(
        "SELECT count(*) AS postings, count(DISTINCT transfer_id) AS transfers, sum(amount) AS net"
        " FROM ledger.postings WHERE transfer_id = ANY ($1)",
        [one["id"] for one in transfers],
    )
    wanted = {"postings": 2 * len(transfers), "transfers": len(transfers), "net": 0}
    assert dict(rows[0]) == wanted


class TestAccounts:
    async def test_all_accounts_of_all_histories_get_their_outcomes(self, ledger: Ledger) -> None:
        async with open_client(ledger) as client:
            for history in load_histories():
                wanted = [{k: v for k, v in a.items() if k != "outcome"} for a in history.accounts]
                outcomes = await client.create_accounts(wanted)
                assert [o.name for o in outcomes] == [a["outcome"] for a in history.accounts]
                again = await client.create_accounts(wanted)
                expected = ["exists" if o == "created" else o for o in _names(outcomes)]
                assert _names(again) == expected

    async def test_outcomes_come_in_order_of_precedence(self, ledger: Ledger) -> None:
        taken = uuid.uuid4()
        first = {
            "id": taken,
            "ledger": 7,
            "code": 8,
            "flags": LIMITED,
            "user_data_128": uuid.UUID(int=5),
            "user_data_64": 2**64 - 1,
            "user_data_32": 2**32 - 1,
            "name": "Zoë's",
        }
        other = uuid.UUID(int=6)
        both = [*LIMITED, "credits_must_not_exceed_debits"]
        rows: list[tuple[dict[str, Any], str]] = [
            (
                {"id": uuid.uuid4(), "ledger": 0, "code": 0, "flags": both},
                "flags_are_mutually_exclusive",
            ),
            ({"id": uuid.uuid4(), "ledger": 0, "code": 0}, "ledger_must_not_be_zero"),
            ({"id": uuid.uuid4(), "ledger": 1, "code": 0}, "code_must_not_be_zero"),
            ({"ledger": 0, "code": 0}, "id_must_not_be_zero"),
            ({"id": uuid.UUID(int=2**128 - 1), "flags": both}, "id_must_not_be_int_max"),
            ({"id": taken, "ledger": 0}, "ledger_must_not_be_zero"),
            (first, "created"),
            (first, "exists"),
            ({**first, "name": "another"}, "exists"),
            ({"id": taken, "flags": both}, "exists_with_different_flags"),
            (
                {**first, "user_data_128": other, "user_data_64": 1},
                "exists_with_different_user_data_128",
            ),
            ({**first, "user_data_64": 1, "user_data_32": 1}, "exists_with_different_user_data_64"),
            ({**first, "user_data_32": 1, "ledger": 0}, "exists_with_different_user_data_32"),
            ({**first, "ledger": 0, "code": 0}, "exists_with_different_ledger"),
            ({**first, "code": 0}, "exists_with_different_code"),
        ]
        async with open_client(ledger) as client:
            outcomes = await client.create_accounts([account for account, _ in rows])
            assert _names(outcomes) == [outcome for _, outcome in rows]
            [account] = await client.lookup_accounts([taken, uuid.uuid4()])
            assert (account.name, account.ledger, account.code) == ("Zoë's", 7, 8)
            assert account.flags is engine.AccountFlags.debits_must_not_exceed_credits
            assert (account.user_data_128.int, account.user_data_64) == (5, 2**64 - 1)
            struct = NewAccount(taken.bytes, 7, 8)
            assert _names(await client.create_accounts([struct])) == ["exists_with_different_flags"]

    async def test_accounts_created_at_the_same_time_are_created_once(self, ledger: Ledger) -> None:
        wanted = [{"id": uuid.uuid4(), "ledger": 1, "code": 1} for _ in range(200)]
        async with open_client(ledger) as client:
            answers = await asyncio.gather(
                *(client.create_accounts(wanted[:: 1 - 2 * (n % 2)]) for n in range(4))
            )
        told = [outcome for outcomes in answers for outcome in outcomes]
        assert told.count(AccountOutcome.created) == 200
        assert told.count(AccountOutcome.exists) == 600

    async def test_what_is_no_account_is_refused_with_its_place(self, ledger: Ledger) -> None:
        good = {"id": uuid.uuid4(), "ledger": 1, "code": 1}
        cases: list[tuple[Any, str]] = [
            ({"id": "x"}, "`$[1].id`"),
            ({"ledger": 2**32}, "`$[1].ledger`"),
            ({"colour": 1}, "colour"),
            ({"flags": ["closed"]}, "`$[1].flags[0]`"),
            ({"name": "a\0b"}, "`$[1].name`"),
            ({"user_data_64": 2**64}, "`$[1].user_data_64`"),
            (NewAccount(b"short", 1, 1), "`$[1].id`"),
            (7, "int"),
        ]
        async with open_client(ledger) as client:
            for account, message in cases:
                with pytest.raises(InputError, match=re.escape(message)):
                    await client.create_accounts([good, account])
            assert await client.lookup_accounts([good["id"]]) == []


def _names(outcomes: list[AccountOutcome]) -> list[str]:
    return [outcome.name for outcome in outcomes]


class TestTransfers:
    async def test_a_list_is_decided_in_order_in_every_form(self, ledger: Ledger) -> None:
        async with ledger.working(), open_client(ledger) as client:
            [bank] = await make_accounts(client, 1)
            [alice, bob] = await make_accounts(client, 2, flags=LIMITED)
            batch = [
                move(alice, bob, 5),
                move(bank, alice, 5),
                move(alice, bob, 5),
                move(alice, bob, 1, flags=["linked"]),
                move(bank, bob, 1),
                move(bob, alice, 2, flags=TransferFlags.pending),
            ]
            batch += [batch[1], {**batch[1], "amount": 6}]
            expected = [
                Outcome.exceeds_credits,
                Outcome.created,
                Outcome.created,
                Outcome.exceeds_credits,
                Outcome.linked_event_failed,
                Outcome.created,
                Outcome.exists,
                Outcome.exists_with_different_amount,
            ]
            assert await client.create_transfers(batch) == expected
            assert await client.create_transfers([]) == []
            assert await client.create_transfers([batch[0], batch[2]]) == [
                Outcome.id_already_failed,
                Outcome.exists,
            ]
            structs = [as_struct(move(bank, alice)) for _ in range(3)]
            assert set(await client.create_transfers(structs)) == {Outcome.created}
            outcomes = await client.create_transfers(transfers_to_rows(structs))
            assert isinstance(outcomes, np.ndarray)
            assert outcomes.dtype == np.uint8
            assert outcomes.tolist() == [Outcome.exists] * 3
            hold = batch[5]
            post = {
                "id": uuid.uuid4(),
                "pending_id": hold["id"],
                "flags": TransferFlags.post_pending_transfer,
            }
            assert await client.create_transfer(post) is Outcome.created

            assert await client.outcome(batch[0]["id"]) is Outcome.exceeds_credits
            assert await client.outcome(str(batch[1]["id"])) is Outcome.created
            assert await client.outcome(batch[4]["id"].bytes) is None
            accounts = await client.lookup_accounts([bob, alice, uuid.uuid4()])
            assert [a.id for a in accounts] == [bob, alice]
            assert accounts[0].credits_posted == 5
            assert accounts[0].debits_posted == 2
            [stored] = await client.lookup_transfers([post["id"], batch[0]["id"]])
            assert (stored.amount, stored.pending_id) == (2, hold["id"])
            assert stored.debit_account_id == bob
            history = await client.account_history(bob, 2)
            assert [p.transfer_id for p in history] == [post["id"], hold["id"]]
            assert [(p.amount, p.pending_amount) for p in history] == [(-2, 2), (0, -2)]
            older = await client.account_history(bob, before=history[0].posted_at)
            assert [p.amount for p in older] == [0, 5]

    async def test_a_large_call_is_decided_in_order(self, ledger: Ledger) -> None:
        async with open_client(ledger) as client:
            [bank] = await make_accounts(client, 1)
            [alice] = await make_accounts(client, 1, flags=LIMITED)
            there, back = as_struct(move(bank, alice)), as_struct(move(alice, bank))
            rows = np.repeat(transfers_to_rows([there, back]), 4150)
            rows[::2], rows[1::2] = transfers_to_rows([there])[0], transfers_to_rows([back])[0]
            rows["id"] = np.frombuffer(np.random.default_rng(1).bytes(16 * 8300), "V16")
            call = asyncio.create_task(client.create_transfers(rows))
            await until(lambda: entries_in(ledger, bank.int & 15), "the first entry")
            for _ in range(3):  # The second waits for the answer to the first.
                assert sum((await client.backlog()).values()) == 1
            async with ledger.working():
                assert not (await call).any()
            assert client.statistics().entries == 2
            [account] = await client.lookup_accounts([alice])
            assert (account.credits_posted, account.debits_posted) == (4150, 4150)

    async def test_rows_grouped_by_shard_get_their_outcomes_in_place(self, ledger: Ledger) -> None:
        async with ledger.working(), open_client(ledger) as client:
            accounts = await make_accounts(client, 40)
            rows = transfers_to_rows(
                [as_struct(move(accounts[n % 40], accounts[(n + 7) % 40])) for n in range(600)]
            )
            rows["code"][::7] = 0
            rows["flags"][1::31] |= int(TransferFlags.linked)
            wanted = await client.create_transfers(rows.copy(), by_shard=True, ordered=False)
            bad = {Outcome.code_must_not_be_zero, Outcome.linked_event_failed}
            assert set(wanted[::7].tolist()) <= bad
            assert set(wanted.tolist()) == {*bad, Outcome.created}
            kept = await client.lookup_transfers(
                [bytes(i) for i in rows["id"][wanted == Outcome.created].tolist()]
            )
            assert len(kept) == int((wanted == Outcome.created).sum())
            again = await client.create_transfers(rows, by_shard=True)
            assert (again[wanted == Outcome.created] == Outcome.exists).sum() > 0
            assert (again[wanted == Outcome.code_must_not_be_zero] != Outcome.created).all()

    async def test_many_single_calls_share_entries(self, ledger: Ledger) -> None:
        async with ledger.working(), open_client(ledger) as client:
            accounts = await make_accounts(client, 32)
            wanted = [move(accounts[n % 32], accounts[(n + 1) % 32]) for n in range(1000)]
            calls: list[Any] = [as_struct(one) if n % 2 else one for n, one in enumerate(wanted)]
            calls.insert(500, {**wanted[0], "amount": -1})
            calls.insert(600, move(accounts[0], accounts[1], flags=["linked"]))
            results = await asyncio.gather(
                *(client.create_transfer(call) for call in calls), return_exceptions=True
            )
            linked, unreadable = results.pop(600), results.pop(500)
            assert set(results) == {Outcome.created}
            assert linked is Outcome.linked_event_chain_open
            assert isinstance(unreadable, InputError)
            assert "`$.amount`" in str(unreadable)
            await expect_exactly_once(ledger, wanted)
            statistics = client.statistics()
            assert statistics.transfers == 1001
            assert statistics.entries <= 33  # 16 lanes; a full lane takes two entries.
            assert (statistics.in_flight, statistics.queued, statistics.resent) == (0, 0, 0)

    async def test_what_is_no_transfer_is_refused_before_anything_is_sent(
        self, ledger: Ledger
    ) -> None:
        no_bytes: Any = uuid.uuid4()
        cases: list[tuple[Any, str]] = [
            ([{"amount": 1}, {"amount": "1"}], "`$[1].amount`"),
            ([{"amount": 1, "colour": 2}], "colour"),
            ([{"amount": 1, "id": "x" * 36}], "`$[0].id`"),
            ([7], "int"),
            ([Transfer(b"short", b"", b"", 1)], "`$[0]`"),
            ([Transfer(no_bytes, bytes(16), bytes(16), 1)], "wrong type"),
            (np.zeros(3, "V128"), "TRANSFER"),
            ({"amount": 1}, "a list"),
        ]
        singles: list[tuple[Any, str]] = [
            ({"amount": 1, "debit_account_id": "x" * 36}, "`$.debit_account_id`"),
            ({"amount": 1, "debit_account_id": "0" * 36}, "`$.debit_account_id`"),
            ({"amount": 1, "debit_account_id": 5}, "`$.debit_account_id`"),
            ({"amount": 1, "flags": ["colour"]}, "`$.flags[0]`"),
            (Transfer(b"short", b"", b"", 1), "16 bytes"),
            (Transfer(bytes(16), no_bytes, bytes(16), 1), "16 bytes"),
            (Transfer(no_bytes, bytes(16), bytes(16), 1), "wrong type"),
            (7, "int"),
        ]
        async with open_client(ledger) as client:
            for transfers, message in cases:
                with pytest.raises(InputError, match=re.escape(message)):
                    await client.create_transfers(transfers)
            for transfer, message in singles:
                with pytest.raises(InputError, match=re.escape(message)):
                    await client.create_transfer(transfer)
            assert client.statistics().entries == 0

    def test_it_runs_on_uvloop(self, postgres_dsn: str, redis_url: str) -> None:
        async def run() -> None:
            ledger = await make_ledger(postgres_dsn, redis_url)
            async with ledger.working(), open_client(ledger) as client:
                [a, b] = await make_accounts(client, 2)
                calls = [client.create_transfer(move(a, b)) for _ in range(50)]
                assert set(await asyncio.gather(*calls)) == {Outcome.created}

        uvloop.run(run())


class Proxy:
    """Stands between a client and Redis, and cuts connections after a command was executed."""

    def __init__(self, redis_url: str) -> None:
        self._host, self._port = redis_url.split("/")[2].split(":")
        self.url = ""
        self.cut_after = b""
        """The next connection that sends it is cut when Redis has answered."""
        self.cuts = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        tasks: list[asyncio.Task[None]] = []

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(asyncio.create_task(self._serve(reader, writer)))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closing(writer):
            there, out = await asyncio.open_connection(self._host, int(self._port))
            async with _closing(out):
                is_armed = False

                async def to_redis() -> None:
                    nonlocal is_armed
                    while data := await reader.read(65536):
                        if self.cut_after and self.cut_after in data:
                            is_armed = True
                            self.cut_after = b""
                        out.write(data)

                async def from_redis() -> None:
                    while data := await there.read(65536):
                        if is_armed:
                            self.cuts += 1
                            return
                        writer.write(data)

                pumps = [asyncio.create_task(to_redis()), asyncio.create_task(from_redis())]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def lose_answers(worker: Any, count: int) -> list[Any]:
    """Let a worker's next answers vanish, as those of a worker that dies after its commit."""
    answer = worker.streams.answer
    lost: list[Any] = []

    async def lose(answers: Any) -> None:
        if len(lost) < count:
            lost.append(answers)
        else:
            await answer(answers)

    worker.streams.answer = lose
    return lost


class TestLosses:
    async def test_a_connection_lost_after_redis_took_an_entry(
        self, ledger: Ledger, redis_url: str
    ) -> None:
        async with Proxy(redis_url).running() as proxy, open_client(ledger, proxy.url) as client:
            [a, b] = await make_accounts(client, 2)
            one, many = move(a, b), [move(a, b) for _ in range(5)]
            proxy.cut_after = b"XADD"
            calls = [
                asyncio.create_task(client.create_transfer(one)),
                asyncio.create_task(client.create_transfers(many)),
            ]
            await until(lambda: _is(client.statistics().resent > 0), "the entry to be sent again")
            shard = a.int & 15
            await until(lambda: entries_in(ledger, shard), "entries")
            async with ledger.working():
                assert await calls[0] is Outcome.created
                assert set(await calls[1]) == {Outcome.created}
            assert proxy.cuts == 1
            assert client.statistics().reconnects == 1
            await expect_exactly_once(ledger, [one, *many])

    async def test_lost_answers_are_asked_for_again(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(road, "LOOK_SECONDS", 0.05)
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
            monkeypatch.setattr(settle, "CLOCK_SECONDS_MAX", 0)
            lost = lose_answers(worker, 1)
            again = await client.create_transfers(first[:2])
            assert len(lost) == 1
            assert again == [Outcome.exists, Outcome.id_already_failed]

    async def test_entries_that_redis_lost_are_sent_again(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(road, "LOOK_SECONDS", 0.05)
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
        monkeypatch.setattr(road, "LOOK_SECONDS", 0.1)
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
                await until(lambda share=share: _is(len(told) >= share), "outcomes")
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
            began = time.monotonic()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert time.monotonic() - began < 2
            for result in results:
                assert isinstance(result, TryAgainError)
                assert "sending the same ids again is safe" in str(result)
                assert "is a worker of this shard running?" in str(result)
            assert client.statistics().in_flight == 0

    async def test_without_redis_it_says_so_within_the_time_limit(
        self, ledger: Ledger, redis_url: str
    ) -> None:
        proxy = Proxy(redis_url)
        async with proxy.running(), open_client(ledger, proxy.url, timeout_seconds=0.4) as client:
            [a, b] = await make_accounts(client, 2)
            proxy._port = "1"  # Nothing listens there.
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


async def _is(value: object) -> object:
    return value


class TestDoor:
    async def test_a_full_stream_is_an_error(self, ledger: Ledger) -> None:
        async with open_client(ledger, backlog_entries_max=2) as client:
            [a, b] = await make_accounts(client, 2)
            shard = a.int & 15
            sent = []
            for count in (1, 2):
                sent.append(asyncio.create_task(client.create_transfers([move(a, b)])))
                await until(lambda n=count: _equal(entries_in(ledger, shard), n), "the entry")
            for call in (client.create_transfer(move(a, b)), client.create_transfers([move(a, b)])):
                with pytest.raises(BackpressureError, match="backlog of 2 entries"):
                    await call
            assert (await client.backlog())[shard] == 2
            assert sum((await client.backlog()).values()) == 2
            async with ledger.working():
                assert [await call for call in sent] == [[Outcome.created]] * 2
                assert await client.create_transfer(move(a, b)) is Outcome.created

    async def test_a_full_stream_is_waited_for(self, ledger: Ledger) -> None:
        async with open_client(ledger, backlog_entries_max=1, when_full="wait") as client:
            [a, b] = await make_accounts(client, 2)
            first = asyncio.create_task(client.create_transfers([move(a, b)]))
            await until(lambda: entries_in(ledger, a.int & 15), "the entry")
            calls = [asyncio.create_task(client.create_transfer(move(a, b))) for _ in range(5)]
            calls.append(asyncio.create_task(client.create_transfer(move(a, b, flags=["linked"]))))
            async with ledger.working():
                assert await first == [Outcome.created]
                outcomes = await asyncio.gather(*calls)
            assert outcomes == [Outcome.created] * 5 + [Outcome.linked_event_chain_open]

    async def test_waiting_for_room_ends_with_the_time_limit(self, ledger: Ledger) -> None:
        how = {"backlog_entries_max": 1, "when_full": "wait", "timeout_seconds": 0.3}
        async with open_client(ledger, **how) as client, ledger.redis() as redis:
            [a, b] = await make_accounts(client, 2)
            await redis.xadd(stream_name(ledger.prefix, a.int & 15), {"json": "[]"})
            with pytest.raises(BackpressureError):
                await client.create_transfer(move(a, b))
            with pytest.raises(BackpressureError):
                await client.create_transfers([move(a, b)])
            assert await entries_in(ledger, a.int & 15) == 1

    async def test_what_redis_refuses_is_refused_at_the_door(self, ledger: Ledger) -> None:
        async with open_client(ledger) as client, ledger.redis() as redis:
            [a, b] = await make_accounts(client, 2)
            await redis.set(stream_name(ledger.prefix, a.int & 15), "no stream")
            with pytest.raises(ConfigurationError, match="WRONGTYPE"):
                await client.create_transfer(move(a, b))
        assert isinstance(refusal_of("OOM command not allowed"), BackpressureError)
        assert isinstance(refusal_of("LOADING data"), TryAgainError)

    async def test_redis_without_memory_is_an_error_or_waited_for(self, ledger: Ledger) -> None:
        async with (
            open_client(ledger) as impatient,
            open_client(ledger, when_full="wait") as patient,
            ledger.redis() as redis,
        ):
            [a, b] = await make_accounts(patient, 2)
            await redis.config_set("maxmemory", "1")
            try:
                with pytest.raises(BackpressureError, match="out of memory"):
                    await impatient.create_transfer(move(a, b))
                call = asyncio.create_task(patient.create_transfer(move(a, b)))
                await until(lambda: _is(patient._road._trouble), "a refusal")
            finally:
                await redis.config_set("maxmemory", "0")
            async with ledger.working():
                assert await call is Outcome.created

    async def test_a_primary_that_becomes_a_replica_for_a_while(self, ledger: Ledger) -> None:
        async with open_client(ledger) as client, ledger.redis() as redis:
            [a, b] = await make_accounts(client, 2)
            await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
            try:
                call = asyncio.create_task(client.create_transfer(move(a, b)))
                await until(lambda: _is(client.statistics().reconnects), "another connection")
            finally:
                await redis.execute_command("REPLICAOF", "NO", "ONE")
            async with ledger.working():
                assert await call is Outcome.created

    async def test_a_user_of_redis_needs_no_more_than_the_streams(self, ledger: Ledger) -> None:
        name = ledger.prefix
        url = ledger.redis_url.replace("//", f"//{name}:secret@")
        rules = f"on >secret ~{name}:transfers:* ~{name}:answers:* -@all +ping +select"
        streams = "+xadd +xlen +xrange +xread +xtrim +unlink"
        async with ledger.redis() as redis:
            await redis.execute_command("ACL", "SETUSER", name, *rules.split(), *streams.split())
            try:
                async with ledger.working(), open_client(ledger, url) as client:
                    [a, b] = await make_accounts(client, 2)
                    assert await client.create_transfer(move(a, b)) is Outcome.created
                    await redis.execute_command("ACL", "SETUSER", name, "-xadd")
                    with pytest.raises(ConfigurationError, match="NOPERM"):
                        await client.create_transfer(move(a, b))
                with pytest.raises(ConfigurationError, match="WRONGPASS"):
                    await FastConnection.open(url.replace("secret", "wrong"))
            finally:
                await redis.execute_command("ACL", "DELUSER", name)

    async def test_addresses_come_from_the_environment_or_are_asked_for(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ENGINE_POSTGRES_DSN", raising=False)
        monkeypatch.delenv("ENGINE_REDIS_URL", raising=False)
        for dsn, url, missing in (
            (None, None, "ENGINE_POSTGRES_DSN"),
            (ledger.dsn, None, "ENGINE_REDIS_URL"),
        ):
            with pytest.raises(ConfigurationError, match=missing):
                async with engine.connect(dsn, url):
                    pass
        monkeypatch.setenv("ENGINE_POSTGRES_DSN", ledger.dsn)
        monkeypatch.setenv("ENGINE_REDIS_URL", ledger.redis_url)
        async with engine.connect() as client:
            assert len(await client.backlog()) == 16
        with pytest.raises(ConfigurationError, match="redis://HOST"):
            await FastConnection.open("nonsense")
        with pytest.raises(TryAgainError, match="out of reach"):
            await FastConnection.open("redis://127.0.0.1:1")


async def _equal(value: Any, wanted: int) -> bool:
    return bool(await value == wanted)
