"""What a locked flush rests on, where it reads its own chain under the lock."""

import pytest

from engine.errors import ChainMovedError
from engine.ledger.freezes import FreezeMark
from engine.ledger.nouns import Position
from engine.store.rows import OwnedShards, ShardProgress
from engine.worker.locked_flush import _check_unmoved

KNOWN = {0: ShardProgress(Position(0, 5, 0), 1, 1)}
MARK = FreezeMark((3,), 3)


def found(ms: int = 5, mark: FreezeMark = MARK) -> OwnedShards:
    return OwnedShards(1, {0: ShardProgress(Position(0, ms, 0), 9, 9)}, 7, mark, 1)


def test_what_is_as_it_was_stands() -> None:
    _check_unmoved(KNOWN, found(), MARK)


@pytest.mark.parametrize(
    "now",
    [
        found(ms=6),
        found(mark=FreezeMark((3, 4), 4)),
        found(mark=FreezeMark((), 4)),
        OwnedShards(1, {}, 7, MARK, 1),
    ],
    ids=["another position", "a freeze", "a thaw", "another owner"],
)
def test_what_changed_is_read_again(now: OwnedShards) -> None:
    """Who of the entries waits was found out by what was frozen then."""
    with pytest.raises(ChainMovedError):
        _check_unmoved(KNOWN, now, MARK)
