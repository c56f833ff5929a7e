"""What a hostile producer does to one shard's stream and to the keys beside it."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import asyncpg
import redis.asyncio
import redis.exceptions

from engine.ledger.nouns import stream_name
from tests.desks import account
from tests.fuzz.contents import Contents
from tests.fuzz.sent import Sent
from tests.ledgers import Ledger

U64_MAX: Final = 2**64 - 1
I64_MAX: Final = 2**63 - 1
NUMBERS: Final = (0, 1, 2, I64_MAX - 1, I64_MAX, I64_MAX + 1, U64_MAX - 1, U64_MAX)
TINY_FLOOD_ENTRIES: Final = 20_000
LARGE_FLOOD_ENTRIES: Final = 60
GIANT_BYTES_MAX: Final = 200 << 20
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


def _action(act: Action) -> Action:
    ACTIONS[act.__name__] = act
    return act


# Entries.


@_action
async def odd_transfers(at: Attack) -> None:
    await at.add([*at.contents.payload(broken=False), *at.contents.return_address()])


@_action
async def broken_payload(at: Attack) -> None:
    await at.add([*at.contents.payload(broken=True), *at.contents.return_address()])


@_action
async def odd_fields(at: Attack) -> None:
    await at.add(at.contents.odd_fields())


@_action
async def two_formats(at: Attack) -> None:
    payloads = [*at.contents.payload(broken=False), *at.contents.payload(broken=True)]
    await at.add([*payloads, *at.contents.return_address()])


@_action
async def odd_replies(at: Attack) -> None:
    others = [at.stream.encode(), at.odd_reply.encode(), f"{at.ledger.prefix}:answers:".encode()]
    kind = at.chance.choice(["SET", "LPUSH", "SADD"])
    await at.run("DEL", at.odd_reply)
    await at.run(kind, at.odd_reply, "x")
    await at.add([*at.plain(), *at.contents.odd_return_address(others)])


@_action
async def entry_of_one_byte(at: Attack) -> None:
    await at.add([b"", at.chance.randbytes(1)])


@_action
async def giant_entry(at: Attack) -> None:
    size = at.contents.size(GIANT_BYTES_MAX)
    name = at.chance.choice([b"json", b"mp", b"bin", b"x"])
    await at.add([name, bytes([at.chance.randrange(256)]) * size, *at.contents.return_address()])


@_action
async def flood_of_tiny_entries(at: Attack) -> None:
    count = at.contents.size(TINY_FLOOD_ENTRIES)
    await at.add_many([[b"", b"%d" % n] for n in range(count)])


@_action
async def flood_of_large_entries(at: Attack) -> None:
    entries = []
    for _ in range(at.contents.size(LARGE_FLOOD_ENTRIES)):
        noise = at.contents.noise(1 << 20)
        entries.append([b"json", noise, *at.contents.return_address()])
    await at.add_many(entries)


@_action
async def flood_of_transfers(at: Attack) -> None:
    count = at.contents.size(2000)
    await at.add_many([[*at.plain(), *at.contents.return_address()] for _ in range(count)])


# Ids.


async def _add_with_id(at: Attack, ms: int, seq: int) -> None:
    payload = at.plain() if at.chance.random() < 0.7 else at.contents.payload(broken=True)
    await at.add([*payload, *at.contents.return_address()], f"{ms}-{seq}")


@_action
async def maximal_id(at: Attack) -> None:
    await _add_with_id(at, U64_MAX, U64_MAX)


@_action
async def highest_legal_id(at: Attack) -> None:
    await _add_with_id(at, I64_MAX, I64_MAX)


@_action
async def odd_id(at: Attack) -> None:
    await _add_with_id(at, at.chance.choice(NUMBERS), at.chance.choice(NUMBERS))


@_action
async def id_ahead_of_the_clock(at: Attack) -> None:
    seconds, _ = await at.run("TIME")
    ahead_ms = at.chance.choice([1, 1000, 60_000, 3_600_000, 10**10, 10**15])
    await _add_with_id(at, int(seconds) * 1000 + ahead_ms, at.chance.choice(NUMBERS))


# Keys.


@_action
async def key_of_another_type(at: Attack) -> None:
    at.take_away()
    await at.run("DEL", at.stream)
    words = at.chance.choice(
        [("SET", "x"), ("LPUSH", "x"), ("SADD", "x"), ("HSET", "a", "b"), ("ZADD", 1, "x")]
    )
    await at.run(words[0], at.stream, *words[1:])
    await asyncio.sleep(at.chance.random())


@_action
async def stream_deleted(at: Attack) -> None:
    at.take_away()
    await at.run(at.chance.choice(["DEL", "UNLINK"]), at.stream)


@_action
async def stream_renamed(at: Attack) -> None:
    at.take_away()
    await at.run("RENAME", at.stream, at.aside)
    await asyncio.sleep(at.chance.random() / 2)
    if at.chance.random() < 0.5:
        await at.run("RENAME", at.aside, at.stream)


@_action
async def stream_copied_back(at: Attack) -> None:
    """As it was a moment ago: what came since is lost, what was decided is there again."""
    await at.run("COPY", at.stream, at.aside, "REPLACE")
    await asyncio.sleep(at.chance.random() / 5)
    at.take_away()
    await at.run("COPY", at.aside, at.stream, "REPLACE")


@_action
async def stream_expires(at: Attack) -> None:
    at.take_away()
    await at.run("PEXPIRE", at.stream, at.chance.choice([-1, 0, 1, 20]))
    await asyncio.sleep(0.03)


@_action
async def stream_trimmed(at: Attack) -> None:
    at.take_away()
    await at.run("XTRIM", at.stream, "MAXLEN", at.chance.choice([0, 1, 10]))


@_action
async def entries_deleted(at: Attack) -> None:
    at.take_away()
    found = await at.run("XRANGE", at.stream, "-", "+", "COUNT", 50)
    ids = list(found or ())
    if ids:
        await at.run("XDEL", at.stream, *(each[0] for each in at.chance.sample(ids, len(ids) // 2)))


@_action
async def id_set(at: Attack) -> None:
    ms, seq = at.chance.choice(NUMBERS), at.chance.choice(NUMBERS)
    await at.run("XSETID", at.stream, f"{ms}-{seq}")


@_action
async def last_id_set_to_the_maximum(at: Attack) -> None:
    await at.run("XSETID", at.stream, f"{U64_MAX}-{U64_MAX}")


@_action
async def begun_anew_with_a_low_id(at: Attack) -> None:
    """The stream is lost, and what comes now has ids below the position."""
    at.take_away()
    await at.run("DEL", at.stream)
    await _add_with_id(at, at.chance.choice([0, 1, 5]), at.chance.choice([1, 2, I64_MAX]))


@_action
async def groups(at: Attack) -> None:
    group = at.chance.choice(["engine", "workers", "g", at.ledger.prefix])
    where = at.chance.choice(["0", "$", f"{U64_MAX}-{U64_MAX}", "5-5"])
    words = at.chance.choice(
        [
            ("XGROUP", "CREATE", at.stream, group, where, "MKSTREAM"),
            ("XGROUP", "DESTROY", at.stream, group),
            ("XGROUP", "SETID", at.stream, group, where),
            ("XREADGROUP", "GROUP", group, "c", "COUNT", 10, "STREAMS", at.stream, ">"),
        ]
    )
    await at.run(*words)


@_action
async def poisoned_key_taken(at: Attack) -> None:
    """The name that a stream gets when its ids are used up is another's; then they are."""
    kind = at.chance.randrange(3)
    if kind == 0:
        await at.run("XADD", at.poisoned, "*", "a", "b")
    elif kind == 1:
        await at.run("SET", at.poisoned, "x")
    else:
        await at.run("XADD", at.poisoned, f"{U64_MAX}-{U64_MAX}", *at.plain())
    await maximal_id(at)


