"""Cases at the edge of what columns decide, which random worlds seldom meet."""

import random

import pytest

from engine.book.counter_bounds import LARGE, NEAR_OVERFLOW
from engine.ledger.nouns import (
    AMOUNT_MAX,
    COUNTER_MAX,
    ID_ZERO,
    AccountFlags,
    Transfer,
    TransferFlags,
)
from engine.ledger.outcomes import Outcome
from engine.ledger.page import Account
from tests.comparing import compare
from tests.worlds import ByColumns, ByRules, Profile, World

LIMITED = int(AccountFlags.debits_must_not_exceed_credits)
PENDING = int(TransferFlags.pending)
POST = int(TransferFlags.post_pending_transfer)
LINKED = int(TransferFlags.linked)
CLOSING = PENDING | int(TransferFlags.closing_credit)


def account(number: int, flags: int = 0) -> Account:
    return Account(number.to_bytes(16, "big"), number, 1, 1, flags)


def move(number: int, debit: int, credit: int, amount: int, flags: int = 0, **more) -> Transfer:
    return Transfer(
        id=number.to_bytes(16, "big"),
        debit_account_id=debit.to_bytes(16, "big"),
        credit_account_id=credit.to_bytes(16, "big"),
        amount=amount,
        ledger=1,
        code=1,
        flags=flags,
        **more,
    )


def post(number: int, hold: int) -> Transfer:
    return Transfer(
        id=number.to_bytes(16, "big"),
        pending_id=hold.to_bytes(16, "big"),
        debit_account_id=ID_ZERO,
        credit_account_id=ID_ZERO,
        amount=AMOUNT_MAX,
        flags=POST,
    )


def decide(accounts: list[Account], *steps: tuple[float, list[Transfer]]) -> list[list[Outcome]]:
    """The outcomes of each step, the same by rules and by columns."""
    by_rules, by_columns = ByRules(accounts), ByColumns(accounts)
    outcomes = []
    for wait, transfers in steps:
        (expected,) = by_rules.step(wait, [(0, transfers)])
        assert by_columns.step(wait, [(0, transfers)]) == [expected]
        assert by_columns.balances() == by_rules.balances()
        by_columns.flush()
        outcomes.append(expected)
    return outcomes


def test_a_hold_has_lapsed_at_the_very_moment_of_its_end() -> None:
    accounts = [account(1), account(2)]
    hold = move(1, 1, 2, 10, PENDING, timeout=2)
    before, at = decide(accounts, (0, [hold]), (2, [post(2, hold=1)]))
    assert (before, at) == ([Outcome.created], [Outcome.pending_transfer_expired])


def test_a_chain_that_looked_refused_is_judged_again_with_all_of_it() -> None:
    """The first transfer is supposed created at first, which leaves the chain no funds."""
    accounts = [account(1, LIMITED), account(2, LIMITED), account(3)]
    batch = [move(2, 1, 3, 20), move(3, 1, 2, 5, LINKED), move(4, 2, 3, 5)]
    _, outcomes = decide(accounts, (0, [move(1, 3, 1, 10)]), (0, batch))
    assert outcomes == [Outcome.exceeds_credits, Outcome.created, Outcome.created]


def test_a_post_of_a_hold_that_was_refused_in_the_same_batch_finds_none() -> None:
    accounts = [account(1, LIMITED), account(2)]
    batch = [move(1, 1, 2, 20, PENDING), post(2, hold=1), post(2, hold=1)]
    (outcomes,) = decide(accounts, (0, batch))
    refused = [Outcome.exceeds_credits, Outcome.pending_transfer_not_found]
    assert outcomes == [*refused, Outcome.id_already_failed]


def test_a_post_that_ends_a_chain_falls_with_it() -> None:
    """It carries no flag of the chain itself."""
    accounts = [account(1, LIMITED), account(2)]
    hold, chain = move(1, 2, 1, 3, PENDING), [move(2, 1, 2, 20, LINKED), post(3, hold=1)]
    _, outcomes = decide(accounts, (0, [hold]), (0, chain))
    assert outcomes == [Outcome.exceeds_credits, Outcome.linked_event_failed]


