"""Creating accounts: what each of a batch is answered, as if one after the other."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from engine.errors import InvariantBroken
from engine.ledger.nouns import ID_MAX, ID_ZERO, AccountFlags, NewAccount
from engine.ledger.outcomes import AccountOutcome

_COMPARED: Final = (
    ("flags", AccountOutcome.exists_with_different_flags),
    ("user_data_128", AccountOutcome.exists_with_different_user_data_128),
    ("user_data_64", AccountOutcome.exists_with_different_user_data_64),
    ("user_data_32", AccountOutcome.exists_with_different_user_data_32),
    ("ledger", AccountOutcome.exists_with_different_ledger),
    ("code", AccountOutcome.exists_with_different_code),
)
"""Source: package `tigerbeetle` 0.17.9, the order of `CreateAccountStatus`. The name is ours
and is not compared."""

_BOTH: Final = int(
    AccountFlags.debits_must_not_exceed_credits | AccountFlags.credits_must_not_exceed_debits
)


def refuse_id(account: NewAccount) -> AccountOutcome | None:
    """What is wrong with its id by itself; this ranks before whether it exists."""
    if account.id == ID_ZERO:
        return AccountOutcome.id_must_not_be_zero
    if account.id == ID_MAX:
        return AccountOutcome.id_must_not_be_int_max
    return None


def refuse_content(account: NewAccount) -> AccountOutcome | None:
    """What is wrong with the rest of it; this ranks after whether it exists."""
    if account.flags & _BOTH == _BOTH:
        return AccountOutcome.flags_are_mutually_exclusive
    if account.ledger == 0:
        return AccountOutcome.ledger_must_not_be_zero
    if account.code == 0:
        return AccountOutcome.code_must_not_be_zero
    return None


def compare(account: NewAccount, there: NewAccount) -> AccountOutcome:
    """The answer where the id is taken: the first difference, or `exists`."""
    for name, outcome in _COMPARED:
        if getattr(account, name) != getattr(there, name):
            return outcome
    return AccountOutcome.exists


def first_valid(accounts: Sequence[NewAccount]) -> dict[bytes, int]:
    """By id, the place of the account that creates it unless it exists already."""
    places: dict[bytes, int] = {}
    for place, account in enumerate(accounts):
        if not (refuse_id(account) or refuse_content(account)):
            places.setdefault(account.id, place)
    return places


def judge(
    accounts: Sequence[NewAccount],
    created: Collection[bytes],
    existing: Mapping[bytes, NewAccount],
) -> list[AccountOutcome]:
    """Outcomes in order.

    Args:
        accounts: What was asked for.
        created: Ids that were created by this request, each by its first valid account.
        existing: By id, what exists after it.
    """
    makers = first_valid(accounts)
    outcomes = []
    for place, account in enumerate(accounts):
        outcome = refuse_id(account)
        if outcome is None:
            there = existing.get(account.id)
            if account.id in created:
                maker = makers[account.id]
                if place == maker:
                    outcomes.append(AccountOutcome.created)
                    continue
                if place < maker:
                    there = None
            outcome = refuse_content(account) if there is None else compare(account, there)
        if outcome is None:
            raise InvariantBroken(f"account {account.id.hex()} was neither created nor is it there")
        outcomes.append(outcome)
    return outcomes
