"""Each rule, each way to ask and each scenario of flows is a test, and each rule can be broken."""

import re

import pytest

from tests.flow_mutations import FLOW_MUTATIONS, RULE_MUTATIONS
from tests.mutations import ROOT
from tests.simulation.flow_safeguards import REMOVALS
from tests.unit.test_scenarios import TESTS, names

WAYS = frozenset(
    {
        "define", "list", "show", "start", "get", "steps", "open", "cancel", "resume", "resolve",
        "schedule", "worker", "signal", "review", "streams",
    }
)  # fmt: skip


def plan() -> dict[tuple[str, str], list[str]]:
    """What is promised, and the tests of it."""
    lines = (TESTS / "cases" / "flow_rules.txt").read_text().splitlines()
    return {(kind, name): tests for kind, name, *tests in map(str.split, lines)}


def test_every_rule_way_and_scenario_of_flows_has_its_tests() -> None:
    rules = {("rule", str(number)) for number in range(1, 27)}
    scenarios = {("scenario", str(number)) for number in range(1, 11)}
    assert set(plan()) == rules | scenarios | {("way", way) for way in WAYS}
    there = set(names(TESTS).splitlines())
    missing = {key: [t for t in tests if t not in there] for key, tests in plan().items()}
    assert not {key: tests for key, tests in missing.items() if tests}
    assert all(plan().values())


@pytest.mark.parametrize("rule", range(1, 27))
def test_a_rule_of_flows_has_a_safeguard_whose_absence_one_of_its_tests_notices(rule: int) -> None:
    named = set(plan()["rule", str(rule)])
    tried = {file for _, _, _, file in RULE_MUTATIONS[rule]}
    for file in tried:
        found = set(re.findall(r"def (test_\w+)\(", (ROOT / file).read_text()))
        assert found & named, f"{file} has none of {sorted(named)}"


def test_what_is_taken_out_stands_in_the_code() -> None:
    simulated = [(removal.file, removal.old, removal.new) for removal in REMOVALS.values()]
    for file, old, new in [mutation[:3] for mutation in FLOW_MUTATIONS] + simulated:
        assert old != new
        assert old in (ROOT / "engine" / file).read_text(), f"{file}: {old}"
