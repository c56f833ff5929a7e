"""House rules: what a reader may count on in every room. Each message says what to do.

What does not meet a rule yet stands in KNOWN, by rule. Nothing may be added to it, and what is
mended is taken out.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from engine.ledger.outcomes import Outcome
from tests.house import (
    ENGINE,
    MIGRATIONS,
    ROOT,
    arguments_of,
    bounds_in,
    functions,
    methods_of,
    modules,
    outcomes_in_sql,
    packages,
    path_of,
    places_called,
    readme_of,
    statements,
    texts,
    uses,
    words_of,
)
from tests.mutations import MUTATIONS
from tests.unit.known_house_rules import KNOWN, KNOWN_MAX

LINES_MAX: Final = 300
METHODS_MAX: Final = 20
README_LINES_MAX: Final = 60
README_LINE_LENGTH: Final = 100

FIELD_WORDS: Final = frozenset(
    {"deciding", "pricing", "reconciling", "operating", "reconnecting"}
    | {"planning", "balancing", "applying"}
)
"""Words in -ing that the field has as nouns, or that `rooms` gave to a room."""

EMPTY_WORDS: Final = frozenset(
    {"utils", "util", "helpers", "helper", "common", "core", "manager", "service", "models"}
    | {"types", "misc", "shared", "lib"}
)
"""Names of modules that say nothing."""

Found = Mapping[str, str]
"""What breaks a rule, by where, with what is wrong and what to do."""


def long_modules() -> Found:
    """No module is over 300 lines, but with its reason in the README of its room."""
    found = {}
    for file in modules("engine", "shards", "benchmarks", "tests"):
        lines = len(file.read_text().splitlines())
        if lines > LINES_MAX and f"`{file.name}`" not in _readme_above(file):
            found[path_of(file)] = (
                f"has {lines} lines: split it at its second responsibility, or give the reason in "
                f"the README of its room, on a line that names `{file.name}`"
            )
    return found


def large_classes() -> Found:
    """No class has over 20 methods."""
    return {
        f"{path_of(file)}: {name}": f"has {count} methods: split it by its jobs"
        for file in modules("engine", "shards", "benchmarks")
        for name, count in methods_of(file)
        if count > METHODS_MAX
    }


def nameless_things() -> Found:
    """No variable, argument or attribute is called `one`."""
    return {
        place: "calls something `one`: say what it is"
        for file in modules("engine", "shards")
        for place in places_called(file, "one")
    }


def modules_in_ing() -> Found:
    """Modules are nouns of the field: none of a core room ends in -ing."""
    return {
        path_of(
            file
        ): f"is a verb: name it by the field's noun, or add `{file.stem}` to FIELD_WORDS"
        for file in modules("engine", "shards")
        if file.stem.endswith("ing")
        and file.stem not in FIELD_WORDS
        and "commands" not in file.parts
    }


def empty_names() -> Found:
    """No module has a name that says nothing."""
    return {
        path_of(file): f"says nothing by its name: {', '.join(sorted(EMPTY_WORDS))} are not names"
        for file in modules("engine", "shards", "benchmarks", "tests")
        if file.stem in EMPTY_WORDS
    }


def rooms_without_a_readme() -> Found:
    """Every package has a README."""
    return {
        path_of(package): "has no README.md: its picture, its words, what it may import"
        for package in packages("engine", "shards", "benchmarks")
        if not readme_of(package).strip()
    }


def long_readmes() -> Found:
    """A README is at most a page."""
    found = {}
    for package in packages("engine", "shards", "benchmarks", "tests"):
        text = readme_of(package).splitlines()
        lines = sum(max(1, math.ceil(len(line) / README_LINE_LENGTH)) for line in text)
        if lines > README_LINES_MAX:
            found[f"{path_of(package)}/README.md"] = (
                f"has {lines} lines of {README_LINE_LENGTH}: a page is {README_LINES_MAX}"
            )
    return found


def modules_unnamed() -> Found:
    """The README of a room names each of its modules."""
    found = {}
    for package in packages("engine", "shards"):
        text = readme_of(package)
        for file in sorted(package.glob("*.py")) if text else ():
            named = re.search(rf"\b{re.escape(file.stem)}\b", text)
            if not file.stem.startswith("__") and not named:
                found[path_of(file)] = f"is not in {path_of(package)}/README.md: say what it is for"
    return found


def statements_unused() -> Found:
    """Every file of SQL is named somewhere."""
    words = {word for file in modules("engine", "shards") for word in words_of(file)}
    read_by_number = {MIGRATIONS, ENGINE / "verify" / "checks"}
    return {
        path_of(file): "is named nowhere: delete it"
        for file in sorted(ENGINE.rglob("*.sql"))
        if file.stem not in words and file.parent not in read_by_number
    }


def statements_missing() -> Found:
    """Every statement that is named is there."""
    there = statements()
    return {
        f"{use.where}: {use.statement}": f"names a statement that is not there: {use.statement}.sql"
        for use in uses()
        if use.statement not in there
    }


def arguments_wrong() -> Found:
    """A statement gets as many arguments as it takes."""
    found = {}
    for use in uses():
        file = statements().get(use.statement)
        if file is not None and use.arguments not in {None, arguments_of(file)}:
            found[f"{use.where}: {use.statement}"] = (
                f"passes {use.arguments} arguments, and {path_of(file)} takes {arguments_of(file)}"
            )
    return found


def arguments_untold() -> Found:
    """How many arguments a statement gets can be read from the text."""
    found = {
        f"{use.where}: {use.statement}": "passes arguments that cannot be counted from the text: "
        "write them out, or as a tuple right before"
        for use in uses()
        if use.arguments is None
    }
    for name in statements().keys() - {use.statement for use in uses()}:
        found[name] = "is run by a function that is not in RUNS_A_STATEMENT: add it"
    return found


def outcomes_unlike() -> Found:
    """The names of outcomes in SQL are those of the enum, with its numbers."""
    in_sql = outcomes_in_sql()
    in_code = {outcome.name: outcome.value for outcome in Outcome}
    return {
        name: f"is {in_sql.get(name)} in ledger.outcomes and {in_code.get(name)} in Outcome: add a "
        "migration"
        for name in in_sql.keys() | in_code.keys()
        if in_sql.get(name) != in_code.get(name)
    }


def quotes_stale() -> Found:
    """What `tests/mutations.py` and `safeguards.py` quote stands in the code."""
    found = {}
    for mutation in MUTATIONS:
        file = ENGINE / mutation.file
        if not file.exists():
            found[mutation.file] = "is not there, and a mutation changes it: name where it went"
        elif mutation.old not in file.read_text():
            found[f"{mutation.file}: {mutation.old[:60]!r}"] = (
                "is quoted by a mutation and no longer in the code: quote what does its job now"
            )
    return found


def mutations_unnoticed() -> Found:
    """The tests that mutations name are there."""
    found = {}
    for mutation in MUTATIONS:
        name, _, test = mutation.test.partition("::")
        file = ROOT / name
        if name.endswith(".py") and (not file.exists() or f"def {test}" not in file.read_text()):
            found[mutation.test] = "is to notice a mutation, and is not there"
    return found


def bounds_elsewhere() -> Found:
    """How long a test waits at most stands in `tests/bounds.py`."""
    return {
        call: "waits at most for a number of its own: take one from tests/bounds.py"
        for file in modules("tests")
        if "simulation" not in file.parts or file.name.startswith("test_conformance")
        for call in bounds_in(file)
    }


def paths_stale() -> Found:
    """Files that comments and READMEs name are there."""
    path = re.compile(r"\b(?:engine|shards|tests|benchmarks|scripts)/[\w/]+\.(?:py|sql|md|txt)\b")
    return {
        f"{path_of(file)}: {named}": "names a file that is not there"
        for file in texts()
        if file.name != "known_house_rules.py"
        for named in set(path.findall(file.read_text()))
        if not (ROOT / named).exists()
    }


def functions_stale() -> Found:
    """Functions that the READMEs of rooms name, with brackets, are there."""
    there = {
        name.rsplit(".", 1)[-1]
        for file in modules("engine", "shards", "benchmarks", "tests")
        for name, _ in functions(file)
    }
    return {
        f"{path_of(package)}/README.md: {named}()": "names a function that is not there"
        for package in packages("engine", "shards", "tests")
        for named in re.findall(r"`(?:\w+\.)*(\w+)\(\)`", readme_of(package))
        if named not in there
    }


RULES: Final[tuple[Callable[[], Found], ...]] = (
    *(long_modules, large_classes, nameless_things, modules_in_ing, empty_names),
    *(rooms_without_a_readme, long_readmes, modules_unnamed),
    *(statements_unused, statements_missing, arguments_wrong, arguments_untold, outcomes_unlike),
    *(quotes_stale, mutations_unnoticed, bounds_elsewhere, paths_stale, functions_stale),
)


def _readme_above(file: Path) -> str:
    """The README of a module's room: of its package, else of the nearest one above."""
    for package in file.parents:
        text = readme_of(package)
        if text or package == ROOT:
            return text
    raise AssertionError(f"{file} is outside the checkout")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(rule: Callable[[], Found]) -> None:
    found = rule()
    known = KNOWN.get(rule.__name__, frozenset())
    new = [f"{where} {wrong}" for where, wrong in sorted(found.items()) if where not in known]
    assert not new, "\n".join([f"{rule.__doc__}", *new])
    mended = sorted(known - found.keys())
    assert not mended, "\n".join(["is mended: take it out of KNOWN, and lower KNOWN_MAX", *mended])


def test_what_is_known_to_break_a_rule_grows_no_more() -> None:
    assert KNOWN.keys() <= {rule.__name__ for rule in RULES}
    count = sum(len(places) for places in KNOWN.values())
    assert count <= KNOWN_MAX, f"{count} known exceptions: mend instead of adding to them"
