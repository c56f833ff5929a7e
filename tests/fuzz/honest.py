"""Honest producers: one a shard, each with a transfer under way, answered before the next."""

import asyncio
import contextlib
import json
import time
import uuid
from typing import Any

import redis.asyncio

from engine.ledger.nouns import stream_name
from tests.desks import account, transfer
from tests.fuzz.attack import HONEST_ACCOUNTS
from tests.ledgers import Ledger
from tests.producers import AWAY

PAUSE_SECONDS = 0.02
LOOK_SECONDS = 0.05
RESEND_SECONDS = 1.0


class NotAnsweredError(AssertionError):
    """An honest transfer was not answered, or not with what it must be answered with."""


class HonestProducer:
    """Sends to one shard, a transfer at a time.

    Args:
        ledger: Whose shard.
        shard: Which.
        patience_seconds: How long an answer may take before the shard is taken to stand.
    """

    def __init__(self, ledger: Ledger, shard: int, patience_seconds: float) -> None:
        self.ledger = ledger
        self.shard = shard
        self.turn = asyncio.Lock()
        """Held while a transfer is under way; who has it keeps the producer from sending."""
        self.seconds: list[float] = []
        """How long each answer took."""
        self.sent: set[str] = set()
        """The ids of what it sent."""
        self._stream = stream_name(ledger.prefix, shard)
        self._reply = f"{ledger.prefix}:answers:honest{shard}"
        self._accounts = [account(shard, number) for number in HONEST_ACCOUNTS]
        self._patience_seconds = patience_seconds

    async def run(self) -> None:
        """Send for ever. Raises NotAnsweredError where the shard stands."""
        async with self.ledger.redis() as connection:
            while True:
                async with self.turn:
                    began = time.monotonic()
                    await self.send(connection)
                    self.seconds.append(time.monotonic() - began)
                await asyncio.sleep(PAUSE_SECONDS)

    async def send(self, connection: redis.asyncio.Redis, *, again: bool = False) -> None:
        """Send a transfer and wait until it is created.

        Args:
            connection: To Redis.
            again: Send it until it is answered, and not once: for a shard that is to recover.
        """
        sent = transfer(*self._accounts)
        self.sent.add(sent["id"])
        request = uuid.uuid4().hex
        fields: dict[Any, Any] = {
            "json": json.dumps(sent),
            "reply": self._reply,
            "request": request,
        }
        ends_at = time.monotonic() + self._patience_seconds
        trouble = ""
        while time.monotonic() < ends_at:
            try:
                await connection.xadd(self._stream, fields)
            except AWAY as error:
                trouble = f"; Redis: {error}"
                await asyncio.sleep(LOOK_SECONDS)
                if again:
                    continue
                raise NotAnsweredError(f"shard {self.shard} takes nothing{trouble}") from error
            seconds = RESEND_SECONDS if again else self._patience_seconds
            outcomes = await self._answer(connection, request, seconds)
            if outcomes is not None:
                if outcomes not in (["created"], *([["exists"]] if again else [])):
                    raise NotAnsweredError(f"shard {self.shard} answers {outcomes}")
                return
        raise NotAnsweredError(
            f"shard {self.shard} stands: no answer within {self._patience_seconds:.0f} s{trouble}"
        )

    async def _answer(
        self, connection: redis.asyncio.Redis, request: str, seconds: float
    ) -> list[str] | None:
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(seconds):
                while True:
                    found: Any = await connection.xrevrange(self._reply, count=20)
                    for _, answer in found:
                        if answer.get(b"request") == request.encode():
                            outcomes: list[str] = json.loads(answer[b"outcomes"])
                            return outcomes
                    await asyncio.sleep(0.005)
        return None
