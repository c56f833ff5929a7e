"""What is decided and written, in columns: spent ids, legs, postings."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from engine.book.id_table import IdTable, Slots, Words, words_of
from engine.book.runs import raw
from engine.ledger.nouns import TransferFlags
from engine.ledger.outcomes import Outcome
from engine.ledger.page import HoldStatus, IdRecord
from engine.wire.layout import (
    TRANSFER,
    TRANSFER_BYTES,
    Rows,
    rows_to_transfers,
    transfers_to_rows,
)

COUNTERS: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")

_BESIDE: Final = ("debit_number", "credit_number", "expires_at", "shard")


def _spent() -> np.dtype[np.void]:
    """A request as it travels, by its fields and as a whole, and what is kept beside it."""
    fields = {"request": (f"V{TRANSFER_BYTES}", 0)}
    for name, (kind, offset, *_) in (TRANSFER.fields or {}).items():
        fields[name] = (kind.str, offset)
    fields["amount"] = ("<i8", fields["amount_low"][1])
    for place, name in enumerate(_BESIDE):
        fields[name] = ("<i8", TRANSFER_BYTES + 8 * place)
    kinds, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": list(kinds), "offsets": list(offsets)})


SPENT: Final = _spent()
"""A created transfer as it is kept: as it was requested but for what `ledger.nouns.Transfer` says,
and with the numbers of its accounts, when it expires, and the shard that decided it. `amount` is
the lower half of the request's, the upper one is zero."""

SpentRows: TypeAlias = npt.NDArray[np.void]


