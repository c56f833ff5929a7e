"""Freezing and thawing: what waits, in which order it is decided, and what does not wait."""

import asyncio

from tests.simulation.freezer import freeze, thaw
from tests.simulation.scenes import Scene, scenario


def is_parked(scene: Scene, count: int) -> bool:
    """Whether so many entries wait or waited."""
    return scene.count("waiting") == count


async def parked(scene: Scene, count: int) -> None:
    await scene.until(lambda: is_parked(scene, count), f"{count} entries to wait")


@scenario()
async def test_freeze_what_matches_waits_and_nothing_else(scene: Scene) -> None:
    """A frozen account that every stream credits blocks nobody else (rules 3 and 4)."""
    fees, a, b = scene.account(2), scene.account(0), scene.account(1)
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "account", fees)
    waits = await scene.push(0, scene.transfer(a, fees, 1))
    await parked(scene, 1)
    assert await scene.ask(0, scene.transfer(a, b, 5)) == ["created"]
    assert await scene.ask(1, scene.transfer(b, a, 2)) == ["created"]
    assert scene.told(waits) is None
    await thaw(scene, "account", fees)
    assert await scene.answer(waits) == ["created"]
    assert scene.count("released") == 1


@scenario()
async def test_freeze_one_transfer_makes_its_entry_wait_whole(scene: Scene) -> None:
    a, b, c = scene.account(0), scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "account", c)
    waits = await scene.push(0, scene.transfer(a, b, 1), scene.transfer(b, c, 1))
    await parked(scene, 1)
    assert scene.balance(b) == (0, 0, 0, 0)
    await thaw(scene, "account", c)
    assert await scene.answer(waits) == ["created", "created"]


@scenario()
async def test_freeze_nothing_decided_before_it_commits_after_it(scene: Scene) -> None:
    """A flush that was decided before the freeze, and is written after it, fails on its number."""
    a, b = scene.account(0), scene.account(0)
    worker = await scene.worker("w", [0, 1, 2, 3])
    gate = scene.before("flush_small", worker)
    request = await scene.push(0, scene.transfer(a, b, 1))
    await scene.reached(gate)
    await freeze(scene, "account", b)
    gate.open()
    await parked(scene, 1)
    assert scene.balance(b) == (0, 0, 0, 0)
    # The book stood, and it was no conflict.
    assert worker.worker.statistics.conflicts == 0
    await thaw(scene, "account", b)
    assert await scene.answer(request) == ["created"]


@scenario()
async def test_freeze_a_post_waits_for_the_hold_that_waits(scene: Scene) -> None:
    """It would find no hold, and its id would be spent (rule 4)."""
    a, b = scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "account", b)
    hold = scene.transfer(a, b, 5, "pending")
    held = await scene.push(0, hold)
    post = await scene.push(0, scene.ending(hold))
    await parked(scene, 2)
    await thaw(scene, "account", b)
    assert await scene.answer(held) == ["created"]
    assert await scene.answer(post) == ["created"]
    assert scene.balance(b) == (0, 0, 0, 5)


@scenario()
async def test_freeze_voids_wait_too_and_holds_expire(scene: Scene) -> None:
    """A freeze stops requests, not time (rule 11)."""
    a, b = scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    brief, long = (
        scene.transfer(a, b, 5, "pending", timeout=2),
        scene.transfer(a, b, 7, "pending"),
    )
    assert await scene.ask(0, brief, long) == ["created", "created"]
    await freeze(scene, "account", a)
    void = await scene.push(0, scene.ending(long, "void_pending_transfer"))
    await parked(scene, 1)
    await scene.until(lambda: scene.count("resolutions", status="expired") == 1, "the expiry")
    assert scene.balance(a) == (7, 0, 0, 0)
    await thaw(scene, "account", a)
    assert await scene.answer(void) == ["created"]


@scenario()
async def test_freeze_an_id_that_is_known_is_answered(scene: Scene) -> None:
    """What was decided before is told again: nothing of it is to be done (rule 3)."""
    a, b = scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    transfer = scene.transfer(a, b, 5)
    assert await scene.ask(0, transfer) == ["created"]
    await freeze(scene, "account", a)
    assert await scene.ask(0, transfer) == ["exists"]
    assert scene.count("waiting") == 0


@scenario()
async def test_freeze_waiting_entries_keep_their_order(scene: Scene) -> None:
    """All that wait for a freeze are decided in stream order, before what their stream has then."""
    a, b, c = scene.account(0), scene.account(0, "debits_must_not_exceed_credits"), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "account", b)
    first = await scene.push(0, scene.transfer(a, b, 5))
    second = await scene.push(0, scene.transfer(b, c, 5))
    third = await scene.push(0, scene.transfer(b, c, 5))
    await parked(scene, 3)
    await thaw(scene, "account", b)
    assert await scene.answer(first) == ["created"]
    assert await scene.answer(second) == ["created"]
    assert await scene.answer(third) == ["exceeds_credits"]


