"""Outcomes of transfers that were sent twice: what the first attempt would have been told.

An entry was sent, its answer never came, and it was sent again. If the first attempt was
decided, the second is told `exists` and `id_already_failed`, and nobody has ever told the
caller that the transfer was created, or why it was refused. The ledger keeps that, so it is
looked up and told.

That is wrong for a transfer which an earlier *call* had created: its caller resubmits and is
to be told `exists`. So what happened before this call's first attempt stays `exists`; the
clocks of two machines decide that, with `CLOCK_SECONDS_MAX` between them. Left over is an id
whose outcome was told, that is submitted again within this time, and whose answer is lost at
this second time: it is told `created` twice. No money moves twice.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from engine.client.routes import chain_starts
from engine.ledger.nouns import MICROSECONDS
from engine.ledger.outcomes import Outcome
from engine.wire.layout import Rows

CLOCK_SECONDS_MAX: Final = 60
"""How far the clocks of a client and a worker may differ."""

_FROM_BEFORE: Final = frozenset(
    {Outcome.exists, Outcome.id_already_failed, Outcome.linked_event_failed}
)
"""What an attempt can be told because of an earlier one. A chain that exists already fails at
its first transfer, and so the others of it are told that it failed."""


def ids_in_doubt(rows: Rows, outcomes: bytes) -> list[bytes]:
    """The ids whose outcomes may stem from an earlier attempt."""
    ids: list[bytes] = rows["id"].tolist()
    return [i for i, o in zip(ids, outcomes, strict=True) if o in _FROM_BEFORE]


def resend(
    rows: Rows,
    outcomes: bytes,
    first_sent: int,
    kept: Mapping[bytes, tuple[Outcome, int]],
) -> bytes:
    """The outcomes to tell.

    Args:
        rows: The transfers.
        outcomes: What a later attempt was told.
        first_sent: When the first attempt was sent, microseconds since 1970.
        kept: By id, what the ledger keeps, and since when.
    """
    since = first_sent - CLOCK_SECONDS_MAX * MICROSECONDS
    ids: list[bytes] = rows["id"].tolist()
    told = bytearray(outcomes)
    seen: set[bytes] = set()
    starts = [*chain_starts(rows).tolist(), len(rows)]
    for start, end in pairwise(starts):
        chain = ids[start:end]
        found = [
            kept.get(transfer_id, (None, 0)) if transfer_id not in seen else (None, 0)
            for transfer_id in chain
        ]
        whole = len({time for _, time in found}) == 1  # A chain is created in one flush.
        if whole and all(o is Outcome.created and time >= since for o, time in found):
            if all(o in _FROM_BEFORE for o in outcomes[start:end]):
                told[start:end] = bytes(end - start)
        else:
            for place, (outcome, time) in enumerate(found, start):
                declined = outcome is not None and outcome is not Outcome.created
                if told[place] == Outcome.id_already_failed and declined and time >= since:
                    told[place] = outcome or 0
        seen.update(chain)
    return bytes(told)
