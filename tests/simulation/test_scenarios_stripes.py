"""Stripes, refresh and locks: what of other workers' money counts, and when."""

import asyncio
import random
from itertools import pairwise

from engine.deciding.sorting import CUT_ROWS
from tests.simulation.scenes import CREDIT_LIMIT, DEBIT_LIMIT, Scene, scenario

TOP = 2**63 - 1


@scenario()
async def test_refresh_during_flush_keeps_own_debits(scene: Scene) -> None:
    """The home stripe in Postgres lags behind the book: a refresh reads the others only."""
    a, poor, b = scene.account(0), scene.account(1, DEBIT_LIMIT), scene.account(1)
    await scene.worker("here", [0])
    there = await scene.worker("there", [1])
    assert await scene.ask(0, scene.transfer(a, poor, 10)) == ["created"]
    gate = scene.before("flush_small", there)
    first = await scene.push(1, scene.transfer(poor, b, 8))
    await scene.reached(gate)
    second = await scene.push(1, scene.transfer(poor, b, 8))
    await asyncio.sleep(0.2)
    gate.open()
    assert await scene.answer(first) == ["created"]
    assert await scene.answer(second) == ["exceeds_credits"]


@scenario()
async def test_refresh_until_no_new_account_is_short(scene: Scene) -> None:
    """What a refresh lets through makes another account short, which is refreshed in turn."""
    rich, far = scene.account(0), scene.account(1)
    one, two, three = (scene.account(1, DEBIT_LIMIT) for _ in range(3))
    await scene.worker("here", [0])
    await scene.worker("there", [1])
    warm = [scene.transfer(far, each, 0) for each in (one, two, three)]
    assert await scene.ask(1, *warm) == ["created"] * 3
    for each in (one, two, three):
        assert await scene.ask(0, scene.transfer(rich, each, 5)) == ["created"]
    chain = [
        scene.transfer(one, two, 5),
        scene.transfer(two, three, 10),
        scene.transfer(three, far, 15),
    ]
    assert await scene.ask(1, *chain) == ["created"] * 3


@scenario()
async def test_both_limited_opposite_directions_10k(scene: Scene) -> None:
    """Two workers pay each other's limited accounts: no deadlock, and no decline without need."""
    bank = scene.account(0)
    zero = [scene.account(0, DEBIT_LIMIT) for _ in range(10)]
    one = [scene.account(1, DEBIT_LIMIT) for _ in range(10)]
    await scene.worker("zero", [0])
    await scene.worker("one", [1])
    funds = [scene.transfer(bank, each, 1_000_000) for each in (*zero, *one)]
    assert set(await scene.ask(0, *funds)) == {"created"}
    chance = random.Random(1)
    asked = []
    for _ in range(50):
        for shard, here, there in ((0, zero, one), (1, one, zero)):
            batch = [
                scene.transfer(chance.choice(here), chance.choice(there), chance.randint(1, 100))
                for _ in range(100)
            ]
            asked.append(await scene.push(shard, *batch))
    for request in asked:
        assert set(await scene.answer(request)) == {"created"}


@scenario()
async def test_chain_over_limited_accounts_of_three_workers(scene: Scene) -> None:
    accounts = [scene.account(shard, DEBIT_LIMIT) for shard in range(3)]
    bank, shop = scene.account(3), scene.account(3)
    for shard in range(4):
        await scene.worker(f"w{shard}", [shard])
    assert await scene.ask(3, scene.transfer(bank, accounts[0], 10)) == ["created"]
    stops = [*accounts, shop]
    chain = [
        scene.transfer(debit, credit, 10, *(["linked"] if credit != shop else []))
        for debit, credit in pairwise(stops)
    ]
    assert await scene.ask(0, *chain) == ["created"] * 3
    again = [one | {"id": scene.transfer(bank, shop, 1)["id"]} for one in chain]
    assert await scene.ask(0, *again) == [
        "exceeds_credits",
        "linked_event_failed",
        "linked_event_failed",
    ]
    assert scene.balance(shop) == (0, 0, 0, 10)


@scenario()
async def test_array_over_four_shards_one_request_one_answer(scene: Scene) -> None:
    accounts = [scene.account(shard, *([DEBIT_LIMIT] if shard else [])) for shard in range(4)]
    for shard in range(4):
        await scene.worker(f"w{shard}", [shard])
    array = [
        scene.transfer(accounts[shard], accounts[(shard + 1) % 4], 5 - shard) for shard in range(4)
    ]
    assert await scene.ask(0, *array) == ["created"] * 4
    assert len(scene.answers) == 1


