"""Taking over and being taken over: who owned a shard, who owns it, and what each commits."""

import asyncio

from tests.simulation.database import Gate
from tests.simulation.scenes import DEBIT_LIMIT, Scene, scenario
from tests.simulation.world import Participant


async def claim_from_frozen(scene: Scene) -> tuple[Participant, Participant, Gate]:
    """A claim that waits at a gate for the row of an owner which was frozen and is no more."""
    owner = await scene.worker("owner", [0])
    owner.freeze()
    claimer = scene.participant("claimer", [0])
    gate = scene.before("lock_workers", claimer)
    await scene.reached(gate)
    owner.thaw()
    return owner, claimer, gate


@scenario()
async def test_a_shard_comes_while_a_flush_is_in_flight(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    first, second = scene.participant("first"), scene.participant("second")
    await scene.until(lambda: first.worker.ready.is_set() and second.worker.ready.is_set(), "both")
    here = 0 if scene.owner(0) == "first" else 1
    stays, goes = (first, second) if here == 0 else (second, first)
    gate = scene.before("flush_small", stays)
    request = await scene.push(0, scene.transfer(a, b, 1))
    await scene.reached(gate)
    goes.worker.stop()
    await asyncio.sleep(1)
    gate.open()
    assert await scene.answer(request) == ["created"]
    await scene.until(lambda: stays.worker.owned == {0, 1, 2, 3}, "all shards to be its own")


@scenario()
async def test_restart_same_host_old_commit_lands_late(scene: Scene) -> None:
    """The process is gone, its COMMIT is still on its way; whoever comes waits for it."""
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    transfer = scene.transfer(a, b, 5)
    gate = scene.before("flush_small", old)
    request = await scene.push(0, transfer)
    await scene.reached(gate)
    old.kill()
    new = scene.participant("new", [0])
    await asyncio.sleep(0.5)
    gate.open()
    await scene.ready(new)
    assert await scene.ask(0, transfer) == ["exists"]
    assert scene.told(request) is None
    assert scene.balance(b) == (0, 0, 0, 5)


@scenario(by_copy=True)
async def test_restart_same_host_old_commit_lands_after_the_takeover(scene: Scene) -> None:
    """The old transaction stands with its locks until whoever waits for it ends it."""
    a, b = scene.account(0), scene.account(0)
    old = await scene.worker("old", [0])
    transfer = scene.transfer(a, b, 5)
    gate = scene.before("COMMIT", old)
    await scene.push(0, transfer)
    await scene.reached(gate)
    old.kill()
    new = await scene.worker("new", [0])
    gate.open()
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    assert scene.balance(b) == (0, 0, 0, 6)
    assert new.worker.owned == {0}


@scenario()
async def test_heartbeat_renewed_while_claim_waits(scene: Scene) -> None:
    """The claim looks again once it has the locks, and leaves the shard alone."""
    a, b = scene.account(0), scene.account(0)
    owner, claimer, gate = await claim_from_frozen(scene)
    beats = scene.database.clock()

    def beaten() -> bool:
        tables, snapshot = scene.database.tables, scene.database.snapshot()
        row = tables["heartbeats"].one(snapshot, "heartbeats_pkey", owner.id)
        return row is not None and row["expires_at"] > beats

    await scene.until(beaten, "the owner to be alive")
    gate.open()
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    await asyncio.sleep(0.2)
    assert scene.owner(0) == "owner"
    assert claimer.worker.owned == set()


@scenario()
async def test_release_with_pipelined_credits(scene: Scene) -> None:
    """What was decided before the release is in it, or in a flush before."""
    a, b, c = scene.account(0), scene.account(1, DEBIT_LIMIT), scene.account(1)
    source = await scene.worker("source", [0, 1])
    gate = scene.before("flush_small", source)
    first = await scene.push(0, scene.transfer(a, b, 5))
    await scene.reached(gate)
    second = await scene.push(0, scene.transfer(a, b, 7))
    source.worker.stop()
    target = scene.participant("target", [0, 1])
    gate.open()
    assert await scene.answer(first) == ["created"]
    assert await scene.answer(second) == ["created"]
    await scene.ready(target)
    assert await scene.ask(1, scene.transfer(b, c, 12)) == ["created"]


@scenario()
async def test_handover_after_credit_to_prepared_account(scene: Scene) -> None:
    """The new owner wrote to the account as to a foreign one before: its figures are too old."""
    a, b, c = scene.account(0), scene.account(1, DEBIT_LIMIT), scene.account(0)
    target = await scene.worker("target", [0])
    source = await scene.worker("source", [1])
    assert await scene.ask(0, scene.transfer(a, b, 5)) == ["created"]
    assert await scene.ask(1, scene.transfer(b, c, 5)) == ["created"]
    assert await scene.ask(1, scene.transfer(scene.account(1), b, 9)) == ["created"]
    source.worker.stop()
    other = await scene.worker("other", [1])
    assert await scene.ask(1, scene.transfer(b, c, 9), scene.transfer(b, c, 1)) == [
        "created",
        "exceeds_credits",
    ]
    assert target.running
    assert other.running


@scenario()
async def test_regain_shard_reloads_stripes(scene: Scene) -> None:
    """Those of accounts homed elsewhere too, which another wrote through the shard meanwhile."""
    a, far = scene.account(0), scene.account(3)
    first = await scene.worker("first")
    last = await scene.worker("last", [3])
    await scene.until(lambda: first.worker.owned == {0, 1, 2}, "its share")
    assert await scene.ask(0, scene.transfer(a, far, 1)) == ["created"]
    between = await scene.worker("between", [0])
    await scene.until(lambda: scene.owner(0) == "between", "the shard to be asked for")
    assert await scene.ask(0, scene.transfer(a, far, 2)) == ["created"]
    between.worker.stop()
    await scene.until(lambda: scene.owner(0) == "first", "the shard to come back")
    assert await scene.ask(0, scene.transfer(a, far, 4)) == ["created"]
    assert scene.balance(far) == (0, 0, 0, 7)
    assert last.running


@scenario()
async def test_two_claim_one_expired_worker(scene: Scene) -> None:
    """The second has the lock after the first, and sees that the shard is no longer its."""
    a, b = scene.account(0), scene.account(0)
    owner = await scene.worker("owner", [0])
    owner.freeze()
    one, two = scene.participant("one", [0]), scene.participant("two", [0])
    gates = [scene.before("lock_workers", one), scene.before("lock_workers", two)]
    for gate in gates:
        await scene.reached(gate)
    for gate in gates:
        gate.open()
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    owner.thaw()
    await asyncio.sleep(3)
    assert sorted(len(each.worker.owned) for each in (owner, one, two)) == [0, 0, 1]
    assert scene.count("ownership", shard=0) == 2


@scenario()
async def test_two_claim_one_free_shard(scene: Scene) -> None:
    one, two = scene.participant("one", [0]), scene.participant("two", [0])
    gates = [scene.before("lock_workers", one), scene.before("lock_workers", two)]
    for gate in gates:
        await scene.reached(gate)
    for gate in gates:
        gate.open()
    await scene.until(lambda: one.worker.owned or two.worker.owned, "one to have it")
    await asyncio.sleep(1)
    assert sorted(len(each.worker.owned) for each in (one, two)) == [0, 1]


@scenario()
async def test_free_shard_claimed_while_a_locked_flush_writes_it(scene: Scene) -> None:
    """Nobody's row is locked and nobody's chain written, as anyone's."""
    a, b = scene.account(0), scene.account(1, DEBIT_LIMIT)
    borrower = await scene.worker("borrower", [0])
    gate = scene.before("COMMIT", borrower)
    request = await scene.push(0, scene.transfer(a, b, 5), scene.transfer(b, a, 3))
    await scene.reached(gate)
    claimer = scene.participant("claimer", [1])
    await asyncio.sleep(0.3)
    assert scene.owner(1) == "nobody"
    gate.open()
    assert await scene.answer(request) == ["created", "created"]
    await scene.ready(claimer)
    assert await scene.ask(1, scene.transfer(b, a, 3), scene.transfer(b, a, 2)) == [
        "exceeds_credits",
        "created",
    ]


@scenario(by_copy=True)
async def test_reload_meets_a_borrower(scene: Scene) -> None:
    """Number, owners and positions of one snapshot: what commits in between is seen as a whole."""
    a, b = scene.account(0), scene.account(1, DEBIT_LIMIT)
    lender = await scene.worker("lender", [1])
    borrower = await scene.worker("borrower", [0], skew=5.0)
    first = await scene.push(0, scene.transfer(a, b, 5), scene.transfer(b, a, 1))
    await scene.answer(first)
    reload = scene.after("ownership", lender)
    mine = await scene.push(1, scene.transfer(b, scene.account(1), 1))
    await scene.reached(reload)
    second = await scene.push(0, scene.transfer(b, a, 1))
    assert await scene.answer(second) == ["created"]
    reload.open()
    assert await scene.answer(mine) == ["created"]
    assert await scene.ask(1, scene.transfer(b, a, 3)) == ["exceeds_credits"]
    assert borrower.running


@scenario()
async def test_a_shard_is_released_while_its_claim_waits(scene: Scene) -> None:
    """It is nobody's by then, whose row the claim has not locked: it is not to be had so."""
    a, b = scene.account(0), scene.account(0)
    owner, claimer, gate = await claim_from_frozen(scene)
    owner.worker.stop()
    await scene.until(lambda: scene.owner(0) == "nobody", "the release")
    gate.open()
    await scene.ready(claimer)
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    assert scene.owner(0) == "claimer"


@scenario()
async def test_what_is_released_while_a_claim_waits_is_nobodys_to_write(scene: Scene) -> None:
    """The claimer looks again before it knows better: until then it writes nothing of the shard."""
    a, b = scene.account(0), scene.account(0)
    owner, claimer, claiming = await claim_from_frozen(scene)
    owner.worker.stop()
    await scene.until(lambda: scene.owner(0) == "nobody", "the release")
    looking = scene.before("look_at_shards", claimer)
    claiming.open()
    await scene.reached(looking)
    request = await scene.push(0, scene.transfer(a, b, 1))
    await asyncio.sleep(0.5)
    assert scene.told(request) is None
    looking.open()
    assert await scene.answer(request) == ["created"]
    assert scene.owner(0) == "claimer"


@scenario()
async def test_a_claimer_that_was_taken_over_knows_it_once_it_has_the_locks(scene: Scene) -> None:
    """It was frozen before: what it owned is another's by now, and it takes nothing else."""
    a, b = scene.account(0), scene.account(0)
    gone = await scene.worker("gone", [1])
    claimer = scene.participant("claimer", [0, 1])
    await scene.until(lambda: claimer.worker.owned == {0}, "what is free to be claimed")
    claiming = scene.before("lock_workers", claimer)
    gone.kill()
    await scene.reached(claiming)
    claimer.freeze()
    await scene.worker("taker", [0])
    claimer.thaw()
    claiming.open()
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    await scene.until(lambda: claimer.worker.owned == {1}, "the claimer to have the other")


@scenario()
async def test_what_was_lent_before_a_claim_is_loaded_again(scene: Scene) -> None:
    """The claim takes the next number of the chain as it is then: no flush fails any more."""
    a, far = scene.account(0), scene.account(2)
    poor = scene.account(0, DEBIT_LIMIT)
    other = await scene.worker("other", [1])
    lender = scene.participant("lender", [0, 1])
    await scene.until(lambda: lender.worker.owned == {0}, "what is free to be claimed")
    await scene.worker("borrower", [2])
    assert await scene.ask(0, scene.transfer(a, poor, 0)) == ["created"]
    brought = scene.transfer(far, poor, 5), scene.transfer(poor, far, 1)
    assert await scene.ask(2, *brought) == ["created", "created"]
    other.worker.stop()
    await scene.ready(lender)
    assert await scene.ask(0, scene.transfer(poor, a, 4)) == ["created"]


@scenario()
async def test_who_lets_a_shard_go_forgets_what_others_changed_before(scene: Scene) -> None:
    """Another has voided a hold under lock; that a shard goes is no reason to miss it."""
    await scene.worker("there", [1])
    here = await scene.worker("here")
    poor, a = scene.account(0, DEBIT_LIMIT), scene.account(0)
    hold = scene.transfer(poor, a, 10, "pending")
    assert await scene.ask(0, scene.transfer(a, poor, 10), hold) == ["created"] * 2
    assert await scene.ask(1, scene.ending(hold, "void_pending_transfer")) == ["created"]
    third = await scene.worker("third")
    await scene.until(lambda: bool(third.worker.owned), "a shard to go")
    assert scene.owner(0) == "here"
    assert here.worker.statistics.conflicts == 0
    assert await scene.ask(0, scene.transfer(poor, a, 10)) == ["created"]
