"""How far the rules reach: which requests they must take along for the sake of some."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from engine.book.book import Book
from engine.book.id_table import Slots, words_of
from engine.deciding.batch import Ints, Mask
from engine.deciding.components import find_components
from engine.deciding.forms import Forms
from engine.ledger.nouns import Transfer

ROUNDS_MAX: Final = 12
"""Mostly two or three rounds find all that depends on each other."""


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
    for _ in range(ROUNDS_MAX):
        for column in (debit[fresh], credit[fresh]):
            dirty[column[conditional[column]]] = True
        dirty[-1] = False
        fresh = forms.whole(dirty[debit] | dirty[credit]) & ~done
        if not fresh.any():
            return dirty
        done = done | fresh
        rules |= fresh
    # They go on and on, as along a path: all that hangs together is taken at once.
    together = _find_together(forms, slots, conditional)
    reached = np.zeros(len(rules), bool)
    reached[together[done | dirty[debit] | dirty[credit]]] = True
    done = reached[together]
    rules |= done
    for column in (debit[done], credit[done]):
        dirty[column[conditional[column]]] = True
    dirty[-1] = False
    return dirty


def _find_together(forms: Forms, slots: tuple[Slots, Slots], conditional: Mask) -> Ints:
    """Of each request, the first of all that hang together by conditional accounts and groups."""
    count = len(forms.together)
    places = np.concatenate([np.arange(count)] * 2)
    touched = np.concatenate(slots)
    places, touched = places[conditional[touched]], touched[conditional[touched]]
    order = np.argsort(touched, kind="stable")
    alike = np.diff(touched[order]) == 0
    here = np.concatenate([places[order[1:][alike]], np.arange(count)])
    there = np.concatenate([places[order[:-1][alike]], forms.together])
    return find_components(count, here, there)
