"""Accounts through the producer's client: their outcomes, in order of precedence."""

import asyncio
import re
import uuid
from typing import Any

import pytest

import engine
from engine import AccountOutcome
from engine.errors import InputError
from engine.ledger.nouns import NewAccount
from tests.clients import LIMITED, open_client
from tests.histories import load_histories
from tests.ledgers import Ledger


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
