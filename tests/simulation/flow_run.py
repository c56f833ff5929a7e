"""One run of flows from one seed: a world, its troubles, and an independent judgement."""

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence

import engine.flows.desk
import engine.flows.early
import engine.flows.rounds
import engine.flows.schedules
import engine.flows.session
import engine.flows.turn
from tests.simulation.faults import Faults
from tests.simulation.flow_outsiders import Outsiders
from tests.simulation.flow_people import People
from tests.simulation.flow_schedules import add_schedules, is_due
from tests.simulation.flow_world import FlowParticipant, FlowWorld
from tests.simulation.judge_flows import faults_of
from tests.simulation.loop import SimulatedLoop, StuckError
from tests.simulation.replay import broken
from tests.simulation.run import Run, check_errors, leave
from tests.simulation.world import sized, told_to

QUIET_SECONDS_MAX = 300.0
"""Once nothing goes wrong any more, every flow has ended within it."""

DEPTH_MAX = 8
LINES_MAX = 60_000
"""Things that happen in a run, some twenty times as many as in most."""

ROWS_MAX = 400
"""No definition that is drawn, and is sound, needs so many rows."""


class FlowFaults(Faults):
    """Troubles of ledger workers and flow workers alike."""

    world: FlowWorld

    def __init__(self, world: FlowWorld, chance: random.Random, seconds: float) -> None:
        super().__init__(world, chance, seconds)
        self.kinds += [self._kill_at] * random.Random(chance.random()).choice([0, 0, 1, 3])

    async def _kill_at(self) -> None:
        """Killed while a statement of a flow worker is under way."""
        crew = [(slot, one) for slot, one in self.crew.items() if isinstance(one, FlowParticipant)]
        slot, victim = self.random.choice(crew)
        if victim.running and await self._reaches(victim):
            victim.kill()
            self.start(slot, victim.shards)

    def open_crew(self) -> None:
        """Some of each kind, each with its share."""
        for number in range(self.random.choice([1, 1, 2])):
            self.start(f"w{number}", None)
        for number in range(self.random.choice([1, 2, 2, 3])):
            self.start(f"f{number}", None)

    def start(self, slot: str, shards: Sequence[int] | None) -> None:
        if slot.removeprefix("standby of ").startswith("w"):
            super().start(slot, shards)
            return
        self.starts += 1
        self.crew[slot] = self.world.flow_participant(f"{slot}#{self.starts}")


def run_flow_seed(seed: int) -> Run:
    """Simulate a seed to its end."""
    chance = random.Random(f"flow run {seed}")
    world = FlowWorld(seed, chance.choice([1, 2, 4]))
    run = Run(seed, world)
    loop = SimulatedLoop()
    with told_to(world), sized(), _drawn(chance):
        try:
            loop.run_until_complete(_live(world, chance))
            check_errors(loop)
            _judge(world)
        except (Exception, StuckError) as failure:  # noqa: BLE001 - the run's result
            run.failure = failure
        finally:
            loop.close()
    return run


@contextlib.contextmanager
def _drawn(chance: random.Random) -> Iterator[None]:
    """Reads that wait for longer, what is asked looked for sooner, names that the seed draws."""
    names = random.Random(chance.random())
    look_again = names.choice([5_000_000, 300_000])
    drawn = (
        (engine.flows.session, "BLOCK_MS", 1000),
        (engine.flows.turn, "LOOK_AGAIN", look_again),
        (engine.flows.rounds, "LOOK_AGAIN", look_again),
        (engine.flows.early, "EARLY_MAX", names.choice([10_000, 3])),
        (engine.flows.schedules, "ASK_AGAIN", look_again),
        (engine.flows.desk, "token_hex", lambda count: names.randbytes(count or 8).hex()),
    )
    before = [getattr(module, name) for module, name, _ in drawn]
    for module, name, value in drawn:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(drawn, before, strict=True):
            setattr(module, name, value)


def _judge(world: FlowWorld) -> None:
    faults = faults_of(world)
    if faults:
        raise broken("flows", *faults)


async def _live(world: FlowWorld, chance: random.Random) -> None:
    count = world.database.shard_count
    bank, payee, transit = (world.account(chance.randrange(count)) for _ in range(3))
    payer = world.account(chance.randrange(count), "debits_must_not_exceed_credits")
    world.accounts_by_name = {"payer": payer, "payee": payee, "transit": transit}
    world.define()
    world.schedules = add_schedules(world, str(world.chance.random()))
    faults = FlowFaults(world, chance, chance.choice([1.0, 4.0, 8.0]))
    try:
        faults.open_crew()
        funds = {
            "id": f"00000000-0000-0000-0000-{1:012d}", "debit_account_id": bank,
            "credit_account_id": payer, "amount": chance.randint(0, 400), "ledger": 1, "code": 1,
        }  # fmt: skip
        await world.send(chance.randrange(count), [funds], "funds")
        flows = [_flow_id(chance) for _ in range(chance.choice([1, 2, 4, 8]))]
        amounts = [chance.randint(0, chance.choice([4, 120, 120])) for _ in flows]
        living = [
            asyncio.ensure_future(world.live(*each)) for each in zip(flows, amounts, strict=True)
        ]
        people = asyncio.ensure_future(People(world).see_to_reviews())
        outsiders = Outsiders(world, flows)
        meddling = asyncio.ensure_future(outsiders.meddle())
        await faults.run()

        def over() -> bool:
            if len(world.lines) > LINES_MAX:
                raise broken("flows", f"over {LINES_MAX} things have happened, and it goes on")
            if any(row.seq > ROWS_MAX for row in world.last_rows().values()):
                raise broken("flows", f"a flow has over {ROWS_MAX} rows, and goes on")
            if any(row["depth"] > DEPTH_MAX for row in world.rows("flows")):
                raise broken("flows", f"a flow is deeper than {DEPTH_MAX}")
            tasks = [*living, meddling]
            started = len(world.journals()) == len(flows)
            quiet = started and not world.rows("open") and not is_due(world)
            return quiet and all(task.done() for task in tasks)

        try:
            await world.until(over, "", QUIET_SECONDS_MAX)
        except AssertionError:
            left = [row for row in world.last_rows().values() if row.state != "ended"]
            raise broken("nothing vanishes", "not ended:", *left[:3], "asked:", living) from None
        world.quiet_at = world.database.clock()
        people.cancel()
        for task in [*living, meddling]:
            task.result()
        await leave(world, calm=False)
    finally:
        await world.end()


def _flow_id(chance: random.Random) -> str:
    text = f"{chance.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
