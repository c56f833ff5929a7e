"""What an attempt that came to nothing means for the next."""

import pytest

from engine.errors import (
    ConflictError,
    EngineError,
    FundsArrivedError,
    LockHeldError,
    RefusedError,
    TooMuchError,
)
from engine.worker.attempts import PORTION_MAX, QUICK_SECONDS, Attempts, UndecidableError

CONFLICTS_MAX = 5
SIZE = 64


def after(error: EngineError, count: int) -> Attempts:
    """So many attempts that came to nothing for the same reason."""
    attempts = Attempts(CONFLICTS_MAX, 8.0)
    for _ in range(count):
        attempts.fail(error, SIZE)
    return attempts


@pytest.mark.parametrize("error", [FundsArrivedError("x"), LockHeldError("x")])
def test_what_passes_by_itself_is_never_blamed_on_what_was_attempted(error: EngineError) -> None:
    attempts = after(error, 3 * CONFLICTS_MAX)
    assert not attempts.blames(error)
    assert attempts.portion is None


def test_the_same_conflict_again_and_again_is_looked_for_by_halves() -> None:
    error = ConflictError("x")
    assert after(error, CONFLICTS_MAX).portion is None
    attempts = after(error, CONFLICTS_MAX + 1)
    assert attempts.blames(error)
    assert attempts.portion == SIZE // 2
    attempts.fail(error, SIZE // 2)
    assert attempts.portion == SIZE // 4


@pytest.mark.parametrize("error", [RefusedError("x"), UndecidableError("x")])
def test_what_cannot_be_written_is_blamed_at_once(error: EngineError) -> None:
    assert after(error, 1).portion == SIZE // 2


def test_waits_for_a_lock_grow_up_to_their_bound_and_count_as_no_conflicts() -> None:
    attempts = Attempts(CONFLICTS_MAX, 8.0)
    waits = [attempts.fail(LockHeldError("x"), SIZE) for _ in range(20)]
    assert waits == sorted(waits)
    assert waits[-1] == 8.0
    assert attempts.conflicts == 0


def test_what_took_too_long_shrinks_fast_down_to_one_and_grows_while_it_is_quick() -> None:
    attempts = after(TooMuchError("x"), 1)
    assert attempts.portion == SIZE // 8
    attempts.fail(TooMuchError("x"), SIZE // 8)
    attempts.fail(TooMuchError("x"), 1)
    assert attempts.portion == 1
    attempts.grow(QUICK_SECONDS)
    assert attempts.portion == 2
    attempts.grow(QUICK_SECONDS + 1)
    assert attempts.portion == 2
    while attempts.portion is not None:
        assert attempts.portion <= PORTION_MAX
        attempts.grow(0.0)


def test_what_took_too_long_with_nothing_to_decide_makes_nothing_smaller() -> None:
    attempts = Attempts(CONFLICTS_MAX, 8.0)
    attempts.fail(TooMuchError("x"), 0)
    assert attempts.portion is None
