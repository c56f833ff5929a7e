"""Every scenario is a test by its name."""

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
_TEST = re.compile(r"def (test_\w+)\(")


def names(folder: Path) -> str:
    """The names of all tests below a folder, one a line."""
    found = [_TEST.findall(file.read_text()) for file in folder.rglob("test_*.py")]
    return "\n".join(name for each in found for name in each)


def test_every_scenario_is_in_the_name_of_a_test() -> None:
    everywhere, with_servers = names(TESTS), names(TESTS / "integration")
    missing = []
    for line in (TESTS / "cases" / "scenarios.txt").read_text().splitlines():
        scenario, _, real = line.partition(" ")
        if scenario not in (with_servers if real else everywhere):
            missing.append(line)
    assert not missing
