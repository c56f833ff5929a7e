"""Posts and voids in columns: the holds they end, and what they move.

They read no balance, so that no limit refuses them; but they end nothing if the hold, made in
the same batch, is refused itself.
"""

from typing import NamedTuple

import numpy as np

from engine.book.book import Book
from engine.book.columns import SPENT, SpentRows
from engine.book.counter_bounds import LARGE
from engine.book.id_table import Slots, words_of
from engine.book.runs import raw, taken
from engine.deciding.batch import CLOSING, POST, VOID, Batch, Ints, Mask
from engine.deciding.forms import Forms
from engine.deciding.limits import Legs, Moves
from engine.ledger.nouns import MICROSECONDS
from engine.ledger.page import Page
from engine.wire.layout import Rows


class Resolves(NamedTuple):
    """Posts and voids in order, in columns as long as there are any."""

    rows: Ints
    """Their places in the batch, ascending."""
    debit: Slots
    credit: Slots
    held: Ints
    """What the hold held."""
    moved: Ints
    """What of it is moved: nothing by a void."""
    made: Ints
    """The place of the hold in the batch where it is made there, else -1."""
    holds: SpentRows
    """The hold where it was made before, else anything."""

    def part(self, mask: Mask) -> "Resolves":
        """Those of `mask`."""
        if mask.all():
            return self
        return Resolves(
            self.rows[mask],
            self.debit[mask],
            self.credit[mask],
            self.held[mask],
            self.moved[mask],
            self.made[mask],
            taken(self.holds, np.flatnonzero(mask)),
        )


_NONE = np.empty(0, np.int64)
NO_RESOLVES = Resolves(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, np.empty(0, SPENT))
_NO_LEGS = Legs(_NONE, _NONE, np.empty((4, 0), np.int64), _NONE)


def find_resolves(book: Book, batch: Batch, forms: Forms, time: int) -> Resolves:
    """The posts and voids that columns can decide: their holds are at hand and end as asked.

    At each line stands the outcome that sorts a request away; the rules find out whether it is so.

    Args:
        book: Accounts and open holds.
        batch: The requests.
        forms: What they are.
        time: Microseconds since 1970, at which they are decided.
    """
    rows = np.flatnonzero(forms.resolves)
    requests, words = taken(batch.rows, rows), batch.words[rows]
    made = forms.held[rows]
    here = made >= 0
    found, holds = book.holds.find_holds(words[:, 8:10])
    holds[here] = held_rows(batch, made[here], time)
    debit = book.find_accounts(words_of(holds["debit_account_id"]))
    credit = book.find_accounts(words_of(holds["credit_account_id"]))
    # pending_transfer_not_found, ..._not_pending, ..._already_posted, ..._already_voided
    good = here | found
    debit[~good] = credit[~good] = -1
    good &= (debit >= 0) & (credit >= 0)
    # pending_id_must_be_different
    good &= (words[:, 0:2] != words[:, 8:10]).any(axis=1)
    for name, at in (("debit_account_id", 2), ("credit_account_id", 4)):
        # pending_transfer_has_different_debit_account_id, ..._credit_account_id
        same = (words[:, at : at + 2] == words_of(holds[name])).all(axis=1)
        good &= same | ~words[:, at : at + 2].any(axis=1)
    for name in ("ledger", "code"):
        # pending_transfer_has_different_ledger, ..._code
        good &= (requests[name] == 0) | (requests[name] == holds[name])
    posts = requests["flags"] == POST
    held = np.where(good, holds["amount"], 0)
    ends, moved = _amounts(requests, posts, held)
    # exceeds_pending_transfer_amount, pending_transfer_has_different_amount
    good &= ends
    # pending_transfer_expired
    good &= (holds["expires_at"] == 0) | (holds["expires_at"] > time)
    # debit_account_already_closed, credit_account_already_closed: a post alone is refused for it
    open_both = ~(book.closed[debit] | book.closed[credit])
    good &= ~posts | open_both
    # No refusal, but more than columns do: accounts that open again, large sums, others' holds.
    good &= (holds["flags"] & CLOSING == 0) & (held < LARGE)
    good &= ~(book.near_overflow[debit] | book.near_overflow[credit])
    good &= book.owned[np.where(found & ~here, holds["shard"], 0)] | here
    return Resolves(rows, debit, credit, held, moved, made, holds).part(good)


