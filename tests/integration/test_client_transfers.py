"""Transfers through the producer's client: order, gathering, what is refused unsent."""

import asyncio
import re
import uuid
from typing import Any

import numpy as np
import pytest
import uvloop

from engine import Outcome, TransferFlags
from engine.errors import InputError
from engine.ledger.nouns import Transfer
from engine.wire.layout import transfers_to_rows
from tests.clients import (
    LIMITED,
    as_struct,
    entries_in,
    expect_exactly_once,
    make_accounts,
    move,
    open_client,
)
from tests.ledgers import Ledger, make_ledger, until


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

    async def test_the_pages_of_a_history_show_each_posting_once(self, ledger: Ledger) -> None:
        async with ledger.working(), open_client(ledger) as client:
            [bank, alice, bob] = await make_accounts(client, 3)
            made = [move(bank, one) for one in (alice, bob) for _ in range(60)]
            made += [move(bob, alice) for _ in range(60)]
            await client.create_transfers(made)
            seen = page = await client.account_history(alice, 7)
            while page and len(seen) <= len(made):
                page = await client.account_history(alice, 7, before=page[-1])
                seen += page
            concern_alice = [one["id"] for one in made if alice in one.values()]
            assert [posting.transfer_id for posting in seen] == concern_alice[::-1]

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
