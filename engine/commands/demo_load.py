"""The demo's load: a mixed workload whose every outcome is known before it is sent."""

import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.client import Client
from engine.ledger.nouns import AccountFlags, NewAccount, TransferFlags
from engine.ledger.outcomes import Outcome
from engine.wire.layout import TRANSFER, Rows

LEDGER: Final = 978
"""Euro, by its number in ISO 4217; amounts are cents."""

ENTRY_TRANSFERS: Final = 1000
FUNDS: Final = 10**12
AMOUNT_MAX: Final = 10_000

HOLDS: Final = 0.03
"""Share of the transfers of an entry; the next entry captures or releases them."""
DECLINED: Final = 0.01
REPEATED: Final = 0.02

_LIMITED: Final = int(AccountFlags.debits_must_not_exceed_credits)
_PENDING: Final = int(TransferFlags.pending)
_POST: Final = int(TransferFlags.post_pending_transfer)
_VOID: Final = int(TransferFlags.void_pending_transfer)

Ids = npt.NDArray[np.void]
Outcomes = npt.NDArray[np.uint8]


class Population:
    """Many accounts, spread evenly over the shards: customers, who pay, and merchants.

    Customers can spend only what they have, and one of 25 has nothing.

    Args:
        count: How many.
        shard_count: Of the ledger.
    """

    def __init__(self, count: int, shard_count: int) -> None:
        self.ids = new_ids(count, np.random.default_rng())
        tails = self.ids.view("u1").reshape(count, 16)
        tails[:, 12:] = np.arange(count, dtype=">u4").view("u1").reshape(count, 4)
        shards = np.arange(count) % shard_count
        places = np.arange(count) // shard_count
        self._pays = places % 2 == 0
        self._pays[-1] = False
        self.source = self.ids[-1]
        """Where all funds come from."""
        poor = self._pays & (places % 50 == 0)
        rich = self._pays & ~poor
        self.customers = [self.ids[rich & (shards == shard)] for shard in range(shard_count)]
        self.poor = [self.ids[poor & (shards == shard)] for shard in range(shard_count)]
        self.merchants = self.ids[~self._pays]

    def accounts(self) -> list[NewAccount]:
        """All of them, to be created."""
        return [
            NewAccount(account_id, LEDGER, 2, _LIMITED)
            if pays
            else NewAccount(account_id, LEDGER, 3)
            for account_id, pays in zip(self.ids.tolist(), self._pays.tolist(), strict=True)
        ]

    def funding(self) -> Rows:
        """A transfer to every customer."""
        customers = np.concatenate(self.customers)
        rows = np.zeros(len(customers), TRANSFER)
        rows["id"] = new_ids(len(rows), np.random.default_rng())
        rows["debit_account_id"] = self.source
        rows["credit_account_id"] = customers
        rows["amount_low"] = FUNDS
        rows["ledger"] = LEDGER
        rows["code"] = 1
        return rows


class Lane:
    """The entries of one shard, each of which knows the one before it.

    Args:
        population: The accounts.
        shard: Whose customers pay.
        seed: Of the choices.
    """

    def __init__(self, population: Population, shard: int, seed: int) -> None:
        self._payers = population.customers[shard]
        self._poor = population.poor[shard]
        self._merchants = population.merchants
        self._random = np.random.default_rng(seed)
        self._holds = np.zeros(0, TRANSFER)
        self._plain = np.zeros(0, TRANSFER)

    def entries(self, transfers: int) -> Iterator[tuple[Rows, Outcomes]]:
        """Cut so many transfers into entries.

        Yields:
            The transfers of an entry, and their outcomes if all goes as it must.
        """
        while transfers > 0:
            count = min(transfers, ENTRY_TRANSFERS)
            transfers -= count
            yield self._entry(count)

    def _entry(self, count: int) -> tuple[Rows, Outcomes]:
        declined = int(count * DECLINED)
        repeated = min(int(count * REPEATED), len(self._plain))
        ends = self._holds[: count // 4]
        rows = self._new(count - repeated)
        rows["debit_account_id"][:declined] = self._random.choice(self._poor, declined)
        end = declined + len(ends)
        self._resolve(rows[declined:end], ends)
        holds = slice(end, end + int(count * HOLDS))
        rows["flags"][holds] = _PENDING
        expected = np.zeros(count, np.uint8)
        expected[:declined] = Outcome.exceeds_credits
        expected[count - repeated :] = Outcome.exists
        before = self._random.choice(self._plain, repeated) if repeated else self._plain[:0]
        self._holds = rows[holds].copy()
        self._plain = rows[holds.stop :].copy()
        order = self._random.permutation(count)
        return np.concatenate([rows, before])[order], expected[order]

    def _new(self, count: int) -> Rows:
        rows = np.zeros(count, TRANSFER)
        rows["id"] = new_ids(count, self._random)
        rows["debit_account_id"] = self._random.choice(self._payers, count)
        rows["credit_account_id"] = self._random.choice(self._merchants, count)
        rows["amount_low"] = self._random.integers(1, AMOUNT_MAX, count)
        rows["ledger"] = LEDGER
        rows["code"] = 1
        return rows

    def _resolve(self, rows: Rows, holds: Rows) -> None:
        """Let rows capture two of three holds, half of the amount each, and release the third."""
        rows["debit_account_id"] = holds["debit_account_id"]
        rows["credit_account_id"] = holds["credit_account_id"]
        rows["pending_id"] = holds["id"]
        void = np.arange(len(holds)) % 3 == 2
        rows["amount_low"] = np.where(void, 0, holds["amount_low"] // 2)
        rows["flags"] = np.where(void, _VOID, _POST)


class Load:
    """Sends the lanes at the same time and checks every answer.

    Args:
        client: To send by.
        on_answered: Called with how many more were answered.
    """

    def __init__(self, client: Client, on_answered: Callable[[int], None]) -> None:
        self._client = client
        self._on_answered = on_answered
        self.answered = 0
        self.created = 0
        self.declined = 0
        self.repeated = 0
        self.unexpected: list[tuple[str, str]] = []
        """Outcomes as they came and as they should have been."""
        self.latencies: list[float] = []
        """Seconds from sending an entry to its answer."""

    async def send(self, lane: Lane, transfers: int) -> None:
        """Send a lane's entries, each after the one before is answered."""
        for rows, expected in lane.entries(transfers):
            started = time.perf_counter()
            outcomes = await self._client.create_transfers(rows)
            self.latencies.append(time.perf_counter() - started)
            wrong = np.flatnonzero(outcomes != expected)
            self.unexpected += [
                (Outcome(int(outcomes[place])).name, Outcome(int(expected[place])).name)
                for place in wrong
            ]
            self.created += int((outcomes == Outcome.created).sum())
            self.repeated += int((outcomes == Outcome.exists).sum())
            self.declined += int((outcomes == Outcome.exceeds_credits).sum())
            self.answered += len(rows)
            self._on_answered(len(rows))


def new_ids(count: int, random: np.random.Generator) -> Ids:
    """Uuids of version 7, made now."""
    raw = np.frombuffer(bytearray(random.bytes(16 * count)), "u1").reshape(count, 16)
    raw[:, :6] = np.frombuffer((time.time_ns() // 1_000_000).to_bytes(6, "big"), "u1")
    raw[:, 6] = raw[:, 6] & 0x0F | 0x70
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return raw.reshape(-1).view(TRANSFER["id"])
