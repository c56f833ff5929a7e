"""Hostile entries: what is in them, how large and how many they are, and their ids."""

from typing import Final

from tests.fuzz.attack import Attack, action

U64_MAX: Final = 2**64 - 1
I64_MAX: Final = 2**63 - 1
NUMBERS: Final = (0, 1, 2, I64_MAX - 1, I64_MAX, I64_MAX + 1, U64_MAX - 1, U64_MAX)
TINY_FLOOD_ENTRIES: Final = 20_000
LARGE_FLOOD_ENTRIES: Final = 60
GIANT_BYTES_MAX: Final = 200 << 20


# Entries.


@action
async def odd_transfers(at: Attack) -> None:
    await at.add([*at.contents.payload(broken=False), *at.contents.return_address()])


@action
async def broken_payload(at: Attack) -> None:
    await at.add([*at.contents.payload(broken=True), *at.contents.return_address()])


@action
async def odd_fields(at: Attack) -> None:
    await at.add(at.contents.odd_fields())


@action
async def two_formats(at: Attack) -> None:
    payloads = [*at.contents.payload(broken=False), *at.contents.payload(broken=True)]
    await at.add([*payloads, *at.contents.return_address()])


@action
async def odd_replies(at: Attack) -> None:
    others = [at.stream.encode(), at.odd_reply.encode(), f"{at.ledger.prefix}:answers:".encode()]
    kind = at.chance.choice(["SET", "LPUSH", "SADD"])
    await at.run("DEL", at.odd_reply)
    await at.run(kind, at.odd_reply, "x")
    await at.add([*at.plain(), *at.contents.odd_return_address(others)])


@action
async def entry_of_one_byte(at: Attack) -> None:
    await at.add([b"", at.chance.randbytes(1)])


@action
async def giant_entry(at: Attack) -> None:
    size = at.contents.size(GIANT_BYTES_MAX)
    name = at.chance.choice([b"json", b"mp", b"bin", b"x"])
    await at.add([name, bytes([at.chance.randrange(256)]) * size, *at.contents.return_address()])


@action
async def flood_of_tiny_entries(at: Attack) -> None:
    count = at.contents.size(TINY_FLOOD_ENTRIES)
    await at.add_many([[b"", b"%d" % n] for n in range(count)])


@action
async def flood_of_large_entries(at: Attack) -> None:
    entries = []
    for _ in range(at.contents.size(LARGE_FLOOD_ENTRIES)):
        noise = at.contents.noise(1 << 20)
        entries.append([b"json", noise, *at.contents.return_address()])
    await at.add_many(entries)


@action
async def flood_of_transfers(at: Attack) -> None:
    count = at.contents.size(2000)
    await at.add_many([[*at.plain(), *at.contents.return_address()] for _ in range(count)])


# Ids.


async def add_with_id(at: Attack, ms: int, seq: int) -> None:
    payload = at.plain() if at.chance.random() < 0.7 else at.contents.payload(broken=True)
    await at.add([*payload, *at.contents.return_address()], f"{ms}-{seq}")


@action
async def maximal_id(at: Attack) -> None:
    await add_with_id(at, U64_MAX, U64_MAX)


@action
async def highest_legal_id(at: Attack) -> None:
    await add_with_id(at, I64_MAX, I64_MAX)


@action
async def odd_id(at: Attack) -> None:
    await add_with_id(at, at.chance.choice(NUMBERS), at.chance.choice(NUMBERS))


@action
async def id_ahead_of_the_clock(at: Attack) -> None:
    seconds, _ = await at.run("TIME")
    ahead_ms = at.chance.choice([1, 1000, 60_000, 3_600_000, 10**10, 10**15])
    await add_with_id(at, int(seconds) * 1000 + ahead_ms, at.chance.choice(NUMBERS))
