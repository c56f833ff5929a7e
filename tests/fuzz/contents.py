"""What a hostile entry may hold: payloads, fields, replies and requests, drawn from a seed."""

import json
import random
import struct
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from engine.ledger.nouns import BATCH_TRANSFERS_MAX, TransferFlags

FLAGS: Final = [flag.name for flag in TransferFlags]
UUIDS: Final = ("id", "debit_account_id", "credit_account_id", "pending_id", "user_data_128")
AMOUNTS: Final = (0, 1, 7, 2**31, 2**53, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64)
AMOUNTS_AT_THE_END: Final = (2**127, 2**128 - 1, "max")
WRONG: Final[tuple[Any, ...]] = (
    *(None, -1, 2**128, 2**300, 1.5, 1e308, "1", "", "MAX", True, [], {}, [[]], {"id": 1}),
    *("\x00", "€uro", "x" * 300, -(2**63), 0.1),
)
WORDS: Final = (
    *(b"", b"a", b"x", b"id", b"json ", b"JSON", b"\x00", b"\xff\xfe", "€uro".encode(), b"data"),
    *(b"traceparent", b"reply", b"request", b"json", b"mp", b"bin", b"-", b"+", b"*", b"\r\n"),
)


class Contents:
    """Draws what entries hold.

    Args:
        chance: Where all is drawn from.
        accounts: Ids that transfers name, existing ones and others.
        reply: The stream for answers.
    """

    def __init__(self, chance: random.Random, accounts: Sequence[str], reply: str) -> None:
        self.chance = chance
        self._accounts = accounts
        self.reply = reply.encode()
        self._ids: list[str] = []
        self._number = 0

    def size(self, most: int) -> int:
        """A number of bytes: small ones are as likely as large ones."""
        return min(most, int(2 ** (self.chance.random() * most.bit_length())))

    def noise(self, size: int) -> bytes:
        """Bytes without sense."""
        kind = self.chance.randrange(4)
        if kind == 0:
            return self.chance.randbytes(size)
        if kind == 1:
            return bytes([self.chance.randrange(256)]) * size
        piece = self.chance.choice([b"[", b"{", b'{"a":', b"\x91", b"\xdd\xff\xff\xff\xff", b"1"])
        return (piece * (size // len(piece) + 1))[:size]

    # Transfers.

    def id_(self) -> str:
        """A new id, or one that was used, or one that is none."""
        kind = self.chance.random()
        if kind < 0.15 and self._ids:
            return self.chance.choice(self._ids)
        if kind < 0.20:
            return str(uuid.UUID(int=self.chance.choice([0, 1, 2**128 - 1, 2**64 - 1])))
        made = str(uuid.UUID(int=self.chance.getrandbits(128)))
        self._ids = [*self._ids[-500:], made]
        return made

    def transfer(self) -> dict[str, Any]:
        """One that can be read; what becomes of it is another matter."""
        debit, credit = self.chance.choices(self._accounts, k=2)
        made: dict[str, Any] = {
            "id": self.id_(),
            "debit_account_id": debit,
            "credit_account_id": credit,
            "amount": self.chance.choice([*AMOUNTS, *AMOUNTS_AT_THE_END] if self._odd() else [1]),
            "ledger": self.chance.choice([0, 2, 2**32 - 1]) if self._odd(0.05) else 1,
            "code": self.chance.choice([0, 2**16 - 1]) if self._odd(0.05) else 1,
        }
        if self._odd(0.4):
            made["flags"] = self.chance.sample(FLAGS, self.chance.choice([1, 1, 1, 2, 3, 8]))
        if self._odd(0.2):
            made["timeout"] = self.chance.choice([0, 1, 2, 60, 2**31, 2**32 - 1])
        if self._odd(0.2):
            made["pending_id"] = self.id_()
        if self._odd(0.1):
            made["user_data_64"] = self.chance.choice([1, 2**63, 2**64 - 1])
        return made

    def transfers(self) -> list[dict[str, Any]]:
        """A batch of them, of any size that is taken, now and then one too large."""
        sizes = [0, 1, 1, 1, 2, 10, 100, 1000, BATCH_TRANSFERS_MAX, BATCH_TRANSFERS_MAX + 1]
        count = self.chance.choice(sizes)
        if count > 100:  # as many as that are alike, or drawing them takes longer than deciding
            made = self.transfer()
            return [made | {"id": str(uuid.UUID(int=self.chance.getrandbits(128)))}] * count
        return [self.transfer() for _ in range(count)]

    def _odd(self, share: float = 0.3) -> bool:
        return self.chance.random() < share

    # Payloads.

    def payload(self, *, broken: bool) -> list[bytes]:
        """The field of a format with transfers in it, perhaps broken somewhere."""
        transfers: Any = self.transfers()
        if broken and transfers and self._odd(0.5):
            spoiled = dict(transfers[-1])
            spoiled[self.chance.choice([*spoiled, "ammount", ""])] = self.chance.choice(WRONG)
            transfers = [*transfers[:-1], spoiled]
            broken = self._odd(0.3)
        write = self.chance.choice([_json, _mp, _bin])
        try:
            name, payload = write(transfers)
        except (ValueError, TypeError, AttributeError, OverflowError, struct.error, KeyError):
            name, payload = _json(transfers)
        if broken:
            payload = self.break_(payload)
        return [name, payload]

    def break_(self, payload: bytes) -> bytes:
        """Spoil a payload somewhere."""
        at = self.chance.randrange(len(payload) + 1)
        noise = self.noise(self.size(4096))
        ways: list[Callable[[], bytes]] = [
            lambda: payload[:at],
            lambda: payload[:at] + noise + payload[at:],
            lambda: payload[:at] + noise + payload[at + len(noise) :],
            lambda: noise,
            lambda: b"[" * self.size(200_000) + payload,
            lambda: payload + payload,
            lambda: payload[:-2] + b', "amount": ' + b"9" * self.size(6000) + b"}]",
            lambda: payload.replace(b'"id"', b'"id": "x", "id"', 1),
            lambda: payload.replace(b"0", b"\\ud800", 1),
        ]
        return self.chance.choice(ways)()

    # Fields.

    def return_address(self) -> list[bytes]:
        """Where the answer goes, and a request that no other entry has."""
        self._number += 1
        return [b"reply", self.reply, b"request", b"fuzz-%d" % self._number]

    def odd_return_address(self, others: Sequence[bytes]) -> list[bytes]:
        """Replies and requests as they should not be."""
        self._number += 1
        reply = self.chance.choice([*others, *WORDS, self.reply + self.noise(self.size(4096))])
        request = b"fuzz-%d-" % self._number + self.noise(self.size(1 << 20))
        return self.chance.choice(
            [
                [b"reply", reply, b"request", request],
                [b"reply", self.reply, b"request", request],
                [b"reply", reply],
                [b"request", request],
                [b"reply", self.reply, b"reply", reply, b"request", request],
            ]
        )

    def odd_fields(self) -> list[bytes]:
        """Names and values of any kind, some of them ours, some twice."""
        fields: list[bytes] = []
        for _ in range(self.chance.choice([1, 2, 5, 50, 3000])):
            name = self.chance.choice([*WORDS, self.noise(self.size(2000))])
            fields += [name, self.chance.choice([*WORDS, self.noise(self.size(2000))])]
        return fields


def _json(transfers: Any) -> tuple[bytes, bytes]:
    return b"json", json.dumps(transfers, ensure_ascii=False).encode("utf8", "surrogatepass")


def _mp(transfers: Any) -> tuple[bytes, bytes]:
    return b"mp", msgspec.msgpack.encode([_packed(t) for t in transfers])


def _packed(transfer: dict[str, Any]) -> dict[str, Any]:
    packed = dict(transfer)
    for name, value in transfer.items():
        if name in UUIDS and isinstance(value, str):
            packed[name] = uuid.UUID(value).bytes
    amount = packed.get("amount")
    if amount == "max":
        packed["amount"] = b"\xff" * 16
    elif isinstance(amount, int) and amount >= 2**64:
        packed["amount"] = amount.to_bytes(16, "big")
    return packed


def _bin(transfers: Any) -> tuple[bytes, bytes]:
    rows = []
    for t in transfers:
        amount = 2**128 - 1 if t["amount"] == "max" else t["amount"]
        flags = sum(TransferFlags[name] for name in t.get("flags", ()))
        row = b"".join(uuid.UUID(t[name]).bytes for name in UUIDS[:3])
        row += amount.to_bytes(16, "little")
        row += uuid.UUID(t["pending_id"]).bytes if "pending_id" in t else bytes(16)
        row += bytes(16)
        row += struct.pack("<QII", t.get("user_data_64", 0), 0, t.get("timeout", 0))
        row += struct.pack("<IHHQ", t["ledger"], t["code"], flags, 0)
        rows.append(row)
    return b"bin", b"".join(rows)
