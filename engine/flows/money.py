"""Money steps as transfers, and what became of them, settled from the ledger's rows.

A request is frozen: the transfers of a step as bytes, made once, kept in the journal before
anything is sent, and sent again as they are. What it came to is read in this order:

| the ledger has | then |
|---|---|
| every leg created, as ours | created |
| a leg refused, its request being ours | declined, for that reason |
| a leg refused by the transfer that spends its id | declined, for the reason that it carries |
| a leg of another content | taken: the id is somebody else's, and the flow stops |
| nothing | not decided yet: an answer is no proof, since another copy may still come |

A refusal that leaves its id free would let a copy that comes later succeed behind our back. So the
id is spent: by a transfer from an account that does not exist, which the ledger declines for ever.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from engine.flows.ids import nobody_id
from engine.ledger.nouns import Transfer, TransferFlags
from engine.ledger.outcomes import SPENDS_ID, Outcome
from engine.wire.layout import TRANSFER, rows_to_transfers, transfers_to_rows

HOLD_OVER: Final = frozenset(
    {
        Outcome.pending_transfer_already_posted.name,
        Outcome.pending_transfer_already_voided.name,
        Outcome.pending_transfer_expired.name,
    }
)
"""Reasons for which a post or void fails that say: its hold is open no more."""

VOID_DONE: Final = HOLD_OVER - {Outcome.pending_transfer_already_posted.name}
"""Reasons for which a void was not needed."""

_SEQ: Final = slice(104, 108)
"""Where `user_data_32` stands in a request."""

_VOID: Final = int(TransferFlags.void_pending_transfer)


class Spent(msgspec.Struct, frozen=True):
    """What the ledger has under an id."""

    outcome: Outcome
    transfer: Transfer | None = None
    """As created."""
    request: bytes | None = None
    """As refused, 128 bytes."""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What became of a money step, for good."""

    kind: Literal["created", "declined", "taken"]
    reason: str = ""


CREATED: Final = Verdict("created")


def pack(transfers: list[Transfer]) -> bytes:
    """The bytes of a request."""
    return transfers_to_rows(transfers).tobytes()


def unpack(request: bytes) -> list[Transfer]:
    """The transfers of a request."""
    return rows_to_transfers(np.frombuffer(request, TRANSFER))


def seq_of(request: bytes) -> int:
    """The number under which a request was asked first; it stands in its transfers."""
    return int.from_bytes(request[_SEQ], "little")


def read_answers(outcomes: Sequence[Outcome]) -> Verdict | Outcome | None:
    """What the answers to a request say by themselves.

    Returns:
        A verdict where it follows; the refusal where it left the ids free; else None: the rows
        of the ledger are to be read.
    """
    if all(outcome is Outcome.created for outcome in outcomes):
        return CREATED
    if len(outcomes) == 1:
        [outcome] = outcomes
        if outcome is Outcome.exists:
            return CREATED
        if outcome in SPENDS_ID:
            return Verdict("declined", outcome.name)
    in_doubt = {Outcome.exists, Outcome.created, Outcome.id_already_failed}
    if any(o in in_doubt or o in SPENDS_ID or o.name.startswith("exists_") for o in outcomes):
        return None
    return next((o for o in outcomes if o is not Outcome.linked_event_failed), outcomes[0])


def settle(request: bytes, spent: Mapping[bytes, Spent]) -> Verdict | None:
    """What became of a request by the rows of the ledger; None where it is not decided."""
    legs = unpack(request)
    created = 0
    declined: Verdict | None = None
    for place, leg in enumerate(legs):
        found = spent.get(leg.id)
        if found is None:
            continue
        if found.outcome is Outcome.created:
            if found.transfer is None or not _is_same(leg, found.transfer):
                return Verdict("taken", "exists_with_different_content")
            created += 1
            continue
        reason = _reason(leg, request[128 * place : 128 * place + 128], found)
        if reason is None:
            return Verdict("taken", "id_already_failed")
        declined = declined or Verdict("declined", reason)
    if created == len(legs):
        return CREATED
    if created:
        return Verdict("taken", "exists_in_part")
    return declined


def _is_same(asked: Transfer, found: Transfer) -> bool:
    amount = found.amount if asked.flags & _VOID else asked.amount
    return found == msgspec.structs.replace(asked, amount=amount, timestamp=found.timestamp)


def _reason(leg: Transfer, asked: bytes, found: Spent) -> str | None:
    """Why the ledger refused it; None where what it refused was not ours."""
    if found.request == asked:
        return found.outcome.name
    if found.request is None:
        return None
    [refused] = unpack(found.request)
    ours = spending(leg, Outcome.created)
    if refused == msgspec.structs.replace(ours, user_data_64=refused.user_data_64):
        return _NAMES.get(refused.user_data_64)
    return None


_NAMES: Final = {int(outcome): outcome.name for outcome in Outcome}


def spending(leg: Transfer, reason: Outcome) -> Transfer:
    """What spends the id of a refused transfer for ever, and keeps the reason of the refusal."""
    return Transfer(
        leg.id,
        nobody_id(leg.id),
        leg.credit_account_id,
        0,
        user_data_128=leg.user_data_128,
        user_data_64=int(reason),
        user_data_32=leg.user_data_32,
        ledger=leg.ledger,
        code=leg.code,
    )
