"""A hostile producer's hold on one shard: its stream, the keys beside it, what it has sent."""

import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import redis.asyncio
import redis.exceptions

from engine.ledger.nouns import stream_name
from tests.desks import account
from tests.fuzz.contents import Contents
from tests.fuzz.sent import Sent
from tests.ledgers import Ledger

PIPELINE_ENTRIES: Final = 1000

HONEST_ACCOUNTS: Final = (1, 2)
"""Numbers of the accounts of each shard that honest transfers name."""

HOSTILE_ACCOUNTS: Final = (11, 12)
"""Those that odd transfers name."""

PLAIN_ACCOUNTS: Final = (13, 14)
"""Those of transfers that are created, whatever carries them."""


class Attack:
    """On one shard, until the next one.

    Args:
        ledger: Whose shard.
        shard: Which.
        connection: To Redis.
        chance: Where all is drawn from.
        contents: Of entries.
        sent: Gets what was sent.
    """

    def __init__(
        self,
        ledger: Ledger,
        shard: int,
        connection: redis.asyncio.Redis,
        chance: random.Random,
        contents: Contents,
        sent: Sent,
    ) -> None:
        self.ledger = ledger
        self.shard = shard
        self.stream = stream_name(ledger.prefix, shard)
        self.poisoned = f"{self.stream}:poisoned"
        self.aside = f"{ledger.prefix}:aside:{{{shard:04d}}}"
        self.odd_reply = f"{ledger.prefix}:answers:odd"
        self.chance = chance
        self.contents = contents
        self.action = ""
        self._redis = connection
        self._sent = sent

    async def run(self, *words: Any) -> Any:
        """A command; what Redis refuses is None."""
        try:
            return await self._redis.execute_command(*words)
        except redis.exceptions.ResponseError:
            return None

    async def add(self, fields: Sequence[bytes], entry_id: str = "*") -> None:
        """An entry, noted if Redis takes it."""
        given = await self.run("XADD", self.stream, entry_id, *fields)
        if given is not None:
            self._sent.add(self.shard, given, fields, self.action)

    async def add_many(self, entries: Sequence[Sequence[bytes]]) -> None:
        for start in range(0, len(entries), PIPELINE_ENTRIES):
            pipeline = self._redis.pipeline(transaction=False)
            piece = entries[start : start + PIPELINE_ENTRIES]
            for fields in piece:
                pipeline.execute_command("XADD", self.stream, "*", *fields)
            given = await pipeline.execute(raise_on_error=False)
            for entry_id, fields in zip(given, piece, strict=True):
                if isinstance(entry_id, bytes):
                    self._sent.add(self.shard, entry_id, fields, self.action)

    def take_away(self) -> None:
        """What comes next takes entries out of the stream, or may."""
        self._sent.excuse(self.shard)

    def plain(self) -> list[bytes]:
        """The payload of a transfer that is created."""
        first, second = (account(self.shard, number).encode() for number in PLAIN_ACCOUNTS)
        return [
            b"json",
            b'{"id": "%s", "debit_account_id": "%s", "credit_account_id": "%s", "amount": 1,'
            b' "ledger": 1, "code": 1}'
            % (str(uuid.UUID(int=self.chance.getrandbits(128))).encode(), first, second),
        ]

    async def tidy(self) -> None:
        """Take away what only a person can: keys of other types where streams should be."""
        for key in (self.stream, self.poisoned, self.odd_reply):
            if await self.run("TYPE", key) not in {b"stream", b"none"}:
                await self.run("DEL", key)
        await self.run("PERSIST", self.stream)


Action: TypeAlias = Callable[[Attack], Awaitable[None]]

ACTIONS: Final[dict[str, Action]] = {}

"""By name; `actions` has them all."""


def action(act: Action) -> Action:
    ACTIONS[act.__name__] = act
    return act
