"""The rules: what becomes of a transfer. Sequential, complete, without I/O and clock.

These functions are the specification; whatever decides faster must give the same. They
read a page of the book and change it through its own verbs, one transfer after the other.

Source: the outcomes, their order of precedence and their effects are those of TigerBeetle
0.17.9, recorded in the histories that the tests replay. Where TigerBeetle's counters end
at 2^128-1, ours end at 2^63-1 with the same `overflows_...`.
"""

from collections.abc import Collection, Sequence

import msgspec

from engine.errors import InvariantBroken
from engine.ledger.nouns import (
    AMOUNT_MAX,
    COUNTER_MAX,
    ID_MAX,
    ID_ZERO,
    MICROSECONDS,
    Transfer,
    TransferFlags,
)
from engine.ledger.outcomes import SPENDS_ID, Outcome
from engine.ledger.page import Account, HoldStatus, IdRecord, Page

# Plain integers: testing a bit of an IntFlag costs twenty times as much.
LINKED = int(TransferFlags.linked)
PENDING = int(TransferFlags.pending)
POST = int(TransferFlags.post_pending_transfer)
VOID = int(TransferFlags.void_pending_transfer)
BALANCING_DEBIT = int(TransferFlags.balancing_debit)
BALANCING_CREDIT = int(TransferFlags.balancing_credit)
CLOSING_DEBIT = int(TransferFlags.closing_debit)
CLOSING_CREDIT = int(TransferFlags.closing_credit)
RESERVED = ~sum(int(flag) for flag in TransferFlags)
RESOLVING = POST | VOID
BALANCING = BALANCING_DEBIT | BALANCING_CREDIT
CLOSING = CLOSING_DEBIT | CLOSING_CREDIT


def decide_batch(
    page: Page,
    batch: Sequence[Transfer],
    shard: int,
    time: int,
    frozen: Collection[int] = (),
) -> list[Outcome]:
    """Decide the transfers of one entry in order, linked chains whole.

    Args:
        page: Holds every account and every id that the batch can touch.
        batch: The transfers as requested.
        shard: The shard by whose stream the entry came, which decides its holds.
        time: Microseconds since 1970, not before that of any earlier decision of the shard.
        frozen: Places of those that match a freeze which declines.

    Returns:
        One outcome a transfer. What they change stands on the page.
    """
    outcomes: list[Outcome] = []
    chain: int | None = None  # where the open chain began
    broken = False
    last = len(batch) - 1
    for index, transfer in enumerate(batch):
        page.at = index
        linked = transfer.flags & LINKED
        if linked and chain is None:
            chain, broken = index, False
            page.begin_chain()
        if linked and index == last:
            outcome = Outcome.linked_event_chain_open
        elif broken:
            outcome = Outcome.linked_event_failed
        else:
            outcome = _decide(page, transfer, shard, time, is_frozen=index in frozen)
        outcomes.append(outcome)
        if chain is not None:
            if outcome is not Outcome.created and not broken:
                broken = True
                page.roll_chain_back()
                outcomes[chain:index] = [Outcome.linked_event_failed] * (index - chain)
            if not linked or outcome is Outcome.linked_event_chain_open:
                if not broken:
                    page.end_chain()
                chain, broken = None, False
        if outcome in SPENDS_ID:
            page.spend(transfer, outcome, shard)
    return outcomes


def expire_hold(page: Page, hold: IdRecord) -> None:
    """Release a hold whose time has come; an account that it closed is open again."""
    debit, credit = _accounts_of(page, hold)
    page.resolve(hold, HoldStatus.expired, None)
    _reopen(page, hold, debit, credit)
    amount = hold.transfer.amount
    page.post(debit, hold.transfer.id, debit_pending=-amount)
    page.post(credit, hold.transfer.id, credit_pending=-amount)


def _decide(page: Page, t: Transfer, shard: int, time: int, *, is_frozen: bool) -> Outcome:
    if t.timestamp != 0:
        return Outcome.timestamp_must_be_zero
    if t.flags & RESERVED:
        return Outcome.reserved_flag
    if t.id == ID_ZERO:
        return Outcome.id_must_not_be_zero
    if t.id == ID_MAX:
        return Outcome.id_must_not_be_int_max
    known = page.known(t.id)
    if known is not None:
        if known.outcome is not Outcome.created:
            return Outcome.id_already_failed
        return _compare(page, t, known.transfer)
    if is_frozen:
        return Outcome.frozen
    if t.flags & RESOLVING:
        return _resolve(page, t, shard, time)
    return _transfer(page, t, shard, time)