@scenario()
async def test_entry_on_the_wrong_stream(scene: Scene) -> None:
    a, poor = scene.account(0), scene.account(1, DEBIT_LIMIT)
    for shard in range(3):
        await scene.worker(f"w{shard}", [shard])
    assert await scene.ask(2, scene.transfer(a, poor, 5)) == ["created"]
    assert await scene.ask(2, scene.transfer(poor, a, 6), scene.transfer(poor, a, 5)) == [
        "exceeds_credits",
        "created",
    ]
    assert await scene.ask(1, scene.transfer(poor, a, 1)) == ["exceeds_credits"]


@scenario(ahead_transfers_min=100)
async def test_what_waits_for_a_lock_holds_back_its_stream(scene: Scene) -> None:
    """What comes behind it spends what it brings."""
    far, poor, a = scene.account(1), scene.account(0, DEBIT_LIMIT), scene.account(0)
    here = await scene.worker("here", [0])
    await scene.worker("there", [1])
    gate = scene.before("flush_small", here)
    first = await scene.push(0, scene.transfer(a, poor, 0))
    await scene.reached(gate)
    brings = await scene.push(0, scene.transfer(far, poor, 5))
    spends = [await scene.push(0, scene.transfer(poor, a, amount)) for amount in (2, 3)]
    await asyncio.sleep(0.1)
    gate.open()
    for request in (first, brings, *spends):
        assert await scene.answer(request) == ["created"]


@scenario()
async def test_what_a_worker_wrote_under_lock_is_in_its_book(scene: Scene) -> None:
    """Its own chain goes on unbroken: nothing else would tell it."""
    far, poor, a = scene.account(1), scene.account(0, DEBIT_LIMIT), scene.account(0)
    here = await scene.worker("here", [0])
    await scene.worker("there", [1])
    assert await scene.ask(0, scene.transfer(a, poor, 0)) == ["created"]
    assert await scene.ask(0, scene.transfer(far, poor, 5)) == ["created"]
    assert await scene.ask(0, scene.transfer(poor, a, 5)) == ["created"]
    assert here.worker.statistics.conflicts == 0


@scenario()
async def test_what_is_spent_is_later_than_what_brought_it(scene: Scene) -> None:
    """By a clock that is ahead; limits hold at every moment that the ledger writes down."""
    a, poor, b = scene.account(0), scene.account(1, DEBIT_LIMIT), scene.account(1)
    await scene.worker("ahead", [0], skew=5.0)
    await scene.worker("behind", [1])
    assert await scene.ask(1, scene.transfer(b, poor, 0)) == ["created"]
    assert await scene.ask(0, scene.transfer(a, poor, 5)) == ["created"]
    assert await scene.ask(1, scene.transfer(poor, b, 5)) == ["created"]


@scenario()
async def test_frozen_borrower(scene: Scene) -> None:
    """It holds its lenders' rows: once its lease is over they end it and go on."""
    a, poor = scene.account(0), scene.account(1, DEBIT_LIMIT)
    borrower = await scene.worker("borrower", [0])
    await scene.worker("lender", [1])
    gate = scene.after("fence", borrower)
    await scene.push(0, scene.transfer(a, poor, 5), scene.transfer(poor, a, 1))
    await scene.reached(gate)
    borrower.freeze()
    gate.open()
    free = scene.account(1)
    assert await scene.ask(1, scene.transfer(free, poor, 5)) == ["created"]
    assert await scene.ask(1, scene.transfer(poor, free, 6)) == ["exceeds_credits"]
    borrower.thaw()
    await scene.until(lambda: scene.balance(a)[1] == 5, "the borrower to decide again")


@scenario()
async def test_locked_flush_meets_a_moved_shard(scene: Scene) -> None:
    """The owner that it saw is not the owner once it has the lock: it starts over."""
    a, poor = scene.account(0), scene.account(1, DEBIT_LIMIT)
    borrower = await scene.worker("borrower", [0])
    old = await scene.worker("old", [1])
    gate = scene.before("lock_workers", borrower)
    request = await scene.push(0, scene.transfer(a, poor, 5), scene.transfer(poor, a, 2))
    await scene.reached(gate)
    old.worker.stop()
    await scene.worker("new", [1])
    gate.open()
    assert await scene.answer(request) == ["created", "created"]
    assert await scene.ask(1, scene.transfer(poor, a, 4)) == ["exceeds_credits"]