def _amounts(requests: Rows, posts: Mask, held: Ints) -> tuple[Mask, Ints]:
    """Which of these amounts end holds of these amounts, and what they move then."""
    low, high = requests["amount_low"], requests["amount_high"]
    most = (low == np.uint64(2**64 - 1)) & (high == low)
    none = (low == 0) & (high == 0)
    whole = np.where(posts, most, none)
    part = (high == 0) & (low <= held.astype(np.uint64))
    part &= posts | (low == held.astype(np.uint64))
    return whole | part, np.where(posts, np.where(whole, held, low.astype(np.int64)), 0)


def held_rows(batch: Batch, rows: Ints, time: int) -> SpentRows:
    """Holds of this batch as they are kept, without the numbers of their accounts."""
    kept = np.empty(len(rows), SPENT)
    kept["request"] = raw(batch.rows)[rows]
    kept["shard"] = batch.shards[rows]
    timeout = kept["timeout"].astype(np.int64)
    kept["expires_at"] = np.where(timeout != 0, time + timeout * MICROSECONDS, 0)
    return kept


def resolved_rows(book: Book, batch: Batch, resolves: Resolves) -> SpentRows:
    """Posts and voids as they are kept: what they leave empty is the hold's."""
    requests = taken(batch.rows, resolves.rows)
    kept = raw(resolves.holds).copy().view(SPENT)
    for name in ("id", "pending_id", "flags"):
        kept[name] = requests[name]
    for name in ("user_data_64", "user_data_32"):
        kept[name] = np.where(requests[name] != 0, requests[name], kept[name])
    given = words_of(requests["user_data_128"]).any(axis=1)
    kept["user_data_128"][given] = requests["user_data_128"][given]
    posts = requests["flags"] & VOID == 0
    kept["amount"] = np.where(posts, resolves.moved, resolves.held)
    kept["debit_number"] = book.number[resolves.debit]
    kept["credit_number"] = book.number[resolves.credit]
    kept["shard"] = batch.shards[resolves.rows]
    kept["timeout"] = kept["expires_at"] = 0
    return kept


def given_legs(
    page: Page, slots: dict[bytes, int], leg_places: list[Ints], moves: Moves, resolves: Resolves
) -> Legs:
    """What happens to accounts beside the moves: by the rules, and by ends of holds."""
    if not (page.legs or len(resolves.rows)):
        return _NO_LEGS
    deltas = [
        (leg.debits_pending, leg.debits_posted, leg.credits_pending, leg.credits_posted)
        for leg in page.legs
    ]
    count = len(page.legs)
    needs = np.where(resolves.made >= 0, np.searchsorted(moves.rows, resolves.made), -1)
    ends = np.zeros((4, len(resolves.rows), 2), np.int64)
    ends[0, :, 0] = ends[2, :, 1] = -resolves.held
    ends[1, :, 0] = ends[3, :, 1] = resolves.moved
    return Legs(
        np.concatenate([*leg_places, np.repeat(resolves.rows, 2)]).astype(np.int64),
        np.concatenate(
            [
                np.array([slots[leg.account.id] for leg in page.legs], np.int64),
                np.stack([resolves.debit, resolves.credit], axis=1).ravel(),
            ]
        ),
        np.concatenate([np.array(deltas, np.int64).reshape(count, 4).T, ends.reshape(4, -1)], 1),
        np.concatenate([np.full(count, -1), np.repeat(needs, 2)]),
    )