@scenario()
async def test_freeze_a_takeover_finds_what_waits(scene: Scene) -> None:
    """What waits belongs to the shard: whoever claims it decides it after the thaw (rule 8)."""
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    await freeze(scene, "account", b)
    hold = scene.transfer(a, b, 5, "pending")
    waits = await scene.push(0, hold)
    await parked(scene, 1)
    old.kill()
    await scene.worker("new", [0])
    post = await scene.push(0, scene.ending(hold))
    await parked(scene, 2)
    await thaw(scene, "account", b)
    assert await scene.answer(waits) == ["created"]
    assert await scene.answer(post) == ["created"]


@scenario()
async def test_freeze_thawed_while_nobody_owns_the_shard(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    await freeze(scene, "account", b)
    waits = await scene.push(0, scene.transfer(a, b, 5))
    await parked(scene, 1)
    old.worker.stop()
    await scene.until(lambda: scene.owner(0) == "nobody", "the shard to be free")
    await thaw(scene, "account", b)
    await scene.worker("new", [0])
    assert await scene.answer(waits) == ["created"]


@scenario(by_copy=True)
async def test_freeze_an_entry_that_waits_and_was_not_deleted_is_deleted_alone(
    scene: Scene,
) -> None:
    """Its worker died between the commit and the deletion (rule 5)."""
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    await freeze(scene, "account", b)
    gate = scene.after("COMMIT", old)
    waits = await scene.push(0, scene.transfer(a, b, 5))
    await scene.reached(gate)
    old.kill()
    gate.open()
    await scene.worker("new", [0])
    assert scene.count("waiting") == 1
    stream = scene.log.streams[b"engine:transfers:{0000}"]
    await scene.until(lambda: not stream.entries, "the entry to be deleted")
    assert scene.told(waits) is None
    await thaw(scene, "account", b)
    assert await scene.answer(waits) == ["created"]


@scenario()
async def test_freeze_a_copy_is_decided_right_after_its_original(scene: Scene) -> None:
    """Sent again while it waits: the copy keeps only where to answer (rule 9)."""
    a, b = scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "account", b)
    transfer = scene.transfer(a, b, 5)
    first, again = await scene.push(0, transfer), await scene.push(0, transfer)
    await parked(scene, 2)
    rows = scene.database.tables["waiting"].all(scene.database.snapshot())
    original, copy = sorted(rows, key=lambda row: (row["ms"], row["seq"]))
    assert (copy["original_ms"], copy["original_seq"]) == (original["ms"], original["seq"])
    assert b"json" in original["fields"]
    assert b"json" not in copy["fields"]
    await thaw(scene, "account", b)
    assert await scene.answer(first) == ["created"]
    assert await scene.answer(again) == ["exists"]


@scenario(waiting_max=2)
async def test_freeze_where_no_more_may_wait_the_stream_stands_still(scene: Scene) -> None:
    """Loudly; other streams go on (rule 9)."""
    a, b = scene.account(0), scene.account(1)
    worker = await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "ledger", 1)
    requests = [await scene.push(0, scene.transfer(a, b, 1)) for _ in range(5)]
    await parked(scene, 2)
    await scene.until(lambda: 0 in worker.worker.statistics.unread, "the shard to stand still")
    other = await scene.push(1, scene.transfer(b, a, 1))
    await parked(scene, 3)
    await asyncio.sleep(2)
    assert scene.count("waiting", shard=0) == 2
    await thaw(scene, "ledger", 1)
    for request in [*requests, other]:
        assert await scene.answer(request) == ["created"]
    assert 0 not in worker.worker.statistics.unread


@scenario()
async def test_freeze_a_locked_flush_writes_who_waits(scene: Scene) -> None:
    """What waits behind an entry that needs the locks of others goes with it, or is lost."""
    a, b, fees, elsewhere = scene.account(0), scene.account(0), scene.account(0), scene.account(2)
    await scene.worker("other", [2, 3])
    await freeze(scene, "account", fees)
    locked = await scene.push(0, scene.transfer(elsewhere, b, 1))
    waits = await scene.push(0, scene.transfer(a, fees, 1))
    worker = await scene.worker("w", [0, 1])
    assert await scene.answer(locked) == ["created"]
    await parked(scene, 1)
    assert worker.worker.statistics.locked
    await thaw(scene, "account", fees)
    assert await scene.answer(waits) == ["created"]


@scenario()
async def test_freeze_a_released_entry_waits_behind_an_id_that_still_waits(scene: Scene) -> None:
    """The post waited for its hold's freeze; that is over, and the hold waits for another."""
    a, b = scene.account(0), scene.account(0)
    await scene.worker("w", [0, 1, 2, 3])
    await freeze(scene, "account", a)
    await freeze(scene, "account", b)
    hold = scene.transfer(a, b, 5, "pending")
    held = await scene.push(0, hold)
    post = await scene.push(0, scene.ending(hold))
    await parked(scene, 2)
    await thaw(scene, "account", a)
    await asyncio.sleep(2)
    assert scene.told(post) is None
    await thaw(scene, "account", b)
    assert await scene.answer(held) == ["created"]
    assert await scene.answer(post) == ["created"]
    assert scene.balance(b) == (0, 0, 0, 5)
