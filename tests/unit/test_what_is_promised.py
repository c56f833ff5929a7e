"""What FAULTS.md promises has a test behind each cell, and each kind of the chaos run a row."""

import re
from pathlib import Path

import tests.chaos.run  # noqa: F401 - with it all faults are known
from tests.chaos.faults import FAULTS

TESTS = Path(__file__).parent.parent
TEXT = (TESTS / "FAULTS.md").read_text()
_LINK = re.compile(r"\[[^]]+\]\(([\w/.]+)#(test_\w+)\)")


def tables() -> list[list[list[str]]]:
    """The tables of the page, each as rows of cells, without its head."""
    found: list[list[list[str]]] = []
    for line in TEXT.splitlines():
        if line.startswith("|---"):
            if found:
                found[-1].pop()  # the head of this one
            found.append([])
        elif line.startswith("| ") and found:
            found[-1].append([cell.strip() for cell in line.split("|")[1:-1]])
    return found


def test_every_link_is_to_a_test_that_is_there() -> None:
    links = _LINK.findall(TEXT)
    assert len(links) > 80
    assert len(links) == TEXT.count("#test_")
    stale = [
        f"{file}#{test}"
        for file, test in links
        if not (TESTS / file).exists() or f"def {test}(" not in (TESTS / file).read_text()
    ]
    assert not stale


def test_every_cell_that_promises_has_a_test() -> None:
    promised, lessons = tables()
    for row in promised:
        assert len(row) == 4, row
        assert all(_LINK.search(cell) for cell in row[2:]), row
    for row in lessons:
        assert len(row) == 2, row
        assert _LINK.search(row[1]), row
    assert len(lessons) >= 40


def test_every_kind_of_the_chaos_run_has_a_row() -> None:
    promised, _ = tables()
    named = [kind for row in promised for kind in re.findall(r"`(\w+)`", row[1])]
    assert sorted(named) == sorted(FAULTS)
