"""What must hold of flows at the end of a run, whatever happened in it.

Journals and money are read by `tests.flow_judge`; here is what only the whole world knows: who
wrote which row, what was told to whom, what stood in which stream.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from engine.flows.journal import Row
from engine.ledger.nouns import shard_of
from tests.flow_judge import judge, judge_calls, judge_reasons
from tests.simulation.flow_schedules import judge_schedules
from tests.simulation.flow_world import FlowWorld
from tests.simulation.replay import Replay

Journals = dict[bytes, list[Row]]

TOLD_WHY = frozenset({"already_decided", "late", "newer_evidence", "not_by_starter"})


def faults_of(world: FlowWorld) -> list[str]:
    """All that is wrong at the end."""
    journals = world.journals()
    spent = world.spent()
    faults = [
        *world.faults,
        *judge(world.table, journals, spent, world.open_holds()),
        *judge_reasons(world.table, journals, spent, world.told),
        *judge_calls(world.called, world.table, journals),
        *_judge_others(world, journals),
        *judge_schedules(world),
        *_judge_writers(world),
        *_judge_late(world, journals),
        *_judge_decisions(world, journals),
    ]
    if world.rows("open"):
        faults.append(f"ended flows are kept as open: {world.rows('open')}")
    for flow, answer in world.cancelled.items():
        ended = journals[flow][-1].step == world.table.cancelled_end
        if (answer == "cancelled") != ended:
            faults.append(f"told {answer}, and it ended with {journals[flow][-1].event}")
    Replay(world.database.commits)
    return faults


def _judge_others(world: FlowWorld, journals: Journals) -> Iterator[str]:
    """Errands and those within each other do what they do, and who starts one knows of it."""
    spent, holds = world.spent(), world.open_holds()
    children = {flow: rows for number in (2, 3) for flow, rows in world.journals(number).items()}
    for number in (2, 3):
        table, theirs = world.tables[number - 1], world.journals(number)
        yield from judge(table, theirs, spent, holds)
        yield from judge_reasons(table, theirs, spent, world.told)
    refused = {r["id"] for r in world.rows("flows") if r["outcome"] != "created"}
    parents = [(world.table, rows) for rows in journals.values()]
    parents += [(world.tables[2], rows) for rows in world.journals(3).values()]
    started = [r["id"] for r in world.rows("flows") if r["started_by"] == "clock"]
    for table, rows in parents:
        child = b""
        for row in rows:
            if table.steps[row.step].kind != "start":
                continue
            child = row.transfer_id or child
            if row.state == "asked":
                started.append(child)
            elif row.state == "done" and row.event in {"created", "ended"}:
                if child not in children:
                    yield f"seq {row.seq}: {row.event}, and there is no child"
                elif row.event == "ended" and row.reference != children[child][-1].event:
                    yield f"seq {row.seq}: its child has not ended {row.reference!r}"
            elif row.state == "done" and row.event == "declined" and child in children:
                yield f"seq {row.seq}: declined, and the child is there"
    yield from (f"child {i.hex()[:8]} was started for nobody" for i in children.keys() - started)
    yield from (f"refused {i.hex()[:8]} has begun" for i in refused & children.keys())


def _judge_decisions(world: FlowWorld, journals: Journals) -> Iterator[str]:
    """A decision that was taken is kept, and nothing was known by then that its author had not
    seen; one that was not is told why."""
    inbox = world.rows("inbox")
    for message, made in world.decided.items():
        after = [row for row in journals[made.flow] if row.seq > made.seq and row.state == "done"]
        kept = (after[0].event, after[0].reference) if after else ()
        review = world.table.steps[journals[made.flow][made.seq - 1].step]
        if made.outcome != "decided":
            stopped = any(row.state == "stopped" for row in journals[made.flow][made.seq :])
            if made.outcome not in TOLD_WHY and not stopped:
                yield f"{made.by} is told {made.outcome} of a review that was open"
            continue
        if kept != (made.answer, made.by):
            yield f"{made.by} was told that {made.answer} was taken, and {after[:1]} is kept"
        mine = [r for r in inbox if r["flow"] == made.flow]
        taken = next((r["number"] for r in mine if r["message_id"] == message), 0)
        signals = [r["number"] for r in mine if not r["name"].startswith(":")]
        if review.listens and any(made.seen < number < taken for number in signals):
            yield f"{made.by} has decided, and has not seen what was known"


def _judge_late(world: FlowWorld, journals: Journals) -> Iterator[str]:
    """Nothing is late whose signal stood in its stream in time, unless Redis forgot it."""
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
                    yield f"seq {row.seq} is late, and {key} had come"


def _judge_writers(world: FlowWorld) -> Iterator[str]:
    """Every row was written by a worker that owned its shard then, in its chain."""
    owners: dict[int, bytes] = {}
    sequences: dict[bytes, int] = {}
    for commit in world.database.commits:
        by_table: dict[str, list[Any]] = {}
        for table, row in commit.made:
            by_table.setdefault(table, []).append(row)
        flushes = by_table.get("flows.flushes", [])
        for row in flushes:
            if row["sequence"] != sequences.get(row["worker"], 0) + 1:
                yield f"commit {commit.number} leaves a gap in its chain"
            sequences[row["worker"]] = row["sequence"]
        for table in ("steps", "flows", "inbox"):
            for row in by_table.get(f"flows.{table}", []):
                flow = row["id"] if table == "flows" else row["flow"]
                shard = shard_of(flow, world.database.shard_count)
                if [f["worker"] for f in flushes] != [owners.get(shard)]:
                    yield f"commit {commit.number}: {table} by who does not own {shard}"
        owners |= {row["shard"]: row["worker"] for row in by_table.get("flows.owners", [])}
