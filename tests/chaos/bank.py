"""Jepsen's bank: customers with nothing but their deposits; all balances in one snapshot."""

import asyncio
import contextlib
import uuid
from collections import Counter
from typing import Any

import asyncpg

from tests.desks import transfer
from tests.ledgers import Ledger
from tests.producers import Producers

CUSTOMERS = 8
DEPOSIT = 1000
READ_SECONDS = 0.1
POSTGRES_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Bank(Producers):
    """Customers who have nothing but their deposits, and move them about."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        super().__init__(ledger, seed)
        self.accounts = self.accounts[:CUSTOMERS]
        self.mint = str(uuid.UUID(int=self.random.getrandbits(128)))
        self.reads = 0

    async def create_accounts(self) -> None:
        for account_id in (self.mint, *self.accounts):
            flags = [] if account_id == self.mint else ["debits_must_not_exceed_credits"]
            await self.ledger.sql(
                "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, 2, 1, $2)",
                uuid.UUID(account_id),
                flags,
            )

    async def open(self) -> None:
        """Pay the deposits in."""
        deposits = [transfer(self.mint, customer, DEPOSIT, ledger=2) for customer in self.accounts]
        self.sent |= {deposit["id"] for deposit in deposits}
        home = int(self.mint[-8:], 16) % self.ledger.shard_count
        stream = f"{self.ledger.prefix}:transfers:{{{home:04d}}}"
        await self._until_answered(stream, f"{self.ledger.prefix}:answers:bank", deposits, set())
        assert set(self.answered.values()) == {"created"}

    def batch(self, holds: list[str]) -> list[dict[str, Any]]:
        batch = []
        for _ in range(self.random.choice([1, 2, 10])):
            debit, credit = self.random.sample(self.accounts, 2)
            amount = self.random.randint(1, DEPOSIT)
            batch.append(transfer(debit, credit, amount, ledger=2))
        return batch

    async def read(self) -> None:
        """Read all balances in one snapshot, until told to stop; also while servers come and go."""
        customers = [uuid.UUID(customer) for customer in self.accounts]
        while not self.stopping:
            with contextlib.suppress(*POSTGRES_AWAY):
                rows = await self.ledger.sql(
                    "SELECT b.account_id = ANY ($1) AS customer, a.flags, b.debits_pending,"
                    " b.debits_posted, b.credits_pending, b.credits_posted, a.ledger"
                    " FROM ledger.balances b JOIN ledger.accounts a ON a.id = b.account_id",
                    customers,
                )
                self.reads += 1
                total: Counter[int] = Counter()
                for row in rows:
                    total[row["ledger"]] += row["credits_posted"] - row["debits_posted"]
                    for side, other in (("debits", "credits"), ("credits", "debits")):
                        if f"{side}_must_not_exceed_{other}" in row["flags"]:
                            spent = row[f"{side}_posted"] + row[f"{side}_pending"]
                            assert spent <= row[f"{other}_posted"], f"a limit is passed: {row}"
                assert not any(total.values()), f"money came from nowhere: {total}"
                kept = sum(r["credits_posted"] - r["debits_posted"] for r in rows if r["customer"])
                assert kept == CUSTOMERS * DEPOSIT, f"customers have {kept}"
            await asyncio.sleep(READ_SECONDS)
