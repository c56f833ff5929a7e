"""When a few transfers are not to be decided by the rules alone, one reason at a time."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.book.book import Book
from engine.book.counter_bounds import FOREIGN_STRIPE_MAX, LARGE, NEAR_OVERFLOW
from engine.book.id_table import words_of
from engine.deciding.batch import Batch
from engine.deciding.few import FEW_TRANSFERS_MAX, decide_few
from engine.ledger.nouns import AccountFlags
from engine.wire.layout import TRANSFER, Rows
from tests.worlds import new_accounts

TIME = 1_700_000_000_000_000
MINE, AWAY = bytes(15) + b"\x04", bytes(15) + b"\x05"
THIRD = bytes(15) + b"\x08"
CREDIT_LIMIT = int(AccountFlags.credits_must_not_exceed_debits)


def book(*, owned: tuple[int, ...] = (0, 1, 2, 3), flags: int = 0, posted: int = 0) -> Book:
    """A book with two accounts, the second at home in shard 1: what is given is of it."""
    made = Book(owned, 0, 4)
    accounts = new_accounts([(MINE, 4, 0, 1, 1, 0), (AWAY, 5, 1, 1, 1, flags)])
    counters = np.array([[0, 0], [0, posted], [0, 0], [0, posted]])
    made.add_accounts(accounts._replace(own=counters, version=np.ones(2, np.int64)))
    return made


def moves(count: int = 1, debit: bytes = MINE, credit: bytes = AWAY, amount: int = 1) -> Rows:
    rows = np.zeros(count, TRANSFER)
    for place in range(count):
        rows["id"][place] = bytes(14) + bytes([1, place])
    rows["debit_account_id"], rows["credit_account_id"] = debit, credit
    rows["amount_low"], rows["ledger"], rows["code"] = amount, 1, 1
    return rows


def is_decided(at: Book, rows: Rows, frozen: bool = False) -> bool:
    mask = {0: np.array([True] * len(rows))} if frozen else None
    return decide_few(at, Batch([rows], [0], mask), TIME) is not None


def test_a_few_plain_moves_are_decided() -> None:
    assert is_decided(book(), moves(FEW_TRANSFERS_MAX))
    assert is_decided(book(owned=(0,)), moves())


def seen() -> Book:
    made = book()
    made.seen.add(words_of(moves()["id"]))
    return made


REFUSED: dict[str, Callable[[], bool]] = {
    "too many": lambda: is_decided(book(), moves(FEW_TRANSFERS_MAX + 1)),
    "a freeze declines": lambda: is_decided(book(), moves(), frozen=True),
    "an id was seen": lambda: is_decided(seen(), moves()),
    "an id stands twice": lambda: is_decided(book(), np.repeat(moves(), 2)),
    "an account is not known": lambda: is_decided(book(), moves(credit=THIRD)),
    "near overflow": lambda: is_decided(book(posted=2 * NEAR_OVERFLOW), moves()),
    "a large amount": lambda: is_decided(book(), moves(amount=LARGE)),
    "a debit away": lambda: is_decided(book(owned=(0,)), moves(debit=AWAY, credit=MINE)),
    "a credit limit away": lambda: is_decided(
        book(owned=(0,), flags=CREDIT_LIMIT), moves(amount=0)
    ),
    "the end of a foreign stripe": lambda: is_decided(
        book(owned=(0,), posted=FOREIGN_STRIPE_MAX), moves()
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_may_come_out_otherwise_is_left_to_the_decider(why: str) -> None:
    assert not REFUSED[why]()