class Postings(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The postings of a flush in columns, by stripe and version, and the runs they are in."""

    transfer_id: npt.NDArray[np.void]
    amount: npt.NDArray[np.int64]
    pending_amount: npt.NDArray[np.int64]
    is_debit: npt.NDArray[np.bool_]
    ends: npt.NDArray[np.int64]
    """Of each run: the place behind its last posting. What follows is of each run too."""
    stripe: npt.NDArray[np.int64]
    version: npt.NDArray[np.int64]
    """Of its last posting."""
    counters: npt.NDArray[np.int64]
    """Those of the stripe after its last posting, shape (4, runs)."""

    def __len__(self) -> int:
        """How many postings there are."""
        return len(self.transfer_id)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Of each run: the place of its first posting."""
        starts = np.zeros_like(self.ends)
        starts[1:] = self.ends[:-1]
        return starts


_NO_NUMBERS: Final = np.empty(0, np.int64)
NO_POSTINGS: Final = Postings(
    np.empty(0, "V16"),
    *(_NO_NUMBERS,) * 2,
    np.empty(0, bool),
    *(_NO_NUMBERS,) * 3,
    np.empty((4, 0), np.int64),
)


class AccountColumns(NamedTuple):
    """Accounts as Postgres has them, a column each."""

    ids: npt.NDArray[np.void]
    number: npt.NDArray[np.int64]
    shard: npt.NDArray[np.int64]
    ledger: npt.NDArray[np.int64]
    code: npt.NDArray[np.int64]
    flags: npt.NDArray[np.int64]
    closed: npt.NDArray[np.bool_]
    version: npt.NDArray[np.int64]
    """Of the stripe that each is written through here."""
    own: npt.NDArray[np.int64]
    """The four counters of that stripe, shape (4, n)."""
    others: npt.NDArray[np.int64]
    """The sums over other stripes: over all of them where it is written at home here, else what
    its home says alone."""
    others_time: int = 0
    """When the newest of those at home was written; what is decided on them is later."""

    def part(self, places: npt.NDArray[Any]) -> "AccountColumns":
        """Some of them."""
        columns = {name: getattr(self, name)[..., places] for name in self._fields[:-1]}
        return self._replace(**columns)


NO_ACCOUNTS: Final = AccountColumns(
    np.empty(0, "V16"),
    *(_NO_NUMBERS,) * 5,
    np.empty(0, bool),
    _NO_NUMBERS,
    *(np.empty((4, 0), np.int64),) * 2,
)


class Refusals(msgspec.Struct, frozen=True, gc=False):
    """A request whose refusal spent its id, or a batch of them with one outcome each."""

    requests: Rows
    outcomes: npt.NDArray[np.uint8]
    shards: npt.NDArray[np.int16]


class Resolutions(NamedTuple):
    """Ends of holds, in columns."""

    hold_ids: npt.NDArray[np.void]
    transfer_ids: npt.NDArray[np.void]
    """Zero where the hold expired."""
    statuses: npt.NDArray[np.uint8]
    """As `HoldStatus`."""


class Assumptions(NamedTuple):
    """What of other workers' stripes a decision rests on, in columns.

    An account that was found short would have had enough if others had credited it by
    `lacking` more; then it must be decided anew. Where a balance was moved, `lacking` is 0: then
    whatever others have changed is a reason.
    """

    numbers: npt.NDArray[np.int64]
    """Of accounts; one can stand here several times."""
    debits: npt.NDArray[np.bool_]
    """Whether it was short of what it may debit, else of what it may be credited."""
    available: npt.NDArray[np.int64]
    """What the other stripes contributed to that."""
    lacking: npt.NDArray[np.int64]


class Decision:
    """What one call decided: part of a flush. Columns as long as there are rows of each.

    Args:
        spent: Created transfers, of dtype `SPENT`.
        refused: Refusals that spent their ids.
        slots: Of the account of each leg, in the order of deciding.
        deltas: What each leg changes in the four counters, shape (4, legs).
        spenders: Of each leg, the row in `spent`, or, behind those, in `expiries`.
        expiries: Ids of holds that expired.
        resolutions: Ends of holds.
        closings: Accounts closed or reopened, by id.
        outcomes: Of all requests, in order.
        assumptions: What it rests on that others may have changed since.
    """

    __slots__ = (
        "_ends",
        "_table",
        "assumptions",
        "closings",
        "deltas",
        "expiries",
        "outcomes",
        "refused",
        "resolutions",
        "slots",
        "spenders",
        "spent",
    )

    def __init__(
        self,
        *,
        spent: SpentRows,
        refused: Refusals,
        slots: Slots,
        deltas: npt.NDArray[np.int64],
        spenders: npt.NDArray[np.int64],
        expiries: npt.NDArray[np.void],
        resolutions: Resolutions,
        closings: dict[bytes, bool],
        outcomes: npt.NDArray[np.uint8],
        assumptions: Assumptions,
    ) -> None:
        self.spent = spent
        self.refused = refused
        self.slots = slots
        self.deltas = deltas
        self.spenders = spenders
        self.expiries = expiries
        self.resolutions = resolutions
        self.closings = closings
        self.outcomes = outcomes
        self.assumptions = assumptions
        self._table: IdTable | None = None
        self._ends: IdTable | None = None

    def transfer_ids(self) -> npt.NDArray[np.void]:
        """The transfer of each leg; for an expiry it is the hold."""
        return np.concatenate([self.spent["id"], self.expiries])[self.spenders]

    def find_ids(self, words: Words) -> Slots:
        """Where ids stand: created ones by row, then refused ones; -1 for the others."""
        if self._table is None:
            self._table = IdTable(len(self.spent) + len(self.refused.requests))
            self._table.add(words_of(self.spent["id"]))
            self._table.add(words_of(self.refused.requests["id"]))
        return self._table.find(words)

    def find_ends(self, words: Words) -> Slots:
        """Where in `resolutions` holds stand; -1 for those that did not end here."""
        if self._ends is None:
            self._ends = IdTable(len(self.resolutions.hold_ids))
            self._ends.add(words_of(self.resolutions.hold_ids))
        return self._ends.find(words)

    def record_at(self, row: int) -> IdRecord:
        """What became of the id at a row that `find_ids` gave."""
        if row >= len(self.spent):
            at = row - len(self.spent)
            (transfer,) = rows_to_transfers(self.refused.requests[at : at + 1])
            outcome = Outcome(int(self.refused.outcomes[at]))
            return IdRecord(outcome, transfer, int(self.refused.shards[at]))
        kept = self.spent[row : row + 1]
        (transfer,) = rows_to_transfers(kept["request"].view(TRANSFER))
        pending = transfer.flags & TransferFlags.pending
        status = HoldStatus.pending if pending else HoldStatus.none
        shard, expires_at = int(kept["shard"][0]), int(kept["expires_at"][0])
        return IdRecord(Outcome.created, transfer, shard, status, expires_at)


def kept_rows(records: Sequence[IdRecord]) -> SpentRows:
    """Created transfers as rows, without the numbers of their accounts."""
    rows = np.zeros(len(records), SPENT)
    requests = transfers_to_rows([record.transfer for record in records])
    rows["request"] = raw(requests)
    rows["shard"] = [record.shard for record in records]
    rows["expires_at"] = [record.expires_at for record in records]
    return rows


def spent_rows(records: Sequence[IdRecord], numbers: dict[bytes, int]) -> SpentRows:
    """Created transfers as rows.

    Args:
        records: The transfers.
        numbers: Of their accounts, by id.
    """
    rows = kept_rows(records)
    rows["debit_number"] = [numbers[record.transfer.debit_account_id] for record in records]
    rows["credit_number"] = [numbers[record.transfer.credit_account_id] for record in records]
    return rows
