"""At the edges of numbers: what a stripe may hold, whoever wrote it, and what every book knows."""

from typing import Any

from engine.book.counter_bounds import FOREIGN_STRIPE_MAX, LARGE
from tests.simulation.scenes import CREDIT_LIMIT, DEBIT_LIMIT, Scene, scenario

TOP = 2**63 - 1


def stripes(scene: Scene, account: str) -> dict[int, tuple[int, ...]]:
    """By shard, the newest counters of each stripe of an account."""
    number = scene.number_of(account)
    newest: dict[int, Any] = {}
    for row in scene.database.tables["posted"].all(scene.database.snapshot()):
        if row["stripe"] >> 10 == number:
            last = newest.setdefault(row["stripe"], row)
            if row["version"] > last["version"]:
                newest[row["stripe"]] = row
    names = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
    return {stripe & 1023: tuple(row[n] for n in names) for stripe, row in newest.items()}


@scenario()
async def test_overflow_over_a_stale_stripe(scene: Scene) -> None:
    """Whoever brings an account near the end of its counters lets every book know."""
    one, two, full = scene.account(0), scene.account(1), scene.account(1)
    await scene.worker("far", [0])
    await scene.worker("home", [1])
    assert await scene.ask(0, scene.transfer(one, full, 1)) == ["created"]
    assert await scene.ask(1, scene.transfer(two, full, TOP - 1)) == ["created"]
    assert await scene.ask(0, scene.transfer(one, full, 1)) == ["overflows_credits_posted"]
    assert scene.balance(full) == (0, 0, 0, TOP)


@scenario()
async def test_whoever_brings_it_near_its_end_knows_itself(scene: Scene) -> None:
    """What a worker wrote at home under lock counts in its book, where it writes another stripe."""
    one, full = scene.account(0), scene.account(1)
    await scene.worker("far", [0])
    await scene.worker("home", [1])
    assert await scene.ask(0, scene.transfer(one, full, 1)) == ["created"]
    assert await scene.ask(0, scene.transfer(one, full, TOP - 1)) == ["created"]
    assert await scene.ask(0, scene.transfer(scene.account(0), full, 1)) == [
        "overflows_credits_posted"
    ]


@scenario()
async def test_an_overflow_by_old_figures_is_none(scene: Scene) -> None:
    """The home knows of a hold that was voided elsewhere meanwhile; under the locks it looks."""
    one, two, full = scene.account(0), scene.account(1), scene.account(1)
    await scene.worker("far", [0])
    await scene.worker("home", [1])
    hold = scene.transfer(one, full, 10, "pending")
    assert await scene.ask(0, hold) == ["created"]
    assert await scene.ask(1, scene.transfer(two, full, 0)) == ["created"]
    assert await scene.ask(0, scene.ending(hold, "void_pending_transfer")) == ["created"]
    assert await scene.ask(1, scene.transfer(two, full, TOP)) == ["created"]


@scenario()
async def test_what_overflows_anywhere_locks_nobody(scene: Scene) -> None:
    """No counter takes such an amount, whatever stands in it."""
    one, far = scene.account(0), scene.account(0)
    worker = await scene.worker("here", [0])
    await scene.worker("there", [1])
    assert await scene.ask(0, scene.transfer(one, far, TOP + 1)) == ["overflows_debits_posted"]
    assert worker.worker.statistics.locked == 0


@scenario()
async def test_overflow_over_a_stale_stripe_by_many_steps(scene: Scene) -> None:
    """No single step is large enough to be noticed; together they come near the end."""
    one, two, full = scene.account(0), scene.account(1), scene.account(1)
    await scene.worker("far", [0])
    await scene.worker("home", [1])
    assert await scene.ask(0, scene.transfer(one, full, 1)) == ["created"]
    for _ in range(15):
        assert await scene.ask(1, scene.transfer(two, full, 2**59)) == ["created"]
    assert await scene.ask(1, scene.transfer(two, full, 2**59 - 2)) == ["created"]
    assert await scene.ask(0, scene.transfer(one, full, 1)) == ["overflows_credits_posted"]
    assert scene.balance(full)[3] == TOP


@scenario()
async def test_hold_ended_through_another_stripe_again_and_again(scene: Scene) -> None:
    """It is made in one stripe and must not be ended in another: the two would drift apart."""
    one, held = scene.account(0), scene.account(1)
    await scene.worker("far", [0])
    await scene.worker("home", [1])
    for _ in range(4):
        hold = scene.transfer(one, held, 2**62, "pending")
        assert await scene.ask(0, hold) == ["created"]
        assert await scene.ask(0, scene.ending(hold, "void_pending_transfer")) == ["created"]
    assert scene.balance(held) == (0, 0, 0, 0)
    assert set(stripes(scene, held).values()) == {(0, 0, 0, 0)}


