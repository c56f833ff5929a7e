"""What must be looked up before a batch can be decided, and what was found."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.book.columns import NO_ACCOUNTS, AccountColumns
from engine.ledger.page import IdRecord


class Missing(NamedTuple):
    """What must be looked up before a batch can be decided: in this order."""

    accounts: Sequence[bytes] = ()
    """Ids of accounts."""
    refresh: Sequence[int] = ()
    """Numbers of accounts that are short, whose other stripes are to be read anew."""
    ids: Sequence[bytes] = ()
    """Ids of transfers."""


class Found(NamedTuple):
    """What was found of what was missing."""

    accounts: AccountColumns = NO_ACCOUNTS
    """Those that exist."""
    refreshed: Sequence[int] = ()
    """Numbers of accounts whose other stripes were read anew."""
    others: Sequence[Sequence[int]] = ()
    """Of each of these the four counters, over those stripes."""
    ids: Sequence[bytes] = ()
    """Ids of transfers that were looked up."""
    records: Sequence[IdRecord] = ()
    """What became of those that are not free."""
