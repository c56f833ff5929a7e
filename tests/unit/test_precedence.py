"""Refusals in their order of precedence, one a row: each transfer breaks a rule and later ones.

A row names what is sent and what comes of it. It breaks the rule of its outcome, and as many of
those below as one transfer can break at once; so it shows that none of them is asked first. Decided
by the rules, and by columns over a ledger in memory, which must say the same.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from engine.ledger.nouns import AMOUNT_MAX, COUNTER_MAX, ID_MAX, ID_ZERO, AccountFlags, Transfer
from engine.ledger.nouns import TransferFlags as F
from engine.ledger.outcomes import Outcome
from engine.ledger.page import Account
from tests.worlds import ByColumns, ByRules


def number(value: int) -> bytes:
    return value.to_bytes(16, "big")


BANK, SHOP, POOR, OWING, EURO, CLOSED, FULL, HELD, NOBODY = (number(n) for n in range(1, 10))
ACCOUNTS = [
    Account(BANK, 1, 1, 1),
    Account(SHOP, 2, 1, 1),
    Account(POOR, 3, 1, 1, int(AccountFlags.debits_must_not_exceed_credits)),
    Account(OWING, 4, 1, 1, int(AccountFlags.credits_must_not_exceed_debits)),
    Account(EURO, 5, 2, 1),
    Account(CLOSED, 6, 1, 1),
    Account(FULL, 7, 1, 1),
    Account(HELD, 8, 1, 1),
]
NEW, DONE, FAILED, HOLD, POSTED, VOIDED, EXPIRED, OPEN, ON_CLOSED, CLOSING, MOVE, TOP, TOP_HELD = (
    number(n) for n in range(100, 113)
)
"""Ids: a free one, and what was sent before."""


def sent(transfer_id: bytes, debit: bytes, credit: bytes, amount: int, **more: Any) -> Transfer:
    return Transfer(transfer_id, debit, credit, amount, **{"ledger": 1, "code": 1, **more})


BEFORE = [
    sent(DONE, BANK, SHOP, 5, user_data_32=3),
    sent(FAILED, POOR, SHOP, 5),
    sent(HOLD, BANK, SHOP, 10, flags=F.pending),
    sent(POSTED, BANK, SHOP, 10, flags=F.pending),
    sent(number(120), ID_ZERO, ID_ZERO, AMOUNT_MAX, pending_id=POSTED, ledger=0, code=0,
         flags=F.post_pending_transfer),
    sent(VOIDED, BANK, SHOP, 10, flags=F.pending),
    sent(number(121), ID_ZERO, ID_ZERO, 0, pending_id=VOIDED, ledger=0, code=0,
         flags=F.void_pending_transfer),
    sent(EXPIRED, BANK, SHOP, 10, flags=F.pending, timeout=1),
    sent(ON_CLOSED, CLOSED, SHOP, 10, flags=F.pending),
    sent(number(122), SHOP, CLOSED, 10, flags=F.pending),
    sent(CLOSING, CLOSED, SHOP, 0, flags=F.pending | F.closing_debit),
    sent(TOP, FULL, BANK, COUNTER_MAX - 4),
    sent(TOP_HELD, HELD, BANK, 4, flags=F.pending),
]  # fmt: skip
"""What happened before; a second later EXPIRED has expired."""

BAD = {"code": 0, "ledger": 0, "timeout": 9}
"""Broken by a transfer that posts nothing, and later than most."""
ALL_FLAGS = 0xFFFE
"""But `linked`, which is asked before all."""

BALANCING_BOTH = F.post_pending_transfer | F.void_pending_transfer


def plain(**changes: Any) -> dict[str, Any]:
    return {"id": NEW, "debit_account_id": BANK, "credit_account_id": SHOP, "amount": 1,
            "ledger": 1, "code": 1, **changes}  # fmt: skip


def ending(hold: bytes, flag: F = F.post_pending_transfer, **changes: Any) -> dict[str, Any]:
    return {"id": NEW, "pending_id": hold, "debit_account_id": ID_ZERO,
            "credit_account_id": ID_ZERO, "amount": AMOUNT_MAX if flag & F.post_pending_transfer
            else 0, "flags": flag, **changes}  # fmt: skip


ALIKE = plain(id=DONE, amount=5, user_data_32=3)
"""DONE, sent again; each row on it differs in one thing and in all that is asked later."""
LATER: dict[str, Any] = {"code": 9}
DIFFERENT: list[tuple[str, dict[str, Any]]] = []
for _outcome, _change in reversed(
    [
        ("exists_with_different_flags", {"flags": F.pending}),
        ("exists_with_different_pending_id", {"pending_id": HOLD}),
        ("exists_with_different_timeout", {"timeout": 7}),
        ("exists_with_different_debit_account_id", {"debit_account_id": NOBODY}),
        ("exists_with_different_credit_account_id", {"credit_account_id": NOBODY}),
        ("exists_with_different_amount", {"amount": 6}),
        ("exists_with_different_user_data_128", {"user_data_128": number(9)}),
        ("exists_with_different_user_data_64", {"user_data_64": 9}),
        ("exists_with_different_user_data_32", {"user_data_32": 9}),
        ("exists_with_different_ledger", {"ledger": 9}),
        ("exists_with_different_code", {"code": 9}),
    ]
):
    LATER = {**LATER, **_change}
    DIFFERENT.insert(0, (_outcome, ALIKE | LATER))

WRONG = {"debit_account_id": NOBODY, "credit_account_id": NOBODY, "ledger": 9, "code": 9}
"""Of a hold between others, in another ledger, for something else."""

TABLE: list[tuple[str, dict[str, Any]]] = [
    # Of any transfer.
    ("timestamp_must_be_zero", plain(timestamp=1, flags=ALL_FLAGS, id=ID_ZERO, **BAD)),
    ("reserved_flag", plain(flags=ALL_FLAGS, id=ID_ZERO, **BAD)),
    ("id_must_not_be_zero", plain(flags=BALANCING_BOTH, id=ID_ZERO, **BAD)),
    ("id_must_not_be_int_max", plain(flags=BALANCING_BOTH, id=ID_MAX, **BAD)),
    *DIFFERENT,
    ("exists", ALIKE),
    ("id_already_failed", ALIKE | {"id": FAILED, "flags": BALANCING_BOTH, **BAD}),
    # Of one that posts or voids.
    ("flags_are_mutually_exclusive", ending(ID_ZERO, BALANCING_BOTH, timeout=9)),
    ("pending_id_must_not_be_zero", ending(ID_ZERO, timeout=9)),
    ("pending_id_must_not_be_int_max", ending(ID_MAX, timeout=9)),
    ("pending_id_must_be_different", ending(NEW, timeout=9)),
    ("timeout_reserved_for_pending_transfer", ending(NOBODY, timeout=9)),
    ("pending_transfer_not_found", ending(NOBODY, **WRONG)),
    ("pending_transfer_not_found", ending(FAILED, **WRONG)),
    ("pending_transfer_not_pending", ending(DONE, **WRONG)),
    ("pending_transfer_has_different_debit_account_id", ending(POSTED, **WRONG)),
    ("pending_transfer_has_different_credit_account_id",
     ending(POSTED, **WRONG | {"debit_account_id": BANK})),
    ("pending_transfer_has_different_ledger", ending(POSTED, ledger=9, code=9, amount=11)),
    ("pending_transfer_has_different_code", ending(POSTED, code=9, amount=11)),
    ("exceeds_pending_transfer_amount", ending(POSTED, amount=11)),
    ("exceeds_pending_transfer_amount", ending(POSTED, F.void_pending_transfer, amount=11)),
    ("pending_transfer_has_different_amount", ending(POSTED, F.void_pending_transfer, amount=9)),
    ("pending_transfer_already_posted", ending(POSTED)),
    ("pending_transfer_already_voided", ending(VOIDED)),
    ("pending_transfer_expired", ending(EXPIRED)),
    ("debit_account_already_closed", ending(ON_CLOSED)),
    ("credit_account_already_closed", ending(number(122))),
    # Of one that moves or holds.
    ("debit_account_id_must_not_be_zero",
     plain(debit_account_id=ID_ZERO, credit_account_id=ID_ZERO, pending_id=HOLD, **BAD)),
    ("debit_account_id_must_not_be_int_max",
     plain(debit_account_id=ID_MAX, credit_account_id=ID_ZERO, pending_id=HOLD, **BAD)),
    ("credit_account_id_must_not_be_zero",
     plain(debit_account_id=NOBODY, credit_account_id=ID_ZERO, pending_id=HOLD, **BAD)),
    ("credit_account_id_must_not_be_int_max",
     plain(debit_account_id=NOBODY, credit_account_id=ID_MAX, pending_id=HOLD, **BAD)),
    ("accounts_must_be_different",
     plain(debit_account_id=NOBODY, credit_account_id=NOBODY, pending_id=HOLD, **BAD)),
    ("pending_id_must_be_zero", plain(debit_account_id=NOBODY, pending_id=HOLD, **BAD)),
    ("timeout_reserved_for_pending_transfer",
     plain(debit_account_id=NOBODY, flags=F.closing_debit, **BAD)),
    ("closing_transfer_must_be_pending",
     plain(debit_account_id=NOBODY, flags=F.closing_debit, ledger=0, code=0)),
    ("ledger_must_not_be_zero", plain(debit_account_id=NOBODY, ledger=0, code=0)),
    ("code_must_not_be_zero", plain(debit_account_id=NOBODY, code=0)),
    ("debit_account_not_found", plain(debit_account_id=NOBODY, credit_account_id=number(10))),
    ("credit_account_not_found",
     plain(debit_account_id=CLOSED, credit_account_id=NOBODY, ledger=9)),
    ("accounts_must_have_the_same_ledger",
     plain(debit_account_id=CLOSED, credit_account_id=EURO, ledger=9)),
    ("transfer_must_have_the_same_ledger_as_accounts", plain(debit_account_id=CLOSED, ledger=2)),
    ("debit_account_already_closed", plain(debit_account_id=CLOSED, amount=AMOUNT_MAX)),
    ("credit_account_already_closed",
     plain(debit_account_id=POOR, credit_account_id=CLOSED, amount=AMOUNT_MAX)),
    ("overflows_debits_pending", plain(debit_account_id=HELD, flags=F.pending, amount=AMOUNT_MAX)),
    ("overflows_credits_pending",
     plain(debit_account_id=POOR, credit_account_id=BANK, flags=F.pending, amount=COUNTER_MAX - 3)),
    ("overflows_debits_posted", plain(debit_account_id=FULL, amount=AMOUNT_MAX)),
    ("overflows_credits_posted",
     plain(debit_account_id=POOR, credit_account_id=BANK, amount=COUNTER_MAX)),
    ("overflows_debits",
     plain(debit_account_id=HELD, credit_account_id=OWING, amount=COUNTER_MAX - 3)),
    ("overflows_credits",
     plain(debit_account_id=POOR, credit_account_id=SHOP, amount=COUNTER_MAX - 20)),
    ("exceeds_credits", plain(debit_account_id=POOR, credit_account_id=OWING)),
    ("exceeds_debits", plain(credit_account_id=OWING)),
    ("created", plain()),
]  # fmt: skip

CHAINS: list[tuple[list[str], list[dict[str, Any]]]] = [
    (["linked_event_failed", "linked_event_chain_open"],
     [plain(flags=F.linked), plain(id=ID_ZERO, flags=F.linked, timestamp=1)]),
    (["exceeds_debits", "linked_event_failed"],
     [plain(credit_account_id=OWING, flags=F.linked), plain(id=ID_ZERO, timestamp=1)]),
]  # fmt: skip
"""What is asked before all else, of transfers that are linked."""

NEVER = {"overflows_timeout"}
"""Its time would be thousands of years away."""


def decided(transfers: list[dict[str, Any]], frozen: Sequence[int] = ()) -> list[str]:
    """By the rules and by columns, each after what happened before.

    Args:
        transfers: As they are sent, in one entry.
        frozen: Places of those that match a freeze which declines.
    """
    by_rules, by_columns = ByRules(ACCOUNTS), ByColumns(ACCOUNTS)
    told = []
    for world in (by_rules, by_columns):
        world.step(0, [(0, BEFORE)])
        world.frozen = set(frozen)
        (outcomes,) = world.step(2, [(0, [Transfer(**changes) for changes in transfers])])
        told.append([outcome.name for outcome in outcomes])
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize(("outcome", "transfer"), TABLE, ids=[outcome for outcome, _ in TABLE])
def test_the_first_rule_that_is_broken_is_the_answer(outcome, transfer) -> None:
    assert decided([transfer]) == [outcome]


@pytest.mark.parametrize(("outcomes", "chain"), CHAINS)
def test_a_chain_is_asked_for_before_its_members(outcomes, chain) -> None:
    assert decided(chain) == outcomes


FIRST = [row for row in TABLE if row[0].startswith(("exists", "id_", "timestamp", "reserved"))]
"""What is asked before a freeze."""


@pytest.mark.parametrize(("outcome", "transfer"), TABLE, ids=[outcome for outcome, _ in TABLE])
def test_what_is_frozen_is_asked_right_after_the_id(outcome, transfer) -> None:
    expected = outcome if (outcome, transfer) in FIRST else "frozen"
    assert decided([transfer], [0]) == [expected]


def test_a_chain_of_which_one_is_frozen_fails_and_the_others_are_decided() -> None:
    chain = plain(flags=F.linked), plain(id=number(901))
    alone = plain(id=number(902))
    told = ["linked_event_failed", "frozen", "created"]
    assert decided([*chain, alone], [1]) == told


def test_every_outcome_has_its_row() -> None:
    rows = (
        {"frozen"}
        | {outcome for outcome, _ in TABLE}
        | {o for outcomes, _ in CHAINS for o in outcomes}
    )
    assert {outcome.name for outcome in Outcome} - rows == NEVER


def test_what_is_alike_stands_in_the_order_of_the_enum() -> None:
    """The rows of each of the three groups follow the order of precedence."""
    order = [outcome.name for outcome in Outcome]
    places = [order.index(outcome) for outcome, _ in TABLE if outcome != "created"]
    falls = sum(second < first for first, second in pairwise(places))
    assert falls == 1
