"""Safeguards of flows, each taken out by a small change; the seed beside it notices.

The file below `engine` or beside this one, what stands there, and what is put in its place.
Numbers in brackets are the rules of the plan. Where a safeguard is in SQL, what is changed is the
function that stands for the statement.

    python -m tests.simulation.flow_safeguards            looks for seeds anew, and prints them
    python -m tests.simulation.flow_safeguards --only id  of those whose name contains it
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.bounds import MUTATED_SECONDS_MAX

ROOT: Final = Path(__file__).parent.parent.parent
HERE: Final = "../tests/simulation/"
SEEDS: Final = 150
"""How many are tried before it is said that none notices."""


class Removal(NamedTuple):
    """A safeguard that is taken out, and the seed that notices; None where none is known."""

    seed: int | None
    file: str
    old: str
    new: str


REMOVALS: Final[dict[str, Removal]] = {
    "in doubt money is settled from the rows (1)": Removal(5, "flows/money.py", "        if outcome in SPENDS_ID:\n            return", "        if True:\n            return"),
    "what was asked and is lost is sent again (2)": Removal(14, "flows/rounds.py", "            looks.asks.append(Ask(flow, seq_of(last.request), last.request))", "            pass"),
    "what waits for the ledger still is not sent again (2)": Removal(None, "flows/desk.py", "if e is None or not queued[e]]", "if True]"),
    "a request is frozen (3)": Removal(43, "flows/people.py", "turn.made.asks.append(Ask(turn.flow.id, seq_of(row.request), row.request))", "turn.made.asks.append(Ask(turn.flow.id, row.seq, row.request[::-1]))"),
    "a cancellation waits for the hold (4)": Removal(6, "flows/people.py", 'if last.state == "asked":\n        # Whether', "if False:\n        # Whether"),
    "what was declined is compared with what was asked (5)": Removal(None, "flows/money.py", "if found.request == asked:", "if True:"),
    "each attempt has an id of its own (6)": Removal(84, "flows/requests.py", "occurrence = state.visits.get(number, 0) + 1", "occurrence = 1"),
    "a void that is not needed is done (7)": Removal(46, "flows/answers.py", "verdict.reason in VOID_DONE", "False"),
    "a post that failed may leave its hold open (7)": Removal(59, "flows/answers.py", '"over" if verdict.reason in HOLD_OVER else "open"', '"over"'),
    "whoever spends an id keeps the reason (8)": Removal(5, "flows/money.py", "user_data_64=int(reason),", "user_data_64=0,"),
    "the id of a reversal derives from what it reverses (9)": Removal(None, "flows/requests.py", "reversal_id(t.id, occurrence)", "transfer_id(flow.id, number, 0, occurrence)"),
    "nothing is sent before its commit (10)": Removal(0, "flows/rounds.py", "        await self._commit(batch)\n        return Flushed(", "        await self._desk.send(batch.asks)\n        await self._commit(batch)\n        return Flushed("),
    "only what is idempotent is called again in doubt (11)": Removal(9, "flows/answers.py", "if step.idempotent and last.attempt < step.attempts_max:", "if last.attempt < step.attempts_max:"),
    "an attempt did nothing, and one before it may have (11)": Removal(None, "flows/answers.py", "elif turn.state.is_unsure:", "elif False:"),
    "what is unknown leads to no end (12)": Removal(7, "flows/checks.py", 'if step.kind in {"void", "reverse", "end"} and point.unheard >= 0:', "if False:"),
    "a decision carries what its author saw (13)": Removal(None, "flows/people.py", "and newest > decision.seen:", "and False:"),
    "a signal is consumed once (14)": Removal(None, "flows/turn.py", "            if signal.number in self.state.consumed:\n                continue\n", ""),
    "an entry on the wrong stream is sent on (15)": Removal(None, "flows/rounds.py", "elsewhere.setdefault(home, []).append(place)", "pass"),
    "late is what was read to the end (16)": Removal(None, "flows/rules.py", "if last.due_at <= heard_until and", "if"),
    "late is judged by the stream of the flow's own shard (16)": Removal(None, "flows/rounds.py", "came.heard.get(home, 0)", "max(came.heard.values(), default=0)"),
    "who decides second is told so (17)": Removal(None, "flows/journal.py", 'self.reviews[former.seq] = how.get(row.event, "already_decided")', "pass"),
    "a refused id is spent (18)": Removal(None, "flows/batch.py", "        if start.id in self._refused:", "        if False:"),
    "a name is one account (19)": Removal(None, "flows/batch.py", "            if len(found) != 1:", "            if not found:"),
    "children of children have an end (21)": Removal(None, "flows/turn.py", "if self.flow.depth >= DEPTH_MAX:", "if False:"),
    "an occurrence has one id (22)": Removal(None, "flows/schedules.py", "return scheduled_id(self.id, self.nominal)", "return scheduled_id(self.id, id(self))"),
    "what was missed is made up for where it is declared (22)": Removal(None, "flows/schedules.py", 'if self.missed == "all" or', "if"),
    "what was missed is passed over where it is declared (22)": Removal(None, "flows/schedules.py", 'if self.missed == "none" and now - last.at > MISSED:', "if False:"),
    "one bad flow stops alone (24)": Removal(None, "flows/rounds.py", "if isinstance(error, EngineError) and not isinstance(error, RefusedError):\n                raise", "if True:\n                raise"),
    "a stream with the last id goes on (25)": Removal(None, "flows/streams.py", 'if max(map(int, last.split(b"-"))) > ID_PART_MAX:', "if False:"),
    "what is no stream stops nobody (25)": Removal(None, "flows/streams.py", "            if isinstance(answer, KeyRefusedError):\n                raise answer\n", ""),
    "so many early signals are kept, and no more (26)": Removal(None, "flows/early.py", "return self._kept[shard] + self._changes[shard] < EARLY_MAX", "return True"),
    "a new owner knows how many are kept (26)": Removal(None, "flows/loads.py", "        self.early_counts.load(await self._store.count_early(shards))", "        pass"),
    "no hold lapses while something is unknown": Removal(None, "flows/checks.py", "                if held.timeout_seconds:", "                if False:"),
    "no definition leaves a hold open": Removal(None, "flows/checks.py", "        for hold in sorted(point.open):\n            name", "        for hold in ():\n            name"),
    "no definition goes round for ever": Removal(None, "flows/checks.py", "elif state.get(to) == 1:", "elif False:"),
    "no flow ends with an open hold": Removal(None, "flows/turn.py", "            if self.state.held:\n                self.stop", "            if False:\n                self.stop"),
    "a limit is a limit": Removal(None, "flows/turn.py", "if branch.limit and self.state.taken[row.step, row.event] > branch.limit", "if False"),
    "a verdict is of the step that asked": Removal(None, "flows/answers.py", "or seq_of(asked.request) != seq", ""),
    "who starts a flow approves nothing in it": Removal(None, "flows/people.py", "if decision.by and decision.by == turn.flow.started_by:", "if False:"),
    "too late to cancel is said so": Removal(None, "flows/people.py", 'if state.has_reached or last.state == "stopped":', "if False:"),
    "a start that comes again is the same": Removal(None, "flows/batch.py", "        if before is not None:\n            return self._again(before, written, body)\n", ""),
    "a flow takes over what came before it": Removal(None, "flows/batch.py", "        signals = self._early.pop(start.id, ())", "        signals = []"),
    "a new owner knows what is due": Removal(None, "flows/session.py", "            await self._timers.load(taken, self._now)", "            pass"),
    "the expected number in the chain (25)": Removal(None, f"{HERE}statements_flows.py", 'row = {"worker": worker, "sequence": sequence, "number": number, "kind": kind, "time": time}', 'row = {"worker": worker, "sequence": 1 + _newest(run, worker), "number": number, "kind": kind, "time": time}'),
    "a row in the chain of who loses a shard (25)": Removal(None, f"{HERE}statements_flows.py", '            "steps": 0,\n        }\n        await run.insert("flows.flushes", row)\n', '            "steps": 0,\n        }\n'),
    "only who is dead loses its shards (25)": Removal(None, f"{HERE}statements_flows.py", "if is_release or not _is_alive(run, former):", "if True:"),
    "what was advanced and not written is forgotten (10)": Removal(None, "flows/rounds.py", "            self._live.clear()\n            pieces", "            pieces"),
    "an attempt of a former owner is unknown (11)": Removal(None, "flows/rounds.py", 'elif last.state == "asked" and (flow, last.seq) not in self._calls.in_flight:', "elif False:"),
    "an attempt under way is not given up (11)": Removal(None, "flows/rounds.py", 'elif last.state == "asked" and (flow, last.seq) not in self._calls.in_flight:', 'elif last.state == "asked":'),
    "a message that is known is taken once (14)": Removal(None, "flows/batch.py", "before = self._known.messages.get(key)", "before = None"),
    "an occurrence is over once its start was answered (22)": Removal(None, "flows/session.py", "        self._hear_moves(moves)\n", '        self._hear_moves(moves + [s.move("") for s in starts])\n'),
    "a session with other shards begins again (25)": Removal(None, "flows/shares.py", "        if mine != self.shards:\n", "        if False:\n"),
    "a child that is there is not started again in vain (21)": Removal(None, "flows/outbox.py", 'elif last is not None and last.state == "asked":', "elif False:"),
    "what was asked is looked at at once by a new owner (25)": Removal(None, "flows/steps.py", '_AT_ONCE: Final = frozenset({"asked", "unknown"})', "_AT_ONCE: Final = frozenset()"),
}  # fmt: skip


@contextmanager
def without(removal: Removal) -> Iterator[Path]:
    """A copy in which the safeguard is gone."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in ("engine", "tests"):
            ignored = shutil.ignore_patterns("__pycache__", "integration", "cases")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        file = copy / "engine" / removal.file
        text = file.read_text()
        if removal.old not in text:
            raise SystemExit(f"{removal.file} no longer has: {removal.old!r}; mend the removal")
        file.write_text(text.replace(removal.old, removal.new, 1))
        yield copy


def seed_that_notices(removal: Removal, first: int, seeds: int) -> int | None:
    """The first of some seeds that fails without the safeguard."""
    with without(removal) as copy:
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--flows", "--from", str(first),
             "--seeds", str(seeds)],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=MUTATED_SECONDS_MAX,
            check=False,
        )  # fmt: skip
    told = [line for line in done.stdout.splitlines() if line.startswith("failed: ")]
    return int(told[0].removeprefix("failed: [").removesuffix("]")) if told else None


def main() -> None:
    """Look for the first seed that notices each; exit 1 where none does."""
    parser = argparse.ArgumentParser(description="Which seeds notice that a safeguard is gone?")
    parser.add_argument("--only", default="", help="of those whose name contains it")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=0, help="begin at this one")
    options = parser.parse_args()
    unnoticed = []
    for name, removal in [*REMOVALS.items()][options.first :]:
        if options.only in name:
            seed = seed_that_notices(removal, 0, options.seeds)
            print(f"{seed!s:>5}  {name}", flush=True)
            unnoticed += [name] if seed is None else []
    if unnoticed:
        sys.exit(1)


if __name__ == "__main__":
    main()
