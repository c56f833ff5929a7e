"""The histories recorded from a real TigerBeetle 0.17.9, and how to read them.

Source: `tests/cases/README.md`.
"""

import gzip
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from engine.ledger.nouns import AMOUNT_MAX, ID_ZERO, AccountFlags, Transfer, TransferFlags

CASES = Path(__file__).parent / "cases" / "histories.jsonl.gz"


class History(msgspec.Struct):
    """One history: what was asked, what was answered, what is kept at the end."""

    seed: int
    profile: str
    accounts: list[dict[str, Any]]
    batches: list[list[dict[str, Any]]]
    balances: dict[str, dict[str, Any]]
    stored: dict[str, dict[str, Any]]
    waits: dict[str, float] = {}
    wait_before_balances: float = 0

    @property
    def name(self) -> str:
        """A short name for the test's parameter."""
        return f"{self.profile}-{self.seed}"


def load_histories() -> list[History]:
    """All recorded histories."""
    with gzip.open(CASES) as lines:
        return [msgspec.json.decode(line, type=History) for line in lines]


def id_bytes(text: str | None) -> bytes:
    """An id of a history; None is zero."""
    return ID_ZERO if text is None else UUID(text).bytes


def account_flags(names: list[str]) -> int:
    """The flags of an account as bits."""
    return sum(int(AccountFlags[name]) for name in names)


def transfer_flags(names: list[str]) -> int:
    """The flags of a transfer as bits."""
    return sum(int(TransferFlags[name]) for name in names)


def as_transfer(event: dict[str, Any]) -> Transfer:
    """A transfer as the history asks for it."""
    amount = event.get("amount", 0)
    return Transfer(
        id=id_bytes(event.get("id")),
        debit_account_id=id_bytes(event.get("debit_account_id")),
        credit_account_id=id_bytes(event.get("credit_account_id")),
        amount=AMOUNT_MAX if amount is None else amount,
        pending_id=id_bytes(event.get("pending_id")),
        user_data_128=id_bytes(event.get("user_data_128")),
        user_data_64=event.get("user_data_64", 0),
        user_data_32=event.get("user_data_32", 0),
        timeout=event.get("timeout", 0),
        ledger=event.get("ledger", 0),
        code=event.get("code", 0),
        flags=transfer_flags(event.get("flags", [])),
    )


def as_stored(transfer: Transfer) -> dict[str, Any]:
    """A kept transfer in the form of a history's `stored`: absent is zero or empty."""
    flags = [flag.name for flag in TransferFlags if transfer.flags & flag]
    stored = {
        "amount": transfer.amount,
        "debit_account_id": str(UUID(bytes=transfer.debit_account_id)),
        "credit_account_id": str(UUID(bytes=transfer.credit_account_id)),
        "ledger": transfer.ledger,
        "code": transfer.code,
        "flags": flags,
        "pending_id": str(UUID(bytes=transfer.pending_id)),
        "timeout": transfer.timeout,
        "user_data_128": str(UUID(bytes=transfer.user_data_128)),
        "user_data_64": transfer.user_data_64,
        "user_data_32": transfer.user_data_32,
    }
    empty = str(UUID(int=0))
    always = ("amount", "ledger", "code")
    return {k: v for k, v in stored.items() if k in always or v not in (0, [], empty)}