@scenario()
async def test_close_while_a_worker_starts(scene: Scene) -> None:
    """Whoever loads balances meanwhile learns of it, or makes the closing wait."""
    a, b = scene.account(0), scene.account(1)
    closer = await scene.worker("closer", [0])
    gate = scene.before("lock_workers", closer)
    closing = scene.transfer(a, b, 0, "pending", "closing_credit")
    request = await scene.push(0, closing)
    await scene.reached(gate)
    starting = scene.participant("starting", [1])
    loading = scene.after("COMMIT", starting)
    await scene.reached(loading)
    gate.open()
    await asyncio.sleep(0.3)
    loading.open()
    assert await scene.answer(request) == ["created"]
    await scene.ready(starting)
    assert await scene.ask(1, scene.transfer(b, a, 1)) == ["debit_account_already_closed"]


@scenario()
async def test_close_while_foreign_credit_in_flight(scene: Scene) -> None:
    """A credit decided before is committed before, or decided again and refused."""
    a, b, c = scene.account(0), scene.account(1), scene.account(2)
    await scene.worker("closer", [0])
    await scene.worker("home", [1])
    crediting = await scene.worker("crediting", [2])
    gate = scene.before("flush_small", crediting)
    credit = await scene.push(2, scene.transfer(c, b, 5))
    await scene.reached(gate)
    closing = scene.transfer(a, b, 0, "pending", "closing_credit")
    assert await scene.ask(0, closing) == ["created"]
    gate.open()
    assert await scene.answer(credit) == ["credit_account_already_closed"]
    assert scene.balance(b) == (0, 0, 0, 0)


@scenario()
async def test_overflow_from_two_shards(scene: Scene) -> None:
    """Each alone stays below the end of the counters; together they would pass it."""
    a, b, full = scene.account(0), scene.account(1), scene.account(2)
    for shard in range(3):
        await scene.worker(f"w{shard}", [shard])
    half = TOP // 2 + 1
    first = await scene.push(0, scene.transfer(a, full, half))
    second = await scene.push(1, scene.transfer(b, full, half))
    told = [*await scene.answer(first), *await scene.answer(second)]
    assert sorted(told) == ["created", "overflows_credits_posted"]
    assert await scene.ask(2, scene.transfer(full, a, TOP)) == ["created"]
    assert scene.balance(full) == (0, TOP, 0, half)


@scenario()
async def test_two_balancing_credits_two_shards(scene: Scene) -> None:
    """Both top the same account up: together they move what it lacks, and no more."""
    a, b, owing, bank = (scene.account(shard) for shard in range(4))
    for shard in range(4):
        await scene.worker(f"w{shard}", [shard])
    assert await scene.ask(2, scene.transfer(owing, bank, 10)) == ["created"]
    first = await scene.push(0, scene.transfer(a, owing, 8, "balancing_credit"))
    second = await scene.push(1, scene.transfer(b, owing, 8, "balancing_credit"))
    assert [await scene.answer(first), await scene.answer(second)] == [["created"], ["created"]]
    assert scene.balance(owing) == (0, 10, 0, 10)


@scenario()
async def test_two_workers_decline_for_want_of_each_others_credit(scene: Scene) -> None:
    """Each brings the other's account funds in the flush in which it declines: one must see it."""
    bank0, bank1 = scene.account(0), scene.account(1)
    poor0, poor1 = scene.account(0, DEBIT_LIMIT), scene.account(1, DEBIT_LIMIT)
    zero, one = await scene.worker("zero", [0]), await scene.worker("one", [1])
    gates = [scene.before("queue_to_decline", zero), scene.before("queue_to_decline", one)]
    first = await scene.push(0, scene.transfer(bank0, poor1, 10), scene.transfer(poor0, bank0, 5))
    second = await scene.push(1, scene.transfer(bank1, poor0, 10), scene.transfer(poor1, bank1, 5))
    for gate in gates:
        await scene.reached(gate)
    for gate in gates:
        gate.open()
    told = [await scene.answer(first), await scene.answer(second)]
    assert "created" in {told[0][1], told[1][1]}


@scenario()
async def test_a_limit_on_the_credit_side_is_its_owners_to_keep(scene: Scene) -> None:
    a, b, owing = scene.account(0), scene.account(1), scene.account(2, CREDIT_LIMIT)
    for shard in range(3):
        await scene.worker(f"w{shard}", [shard])
    assert await scene.ask(2, scene.transfer(owing, a, 5)) == ["created"]
    first = await scene.push(0, scene.transfer(a, owing, 4))
    second = await scene.push(1, scene.transfer(b, owing, 4))
    told = [*await scene.answer(first), *await scene.answer(second)]
    assert sorted(told) == ["created", "exceeds_debits"]


