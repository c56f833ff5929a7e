"""How far the rules reach: which requests they must take along for the sake of some."""

from collections.abc import Iterable

import numpy as np

from engine.book.book import Book
from engine.book.id_table import Slots, words_of
from engine.deciding.batch import Mask
from engine.deciding.forms import Forms
from engine.ledger.nouns import Transfer


def find_dependents(
    book: Book,
    forms: Forms,
    slots: tuple[Slots, Slots],
    *,
    in_order: Mask,
    exactly: Mask,
    opening: Iterable[Transfer],
    rules: Mask,
) -> Mask:
    """Find what depends on the same balances as requests that the rules decide in order.

    Args:
        book: Says which accounts are conditional.
        forms: Says which requests stand or fall together.
        slots: Of the debit and the credit account of each request, -1 for none.
        in_order: Which requests the rules must decide by the balances of that moment.
        exactly: Which of those by the balance of any account.
        opening: Holds whose end opens their accounts again.
        rules: Which requests the rules take; grows by those that are found.

    Returns:
        Over the slots and one more, the accounts whose balance the rules must know.
    """
    debit, credit = slots
    dirty = np.zeros(len(book.number) + 1, bool)  # the last is for "no account"
    opened = False
    for hold in opening:
        opened = True
        ids = hold.debit_account_id + hold.credit_account_id
        dirty[book.find_accounts(words_of(np.frombuffer(ids, "V16")))] = True
    # Also those that are with the rules already: what looked refused for a closed account
    # is judged by balances once a hold that expires has opened it.
    done = fresh = in_order & rules
    if not (opened or fresh.any()):
        return dirty
    conditional = np.append((book.flags != 0) | book.near_overflow, False)
    exact = exactly & rules
    dirty[debit[exact]] = dirty[credit[exact]] = True
    while True:
        for column in (debit[fresh], credit[fresh]):
            dirty[column[conditional[column]]] = True
        dirty[-1] = False
        fresh = forms.whole(dirty[debit] | dirty[credit]) & ~done
        if not fresh.any():
            return dirty
        done = done | fresh
        rules |= fresh
