"""From a draft to the rows that are written."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.book.book import (
    CREDITS_PENDING,
    CREDITS_POSTED,
    DEBITS_PENDING,
    DEBITS_POSTED,
    Book,
)
from engine.book.columns import Assumptions, Decision, Refusals, Resolutions, SpentRows, spent_rows
from engine.book.id_table import Slots
from engine.book.runs import joined, taken
from engine.deciding.batch import BALANCING_CREDIT, BALANCING_DEBIT, POST, Batch, Ints, Mask
from engine.deciding.limits import Legs, Moves
from engine.deciding.resolutions import Resolves, held_rows, resolved_rows
from engine.ledger.nouns import ID_ZERO
from engine.ledger.outcomes import SPENDS_ID, Outcome
from engine.ledger.page import HoldStatus, IdRecord, Page
from engine.wire.layout import TRANSFER, transfers_to_rows

_POSTED = np.uint8(HoldStatus.posted)
_VOIDED = np.uint8(HoldStatus.voided)
_SPENDING = np.zeros(256, bool)
_SPENDING[[int(outcome) for outcome in SPENDS_ID]] = True

NO_REFUSALS = Refusals(np.empty(0, TRANSFER), np.empty(0, np.uint8), np.empty(0, np.int16))
NO_RESOLUTIONS = Resolutions(np.empty(0, "V16"), np.empty(0, "V16"), np.empty(0, np.uint8))
NO_ASSUMPTIONS = Assumptions(
    np.empty(0, np.int64), np.empty(0, bool), np.empty(0, np.int64), np.empty(0, np.int64)
)


class Draft(NamedTuple):
    """What is decided and may yet change: what columns create of it, and the rules' page."""

    page: Page
    slots: dict[bytes, int]
    """Of the accounts of the page."""
    moves: Moves
    resolves: Resolves
    legs: Legs
    """All legs that happen, in the order of the requests."""
    order: Ints | None
    """In which order these were put: of the page, two of each end of a hold, two of each move."""
    outcomes: npt.NDArray[np.uint8]
    lacking: Ints
    """Of each request that found an account short, by how much; else 0."""
    by_rules: Mask
    debit: Slots
    credit: Slots


def lay_out(book: Book, batch: Batch, draft: Draft, time: int) -> Decision:
    """Lay out what was decided: created transfers, refused ones, legs, ends of holds.

    Args:
        book: As it was decided by.
        batch: The requests.
        draft: The decision.
        time: Microseconds since 1970, of the decision.
    """
    page, moves, resolves = draft.page, draft.moves, draft.resolves
    created = [record for record in page.spent.values() if record.outcome is Outcome.created]
    spent = [_moved_rows(book, batch, moves, time)]
    if len(resolves.rows):
        spent.append(resolved_rows(book, batch, resolves))
    if created:
        numbers = {account_id: int(book.number[slot]) for account_id, slot in draft.slots.items()}
        spent.append(spent_rows(created, numbers))
    ends = np.repeat(np.arange(len(moves.rows), len(moves.rows) + len(resolves.rows)), 2)
    by_moves = np.repeat(np.arange(len(moves.rows)), 2)
    spenders = np.concatenate([_spenders_by_rules(draft, created), ends, by_moves])
    legs, order = draft.legs, draft.order
    return Decision(
        spent=joined(spent),
        refused=_refused(batch, draft),
        slots=legs.slots,
        deltas=legs.deltas,
        spenders=spenders if order is None else spenders[order],
        expiries=np.frombuffer(b"".join(page.expired), "V16"),
        resolutions=_resolutions(batch, draft),
        closings=page.closings,
        outcomes=draft.outcomes,
        assumptions=_assumptions_of(book, batch, draft),
    )


def _spenders_by_rules(draft: Draft, created: Sequence[IdRecord]) -> Ints:
    """Of each leg of the page, the row of its transfer or, behind all those, of its expiry."""
    page = draft.page
    first = len(draft.moves.rows) + len(draft.resolves.rows)
    place = {record.transfer.id: first + at for at, record in enumerate(created)}
    # Holds expire before anything is decided: their legs, two of each, stand first.
    count = len(page.expired)
    expiries = np.repeat(first + len(created) + np.arange(count), 2)
    by_requests = [place[leg.transfer_id] for leg in page.legs[2 * count :]]
    return np.concatenate([expiries, np.array(by_requests, np.int64)])


def _moved_rows(book: Book, batch: Batch, moves: Moves, time: int) -> SpentRows:
    rows = held_rows(batch, moves.rows, time)
    rows["debit_number"] = book.number[moves.debit]
    rows["credit_number"] = book.number[moves.credit]
    return rows


