"""Where a transfer goes, where a large call is cut, and what is told after a second attempt."""

import random
import uuid

import numpy as np
import pytest

from engine.client import routes as routing
from engine.client.resends import CLOCK_SECONDS_MAX, ids_in_doubt, resend
from engine.client.routes import Routes, cut
from engine.errors import InputError
from engine.ledger.nouns import ID_ZERO, MICROSECONDS, Transfer, TransferFlags, shard_of
from engine.ledger.outcomes import Outcome
from engine.wire.layout import Rows, transfers_to_rows

NOW = 1_700_000_000 * MICROSECONDS


def account_in(shard: int) -> bytes:
    return uuid.uuid4().bytes[:15] + bytes([shard])


def transfer(
    shard: int = 0, flags: int = 0, pending_id: bytes = ID_ZERO, transfer_id: bytes = b""
) -> Transfer:
    debit = account_in(shard) if shard >= 0 else ID_ZERO
    return Transfer(
        transfer_id or uuid.uuid4().bytes, debit, account_in(9), 5, pending_id, flags=flags
    )


def rows_of(*transfers: Transfer) -> Rows:
    return transfers_to_rows(list(transfers))


class TestCutting:
    def test_a_call_is_cut_into_full_entries(self) -> None:
        rows = rows_of(*(transfer() for _ in range(10)))
        assert cut(rows, 4) == [(0, 4), (4, 8), (8, 10)]
        assert cut(rows, 10) == [(0, 10)]
        assert cut(rows[:0], 4) == []

    def test_chains_stay_whole(self) -> None:
        linked = int(TransferFlags.linked)
        flags = [0, 0, 0, linked, linked, 0, 0, 0]  # The chain is 3 to 5.
        rows = rows_of(*(transfer(flags=f) for f in flags))
        assert cut(rows, 4) == [(0, 3), (3, 7), (7, 8)]
        assert cut(rows, 3) == [(0, 3), (3, 6), (6, 8)]

    def test_a_chain_longer_than_an_entry_is_refused_with_its_place(self) -> None:
        flags = [0, 1, 1, 1, 0]
        rows = rows_of(*(transfer(flags=f) for f in flags))
        with pytest.raises(InputError, match=r"more than 3 .* at `\$\[1\]`"):
            cut(rows, 3)

    def test_an_open_chain_is_a_chain(self) -> None:
        rows = rows_of(*(transfer(flags=f) for f in [0, 0, 1, 1]))
        assert cut(rows, 3) == [(0, 2), (2, 4)]


class TestRouting:
    def test_groups_keep_all_rows_in_order_with_their_chains(self) -> None:
        chance = random.Random(7)
        transfers = [transfer(chance.randrange(16), chance.choice([0, 0, 1])) for _ in range(500)]
        rows = rows_of(*transfers)
        groups = dict(Routes(16).group(rows))
        assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(500))
        first = 0
        for place, one in enumerate(transfers):
            if place and not transfers[place - 1].flags & 1:
                first = place
            home = shard_of(transfers[first].debit_account_id, 16)
            assert place in groups[home], (place, one)
        assert all((np.diff(places) > 0).all() for places in groups.values())

    def test_a_post_follows_its_hold(self) -> None:
        routes = Routes(16)
        hold = transfer(3, int(TransferFlags.pending))
        post = transfer(-1, int(TransferFlags.post_pending_transfer), hold.id)
        assert routes.shard(post.debit_account_id, post.pending_id) == shard_of(hold.id, 16)
        together = dict(routes.group(rows_of(transfer(5), hold, post)))
        assert together[3].tolist() == [1, 2]
        routes.remember(rows_of(transfer(4), hold), 11)
        assert routes.shard(post.debit_account_id, post.pending_id) == 11
        assert dict(routes.group(rows_of(post)))[11].tolist() == [0]

    def test_holds_are_forgotten_beyond_a_maximum(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(routing, "HOLDS_MAX", 3)
        routes = Routes(16)
        holds = [transfer(1, int(TransferFlags.pending)) for _ in range(5)]
        routes.remember(rows_of(*holds), 12)
        known = [routes.shard(account_in(0), hold.id) == 12 for hold in holds]
        assert known == [False, False, True, True, True]


# What was sent (a letter an id, `+` when linked), what the second attempt was told, what the
# ledger keeps (and how many seconds before the first attempt), what the caller is told.
CREATED, EXISTS, FAILED = Outcome.created, Outcome.exists, Outcome.id_already_failed
LINKED, POOR, CODE = (
    Outcome.linked_event_failed,
    Outcome.exceeds_credits,
    Outcome.code_must_not_be_zero,
)
OLD = CLOCK_SECONDS_MAX + 1
CASES = [
    ("a", [EXISTS], {"a": (CREATED, 0)}, [CREATED]),
    ("a", [EXISTS], {"a": (CREATED, OLD)}, [EXISTS]),
    ("a", [FAILED], {"a": (POOR, 0)}, [POOR]),
    ("a", [FAILED], {"a": (POOR, OLD)}, [FAILED]),
    ("aa", [EXISTS, EXISTS], {"a": (CREATED, 0)}, [CREATED, EXISTS]),
    ("aa", [FAILED, FAILED], {"a": (POOR, 0)}, [POOR, FAILED]),
    ("abc", [EXISTS, CODE, CREATED], {"a": (CREATED, 0)}, [CREATED, CODE, CREATED]),
    ("a+b", [EXISTS, LINKED], {"a": (CREATED, 0), "b": (CREATED, 0)}, [CREATED, CREATED]),
    ("a+b", [EXISTS, LINKED], {"a": (CREATED, 0), "b": (CREATED, 5)}, [EXISTS, LINKED]),
    ("a+b", [EXISTS, LINKED], {"a": (CREATED, 0)}, [EXISTS, LINKED]),
    ("a+b", [LINKED, FAILED], {"b": (POOR, 0)}, [LINKED, POOR]),
    ("a+b", [FAILED, LINKED], {"a": (POOR, 0)}, [POOR, LINKED]),
    (
        "a",
        [Outcome.exists_with_different_amount],
        {"a": (CREATED, 0)},
        [Outcome.exists_with_different_amount],
    ),
]


@pytest.mark.parametrize(("sent", "answered", "kept", "told"), CASES)
def test_a_second_attempt_is_told_what_the_first_would_have_been(
    sent: str,
    answered: list[Outcome],
    kept: dict[str, tuple[Outcome, int]],
    told: list[Outcome],
) -> None:
    ids = {letter: uuid.uuid4().bytes for letter in sent}
    rows = rows_of(
        *(
            transfer(flags=sent[place + 1 : place + 2] == "+", transfer_id=ids[letter])
            for place, letter in enumerate(sent)
            if letter != "+"
        )
    )
    ledger = {
        ids[letter]: (outcome, NOW - seconds * MICROSECONDS)
        for letter, (outcome, seconds) in kept.items()
    }
    assert resend(rows, bytes(answered), NOW, ledger) == bytes(told)
    if told != answered:
        assert set(ids_in_doubt(rows, bytes(answered))) >= ledger.keys()