def _transfer(page: Page, t: Transfer, shard: int, time: int) -> Outcome:
    """Decide a transfer that moves or holds an amount."""
    flags = t.flags
    malformed = _malformed(t)
    if malformed is not None:
        return malformed
    debit = page.account(t.debit_account_id)
    if debit is None:
        return Outcome.debit_account_not_found
    credit = page.account(t.credit_account_id)
    if credit is None:
        return Outcome.credit_account_not_found
    if debit.ledger != credit.ledger:
        return Outcome.accounts_must_have_the_same_ledger
    if t.ledger != debit.ledger:
        return Outcome.transfer_must_have_the_same_ledger_as_accounts
    if debit.closed:
        return Outcome.debit_account_already_closed
    if credit.closed:
        return Outcome.credit_account_already_closed

    amount = _balanced_amount(t, debit, credit)
    refused = _over_limits(t, amount, debit, credit)
    if refused is not None:
        return refused

    # From here on the transfer is created. TigerBeetle's overflows_timeout cannot occur: a
    # time of this century plus 2^32 seconds is far from the end of either clock.
    kept = t if amount == t.amount else msgspec.structs.replace(t, amount=amount)
    expires_at = time + t.timeout * MICROSECONDS if t.timeout else 0
    page.create(kept, shard, expires_at)
    if flags & CLOSING_DEBIT:
        page.close(debit, closed=True)
    if flags & CLOSING_CREDIT:
        page.close(credit, closed=True)
    if flags & PENDING:
        page.post(debit, t.id, debit_pending=amount)
        page.post(credit, t.id, credit_pending=amount)
    else:
        page.post(debit, t.id, debit=amount)
        page.post(credit, t.id, credit=amount)
    return Outcome.created


def _malformed(t: Transfer) -> Outcome | None:
    if t.debit_account_id == ID_ZERO:
        return Outcome.debit_account_id_must_not_be_zero
    if t.debit_account_id == ID_MAX:
        return Outcome.debit_account_id_must_not_be_int_max
    if t.credit_account_id == ID_ZERO:
        return Outcome.credit_account_id_must_not_be_zero
    if t.credit_account_id == ID_MAX:
        return Outcome.credit_account_id_must_not_be_int_max
    if t.credit_account_id == t.debit_account_id:
        return Outcome.accounts_must_be_different
    if t.pending_id != ID_ZERO:
        return Outcome.pending_id_must_be_zero
    if not t.flags & PENDING:
        if t.timeout:
            return Outcome.timeout_reserved_for_pending_transfer
        if t.flags & CLOSING:
            return Outcome.closing_transfer_must_be_pending
    if t.ledger == 0:
        return Outcome.ledger_must_not_be_zero
    if t.code == 0:
        return Outcome.code_must_not_be_zero
    return None


def _balanced_amount(t: Transfer, debit: Account, credit: Account) -> int:
    """At most what is posted less what is posted and pending on the account's own side."""
    amount = t.amount
    if t.flags & BALANCING_DEBIT:
        available = debit.credits_posted - debit.debits_posted - debit.debits_pending
        amount = min(amount, max(available, 0))
    if t.flags & BALANCING_CREDIT:
        available = credit.debits_posted - credit.credits_posted - credit.credits_pending
        amount = min(amount, max(available, 0))
    return amount


def _over_limits(t: Transfer, amount: int, debit: Account, credit: Account) -> Outcome | None:
    if t.flags & PENDING:
        if debit.debits_pending + amount > COUNTER_MAX:
            return Outcome.overflows_debits_pending
        if credit.credits_pending + amount > COUNTER_MAX:
            return Outcome.overflows_credits_pending
    if debit.debits_posted + amount > COUNTER_MAX:
        return Outcome.overflows_debits_posted
    if credit.credits_posted + amount > COUNTER_MAX:
        return Outcome.overflows_credits_posted
    if debit.debits_pending + debit.debits_posted + amount > COUNTER_MAX:
        return Outcome.overflows_debits
    if credit.credits_pending + credit.credits_posted + amount > COUNTER_MAX:
        return Outcome.overflows_credits
    if debit.debits_exceed_credits(amount):
        return Outcome.exceeds_credits
    if credit.credits_exceed_debits(amount):
        return Outcome.exceeds_debits
    return None


def _resolve(page: Page, t: Transfer, shard: int, time: int) -> Outcome:
    """Decide a transfer that posts or voids a hold; one return a rule, in order."""
    if t.flags & RESOLVING == RESOLVING or t.flags & (PENDING | BALANCING | CLOSING):
        return Outcome.flags_are_mutually_exclusive
    if t.pending_id == ID_ZERO:
        return Outcome.pending_id_must_not_be_zero
    if t.pending_id == ID_MAX:
        return Outcome.pending_id_must_not_be_int_max
    if t.pending_id == t.id:
        return Outcome.pending_id_must_be_different
    if t.timeout:
        return Outcome.timeout_reserved_for_pending_transfer
    hold = page.known(t.pending_id)
    if hold is None or hold.outcome is not Outcome.created:
        return Outcome.pending_transfer_not_found
    p = hold.transfer
    if not p.flags & PENDING:
        return Outcome.pending_transfer_not_pending
    different = _differs_from_hold(t, p)
    if different is not None:
        return different

    voids = t.flags & VOID
    whole = t.amount == (0 if voids else AMOUNT_MAX)
    amount = p.amount if whole else t.amount
    if amount > p.amount:
        return Outcome.exceeds_pending_transfer_amount
    if voids and amount < p.amount:
        return Outcome.pending_transfer_has_different_amount
    resolved = _resolved(hold, time)
    if resolved is not None:
        return resolved
    debit, credit = _accounts_of(page, hold)
    if not voids:
        if debit.closed:
            return Outcome.debit_account_already_closed
        if credit.closed:
            return Outcome.credit_account_already_closed

    page.create(
        Transfer(
            id=t.id,
            debit_account_id=p.debit_account_id,
            credit_account_id=p.credit_account_id,
            amount=amount,
            pending_id=t.pending_id,
            user_data_128=p.user_data_128 if t.user_data_128 == ID_ZERO else t.user_data_128,
            user_data_64=t.user_data_64 or p.user_data_64,
            user_data_32=t.user_data_32 or p.user_data_32,
            ledger=p.ledger,
            code=p.code,
            flags=t.flags,
        ),
        shard,
    )
    page.resolve(hold, HoldStatus.voided if voids else HoldStatus.posted, t.id)
    if voids:
        _reopen(page, hold, debit, credit)
    moved = 0 if voids else amount
    page.post(debit, t.id, debit=moved, debit_pending=-p.amount)
    page.post(credit, t.id, credit=moved, credit_pending=-p.amount)
    return Outcome.created


