"""A flush of one transfer without an array; see `queries/flushes/flush_one.sql`.

Measured on two busy cores beside the same by `flush_small`, in alternation: in three of four rounds
195 to 201 us of the worker's CPU in place of 253 to 285 and 217 to 250 of the backend's in place of
283 to 333; in the fourth it went the other way (308 and 253).
"""

from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

from engine.store.connections import Connections
from engine.store.flush_copies import FLUSH_SHIFT
from engine.store.rows import Flush

POSITIONS_MAX: Final = 2
"""Of the shard that its entry came by, and of that of the credit account."""

_SIGN: Final = 1 << 63


class Seal(NamedTuple):
    """What the chain has of a flush."""

    digest: bytes
    first_used: list[int]


def is_single(flush: Flush) -> bool:
    """Whether a small flush is of one created transfer that ends no hold, and of nothing else."""
    if len(flush.decided) != 1 or len(flush.positions) > POSITIONS_MAX:
        return False
    decision = flush.decided[0]
    return (
        len(decision.spent) == 1
        and len(flush.posted.ends) == len(flush.posted) == 2
        and not len(decision.refused.requests)
        and not len(decision.resolutions.hold_ids)
    )


def write_single(connections: Connections, flush: Flush, seal: Seal) -> Coroutine[Any, Any, Any]:
    """The statement that writes and commits a flush that `is_single`; returns the next number."""
    row = flush.decided[0].spent[0]
    posted = flush.posted
    amounts, pending = posted.amount.tolist(), posted.pending_amount.tolist()
    stripes, versions = posted.stripe.tolist(), posted.version.tolist()
    (debit, credit) = posted.counters.T.tolist()
    (by, *others) = (
        (shard, at.generation, at.ms, at.seq, flush.resolved_until[shard])
        for shard, at in flush.positions.items()
    )
    other = others[0] if others else (None,) * 5
    user_data_64 = int(row["user_data_64"])
    arguments = (
        connections.worker,
        flush.sequence,
        flush.number,
        flush.time,
        seal.digest,
        seal.first_used or None,
        row["id"].tobytes(),
        flush.number << FLUSH_SHIFT,
        int(row["debit_number"]),
        int(row["credit_number"]),
        int(row["amount"]),
        int(row["code"]),
        int(row["flags"]),
        int(row["shard"]),
        int(row["timeout"]) or None,
        int(row["expires_at"]) or None,
        row["user_data_128"].tobytes() if any(row["user_data_128"].tobytes()) else None,
        (user_data_64 - 2 * _SIGN if user_data_64 >= _SIGN else user_data_64) or None,
        int(row["user_data_32"]) or None,
        stripes[0],
        versions[0],
        amounts[0],
        pending[0],
        debit[0],
        debit[1],
        debit[2],
        debit[3],
        stripes[1],
        versions[1],
        amounts[1],
        pending[1],
        credit[0],
        credit[1],
        credit[2],
        credit[3],
        by[0],
        by[1],
        by[2],
        by[3],
        by[4],
        other[0],
        other[1],
        other[2],
        other[3],
        other[4],
    )
    return connections.writer.fetchval(connections.text("flush_one"), *arguments)  # type: ignore[no-any-return]