@scenario()
async def test_hold_ended_through_another_stripe_by_columns(scene: Scene) -> None:
    """As before, with amounts that columns decide, and holds that a limit on credits sends home."""
    one, owing, bank = scene.account(0), scene.account(1, CREDIT_LIMIT), scene.account(1)
    await scene.worker("far", [0])
    await scene.worker("home", [1])
    assert await scene.ask(1, scene.transfer(owing, bank, 100)) == ["created"]
    for flag in ["void_pending_transfer", "post_pending_transfer"] * 3:
        hold = scene.transfer(one, owing, 10, "pending")
        assert await scene.ask(0, hold) == ["created"]
        assert await scene.ask(0, scene.ending(hold, flag)) == ["created"]
    assert scene.balance(owing) == (0, 100, 0, 30)
    assert all(min(counters) >= 0 for counters in stripes(scene, owing).values())


@scenario()
async def test_expiry_of_a_hold_ends_it_in_its_own_stripe(scene: Scene) -> None:
    one, owing, bank = scene.account(0), scene.account(1, CREDIT_LIMIT), scene.account(1)
    await scene.worker("far", [0])
    await scene.worker("home", [1])
    assert await scene.ask(1, scene.transfer(owing, bank, 100)) == ["created"]
    hold = scene.transfer(one, owing, 10, "pending", timeout=1)
    assert await scene.ask(0, hold) == ["created"]
    await scene.until(lambda: scene.count("resolutions", status="expired") == 1, "the expiry")
    assert scene.balance(owing) == (0, 100, 0, 0)
    assert all(min(counters) >= 0 for counters in stripes(scene, owing).values())


@scenario()
async def test_holds_on_strangers_after_a_takeover(scene: Scene) -> None:
    """A book that gains shards knows what others brought."""
    mine, one, held = scene.account(2), scene.account(0), scene.account(1)
    await scene.worker("home", [1, 2, 3])
    leaving = await scene.worker("leaving", [0])
    spare = scene.account(2)
    assert await scene.ask(2, scene.transfer(mine, held, 1)) == ["created"]
    hold = scene.transfer(one, held, 10, "pending")
    assert await scene.ask(0, hold) == ["created"]
    leaving.worker.stop()
    await scene.worker("next", [0])
    assert await scene.ask(0, scene.ending(hold, "void_pending_transfer")) == ["created"]
    exactly = scene.transfer(held, spare, 1, "balancing_debit")
    assert await scene.ask(1, exactly) == ["created"]
    assert scene.balance(held) == (0, 1, 0, 1)


@scenario()
async def test_holds_on_strangers_after_a_takeover_by_their_home(scene: Scene) -> None:
    """As before, and the home is who takes over; it does not own all then."""
    mine, one, held = scene.account(2), scene.account(0), scene.account(1)
    home = await scene.worker("home")
    leaving = await scene.worker("leaving", [0])
    await scene.worker("other", [3])
    spare = scene.account(2)
    await scene.until(lambda: home.worker.owned == {1, 2}, "the shards to be shared")
    assert await scene.ask(2, scene.transfer(mine, held, 1)) == ["created"]
    hold = scene.transfer(one, held, 10, "pending")
    assert await scene.ask(0, hold) == ["created"]
    leaving.worker.stop()
    await scene.until(lambda: home.worker.owned == {0, 1, 2}, "the shard to come back")
    assert await scene.ask(0, scene.ending(hold, "void_pending_transfer")) == ["created"]
    exactly = scene.transfer(held, spare, 1, "balancing_debit")
    assert await scene.ask(1, exactly) == ["created"]
    assert scene.balance(held) == (0, 1, 0, 1)


@scenario()
async def test_a_foreign_stripe_never_holds_more_than_its_bound(scene: Scene) -> None:
    """What would be more goes by the lock, to the home stripe."""
    one, far = scene.account(0), scene.account(1)
    worker = await scene.worker("far", [0])
    await scene.worker("home", [1])
    amount = LARGE - 1
    sent = 2 * FOREIGN_STRIPE_MAX // amount + 2
    entry = 512
    for start in range(0, sent, entry):
        batch = [scene.transfer(one, far, amount) for _ in range(min(entry, sent - start))]
        assert set(await scene.ask(0, *batch)) == {"created"}
    assert scene.balance(far) == (0, 0, 0, amount * sent)
    assert worker.worker.statistics.locked > 0
    found = stripes(scene, far)
    assert 0 < found[0][3] <= FOREIGN_STRIPE_MAX < found[1][3]


@scenario()
async def test_a_limited_account_near_its_end_counts_exactly(scene: Scene) -> None:
    """What its foreign stripes hold counts, to the last unit."""
    one, poor, bank = scene.account(0), scene.account(1, DEBIT_LIMIT), scene.account(1)
    await scene.worker("far", [0])
    await scene.worker("home", [1])
    assert await scene.ask(0, scene.transfer(one, poor, 5)) == ["created"]
    assert await scene.ask(1, scene.transfer(bank, poor, TOP - 5)) == ["created"]
    assert await scene.ask(1, scene.transfer(poor, bank, TOP)) == ["created"]
    assert await scene.ask(1, scene.transfer(poor, bank, 1)) == ["overflows_debits_posted"]
    assert await scene.ask(0, scene.transfer(one, poor, 1)) == ["overflows_credits_posted"]
