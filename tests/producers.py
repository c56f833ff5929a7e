"""Producers that never give up: they resend with the same ids until they are answered.

What was answered is kept, so that a test can hold it against the ledger.
"""

import asyncio
import contextlib
import json
import random
import uuid
from typing import Any

import redis.exceptions

from tests.ledgers import Ledger

ACCOUNTS = 40
RESEND_SECONDS = 2.0
AWAY = (
    redis.exceptions.RedisError,
    redis.exceptions.RedisClusterException,
    OSError,
    TimeoutError,
)


class Producers:
    """Some producers over one ledger; a third of the accounts is limited.

    Args:
        ledger: Where to send.
        seed: Of all that is drawn.
    """

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        self.accounts = [str(uuid.UUID(int=self.random.getrandbits(128))) for _ in range(ACCOUNTS)]
        self.answered: dict[str, str] = {}
        self.sent: set[str] = set()
        self.stopping = False

    async def create_accounts(self) -> None:
        flags = [["debits_must_not_exceed_credits"] if n % 3 == 0 else [] for n in range(ACCOUNTS)]
        for account_id, flag in zip(self.accounts, flags, strict=True):
            await self.ledger.sql(
                "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, 1, 1, $2)",
                uuid.UUID(account_id),
                flag,
            )

    def batch(self, holds: list[str]) -> list[dict[str, Any]]:
        """A batch of everything: moves, holds, posts, chains, duplicates of answered ids."""
        batch = []
        for _ in range(self.random.choice([1, 3, 20, 60])):
            debit, credit = self.random.sample(self.accounts, 2)
            transfer: dict[str, Any] = {
                "id": str(uuid.UUID(int=self.random.getrandbits(128))),
                "debit_account_id": debit,
                "credit_account_id": credit,
                "amount": self.random.randint(0, 50),
                "ledger": 1,
                "code": 7,
            }
            kind = self.random.random()
            if kind < 0.15:
                transfer["flags"] = ["pending"]
                holds.append(transfer["id"])
            elif kind < 0.25 and holds:
                hold = holds.pop(self.random.randrange(len(holds)))
                flag = self.random.choice(["post_pending_transfer", "void_pending_transfer"])
                transfer = {"id": transfer["id"], "pending_id": hold, "flags": [flag]}
            elif kind < 0.30 and self.answered:
                transfer["id"] = self.random.choice(list(self.answered))
            elif kind < 0.35 and batch:
                batch[-1]["flags"] = sorted({*batch[-1].get("flags", []), "linked"})
            batch.append(transfer)
        batch[-1]["flags"] = [f for f in batch[-1].get("flags", []) if f != "linked"]
        return batch

    async def produce(self, name: str) -> None:
        """Send batch after batch, each once the last is answered, until told to stop."""
        holds: list[str] = []
        reply = f"{self.ledger.prefix}:answers:{name}"
        while not self.stopping:
            batch = self.batch(holds)
            duplicates = {t["id"] for t in batch} & self.sent
            self.sent |= {t["id"] for t in batch}
            first = next((t for t in batch if "debit_account_id" in t), None)
            home = int(first["debit_account_id"][-8:], 16) if first else 0
            shard = home % self.ledger.shard_count
            stream = f"{self.ledger.prefix}:transfers:{{{shard:04d}}}"
            await self._until_answered(stream, reply, batch, duplicates)

    async def _until_answered(
        self, stream: str, reply: str, batch: list[dict[str, Any]], duplicates: set[str]
    ) -> None:
        requests: set[bytes] = set()
        while True:
            with contextlib.suppress(*AWAY):
                async with self.ledger.redis() as connection:
                    request = uuid.uuid4().hex
                    requests.add(request.encode())
                    # Only what comes from now on: older answers were read.
                    last = await connection.xrevrange(reply, count=1)
                    after = last[0][0] if last else "0"
                    fields = {"json": json.dumps(batch), "reply": reply, "request": request}
                    await connection.xadd(stream, fields)
                    deadline = asyncio.get_running_loop().time() + RESEND_SECONDS
                    while (left := deadline - asyncio.get_running_loop().time()) > 0:
                        found = await connection.xread({reply: after}, block=int(left * 1000) + 1)
                        answers = found[0][1] if found else []
                        after = answers[-1][0] if answers else after
                        for _, answer in answers:
                            if answer[b"request"] in requests:
                                self._note(batch, json.loads(answer[b"outcomes"]), duplicates)
                                return
            if self.stopping:
                return
            await asyncio.sleep(0.02)

    def _note(self, batch: list[dict[str, Any]], outcomes: list[str], duplicates: set[str]) -> None:
        for transfer, outcome in zip(batch, outcomes, strict=True):
            if transfer["id"] not in duplicates:
                self.answered[transfer["id"]] = outcome

    async def check(self) -> None:
        """Every answered id is in the ledger exactly once, with its outcome."""
        rows = await self.ledger.sql(
            "SELECT id::text, 'created' AS outcome FROM ledger.transfers"
            " UNION ALL SELECT id::text, outcome FROM ledger.declined"
        )
        kept = {row["id"]: row["outcome"] for row in rows}
        assert len(kept) == len(rows), "an id stands twice"
        wrong = {}
        for transfer_id, outcome in self.answered.items():
            there = kept.get(transfer_id)
            if outcome == "created" or outcome.startswith("exists"):
                right = there == "created"
            elif outcome == "id_already_failed":
                right = there not in {None, "created"}
            elif spends_id(outcome):
                right = there == outcome
            else:
                right = True  # the id is free, and may have been used since
            if not right:
                wrong[transfer_id] = (outcome, there)
        assert not wrong, f"{len(wrong)} answers differ from the ledger: {list(wrong.items())[:3]}"
        assert kept.keys() <= self.sent, "the ledger has ids that nobody sent"


def spends_id(outcome: str) -> bool:
    """Whether a refusal of that name is kept."""
    return outcome.startswith(("exceeds_c", "exceeds_d")) or outcome.endswith(
        ("account_not_found", "transfer_not_found", "already_closed")
    )
