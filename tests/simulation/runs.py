"""Runs as rows, taken apart: every posting of a row, and where a row contradicts itself."""

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]

ARRAYS = ("earlier_transfers", "earlier_amounts", "earlier_pending", "debit")
POSTINGS_MAX = 48


class UnevenRunError(Exception):
    """What a row says of its postings is not of one length."""


def postings_of(row: Row) -> Iterator[Row]:
    """The postings of a row, oldest first; with counters the last one alone."""
    transfers, amounts, pending, debit = (row[name] for name in ARRAYS)
    several = transfers is not None
    even = (
        len(transfers) == len(amounts) == row["run"] - 1 > 0
        and (pending is None) == (debit is None)
        and (pending is None or (len(pending) == len(transfers) and len(debit) == row["run"]))
        and (pending is not None or row["pending_amount"] == 0)
        if several
        else row["run"] == 1 and amounts is pending is debit is None
    )
    if not even or row["run"] > POSTINGS_MAX:
        raise UnevenRunError(row)
    sides = debit or [None] * row["run"]
    for place, transfer_id in enumerate(transfers or ()):
        yield row | {
            "transfer_id": transfer_id,
            "amount": amounts[place],
            "pending_amount": pending[place] if pending else 0,
            "version": row["version"] - len(transfers) + place,
            "number": row["number"] - len(transfers) + place,
            "is_debit": sides[place],
            "is_last": False,
        }
    yield row | {"is_debit": sides[-1], "is_last": True}
