"""What is checked of every flush at the last moment: sums, legs, and that all has numbers."""

import random
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from engine.book.columns import Decision, Postings
from engine.book.postings import post_decisions
from engine.deciding.batch import Batch
from engine.deciding.decider import Decider
from engine.errors import InvariantBroken
from engine.wire.layout import transfers_to_rows
from engine.worker import seal_checks
from engine.worker.seal_checks import check_flush
from tests.worlds import START, ByColumns, World


@pytest.fixture(scope="module")
def flush() -> tuple[list[Decision], Postings]:
    """One of moves, holds, ends of holds and refusals."""
    world = World(random.Random(5))
    columns = ByColumns(world.accounts)
    decided = []
    for turn in range(6):
        _, entries = world.step(80)
        batch = Batch([transfers_to_rows(sent) for _, sent in entries], [0] * len(entries))
        decider = Decider(columns.book, batch, (), START + turn, careful=True)
        decided.append(columns._look_up(decider).finish_batch())
    return decided, post_decisions(columns.book, decided)


Change = Callable[[Postings], Postings]


def changed(name: str, by: int) -> Change:
    def change(posted: Postings) -> Postings:
        column = getattr(posted, name).copy()
        column[0] += by
        return msgspec.structs.replace(posted, **{name: column})

    return change


def without_the_last(posted: Postings) -> Postings:
    names = ("transfer_id", "amount", "pending_amount", "is_debit")
    return msgspec.structs.replace(posted, **{name: getattr(posted, name)[:-1] for name in names})


def test_a_flush_as_it_was_decided_passes(flush: tuple[list[Decision], Postings]) -> None:
    assert len(flush[1])
    check_flush(*flush)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (changed("amount", 1), "the posted amounts of a flush sum to 1"),
        (changed("pending_amount", -3), "the pending amounts of a flush sum to -3"),
        (without_the_last, "postings of"),
    ],
)
def test_a_flush_that_makes_or_loses_money_is_not_sealed(
    change: Change, what: str, flush: tuple[list[Decision], Postings]
) -> None:
    decided, posted = flush
    with pytest.raises(InvariantBroken, match=what):
        check_flush(decided, change(posted))


def test_flush_never_reaches_its_last_place(
    flush: tuple[list[Decision], Postings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next row would be numbered into the next flush."""
    decided, posted = flush
    ids = sum(len(part.spent) + len(part.refused.requests) for part in decided)
    rows = max(ids, len(posted))
    monkeypatch.setattr(seal_checks, "FLUSH_ROWS_MAX", rows)
    check_flush(decided, posted)
    monkeypatch.setattr(seal_checks, "FLUSH_ROWS_MAX", rows - 1)
    with pytest.raises(InvariantBroken, match="have numbers"):
        check_flush(decided, posted)


def test_the_last_place_of_a_flush_is_below_the_next_flush() -> None:
    assert np.int64(seal_checks.FLUSH_ROWS_MAX) >> 20 == 0
    assert np.int64(seal_checks.FLUSH_ROWS_MAX + 1) >> 20 == 1