@_action
async def poisoned_twice(at: Attack) -> None:
    """Its ids are used up again, while it is being put right."""
    for _ in range(at.chance.choice([2, 3, 20])):
        await maximal_id(at)
        await asyncio.sleep(at.chance.random() / 50)


# Accounts.


@_action
async def account_with_a_strange_number(at: Attack) -> None:
    number = at.chance.choice([2**53 - 1, 2**53, 0, -1, 2**62, I64_MAX, -(2**63)])
    await _with_account(at, "number, flags", number, [])


@_action
async def account_with_strange_flags(at: Attack) -> None:
    flags: Any = at.chance.choice(
        [
            [["debits_must_not_exceed_credits"]],
            ["debits_must_not_exceed_credits"] * 2,
            [None],
            ["debits_must_not_exceed_credits", "credits_must_not_exceed_debits"],
        ]
    )
    await _with_account(at, "flags", flags)


async def _with_account(at: Attack, columns: str, *values: Any) -> None:
    """Create an account as it should not be, and name it in a transfer, if it is taken."""
    made = account(at.shard, at.chance.randrange(100, 30_000))
    places = ", ".join(f"${n}" for n in range(2, 2 + len(values)))
    with contextlib.suppress(asyncpg.PostgresError):
        await at.ledger.sql(
            f"INSERT INTO ledger.accounts (id, ledger, code, {columns})"
            f" OVERRIDING SYSTEM VALUE VALUES ($1, 1, 1, {places})",
            uuid.UUID(made),
            *values,
        )
    payload = at.plain()
    payload[1] = payload[1].replace(account(at.shard, PLAIN_ACCOUNTS[0]).encode(), made.encode())
    await at.add([*payload, *at.contents.return_address()])
