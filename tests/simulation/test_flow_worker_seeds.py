"""Flow workers beside the ledger's, in a world that misbehaves: every promise of flows, by seed."""

import os
import subprocess
import sys

import pytest

from tests.simulation.flow_run import run_flow_seed
from tests.simulation.judge_flows import faults_of
from tests.simulation.test_seeds import ROOT

SEEDS, CHUNK, LONG_FROM = 500, 20, 100


@pytest.mark.parametrize(
    "first",
    [
        *range(0, LONG_FROM, CHUNK),
        *(pytest.param(at, marks=pytest.mark.long) for at in range(LONG_FROM, SEEDS, CHUNK)),
    ],
)
def test_no_promise_of_flows_breaks(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run = run_flow_seed(seed)
        if run.failure is not None:
            print("\n".join([*run.world.story()][-80:]))
            print(f"again: scripts/simulate --flows --from {seed} --seeds 1 --trace")
            raise AssertionError(f"seed {seed}: {run.failure}") from run.failure


def test_the_runs_of_flows_do_all_that_there_is() -> None:
    """Calls, reviews, cancellations, kills: a world in which nothing happens is no test."""
    states, events, kinds, called, decided, cancelled, workers = set(), set(), set(), 0, 0, 0, 0
    for seed in range(40):
        world = run_flow_seed(seed).world
        for rows in world.journals().values():
            states |= {row.state for row in rows}
            events |= {row.event for row in rows}
            kinds |= {world.table.steps[row.step].kind for row in rows}
        called += len(world.called)
        decided += len(world.decided)
        cancelled += sum(answer == "cancelled" for answer in world.cancelled.values())
        workers += sum(one.process.dead for one in world.participants)
    assert states >= {"asked", "waiting", "review", "done", "ended", "stopped"}
    assert events >= {"created", "declined", "done", "late", "evidence", "unknown", "resumed"}
    assert kinds >= {"hold", "post", "void", "move", "chain", "reverse", "wait", "review", "call"}
    assert min(called, decided, workers) >= 20
    assert cancelled >= 2


def test_the_judge_of_flows_sees_what_was_not_asked_for() -> None:
    world = run_flow_seed(3).world
    assert faults_of(world) == []
    commit = next(c for c in world.database.commits if any(t == "flows.steps" for t, _ in c.made))
    flush = next(row for table, row in commit.made if table == "flows.flushes")
    before, flush["worker"] = flush["worker"], b"somebody else is"
    assert faults_of(world)
    flush["worker"] = before
    key = next(iter(world.journals()))
    world.cancelled[key] = "cancelled" if not world.cancelled.get(key) else "ended"
    assert faults_of(world)


def test_a_seed_of_flows_repeats_its_run_in_any_process() -> None:
    program = (
        "from tests.simulation.flow_run import run_flow_seed\n"
        "print([run_flow_seed(seed).world.fingerprint() for seed in range(5)])\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in ("0", "1", "2")
    }
    assert len(told) == 1
