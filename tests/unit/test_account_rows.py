"""Rows of a CSV file of accounts: what they become, or why they are refused."""

import uuid

import pytest

from engine.commands.accounts import _parse_row
from engine.errors import InputError
from engine.ledger.nouns import AccountFlags, NewAccount

ID = uuid.UUID(int=7)


def test_a_row_is_an_account_and_an_empty_cell_is_left_out() -> None:
    row = {"id": str(ID), "ledger": "978", "code": "1", "name": "alice", "user_data_64": ""}
    flags = AccountFlags.debits_must_not_exceed_credits
    assert _parse_row(row | {"flags": flags.name}) == NewAccount(
        ID.bytes, 978, 1, flags=flags, name="alice"
    )


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"colour": "red"}, "unknown column `colour`"),
        ({"ledger": None}, "ends before its column `ledger`"),
        ({None: ["x"]}, "more cells than the header"),
        ({"ledger": "1_000"}, "Expected `int` >= 0 - at `$.ledger`"),
        ({"ledger": "9" * 10_000}, "Expected `int` <="),
        ({"ledger": "max"}, "`$.ledger`"),
        ({"id": ""}, "missing required field `id`"),
    ],
)
def test_a_row_is_refused_when(cells, reason) -> None:
    with pytest.raises(InputError) as caught:
        _parse_row({"id": str(ID), "ledger": "1", "code": "1"} | cells)
    assert reason in str(caught.value)
