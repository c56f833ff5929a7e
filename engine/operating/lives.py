"""The nouns of `where`: one id's life, as far as anything is known of it."""

from typing import Any, Final

import msgspec

from engine.store.inspection import FoundLetter, SpentTransfer, TransferPosting, Why
from engine.store.reports import PostingReport

_OF_TRANSFER: Final = (
    "debit_account_id",
    "credit_account_id",
    "amount",
    "ledger",
    "code",
    "flags",
    "pending_id",
)


class Mention(msgspec.Struct, frozen=True):
    """An entry that waits and names an id otherwise than as that of its transfer."""

    stream: str
    entry: str
    field: str


class Life(msgspec.Struct, kw_only=True):
    """What is known of an id. What does not apply, or is not known, is null."""

    id: str
    kind: str
    """transfer, hold, account, entry or unknown."""
    state: str
    """created, declined, waiting, dead_letter, open, posted, voided, expired, decided (an entry) or
    unseen."""
    outcome: str | None = None
    why: Why | None = None
    stream: str | None = None
    entry: str | None = None
    """Its entry; where `entry_after` is given, the last that it can have been."""
    entry_after: str | None = None
    """It came after this one: its entry is deleted, and its flush took all up to `entry`."""
    waiting_seconds: float | None = None
    freeze: dict[str, Any] | None = None
    """The freeze that it waits for: kind, what, by, reason, since."""
    worker: str | None = None
    host: str | None = None
    process: int | None = None
    flush: int | None = None
    flush_kind: str | None = None
    decided_at: str | None = None
    posted_at: str | None = None
    """When it was created; null where it was not."""
    postings: list[TransferPosting] | list[PostingReport] = []
    transfer: dict[str, Any] | None = None
    """As it was requested or, once created, as it is kept."""
    hold: dict[str, Any] | None = None
    """The hold that it is, or that it ends: id, state, expires_at, resolved_by, resolved_at."""
    chain: list[str] | None = None
    """The transfers it is linked with, where its entry is still there to tell."""
    account: dict[str, Any] | None = None
    transfers: list[dict[str, Any]] | None = None
    """Of an entry: each id and what became of it."""
    letters: list[FoundLetter] = []
    """Dead letters that contain it."""
    mentions: list[Mention] = []
    faults: list[str] = []
    """What must not be: `engine verify` says more."""
    not_looked_at: list[str] = []
    """What had to be left out."""

    @property
    def is_seen(self) -> bool:
        """Whether anybody has seen it."""
        return self.state != "unseen"


def transfer_of(spent: SpentTransfer) -> dict[str, Any]:
    """A spent id's transfer, in the words of the wire."""
    return {name: getattr(spent, name) for name in _OF_TRANSFER}


def hold_of(spent: SpentTransfer) -> dict[str, Any]:
    """A hold, and how it ended if it did."""
    return {
        "id": spent.id,
        "state": spent.resolution or "open",
        "expires_at": spent.expires_at,
        "is_overdue": bool(spent.is_overdue) and spent.resolution is None,
        "resolved_by": spent.resolved_by,
        "resolved_at": spent.resolved_at,
    }
