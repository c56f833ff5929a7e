"""What a stranger does to a stream as a key, to the keys beside it, and to accounts."""

import asyncio
import contextlib
import uuid
from typing import Any

import asyncpg

from tests.desks import account
from tests.fuzz.attack import PLAIN_ACCOUNTS, Attack, action
from tests.fuzz.entry_actions import I64_MAX, NUMBERS, U64_MAX, add_with_id, maximal_id

# Keys.


@action
async def key_of_another_type(at: Attack) -> None:
    at.take_away()
    await at.run("DEL", at.stream)
    words = at.chance.choice(
        [("SET", "x"), ("LPUSH", "x"), ("SADD", "x"), ("HSET", "a", "b"), ("ZADD", 1, "x")]
    )
    await at.run(words[0], at.stream, *words[1:])
    await asyncio.sleep(at.chance.random())


@action
async def stream_deleted(at: Attack) -> None:
    at.take_away()
    await at.run(at.chance.choice(["DEL", "UNLINK"]), at.stream)


@action
async def stream_renamed(at: Attack) -> None:
    at.take_away()
    await at.run("RENAME", at.stream, at.aside)
    await asyncio.sleep(at.chance.random() / 2)
    if at.chance.random() < 0.5:
        await at.run("RENAME", at.aside, at.stream)


@action
async def stream_copied_back(at: Attack) -> None:
    """As it was a moment ago: what came since is lost, what was decided is there again."""
    await at.run("COPY", at.stream, at.aside, "REPLACE")
    await asyncio.sleep(at.chance.random() / 5)
    at.take_away()
    await at.run("COPY", at.aside, at.stream, "REPLACE")


@action
async def stream_expires(at: Attack) -> None:
    at.take_away()
    await at.run("PEXPIRE", at.stream, at.chance.choice([-1, 0, 1, 20]))
    await asyncio.sleep(0.03)


@action
async def stream_trimmed(at: Attack) -> None:
    at.take_away()
    await at.run("XTRIM", at.stream, "MAXLEN", at.chance.choice([0, 1, 10]))


@action
async def entries_deleted(at: Attack) -> None:
    at.take_away()
    found = await at.run("XRANGE", at.stream, "-", "+", "COUNT", 50)
    ids = list(found or ())
    if ids:
        await at.run("XDEL", at.stream, *(each[0] for each in at.chance.sample(ids, len(ids) // 2)))


@action
async def id_set(at: Attack) -> None:
    ms, seq = at.chance.choice(NUMBERS), at.chance.choice(NUMBERS)
    await at.run("XSETID", at.stream, f"{ms}-{seq}")


@action
async def last_id_set_to_the_maximum(at: Attack) -> None:
    await at.run("XSETID", at.stream, f"{U64_MAX}-{U64_MAX}")


@action
async def begun_anew_with_a_low_id(at: Attack) -> None:
    """The stream is lost, and what comes now has ids below the position."""
    at.take_away()
    await at.run("DEL", at.stream)
    await add_with_id(at, at.chance.choice([0, 1, 5]), at.chance.choice([1, 2, I64_MAX]))


@action
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


@action
async def poisoned_key_taken(at: Attack) -> None:
    """The name that a stream gets when its ids are used up is another's; then they are."""
    kind = at.chance.randrange(3)
    if kind == 0:
        await at.run("XADD", at.poisoned, "*", "a", "b")
    elif kind == 1:
        at.take_away()  # What was renamed to it, and is not decided yet, is overwritten.
        await at.run("SET", at.poisoned, "x")
    else:
        await at.run("XADD", at.poisoned, f"{U64_MAX}-{U64_MAX}", *at.plain())
    await maximal_id(at)


@action
async def poisoned_twice(at: Attack) -> None:
    """Its ids are used up again, while it is being put right."""
    for _ in range(at.chance.choice([2, 3, 20])):
        await maximal_id(at)
        await asyncio.sleep(at.chance.random() / 50)


# Accounts.


@action
async def account_with_a_strange_number(at: Attack) -> None:
    number = at.chance.choice([2**53 - 1, 2**53, 0, -1, 2**62, I64_MAX, -(2**63)])
    await _with_account(at, "number, flags", number, [])


@action
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
