"""Every row of `cases/one_bad_thing.txt` has tests that are there, and is seen to be needed."""

from pathlib import Path
from typing import NamedTuple

from tests.mutations import MUTATIONS

TESTS = Path(__file__).parent.parent


class Row(NamedTuple):
    """What went wrong once, and what keeps it from going wrong again."""

    name: str
    tests: list[str]
    mutations: list[tuple[str, str]]
    """A file below `engine`, and what a mutation of it takes out."""
    without: list[str]
    """Why there is none."""


def rows() -> list[Row]:
    found: list[Row] = []
    for line in (TESTS / "cases" / "one_bad_thing.txt").read_text().splitlines():
        kind, _, text = line.partition(" ")
        match kind:
            case "=":
                found.append(Row(text, [], [], []))
            case "test":
                found[-1].tests.append(text)
            case "mutation":
                file, _, old = text.partition(" | ")
                found[-1].mutations.append((file, old))
            case "without":
                found[-1].without.append(text)
            case _:
                assert kind in {"#", ""}, line
    return found


def is_there(test: str) -> bool:
    file, _, name = test.partition("::")
    return (TESTS / file).exists() and f"def {name}(" in (TESTS / file).read_text()


def test_every_row_has_tests_and_all_are_there() -> None:
    assert len(rows()) > 40
    assert [row.name for row in rows() if not row.tests] == []
    assert [test for row in rows() for test in row.tests if not is_there(test)] == []


def test_every_row_has_a_mutation_that_is_there_or_a_reason() -> None:
    known = [(mutation.file, mutation.old) for mutation in MUTATIONS]
    assert [row.name for row in rows() if not (row.mutations or row.without)] == []
    missing = [
        (file, old)
        for row in rows()
        for file, old in row.mutations
        if not any(file == at and old in text for at, text in known)
    ]
    assert missing == []