def all_legs(moves: Moves, given: Legs) -> tuple[Legs, Ints | None]:
    """What is given and the legs of moves together, in the order of the requests.

    Returns:
        The legs, and in which order they were put; None where they were in order.
    """
    slots = np.empty(2 * len(moves.rows), np.int64)
    slots[0::2], slots[1::2] = moves.debit, moves.credit
    deltas = legs_of_moves(moves)
    rows = np.repeat(moves.rows, 2)
    order = None
    if len(given.rows):
        rows = np.concatenate([given.rows, rows])
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        slots = np.concatenate([given.slots, slots])[order]
        deltas = np.concatenate([given.deltas, deltas], axis=1)[:, order]
    return Legs(rows, slots, deltas, np.full(len(rows), -1)), order


def legs_of_moves(moves: Moves) -> Ints:
    """What moves change in the four counters, two legs each, the debit first: shape (4, legs)."""
    deltas = np.zeros((4, 2 * len(moves.rows)), np.int64)
    deltas[DEBITS_PENDING, 0::2] = np.where(moves.pending, moves.amount, 0)
    deltas[DEBITS_POSTED, 0::2] = np.where(moves.pending, 0, moves.amount)
    deltas[CREDITS_PENDING, 1::2] = deltas[DEBITS_PENDING, 0::2]
    deltas[CREDITS_POSTED, 1::2] = deltas[DEBITS_POSTED, 0::2]
    return deltas


def _refused(batch: Batch, draft: Draft) -> Refusals:
    """Refusals that spend their ids: by columns, and by the rules."""
    rows = np.flatnonzero(_SPENDING[draft.outcomes] & ~draft.by_rules)
    spent = draft.page.spent.values()
    by_rules = [record for record in spent if record.outcome is not Outcome.created]
    if not (len(rows) or by_rules):
        return NO_REFUSALS
    requests = transfers_to_rows([record.transfer for record in by_rules])
    outcomes = np.array([record.outcome for record in by_rules], np.uint8)
    shards = np.array([record.shard for record in by_rules], np.int16)
    return Refusals(
        joined([taken(batch.rows, rows), requests]),
        np.concatenate([draft.outcomes[rows], outcomes]),
        np.concatenate([batch.shards[rows], shards]),
    )


def _resolutions(batch: Batch, draft: Draft) -> Resolutions:
    if not (len(draft.resolves.rows) or draft.page.resolutions):
        return NO_RESOLUTIONS
    requests = taken(batch.rows, draft.resolves.rows)
    posts = requests["flags"] == POST
    ends = draft.page.resolutions
    holds = b"".join(end.hold.transfer.id for end in ends)
    transfers = b"".join(end.transfer_id or ID_ZERO for end in ends)
    statuses = np.array([end.status for end in ends], np.uint8)
    return Resolutions(
        np.concatenate([requests["pending_id"], np.frombuffer(holds, "V16")]),
        np.concatenate([requests["id"], np.frombuffer(transfers, "V16")]),
        np.concatenate([np.where(posts, _POSTED, _VOIDED), statuses]),
    )


def _assumptions_of(book: Book, batch: Batch, draft: Draft) -> Assumptions:
    """The accounts that were found short, or whose balance was moved, and what of it is others'."""
    if book.owns_all:
        return NO_ASSUMPTIONS
    balancing = batch.rows["flags"]
    numbers, sides, available, lacking = [], [], [], []
    for outcome, flag, slots, plus, minus in (
        (Outcome.exceeds_credits, BALANCING_DEBIT, draft.debit, CREDITS_POSTED, DEBITS_POSTED),
        (Outcome.exceeds_debits, BALANCING_CREDIT, draft.credit, DEBITS_POSTED, CREDITS_POSTED),
    ):
        wanted = (draft.outcomes == outcome) | (balancing & flag != 0)
        rows = np.flatnonzero(wanted & (slots >= 0))
        rows = rows[book.mine[slots[rows]]]
        at = slots[rows]
        held = DEBITS_PENDING if plus == CREDITS_POSTED else CREDITS_PENDING
        numbers.append(book.number[at])
        sides.append(np.full(len(rows), plus == CREDITS_POSTED))
        available.append(book.others[plus, at] - book.others[minus, at] - book.others[held, at])
        # What was moved follows from the balance exactly; a refusal stands until there is enough.
        exactly = balancing[rows] & flag != 0
        lacking.append(np.where(exactly, 0, np.maximum(draft.lacking[rows], 1)))
    return Assumptions(*(np.concatenate(column) for column in (numbers, sides, available, lacking)))