@scenario()
async def test_account_created_after_a_decline_for_want_of_it(scene: Scene) -> None:
    """That there was none is not remembered; the id stays spent."""
    a = scene.account(0)
    await scene.worker("worker", [0])
    later = "00000000-0000-0002-0000-000000020000"
    declined = scene.transfer(a, later, 1)
    assert await scene.ask(0, declined) == ["credit_account_not_found"]
    assert scene.account(0) == later
    assert await scene.ask(0, declined, scene.transfer(a, later, 1)) == [
        "id_already_failed",
        "created",
    ]


@scenario()
async def test_a_book_that_is_out_of_date_is_loaded_again(scene: Scene) -> None:
    """A hold was made at home under lock and ended from afar: fresh figures contradict old ones."""
    a, poor = scene.account(0), scene.account(1, DEBIT_LIMIT)
    await scene.worker("here", [0])
    there = await scene.worker("there", [1])
    other = scene.account(1)
    assert await scene.ask(1, scene.transfer(poor, other, 0)) == ["created"]
    hold = scene.transfer(a, poor, 5, "pending")
    by_lock = [hold, scene.transfer(a, poor, 9), scene.transfer(poor, a, 1)]
    assert await scene.ask(0, *by_lock) == ["created"] * 3
    assert await scene.ask(0, scene.ending(hold)) == ["created"]
    assert await scene.ask(1, scene.transfer(poor, other, "max", "balancing_debit")) == ["created"]
    assert scene.balance(poor) == (0, 14, 0, 14)
    assert there.worker.statistics.conflicts == 1


@scenario()
async def test_what_others_brought_is_known_to_who_owns_all_afterwards(scene: Scene) -> None:
    """Whoever owns all asks nobody any more: what it read when it did not may not stay."""
    poor, near, far = scene.account(0, DEBIT_LIMIT), scene.account(0), scene.account(1)
    alone = await scene.worker("alone")
    assert await scene.ask(0, scene.transfer(poor, near, 1)) == ["exceeds_credits"]
    guest = await scene.worker("guest", [1])
    await scene.until(lambda: scene.owner(1) == "guest", "the shard to be given")
    assert await scene.ask(1, scene.transfer(far, poor, 5)) == ["created"]
    guest.worker.stop()
    await scene.until(lambda: len(alone.worker.owned) == 4, "the shard to come back")
    assert await scene.ask(0, scene.transfer(poor, near, 5)) == ["created"]


@scenario()
async def test_a_balance_that_others_lessen_meanwhile_is_not_moved(scene: Scene) -> None:
    """They hold some of what was to be credited, before the amount is committed."""
    owing, near, far = scene.account(0), scene.account(0), scene.account(1)
    here = await scene.worker("here", [0])
    await scene.worker("there", [1])
    assert await scene.ask(0, scene.transfer(owing, near, 8)) == ["created"]
    gate = scene.before("queue_to_decline", here)
    moving = await scene.push(0, scene.transfer(near, owing, "max", "balancing_credit"))
    await scene.reached(gate)
    assert await scene.ask(1, scene.transfer(far, owing, 3, "pending")) == ["created"]
    gate.open()
    assert await scene.answer(moving) == ["created"]
    assert scene.balance(owing) == (0, 8, 3, 5)


@scenario(shard_count=2)
async def test_under_the_locks_of_all_a_batch_is_decided_in_one_piece(scene: Scene) -> None:
    """Who owns all cuts a batch of which the rules would take much; here all are locked."""
    await scene.worker("here", [0])
    await scene.worker("there", [1])
    rich, a, gone = scene.account(0, DEBIT_LIMIT), scene.account(0), scene.account(0)
    assert await scene.ask(0, scene.transfer(a, rich, 1000)) == ["created"]
    closing = scene.transfer(gone, a, 0, "pending", "closing_debit")
    exact = scene.transfer(rich, a, 5, "balancing_debit")
    many = [scene.transfer(rich, a, 1) for _ in range(3 * CUT_ROWS)]
    assert await scene.ask(0, closing, exact, *many) == ["created"] * (2 + len(many))
    assert scene.count("flushes", kind="locked") == 1
