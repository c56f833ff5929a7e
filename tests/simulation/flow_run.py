"""One run of flows from one seed: a world, its troubles, and an independent judgement."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import engine.flows.desk
import engine.flows.session
from engine.flows.journal import Row
from engine.ledger.nouns import shard_of
from tests.flow_judge import judge, judge_calls
from tests.simulation.faults import Faults
from tests.simulation.flow_world import FlowWorld
from tests.simulation.loop import SimulatedLoop, StuckError
from tests.simulation.replay import Replay, broken
from tests.simulation.run import Run, check_errors, leave
from tests.simulation.world import sized, told_to

QUIET_SECONDS_MAX = 300.0
"""Once nothing goes wrong any more, every flow has ended within it."""


class FlowFaults(Faults):
    """Troubles of ledger workers and flow workers alike."""

    world: FlowWorld

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
    """Reads that wait for longer, and names of sessions that the seed draws."""
    names = random.Random(chance.random())
    before = engine.flows.session.BLOCK_MS, engine.flows.desk.token_hex
    engine.flows.session.BLOCK_MS = 1000
    engine.flows.desk.token_hex = lambda count: names.randbytes(count or 8).hex()
    try:
        yield
    finally:
        engine.flows.session.BLOCK_MS, engine.flows.desk.token_hex = before


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
    faults = FlowFaults(world, chance, chance.choice([1.0, 4.0, 8.0]))
    try:
        faults.open_crew()
        funds = {
            "id": f"00000000-0000-0000-0000-{1:012d}", "debit_account_id": bank,
            "credit_account_id": payer, "amount": chance.randint(0, 400), "ledger": 1, "code": 1,
        }  # fmt: skip
        await world.send(chance.randrange(count), [funds], "funds")
        flows = [_flow_id(chance) for _ in range(chance.choice([1, 2, 4, 8]))]
        living = [asyncio.ensure_future(world.live(flow, chance.randint(0, 120))) for flow in flows]
        people = asyncio.ensure_future(world.see_to_reviews())
        await faults.run()

        def over() -> bool:
            ended = [row.state == "ended" for row in world.last_rows().values()]
            return len(ended) == len(flows) and all(ended) and all(task.done() for task in living)

        try:
            await world.until(over, "", QUIET_SECONDS_MAX)
        except AssertionError:
            left = [row for row in world.last_rows().values() if row.state != "ended"]
            raise broken("nothing vanishes", "not ended:", *left[:3], "asked:", living) from None
        people.cancel()
        for task in living:
            task.result()
        await leave(world, calm=False)
    finally:
        await world.end()


def _flow_id(chance: random.Random) -> str:
    text = f"{chance.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def faults_of(world: FlowWorld) -> list[str]:
    """All that is wrong at the end."""
    journals = world.journals()
    faults = [
        *world.faults,
        *judge(world.table, journals, world.spent(), world.open_holds()),
        *judge_calls(world.called, world.table),
        *_judge_writers(world),
        *_judge_late(world, journals),
    ]
    if world.rows("open"):
        faults.append(f"ended flows are kept as open: {world.rows('open')}")
    for flow, seq, answer, by in world.decided.values():
        taken = [r for r in journals[flow] if r.seq > seq and r.state == "done"]
        if not taken or (taken[0].event, taken[0].reference) != (answer, by):
            faults.append(f"{by} was told that {answer} was taken, and {taken[:1]} is kept")
    for flow, answer in world.cancelled.items():
        ended = journals[flow][-1].step == world.table.cancelled_end
        if (answer == "cancelled") != ended:
            faults.append(f"told {answer}, and it ended with {journals[flow][-1].event}")
    Replay(world.database.commits)
    return faults


def _judge_late(world: FlowWorld, journals: dict[bytes, list[Row]]) -> list[str]:
    """Nothing is late whose signal stood in its stream in time, unless Redis forgot it."""
    faults = []
    for flow, rows in journals.items() if not world.log_lost else ():
        consumed: set[tuple[str, str]] = set()
        for before, row in itertools.pairwise(rows):
            step = world.table.steps[row.step]
            if row.signal:
                consumed.add((step.signal, row.reference))
            if row.event != "late":
                continue
            waits = [row.step] if step.kind == "wait" else step.listens
            for time, of, signal in world.arrived:
                key = signal["name"], signal["message_id"]
                heard = any(
                    (world.table.steps[n].signal, signal["event"] in world.table.steps[n].branches)
                    == (signal["name"], True)
                    for n in waits
                )
                if heard and of == flow and time <= before.due_at and key not in consumed:
                    faults.append(f"seq {row.seq} is late, and {key} had come")
    return faults


def _judge_writers(world: FlowWorld) -> list[str]:
    """Every row was written by a worker that owned its shard then, in its chain."""
    faults = []
    owners: dict[int, bytes] = {}
    sequences: dict[bytes, int] = {}
    for commit in world.database.commits:
        by_table: dict[str, list[Any]] = {}
        for table, row in commit.made:
            by_table.setdefault(table, []).append(row)
        flushes = by_table.get("flows.flushes", [])
        for row in flushes:
            if row["sequence"] != sequences.get(row["worker"], 0) + 1:
                faults.append(f"commit {commit.number} leaves a gap in its chain")
            sequences[row["worker"]] = row["sequence"]
        for table in ("steps", "flows", "inbox"):
            for row in by_table.get(f"flows.{table}", []):
                flow = row["id"] if table == "flows" else row["flow"]
                shard = shard_of(flow, world.database.shard_count)
                if [f["worker"] for f in flushes] != [owners.get(shard)]:
                    faults.append(f"commit {commit.number}: {table} by who does not own {shard}")
        owners |= {row["shard"]: row["worker"] for row in by_table.get("flows.owners", [])}
    return faults
