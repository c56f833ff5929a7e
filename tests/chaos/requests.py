"""What mixed producers ask for, and how it is written: by the documents alone, not by our code."""

import json
import random
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np

FORMATS: Final = ("json", "mp", "bin")
LEDGER: Final = 3
PLAIN, DEBITS_LIMITED, CREDITS_LIMITED, CLOSING = "plain", "debits", "credits", "closing"
ACCOUNTS: Final = {PLAIN: 20, DEBITS_LIMITED: 10, CREDITS_LIMITED: 6, CLOSING: 4}
"""How many of each kind."""

FLAGS: Final = {
    "linked": 1,
    "pending": 2,
    "post_pending_transfer": 4,
    "void_pending_transfer": 8,
    "balancing_debit": 16,
    "balancing_credit": 32,
    "closing_debit": 64,
    "closing_credit": 128,
}
UINT128_MAX: Final = 2**128 - 1
AMOUNT_MAX: Final = 60
BULK_AMOUNT_MAX: Final = 100
_LAYOUT: Final = struct.Struct("<16s16s16s16s16s16sQIIIHHQ")

Request = dict[str, Any]
"""A transfer as `json` has it."""


def accounts_of(seed: int) -> dict[str, list[str]]:
    """The ids of the accounts of a run, by kind."""
    chance = random.Random(f"accounts of {seed}")
    return {
        kind: [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(count)]
        for kind, count in ACCOUNTS.items()
    }


class Drawer:
    """Draws batches of everything that can be asked for.

    Args:
        accounts: By kind.
        chance: Where all is drawn from.
    """

    def __init__(self, accounts: dict[str, list[str]], chance: random.Random) -> None:
        self._accounts = accounts
        self._all = [account for kind in accounts.values() for account in kind]
        self._chance = chance
        self._holds: list[Request] = []
        self._before: list[Request] = []

    def batch(self) -> list[Request]:
        """Some transfers, a chain never left open but on purpose."""
        count = self._chance.choice([1, 1, 2, 5, 20, 60])
        batch = [self._transfer() for _ in range(count)]
        for at in range(count - 1):
            if self._chance.random() < 0.1:
                batch[at]["flags"] = [*batch[at].get("flags", ()), "linked"]
        self._before = (self._before + batch)[-500:]
        return batch

    def _transfer(self) -> Request:
        debit, credit = self._chance.sample(self._all, 2)
        transfer: Request = {
            "id": str(uuid.UUID(int=self._chance.getrandbits(128))),
            "debit_account_id": debit,
            "credit_account_id": credit,
            "amount": self._chance.randint(0, AMOUNT_MAX),
            "ledger": LEDGER,
            "code": 7,
        }
        kind = self._chance.random()
        if kind < 0.14:
            transfer["flags"] = ["pending"]
            if self._chance.random() < 0.5:
                transfer["timeout"] = self._chance.randint(1, 4)
            self._holds.append(transfer)
        elif kind < 0.26 and self._holds:
            return self._resolution(transfer["id"])
        elif kind < 0.30:
            flag = self._chance.choice(["balancing_debit", "balancing_credit"])
            transfer |= {"flags": [flag], "amount": self._chance.choice([5, 50, UINT128_MAX])}
        elif kind < 0.32:
            side = self._chance.choice(["debit", "credit"])
            transfer[f"{side}_account_id"] = self._chance.choice(self._accounts[CLOSING])
            if transfer["debit_account_id"] != transfer["credit_account_id"]:
                transfer |= {"flags": ["pending", f"closing_{side}"], "amount": 0, "timeout": 2}
        elif kind < 0.36 and self._before:
            transfer = dict(self._chance.choice(self._before))
            transfer.pop("flags", None) if self._chance.random() < 0.2 else None
        elif kind < 0.38:
            transfer["debit_account_id"] = str(uuid.UUID(int=self._chance.getrandbits(128)))
        elif kind < 0.45:
            transfer |= {
                "user_data_128": str(uuid.UUID(int=self._chance.getrandbits(128))),
                "user_data_64": self._chance.getrandbits(64),
                "user_data_32": self._chance.getrandbits(32),
            }
        return transfer

    def _resolution(self, transfer_id: str) -> Request:
        hold = self._holds.pop(self._chance.randrange(len(self._holds)))
        found: Request = {"id": transfer_id, "pending_id": hold["id"]}
        if self._chance.random() < 0.4:
            return found | {"flags": ["void_pending_transfer"], "amount": 0}
        part = self._chance.choice([UINT128_MAX, hold["amount"], hold["amount"] // 2])
        return found | {"flags": ["post_pending_transfer"], "amount": part}


class Bulk(Iterable[Request]):
    """Plain transfers by their seed, made again whenever they are looked at: they are many.

    Args:
        accounts: As `bulk`.
        seed: As `bulk`.
        count: As `bulk`.
    """

    def __init__(self, accounts: Sequence[str], seed: int, count: int) -> None:
        self._accounts, self._seed, self._count = accounts, seed, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Request]:
        return iter(bulk(self._accounts, self._seed, self._count))


def bulk(accounts: Sequence[str], seed: int, count: int) -> list[Request]:
    """Plain transfers, the same again for the same seed: only the seed is written down."""
    chance = np.random.default_rng(seed)
    sides = chance.integers(0, len(accounts), (count, 2)).tolist()
    amounts = chance.integers(1, BULK_AMOUNT_MAX, count).tolist()
    ids = chance.bytes(16 * count)
    return [
        {
            "id": str(uuid.UUID(bytes=ids[16 * n : 16 * n + 16])),
            "debit_account_id": accounts[debit],
            "credit_account_id": accounts[credit if credit != debit else debit - 1],
            "amount": amount,
            "ledger": LEDGER,
            "code": 9,
        }
        for n, ((debit, credit), amount) in enumerate(zip(sides, amounts, strict=True))
    ]


def encode(batch: list[Request], form: str) -> bytes:
    """A batch in one of the three formats."""
    if form == "json":
        return json.dumps(batch).encode()
    if form == "mp":
        return msgspec.msgpack.encode([_as_bytes(transfer) for transfer in batch])
    return b"".join(_packed(transfer) for transfer in batch)


def decode_outcomes(value: bytes, form: str) -> list[Any]:
    """Names, or numbers, one a transfer."""
    if form == "json":
        return list(json.loads(value))
    if form == "mp":
        return list(msgspec.msgpack.decode(value))
    return list(value)


def _as_bytes(transfer: Request) -> dict[str, Any]:
    found = dict(transfer)
    for name, value in transfer.items():
        if name.endswith("id") or name == "user_data_128":
            found[name] = uuid.UUID(value).bytes
        elif name == "amount" and value >= 2**64:
            found[name] = value.to_bytes(16, "big")
    return found


def _packed(transfer: Request) -> bytes:
    def id_of(name: str) -> bytes:
        return uuid.UUID(transfer[name]).bytes if name in transfer else bytes(16)

    return _LAYOUT.pack(
        id_of("id"),
        id_of("debit_account_id"),
        id_of("credit_account_id"),
        transfer["amount"].to_bytes(16, "little"),
        id_of("pending_id"),
        id_of("user_data_128"),
        transfer.get("user_data_64", 0),
        transfer.get("user_data_32", 0),
        transfer.get("timeout", 0),
        transfer.get("ledger", 0),
        transfer.get("code", 0),
        sum(FLAGS[name] for name in transfer.get("flags", ())),
        0,
    )
