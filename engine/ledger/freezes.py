"""What is frozen: an account, a ledger, a transfer code or a shard, by whom and why.

Pure. Which requests match a freeze is decided in `engine.deciding.frozen`.
"""

from typing import Final, Literal, TypeAlias

import msgspec

FreezeKind: TypeAlias = Literal["account", "ledger", "code", "shard"]

FREEZE_KINDS: Final[tuple[FreezeKind, ...]] = ("account", "ledger", "code", "shard")

WAITING_TRANSFERS_MAX: Final = 100_000
"""Of one shard; an entry without transfers, or a copy of another, counts as one."""

WAITING_BYTES_MAX: Final = 64 * 2**20
"""Of one shard, in the fields of its entries."""


class Freeze(msgspec.Struct, frozen=True, gc=False):
    """A freeze, in force or ended."""

    number: int
    """From the numbers of flushes."""
    kind: FreezeKind
    what: bytes | int
    """The id of an account, else a number."""
    declines: bool
    """Whether requests are declined; else they wait."""
    by: str
    reason: str
    time: int
    """Microseconds since 1970: above that of all that was decided before."""
    thaw: int | None = None
    """The number of its thaw, if it has one."""


class FreezeMark(msgspec.Struct, frozen=True, gc=False):
    """What is in force in a snapshot."""

    numbers: tuple[int, ...] = ()
    """Of the freezes in force, ascending."""
    newest: int = 0
    """The newest freeze or thaw, in force or not; 0 where there never was one."""
    time: int = 0
    """Of that; what is decided from now on is later."""


class WaitingForThaw(msgspec.Struct, frozen=True):
    """What is told of a transfer that is not decided, since something that it needs is frozen."""

    kind: FreezeKind
    what: str
    """The id of an account, else a number."""
    by: str
    reason: str