def test_a_post_on_an_account_that_was_closed_since_is_refused() -> None:
    accounts = [account(1), account(2)]
    hold, closing = move(1, 1, 2, 10, PENDING), move(2, 1, 2, 0, CLOSING)
    *_, outcomes = decide(accounts, (0, [hold]), (0, [closing]), (0, [post(3, hold=1)]))
    assert outcomes == [Outcome.credit_account_already_closed]


def test_a_hold_whose_end_was_taken_back_is_open_without_a_look() -> None:
    world = ByColumns([account(1), account(2)])
    world.step(0, [(0, [move(1, 1, 2, 10, PENDING)])])
    world.flush()
    world.flush()
    world.committed.clear()
    assert world.step(0, [(0, [post(2, hold=1)])], again=True) == [[Outcome.created]]


def test_what_is_sent_again_exists_also_with_what_hangs_on_it() -> None:
    accounts = [account(1), account(2)]
    plain, hold = move(1, 1, 2, 10), move(2, 1, 2, 10, PENDING)
    chain = [move(3, 1, 2, 5, LINKED), move(4, 2, 1, 5)]
    sent = [plain, hold, *chain]
    again = [plain, move(1, 1, 2, 11), *chain, hold, post(5, hold=2), plain]
    first, *others = decide(accounts, (0, sent), (0, [plain, *chain]), (0, again))
    assert first == [Outcome.created] * 4
    assert others == [
        [Outcome.exists, Outcome.exists, Outcome.linked_event_failed],
        [
            Outcome.exists,
            Outcome.exists_with_different_amount,
            Outcome.exists,
            Outcome.linked_event_failed,
            Outcome.exists,
            Outcome.created,
            Outcome.exists,
        ],
    ]


@pytest.mark.parametrize("limited", [0.0, 0.6])
@pytest.mark.parametrize("edges", [0.1, 0.6])
def test_worlds_with_amounts_at_the_edges_of_numbers(limited: float, edges: float) -> None:
    """Nothing wraps in columns: outcomes, balances and postings are those of the rules."""
    for seed in range(40):
        profile = Profile(
            accounts=5, limited=limited, special=0.4, elsewhere=0, linked=0.1, edges=edges
        )
        try:
            compare(World(random.Random(seed), profile), steps=12, size=40)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


@pytest.mark.parametrize("amount", [LARGE - 1, LARGE])
@pytest.mark.parametrize(
    "before", [0, NEAR_OVERFLOW - 1, NEAR_OVERFLOW, COUNTER_MAX - 2000 * LARGE]
)
def test_a_batch_that_adds_up_on_one_account_overflows_where_it_must(
    amount: int, before: int
) -> None:
    """Whatever stood in the counter before, and whoever decides; what it got it can spend."""
    accounts = [account(1), account(2), account(3, LIMITED), account(4), account(5)]
    batch = [move(10 + number, 1 + number % 2, 3, amount) for number in range(4000)]
    back = [move(5000 + number, 3, 5, amount) for number in range(4001)]
    brought = [move(1, 4, 3, before)]
    first, second, third = decide(accounts, (0, brought), (0, batch), (0, back))
    assert first == [Outcome.created]
    fit = min(4000, (COUNTER_MAX - before) // amount)
    assert second == [Outcome.created] * fit + [Outcome.overflows_credits_posted] * (4000 - fit)
    spent = min(4001, (before + fit * amount) // amount)
    assert third == [Outcome.created] * spent + [Outcome.exceeds_credits] * (4001 - spent)


def test_what_comes_near_the_end_is_known_before_its_flush_is_sent() -> None:
    """The next batch of the same flush is decided exactly."""
    world = ByColumns([account(1), account(2), account(3)])
    world.step(0, [(0, [move(1, 1, 2, COUNTER_MAX)])])
    assert world.step(0, [(0, [move(2, 3, 2, 1)])]) == [[Outcome.overflows_credits_posted]]
