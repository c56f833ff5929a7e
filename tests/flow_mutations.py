"""Safeguards of flows, taken out: the rules of the plan by their number, and the others.

File, text, what it becomes, and the test that must fail for it.
"""

from typing import Final

RULES = "tests/unit/test_flow_rules.py"
CHECKS = "tests/unit/test_flow_definitions.py"
SEEDS = "tests/simulation/test_flow_seeds.py"
FLOWS = "tests/integration/test_flows.py"
DOUBTS = "tests/integration/test_flow_doubts.py"
EARLY = "tests/integration/test_flow_early.py"
SCHEDULES = "tests/integration/test_flow_schedules.py"
WORKERS = "tests/integration/test_flow_workers.py"
COLUMNS = "tests/property/test_flow_columns_equal_rules.py"

RULE_MUTATIONS: Final[dict[int, list[tuple[str, str, str, str]]]] = {
    1: [("flows/money.py", "        if outcome in SPENDS_ID:\n            return", "        if True:\n            return", RULES)],
    2: [
        ("flows/rounds.py", "            looks.asks.append(Ask(flow, seq_of(last.request), last.request))", "            pass", DOUBTS),
        ("flows/desk.py", "if e is None or not queued[e]]", "if True]", DOUBTS),
    ],
    3: [("flows/people.py", "turn.made.asks.append(Ask(turn.flow.id, seq_of(row.request), row.request))", "turn.made.asks.append(Ask(turn.flow.id, row.seq, row.request[::-1]))", RULES)],
    4: [("flows/people.py", 'if last.state == "asked":\n        # Whether', "if False:\n        # Whether", RULES)],
    5: [("flows/money.py", "if found.request == asked:", "if True:", RULES)],
    6: [("flows/requests.py", "occurrence = state.visits.get(number, 0) + 1", "occurrence = 1", RULES)],
    7: [
        ("flows/answers.py", "verdict.reason in VOID_DONE", "False", RULES),
        ("flows/answers.py", '"over" if verdict.reason in HOLD_OVER else "open"', '"over"', RULES),
    ],
    8: [("flows/money.py", "user_data_64=int(reason),", "user_data_64=0,", RULES)],
    9: [("flows/requests.py", "reversal_id(t.id, occurrence)", "transfer_id(flow.id, number, 0, occurrence)", RULES)],
    10: [("flows/rounds.py", "        await self._commit(batch)\n        return Flushed(", "        await self._desk.send(batch.asks)\n        await self._commit(batch)\n        return Flushed(", DOUBTS)],
    11: [
        ("flows/answers.py", "if step.idempotent and last.attempt < step.attempts_max:", "if last.attempt < step.attempts_max:", RULES),
        ("flows/answers.py", "elif turn.state.is_unsure:", "elif False:", RULES),
    ],
    12: [("flows/checks.py", 'if step.kind in {"void", "reverse", "end"} and point.unheard >= 0:', "if False:", CHECKS)],
    13: [("flows/people.py", "and newest > decision.seen:", "and False:", RULES)],
    14: [("flows/turn.py", "            if signal.number in self.state.consumed:\n                continue\n", "", RULES)],
    15: [("flows/rounds.py", "elsewhere.setdefault(home, []).append(place)", "pass", DOUBTS)],
    16: [
        ("flows/rules.py", "if last.due_at <= heard_until and", "if", RULES),
        ("flows/rounds.py", "came.heard.get(home, 0)", "max(came.heard.values(), default=0)", EARLY),
    ],
    17: [("flows/journal.py", 'self.reviews[former.seq] = how.get(row.event, "already_decided")', "pass", RULES)],
    18: [("flows/batch.py", "        if start.id in self._refused:", "        if False:", FLOWS)],
    19: [("flows/batch.py", "            if len(found) != 1:", "            if not found:", DOUBTS)],
    20: [("flows/ids.py", '_CHILD: Final = b"flow child"', '_CHILD: Final = b"flow call"', RULES)],
    21: [("flows/turn.py", "if self.flow.depth >= DEPTH_MAX:", "if False:", RULES)],
    22: [
        ("flows/schedules.py", "return scheduled_id(self.id, self.nominal)", "return scheduled_id(self.id, id(self))", SCHEDULES),
        ("flows/schedules.py", 'if self.missed == "all" or', "if", SCHEDULES),
        ("flows/schedules.py", 'if self.missed == "none" and now - last.at > MISSED:', "if False:", SCHEDULES),
    ],
    23: [("flows/checks.py", "if (again + 1) * rows > SEQ_MAX:", "if False:", CHECKS)],
    24: [
        ("flows/rounds.py", "            if len(pieces) == 1:\n", "            if True:\n", WORKERS),
        ("flows/rounds.py", "if isinstance(error, EngineError) and not isinstance(error, RefusedError):\n                raise", "if True:\n                raise", WORKERS),
    ],
    25: [
        ("flows/streams.py", 'if max(map(int, last.split(b"-"))) > ID_PART_MAX:', "if False:", EARLY),
        ("flows/streams.py", "            if isinstance(answer, KeyRefusedError):\n                raise answer\n", "", EARLY),
    ],
    26: [
        ("flows/early.py", "return self._kept[shard] + self._changes[shard] < EARLY_MAX", "return True", EARLY),
        ("flows/loads.py", "        self.early_counts.load(await self._store.count_early(shards))", "        pass", EARLY),
        ("store/migrations/0012_flows_schedules.sql", " AND e.received_at < clock_timestamp() - interval '90 days'", "", EARLY),
        ("store/migrations/0012_flows_schedules.sql", "USING flows.flows f WHERE e.flow = ANY (started) AND f.id = e.flow", "WHERE e.flow = ANY (started)", EARLY),
        ("flows/session.py", 'kinds = ("signals", "flows") if self._are_starts_read else ("signals",)', 'kinds = ("signals", "flows")', DOUBTS),
    ],
}  # fmt: skip
"""By the rule of section 8 of the plan."""

