"""The amount of a transfer as tables: a row per payload, the last column what becomes of it."""

import pytest

from engine.ledger.nouns import AMOUNT_MAX
from tests.payloads import read_json, read_mp, refusal, refusal_json, refusal_mp


@pytest.mark.parametrize(
    ("flags", "amount", "expected"),
    [
        ([], 0, 0),
        ([], 1, 1),
        ([], 2**63 - 1, 2**63 - 1),
        ([], 2**63, 2**63),
        ([], 2**64 - 1, 2**64 - 1),
        ([], 2**64, 2**64),
        ([], 2**127, 2**127),
        ([], 2**128 - 1, 2**128 - 1),
        ([], "max", AMOUNT_MAX),
        (["pending"], "max", AMOUNT_MAX),
        (["post_pending_transfer"], 0, 0),
        (["post_pending_transfer"], None, AMOUNT_MAX),
        (["void_pending_transfer"], None, 0),
        (["void_pending_transfer"], 5, 5),
        (["balancing_debit"], None, AMOUNT_MAX),
        (["balancing_credit"], None, AMOUNT_MAX),
        (["balancing_debit", "balancing_credit", "pending"], None, AMOUNT_MAX),
        (["linked", "void_pending_transfer"], None, 0),
    ],
)
def test_an_amount_is_read_or_is_what_the_flags_mean(flags, amount, expected) -> None:
    written = {"flags": flags} | ({} if amount is None else {"amount": amount})
    assert read_json(written).amount == expected
    if isinstance(amount, int) and amount >= 2**64:
        written["amount"] = amount.to_bytes(16, "big")
    assert read_mp(written).amount == expected


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        ("-1", "Expected `int` >= 0 - at `$.amount`"),
        (str(2**128), f"Expected `int` <= {AMOUNT_MAX} - at `$.amount`"),
        ("9" * 4000, f"Expected `int` <= {AMOUNT_MAX} - at `$.amount`"),
        ("9" * 100_000, "Integer value out of range - at `$.amount`"),
        ("1.0", "Expected `int | str`, got `float` - at `$.amount`"),
        ("1e3", "Expected `int | str`, got `float` - at `$.amount`"),
        ("1e400", "Number out of range - at `$.amount`"),
        (f"{2**64}.0", "Expected `int | str`, got `float` - at `$.amount`"),
        ("true", "Expected `int | str`, got `bool` - at `$.amount`"),
        ("null", "Expected `int | str`, got `null` - at `$.amount`"),
        ('"1"', "Invalid enum value '1' - at `$.amount`"),
        ('"Max"', "Invalid enum value 'Max' - at `$.amount`"),
        ("[1]", "Expected `int | str`, got `array` - at `$.amount`"),
    ],
)
def test_an_amount_in_json_is_an_integer_of_128_bits_or_max(amount, reason) -> None:
    assert refusal(b"json", b'{"amount":%s}' % amount.encode()) == reason


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        (-1, "Expected `int` >= 0 - at `$.amount`"),
        (1.0, "Expected `int | bytes | str`, got `float` - at `$.amount`"),
        (True, "Expected `int | bytes | str`, got `bool` - at `$.amount`"),
        (None, "Expected `int | bytes | str`, got `NoneType` - at `$.amount`"),
        ("1", "Expected `int` or `max`, got another `str` - at `$.amount`"),
        (bytes(15), "Expected `bytes` of length 16 - at `$.amount`"),
        (bytes(17), "Expected `bytes` of length 16 - at `$.amount`"),
        ([1], "Expected `int | bytes | str`, got `list` - at `$.amount`"),
    ],
)
def test_an_amount_in_mp_is_an_integer_or_16_bytes_or_max(amount, reason) -> None:
    assert refusal_mp({"amount": amount}) == reason


@pytest.mark.parametrize("flags", [[], ["pending"], ["linked"], ["closing_debit", "pending"]])
def test_an_amount_left_out_where_no_flag_says_what_is_meant_is_unreadable(flags) -> None:
    reason = "Object missing required field `amount` - at `$.amount`"
    assert refusal_json({"flags": flags}) == reason
    assert refusal_mp({"flags": flags}) == reason
