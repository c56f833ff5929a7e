"""Deciding a batch in columns, and by the sequential rules what columns cannot decide.

Every request is of one of two kinds. A *plain* one moves or holds an amount, is well-formed,
and its id is not known; all that can refuse it is a limit. Whatever else there is (chains,
balancing, closing, posts and voids, anything malformed, duplicates) goes to the rules, on a
page of objects, in order.

The two can depend on each other through the balance of an account that is *conditional*:
it has a limit, or is near overflow. Where the rules must know such a balance, all plain
requests on that account go to the rules as well, and so on to the accounts that these
touch. Posts, voids and lapses read no balance; what they set free counts for the plain
requests that follow.

Which plain requests break a limit is found for all at once: suppose a set of refusals,
compute every running balance, and see which requests would be refused; repeat until
nothing changes. A set that reproduces itself is the one that deciding in order gives, since
each request is judged by what was created before it.

Nothing is waited for here: `advance` says what must be looked up first. Nothing changes in
the book until `finish`.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine.book import (
    CREDITS_PENDING,
    CREDITS_POSTED,
    DEBITS_PENDING,
    DEBITS_POSTED,
    LARGE,
    Book,
)
from engine.errors import InvariantBroken
from engine.id_table import IdTable, hash_words, words_of
from engine.limits import CREDIT_LIMIT, Legs, Moves, find_refusals
from engine.nouns import ID_MAX, ID_ZERO, MICROSECONDS, TransferFlags
from engine.outcomes import SPENDS_ID, Outcome
from engine.page import HoldStatus, Known, Page
from engine.rows import SPENT, Decided, Refused, Resolved, SpentRows, spent_rows
from engine.rules import decide_batch, expire_hold
from engine.wire.layout import TRANSFER, Rows, rows_to_transfers, transfers_to_rows

LINKED = int(TransferFlags.linked)
PENDING = int(TransferFlags.pending)
RESOLVING = int(TransferFlags.post_pending_transfer | TransferFlags.void_pending_transfer)
BALANCING = int(TransferFlags.balancing_debit | TransferFlags.balancing_credit)
BALANCING_CREDIT = int(TransferFlags.balancing_credit)
CLOSING = int(TransferFlags.closing_debit | TransferFlags.closing_credit)
Mask = npt.NDArray[np.bool_]

_SPENDING: Final = np.zeros(256, bool)
_SPENDING[[int(outcome) for outcome in SPENDS_ID]] = True


class Batch:
    """Entries in the order in which they are decided, as one array of requests.

    Args:
        requests: Of each entry, its rows of dtype `TRANSFER`.
        shards: Of each entry, the shard by whose stream it came.
    """

    def __init__(self, requests: Sequence[Rows], shards: Sequence[int]) -> None:
        self.rows: Rows = np.concatenate(requests) if requests else np.empty(0, TRANSFER)
        lengths = [len(rows) for rows in requests]
        self.ends = np.cumsum([0, *lengths])
        """Where entries begin; the last number is where the last one ends."""
        self.shards = np.repeat(np.array(shards, np.int16), lengths)
        self.entries = np.repeat(np.arange(len(requests)), lengths)


class Needs(NamedTuple):
    """What must be looked up before a batch can be decided."""

    accounts: list[bytes]
    ids: list[bytes]
    refresh: list[int]
    """Numbers of accounts that are short, whose other stripes are to be read anew."""


class Deciding:
    """One batch on its way to being decided.

    Args:
        book: The accounts.
        batch: The requests.
        due: Ids of holds that lapse before the first request, earliest first.
        time: Microseconds since 1970.
        careful: Look up every id first, as after a flush that met one of them in Postgres.
    """

    def __init__(
        self,
        book: Book,
        batch: Batch,
        due: Sequence[bytes],
        time: int,
        *,
        careful: bool = False,
    ) -> None:
        self._book = book
        self._batch = batch
        self._due = due
        self._time = time
        self._careful = careful
        # What became of ids that were looked up; None for those that are free.
        self._looked_up: dict[bytes, Known | None] = {}
        self._asked: set[bytes] = set()
        self._refreshed: set[int] = set()
        self._accounts_then = -1
        rows = batch.rows
        self._words = rows.view(np.uint64).reshape(len(rows), 16)
        self._flags = rows["flags"]
        self._first_look()

    # What is known from the requests alone.

    def _first_look(self) -> None:
        rows, words, flags = self._batch.rows, self._words, self._flags
        resolving = flags & RESOLVING != 0
        chained = flags & LINKED != 0
        if chained.any():
            follows = np.zeros(len(rows), bool)
            follows[1:] = chained[:-1] & (self._batch.entries[1:] == self._batch.entries[:-1])
            chained |= follows
        twice = _twice(hash_words(words[:, 0:2]))
        amount = rows["amount_low"]
        large = (amount >= LARGE) | (rows["amount_high"] != 0)
        large &= ~resolving
        # Balances decide these, and for some it is the exact balance of any account.
        self._exactly = large | (flags & (BALANCING | CLOSING) != 0)
        self._exactly &= ~resolving
        self._resolving = np.flatnonzero(resolving)
        self._in_order = self._exactly | chained | twice | self._held_and_resolved()
        plain = (flags == 0) | (flags == PENDING)
        plain &= ~self._in_order
        plain &= (words[:, 8] | words[:, 9]) == 0  # pending_id
        plain &= (rows["timeout"] == 0) | (flags == PENDING)
        plain &= (rows["code"] != 0) & (rows["timestamp"] == 0)
        plain &= (words[:, 0] | words[:, 1]) != 0
        plain &= (words[:, 0] & words[:, 1]) != np.uint64(2**64 - 1)
        self._plain_form = plain
        self._seen = self._book.seen(words[:, 0:2]) | self._careful

    def _held_and_resolved(self) -> Mask:
        """Holds that are made and resolved in this very batch, and what resolves them."""
        rows = np.zeros(len(self._words), bool)
        if len(self._resolving):
            pending = self._words[self._resolving, 8:10]
            table = IdTable(len(pending))
            table.add(pending)
            rows[table.find(self._words[:, 0:2]) >= 0] = True
            ids = IdTable(len(self._words))
            ids.add(self._words[:, 0:2])
            rows[self._resolving[ids.find(pending) >= 0]] = True
        return rows

    # Looking up.

    def advance(self) -> Needs | None:
        """Go on as far as possible; returns what is needed first, or None when all is here."""
        return (
            self._find_accounts()
            or self._find_ids()
            or self._find_hold_accounts()
            or (None if self.locks() else self._settle())
        )

    def supply(self, ids: Sequence[bytes], known: Sequence[Known]) -> None:
        """Take in what Postgres knows of ids that were needed; the others are free."""
        for one in ids:
            self._looked_up[one] = None
        self._learn(known)

    def _learn(self, known: Iterable[Known]) -> None:
        for found in known:
            # Postgres does not show yet how a flush under way ends a hold.
            status = self._book.resolved_lately(found.transfer.id) or found.status
            self._looked_up[found.transfer.id] = msgspec.structs.replace(found, status=status)

    def _find_accounts(self) -> Needs | None:
        words = self._words
        if self._accounts_then != self._book.accounts:
            self._accounts_then = self._book.accounts
            self._debit = self._book.find(words[:, 2:4])
            self._credit = self._book.find(words[:, 4:6])
        unknown: set[bytes] = set()
        for slots, name in ((self._debit, "debit_account_id"), (self._credit, "credit_account_id")):
            unknown.update(self._batch.rows[name][slots < 0].tolist())
        unknown -= {ID_ZERO, ID_MAX}
        return self._ask_accounts(unknown)

    def _ask_accounts(self, unknown: set[bytes]) -> Needs | None:
        unknown -= self._asked
        self._asked |= unknown
        return Needs(list(unknown), [], []) if unknown else None

    def _find_ids(self) -> Needs | None:
        """Sort the requests into plain ones and those for the rules; look up what these need."""
        book, rows = self._book, self._batch.rows
        debit, credit = self._debit, self._credit
        found = (debit >= 0) & (credit >= 0)
        plain = self._plain_form & found & (debit != credit)
        plain &= ~(book.closed[debit] | book.closed[credit])
        plain &= (book.ledger[debit] == rows["ledger"]) & (book.ledger[credit] == rows["ledger"])
        near = book.near_overflow[debit] & (debit >= 0)
        near |= book.near_overflow[credit] & (credit >= 0)
        self._exactly |= near & found & (self._flags & RESOLVING == 0)
        self._in_order |= self._exactly
        plain &= ~near
        doubtful = plain & self._seen
        for row in np.flatnonzero(doubtful).tolist():
            # Seen, but looked up since and found free: plain after all.
            transfer_id = rows["id"][row].tobytes()
            if transfer_id in self._looked_up and self._looked_up[transfer_id] is None:
                doubtful[row] = False
        plain &= ~doubtful
        for row in self._known_rows(plain):
            plain[row] = False
        self._plain = plain
        self._rules = np.flatnonzero(~plain)
        rules = ~plain
        self._spread(rules)
        wanted = {one for one in rows["id"][rules].tolist() if one != ID_ZERO}
        wanted.update(one for one in rows["pending_id"][self._resolving].tolist() if one != ID_ZERO)
        wanted.update(self._due)
        return self._ask_ids(wanted)

    def _known_rows(self, plain: Mask) -> list[int]:
        """Plain requests whose ids were looked up, since a limit refused them, and are known."""
        known = [one for one, what in self._looked_up.items() if what is not None]
        if not known:
            return []
        table = IdTable(len(known))
        table.add(words_of(np.frombuffer(b"".join(known), "V16")))
        rows = np.flatnonzero(plain)
        at = table.find(self._words[rows, 0:2])
        here: list[int] = rows[at >= 0].tolist()
        return here

    def _ask_ids(self, wanted: set[bytes]) -> Needs | None:
        missing = wanted - self._looked_up.keys()
        if missing:
            lately = self._book.lately(missing)
            self._learn(lately.values())
            missing -= lately.keys()
        return Needs([], list(missing), []) if missing else None

    def _holds(self) -> list[Known]:
        ids = set(self._batch.rows["pending_id"][self._resolving].tolist()) | set(self._due)
        known = (self._looked_up.get(one) for one in ids)
        return [one for one in known if one is not None and one.status]

    def _find_hold_accounts(self) -> Needs | None:
        unknown: set[bytes] = set()
        for hold in self._holds():
            unknown |= {hold.transfer.debit_account_id, hold.transfer.credit_account_id}
        if not unknown:
            return None
        ids = list(unknown)
        slots = self._book.find(words_of(np.frombuffer(b"".join(ids), "V16")))
        return self._ask_accounts({one for one, slot in zip(ids, slots, strict=True) if slot < 0})

    # What concerns other workers.

    def locks(self) -> dict[int, set[int]]:
        """By entry, the shards whose owners must be locked to decide it; -1 stands for a lapse.

        Empty where all can be decided here: debits at home, credits that nothing limits.
        """
        book = self._book
        if book.owns_all:
            return {}
        found: dict[int, set[int]] = {}
        debit, credit = self._debit, self._credit
        limited = book.flags[credit] & CREDIT_LIMIT != 0
        debit_away = self._plain & ~book.mine[debit]
        credit_away = self._plain & ~book.mine[credit] & limited
        for mask, slots in ((debit_away, debit), (credit_away, credit)):
            for row in np.flatnonzero(mask).tolist():
                shards = found.setdefault(int(self._batch.entries[row]), set())
                shards.add(int(book.home[slots[row]]))
        for row in self._rules.tolist():
            shards = self._locks_of(row)
            if shards:
                found.setdefault(int(self._batch.entries[row]), set()).update(shards)
        for hold_id in self._due:
            hold = self._looked_up.get(hold_id)
            if hold is not None and hold.status is HoldStatus.pending:
                shards = self._locks_of_hold(hold)
                if shards:
                    found.setdefault(-1, set()).update(shards)
        return found

    def _locks_of(self, row: int) -> set[int]:
        book = self._book
        transfer_id = self._batch.rows["id"][row].tobytes()
        if self._looked_up.get(transfer_id) is not None:
            return set()  # what is judged on committed rows concerns nobody else
        flags = int(self._flags[row])
        if flags & RESOLVING:
            hold = self._looked_up.get(self._batch.rows["pending_id"][row].tobytes())
            return set() if hold is None else self._locks_of_hold(hold)
        debit, credit = int(self._debit[row]), int(self._credit[row])
        if debit < 0 or credit < 0:
            return set()
        if flags & CLOSING or book.near_overflow[debit] or book.near_overflow[credit]:
            return set(range(book.shard_count)) - set(np.flatnonzero(book.owned).tolist())
        shards = set()
        if not book.mine[debit]:
            shards.add(int(book.home[debit]))
        depends = self._exactly[row] or book.flags[credit] & CREDIT_LIMIT
        if not book.mine[credit] and depends:
            shards.add(int(book.home[credit]))
        return shards

    def _locks_of_hold(self, hold: Known) -> set[int]:
        """A hold is resolved where it was decided; one that closes concerns everybody."""
        if hold.status is not HoldStatus.pending:
            return set()
        away = set(np.flatnonzero(~self._book.owned).tolist())
        return away if hold.transfer.flags & CLOSING else away & {hold.shard}

    # Deciding.

    def _settle(self) -> Needs | None:
        """Decide, on paper; or say what has to be looked up after all."""
        book = self._book
        rules = ~self._plain
        dirty = self._spread(rules)
        while True:
            page, outcomes, leg_rows = self._run_rules(np.flatnonzero(rules), dirty)
            given = self._legs_of(page, leg_rows)
            moves = self._moves(np.flatnonzero(~rules))
            refusals = find_refusals(book, moves, given)
            if refusals is not None:
                break
            # No set reproduced itself: the rules take all that touches a limit.
            self._in_order |= (book.flags[self._debit] | book.flags[self._credit]) != 0
            rules = ~self._plain
            rules |= self._in_order
            dirty = self._spread(rules)
        over_credits, over_debits = refusals
        outcomes[moves.rows[over_credits]] = Outcome.exceeds_credits
        outcomes[moves.rows[over_debits]] = Outcome.exceeds_debits
        # The id ranks before what refused these: it must have been looked up.
        refused = self._batch.rows["id"][self._plain & (outcomes != 0)].tolist()
        needs = self._ask_ids(set(refused))
        if needs is not None:
            return needs
        if self._known_rows(self._plain):
            return self.advance()
        short = self._short(outcomes)
        if short:
            return short
        self._page, self._outcomes, self._given = page, outcomes, given
        self._moves_made = Moves(*(column[outcomes[moves.rows] == 0] for column in moves))
        self._rules_taken = rules
        return None

    def _short(self, outcomes: npt.NDArray[np.uint8]) -> Needs | None:
        """Accounts about to be found short, while others may have credited them since."""
        book = self._book
        if book.owns_all:
            return None
        slots: set[int] = set()
        for outcome, column in (
            (Outcome.exceeds_credits, self._debit),
            (Outcome.exceeds_debits, self._credit),
        ):
            slots.update(column[outcomes == outcome].tolist())
        balancing = np.flatnonzero(self._flags & BALANCING)
        slots.update(self._debit[balancing].tolist(), self._credit[balancing].tolist())
        numbers = {int(book.number[slot]) for slot in slots if slot >= 0 and book.mine[slot]}
        numbers -= self._refreshed
        self._refreshed |= numbers
        return Needs([], [], list(numbers)) if numbers else None

    def _spread(self, rules: Mask) -> Mask:
        """Accounts whose balance the rules must know; `rules` grows by what touches them."""
        book = self._book
        dirty = np.zeros(len(book.number) + 1, bool)  # the last is for "no account"
        in_order = self._in_order & rules
        for hold in self._holds_exactly():
            words = words_of(np.frombuffer(hold, "V16"))
            dirty[book.find(words)] = True
        conditional = (book.flags != 0) | book.near_overflow
        conditional = np.r_[conditional, False]
        exact = self._exactly & rules
        dirty[self._debit[exact]] = dirty[self._credit[exact]] = True
        # Also those that are with the rules already: what looked refused for a closed account
        # is judged by balances once a hold that lapses has opened it.
        done = fresh = in_order
        while True:
            for slots in (self._debit[fresh], self._credit[fresh]):
                dirty[slots[conditional[slots]]] = True
            dirty[-1] = False
            fresh = (dirty[self._debit] | dirty[self._credit]) & ~done
            if not fresh.any():
                return dirty
            done = done | fresh
            rules |= fresh

    def _holds_exactly(self) -> list[bytes]:
        """Accounts that a post, void or lapse may open again."""
        closing = [hold.transfer for hold in self._holds() if hold.transfer.flags & CLOSING]
        return [t.debit_account_id for t in closing] + [t.credit_account_id for t in closing]

    def _run_rules(
        self, rows: npt.NDArray[np.int64], dirty: Mask
    ) -> tuple[Page, npt.NDArray[np.uint8], list[npt.NDArray[np.int64]]]:
        """Let the holds lapse that are due, then decide these requests by the rules.

        Returns:
            The page, outcomes (of the other requests 0), and for each leg its request.
        """
        batch = self._batch
        outcomes = np.zeros(len(batch.rows), np.uint8)
        page = self._make_page(rows, dirty)
        for hold_id in self._due:
            hold = page.known(hold_id)
            if hold is not None and hold.status is HoldStatus.pending:
                if not 0 < hold.expires_at <= self._time:
                    raise InvariantBroken(f"hold {hold_id.hex()} is not due")
                expire_hold(page, hold)
        leg_rows = [np.full(len(page.legs), -1)]
        cuts = np.flatnonzero(np.diff(batch.entries[rows])) + 1
        for part in np.split(rows, cuts) if len(rows) else ():
            transfers = rows_to_transfers(batch.rows[part])
            before = len(page.legs)
            shard = int(batch.shards[part[0]])
            outcomes[part] = decide_batch(page, transfers, shard, self._time)
            leg_rows.append(part[[leg.at for leg in page.legs[before:]]])
        return page, outcomes, leg_rows

    def _make_page(self, rows: npt.NDArray[np.int64], dirty: Mask) -> Page:
        book = self._book
        slots = {*self._debit[rows].tolist(), *self._credit[rows].tolist()}
        holds = self._holds()
        ids = {t.debit_account_id for t in (hold.transfer for hold in holds)}
        ids |= {t.credit_account_id for t in (hold.transfer for hold in holds)}
        if ids:
            words = words_of(np.frombuffer(b"".join(ids), "V16"))
            slots |= set(book.find(words).tolist())
        slots.discard(-1)
        accounts = {}
        self._slots = {}
        for slot in slots:
            account = book.account(slot)
            account.exact &= bool(dirty[slot])
            accounts[account.id] = account
            self._slots[account.id] = slot
        known = {
            one: msgspec.structs.replace(what)
            for one, what in self._looked_up.items()
            if what is not None
        }
        return Page(accounts, known)

    def _legs_of(self, page: Page, leg_rows: list[npt.NDArray[np.int64]]) -> Legs:
        deltas = [
            (leg.debits_pending, leg.debits_posted, leg.credits_pending, leg.credits_posted)
            for leg in page.legs
        ]
        return Legs(
            np.concatenate(leg_rows).astype(np.int64),
            np.array([self._slots[leg.account.id] for leg in page.legs], np.int64),
            np.array(deltas, np.int64).reshape(-1, 4).T,
        )

    def _moves(self, rows: npt.NDArray[np.int64]) -> Moves:
        return Moves(
            rows,
            self._debit[rows],
            self._credit[rows],
            self._batch.rows["amount_low"][rows].astype(np.int64),
            self._flags[rows] == PENDING,
        )

    # What was decided.

    def finish(self) -> Decided:
        """Take the decision into the book; `advance` has returned None."""
        page, moves = self._page, self._moves_made
        created = [known for known in page.spent.values() if known.outcome is Outcome.created]
        numbers = {one: int(self._book.number[slot]) for one, slot in self._slots.items()}
        place = {known.transfer.id: len(moves.rows) + at for at, known in enumerate(created)}
        expired = [leg.transfer_id for leg in page.legs if leg.at < 0][::2]
        place_expired = {hold_id: -1 - at for at, hold_id in enumerate(expired)}
        spenders = [(place_expired if leg.at < 0 else place)[leg.transfer_id] for leg in page.legs]
        legs, spenders_all = self._all_legs(moves, np.array(spenders, np.int64))
        decided = Decided(
            spent=np.concatenate([self._spent(moves), spent_rows(created, numbers)]),
            refused=self._refused(page),
            slots=legs.slots,
            deltas=legs.deltas,
            spenders=spenders_all,
            expired=expired,
            resolutions=[
                Resolved(one.hold.transfer.id, one.transfer_id, one.status)
                for one in page.resolutions
            ],
            closings=page.closings,
            outcomes=self._outcomes,
        )
        self._book.note(decided)
        return decided

    def _all_legs(
        self, moves: Moves, spenders: npt.NDArray[np.int64]
    ) -> tuple[Legs, npt.NDArray[np.int64]]:
        """The legs of moves and rules together, in the order of the requests."""
        count = len(moves.rows)
        slots = np.empty(2 * count, np.int64)
        slots[0::2], slots[1::2] = moves.debit, moves.credit
        deltas = np.zeros((4, 2 * count), np.int64)
        deltas[DEBITS_PENDING, 0::2] = np.where(moves.pending, moves.amount, 0)
        deltas[DEBITS_POSTED, 0::2] = np.where(moves.pending, 0, moves.amount)
        deltas[CREDITS_PENDING, 1::2] = deltas[DEBITS_PENDING, 0::2]
        deltas[CREDITS_POSTED, 1::2] = deltas[DEBITS_POSTED, 0::2]
        rows = np.repeat(moves.rows, 2)
        made = np.repeat(np.arange(count), 2)
        given = self._given
        if len(given.rows):
            rows = np.concatenate([given.rows, rows])
            order = np.argsort(rows, kind="stable")
            rows = rows[order]
            slots = np.concatenate([given.slots, slots])[order]
            deltas = np.concatenate([given.deltas, deltas], axis=1)[:, order]
            made = np.concatenate([spenders, made])[order]
        return Legs(rows, slots, deltas), made

    def _spent(self, moves: Moves) -> SpentRows:
        book, requests = self._book, self._batch.rows[moves.rows]
        rows = np.empty(len(requests), SPENT)
        for name in _AS_REQUESTED:
            rows[name] = requests[name]
        rows["amount"] = moves.amount
        rows["debit_number"] = book.number[moves.debit]
        rows["credit_number"] = book.number[moves.credit]
        rows["shard"] = self._batch.shards[moves.rows]
        lapses = self._time + requests["timeout"].astype(np.int64) * MICROSECONDS
        rows["expires_at"] = np.where(requests["timeout"] != 0, lapses, 0)
        return rows

    def _refused(self, page: Page) -> Refused:
        """Refusals that spend their ids: by a limit in columns, and by the rules."""
        rows = np.flatnonzero(_SPENDING[self._outcomes] & ~self._rules_taken)
        by_rules = [known for known in page.spent.values() if known.outcome is not Outcome.created]
        requests = transfers_to_rows([known.transfer for known in by_rules])
        outcomes = np.array([known.outcome for known in by_rules], np.uint8)
        shards = np.array([known.shard for known in by_rules], np.int16)
        return Refused(
            np.concatenate([self._batch.rows[rows], requests]),
            np.concatenate([self._outcomes[rows], outcomes]),
            np.concatenate([self._batch.shards[rows], shards]),
        )


_AS_REQUESTED: Final = (
    "id",
    "debit_account_id",
    "credit_account_id",
    "pending_id",
    "user_data_128",
    "user_data_64",
    "user_data_32",
    "timeout",
    "ledger",
    "code",
    "flags",
)


def _twice(hashes: npt.NDArray[np.uint64]) -> Mask:
    """Which hashes stand more than once."""
    order = np.argsort(hashes)
    same = np.diff(hashes[order]) == 0
    twice = np.zeros(len(hashes), bool)
    twice[order[1:][same]] = True
    twice[order[:-1][same]] = True
    return twice