OTHERS: Final[list[tuple[str, str, str, str]]] = [
    ("flows/checks.py", "                if held.timeout_seconds:", "                if False:", CHECKS),
    ("flows/checks.py", "        for hold in sorted(point.open):\n            name", "        for hold in ():\n            name", CHECKS),
    ("flows/checks.py", "elif state.get(to) == 1:", "elif False:", CHECKS),
    ("flows/turn.py", "            if self.state.held:\n                self.stop", "            if False:\n                self.stop", SEEDS),
    ("flows/turn.py", "if branch.limit and self.state.taken[row.step, row.event] > branch.limit", "if False", RULES),
    ("flows/answers.py", "or seq_of(asked.request) != seq", "", RULES),
    ("flows/people.py", "if decision.by and decision.by == turn.flow.started_by:", "if False:", RULES),
    ("flows/people.py", 'if state.has_reached or last.state == "stopped":', "if False:", RULES),
    ("flows/batch.py", "        if before is not None:\n            return self._again(before, written, body)\n", "", FLOWS),
]  # fmt: skip

COLUMN_MUTATIONS: Final[list[tuple[str, str, str, str]]] = [
    ("flows/columns.py", "key = (what, live.conditions, unheard)", "key = (what, (), unheard)", COLUMNS),
    ("flows/columns.py", "key = (what, live.conditions, unheard)", "key = (what, live.conditions, len(unheard))", COLUMNS),
    ("flows/columns.py", 'return "settled", happening.seq, verdict.kind', 'return "settled", 0, verdict.kind', COLUMNS),
    ("flows/columns.py", "verdict.kind, verdict.reason", "verdict.kind", COLUMNS),
    ("flows/columns.py", "0 < due_at <= now, due_at", "due_at", COLUMNS),
    ("flows/columns.py", "<= now, due_at <= happening.heard_until", "<= now", COLUMNS),
    ("flows/columns.py", "is Started and not happening.start_at", "is Started", COLUMNS),
    ("flows/forms.py", "row.attempt, asked_as, detail", 'row.attempt, asked_as, ""', COLUMNS),
    ("flows/plans.py", ' or "review" in states', "", COLUMNS),
    ("flows/live.py", "if len(plan.left) < len(self.unheard):", "if False:", COLUMNS),
    ("flows/steps.py", "        self.catch_up_with(live)\n        self._soon", "        self._soon", COLUMNS),
    ("flows/steps.py", "            live.forget_state()\n", "", COLUMNS),
    ("flows/live.py", "        self._state = None\n        self.form = plan.form", "        self.form = plan.form", COLUMNS),
    ("flows/requests.py", "        if place < len(step.legs) - 1:", "        if True:", COLUMNS),
    ("flows/copies.py", 'constant.replace(b"%", b"%%")', "constant", COLUMNS),
]  # fmt: skip
"""Of what lets flows be decided in columns."""

FLOW_MUTATIONS: Final = (
    [m for each in RULE_MUTATIONS.values() for m in each] + OTHERS + COLUMN_MUTATIONS
)
"""What the simulator's seeds notice stands in `tests/simulation/flow_safeguards.py`."""