def _differs_from_hold(t: Transfer, p: Transfer) -> Outcome | None:
    if t.debit_account_id not in (ID_ZERO, p.debit_account_id):
        return Outcome.pending_transfer_has_different_debit_account_id
    if t.credit_account_id not in (ID_ZERO, p.credit_account_id):
        return Outcome.pending_transfer_has_different_credit_account_id
    if t.ledger not in (0, p.ledger):
        return Outcome.pending_transfer_has_different_ledger
    if t.code not in (0, p.code):
        return Outcome.pending_transfer_has_different_code
    return None


def _resolved(hold: IdRecord, time: int) -> Outcome | None:
    if hold.status is HoldStatus.posted:
        return Outcome.pending_transfer_already_posted
    if hold.status is HoldStatus.voided:
        return Outcome.pending_transfer_already_voided
    if hold.status is HoldStatus.expired or (hold.expires_at and hold.expires_at <= time):
        return Outcome.pending_transfer_expired
    return None


def _reopen(page: Page, hold: IdRecord, debit: Account, credit: Account) -> None:
    if hold.transfer.flags & CLOSING_DEBIT:
        page.close(debit, closed=False)
    if hold.transfer.flags & CLOSING_CREDIT:
        page.close(credit, closed=False)


def _accounts_of(page: Page, hold: IdRecord) -> tuple[Account, Account]:
    debit = page.account(hold.transfer.debit_account_id)
    credit = page.account(hold.transfer.credit_account_id)
    if debit is None or credit is None:
        raise InvariantBroken(f"an account of hold {hold.transfer.id.hex()} is not on the page")
    return debit, credit


def _compare(page: Page, t: Transfer, e: Transfer) -> Outcome:
    """Name the first difference between a request and the transfer that has its id."""
    if t.flags != e.flags:
        return Outcome.exists_with_different_flags
    if t.pending_id != e.pending_id:
        return Outcome.exists_with_different_pending_id
    if t.timeout != e.timeout:
        return Outcome.exists_with_different_timeout
    if t.flags & RESOLVING:
        t = _as_resolved(page, t, e)
    if t.debit_account_id != e.debit_account_id:
        return Outcome.exists_with_different_debit_account_id
    if t.credit_account_id != e.credit_account_id:
        return Outcome.exists_with_different_credit_account_id
    # A balancing transfer names an upper limit; what it moved was within that.
    if t.amount < e.amount if t.flags & BALANCING else t.amount != e.amount:
        return Outcome.exists_with_different_amount
    if t.user_data_128 != e.user_data_128:
        return Outcome.exists_with_different_user_data_128
    if t.user_data_64 != e.user_data_64:
        return Outcome.exists_with_different_user_data_64
    if t.user_data_32 != e.user_data_32:
        return Outcome.exists_with_different_user_data_32
    if t.ledger != e.ledger:
        return Outcome.exists_with_different_ledger
    if t.code != e.code:
        return Outcome.exists_with_different_code
    return Outcome.exists


def _as_resolved(page: Page, t: Transfer, e: Transfer) -> Transfer:
    """What a post or void that is sent again stands for, its empty fields filled in."""
    hold = page.known(t.pending_id)
    if hold is None:
        raise InvariantBroken(f"the hold of transfer {t.id.hex()} is not on the page")
    p = hold.transfer
    whole = t.amount == (0 if t.flags & VOID else AMOUNT_MAX)
    return msgspec.structs.replace(
        t,
        debit_account_id=e.debit_account_id
        if t.debit_account_id == ID_ZERO
        else t.debit_account_id,
        credit_account_id=(
            e.credit_account_id if t.credit_account_id == ID_ZERO else t.credit_account_id
        ),
        amount=p.amount if whole else t.amount,
        user_data_128=p.user_data_128 if t.user_data_128 == ID_ZERO else t.user_data_128,
        user_data_64=t.user_data_64 or p.user_data_64,
        user_data_32=t.user_data_32 or p.user_data_32,
        ledger=t.ledger or e.ledger,
        code=t.code or e.code,
    )
