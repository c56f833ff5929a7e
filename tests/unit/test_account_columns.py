"""Accounts as they are read become columns; what cannot be used is left out, with the reason."""

from typing import Any

from engine.ledger.nouns import COUNTER_MAX
from engine.store.records import accounts_of

COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


def row(name: int, *, shard: int = 1, own: int = 0, other: int = 0, **changed: Any) -> Any:
    """As `accounts_by_id` gives it; `own` and `other` are what the debits are that are pending."""
    read = {
        "id": name.to_bytes(16, "big"), "number": name, "shard": shard, "ledger": 3, "code": 4,
        "flags": 2, "closed": False, "version": 5,
        **{f"own_{counter}": 0 for counter in COUNTERS}, **dict.fromkeys(COUNTERS, 0),
        "others_time": None,
    }  # fmt: skip
    return read | {"own_debits_pending": own, "debits_pending": other} | changed


def test_accounts_are_read_into_columns() -> None:
    rows = [row(1, own=7, other=8, others_time=9), row(2, closed=True, flags=0, others_time=6)]
    accounts, unusable = accounts_of(rows, [1])
    assert not unusable
    assert accounts.ids.tolist() == [each["id"] for each in rows]
    assert [column.tolist() for column in accounts[1:8]] == [
        [1, 2], [1, 1], [3, 3], [4, 4], [2, 0], [False, True], [5, 5],
    ]  # fmt: skip
    assert accounts.own[0].tolist() == [7, 0]
    assert accounts.others[0].tolist() == [8, 0]
    assert not accounts.own[1:].any()
    assert not accounts.others[1:].any()
    assert accounts.others_time == 9
    assert [len(column) for column in accounts_of([], [])[0][:8]] == [0] * 8


def test_what_cannot_be_used_is_left_out_alone() -> None:
    bad = [
        row(2, number=0), row(3, number=2**52), row(4, flags=-1), row(5, own=-1),
        row(6, own=COUNTER_MAX, other=1), row(7, own=-(2**63), other=-(2**63)),
    ]  # fmt: skip
    accounts, unusable = accounts_of([row(1), *bad, row(8)], [1])
    assert accounts.number.tolist() == [1, 8]
    assert list(unusable) == [each["id"] for each in bad]
    assert [why.split()[1] for why in unusable.values()] == [
        "number", "number", "flags", "counters,", "counters,", "counters,",
    ]  # fmt: skip


def test_the_home_of_an_account_of_others_may_be_below_zero() -> None:
    """A hold made through one stripe may be ended at home: only all stripes together are not."""
    rows = [row(1, other=-5), row(2, own=5, other=-9), row(3, other=-(2**62))]
    away, unusable = accounts_of(rows, [0])
    assert (away.number.tolist(), len(unusable)) == ([1, 2], 1)
    at_home, unusable = accounts_of(rows, [1])
    assert (at_home.number.tolist(), len(unusable)) == ([], 3)
