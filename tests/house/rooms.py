"""Rules about modules, names and READMEs."""

import math
import re
from pathlib import Path
from typing import Final

from tests.house import Found
from tests.house.code import (
    ROOT,
    bounds_in,
    functions,
    methods_of,
    modules,
    packages,
    path_of,
    places_called,
    readme_of,
    texts,
)

LINES_MAX: Final = 300
METHODS_MAX: Final = 20
README_LINES_MAX: Final = 60
README_LINE_LENGTH: Final = 100

FIELD_WORDS: Final = frozenset(
    {"deciding", "pricing", "reconciling", "operating", "reconnecting"}
    | {"planning", "balancing", "applying", "sorting", "missing"}
)
"""Words in -ing that the field has as nouns, or that `rooms` gave to a room."""

EMPTY_WORDS: Final = frozenset(
    {"utils", "util", "helpers", "helper", "common", "core", "manager", "service", "models"}
    | {"types", "misc", "shared", "lib"}
)
"""Names of modules that say nothing."""


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


def bounds_elsewhere() -> Found:
    """How long a test waits at most stands in `tests/bounds.py`."""
    return {
        call: "waits at most for a number of its own: take one from tests/bounds.py"
        for file in modules("tests")
        if "simulation" not in file.parts or file.name.startswith("test_conformance")
        for call in bounds_in(file)
    }


def scripts_unnamed() -> Found:
    """The README of the checkout names each script, and each says in its head what it is for."""
    named = (ROOT / "README.md").read_text()
    return {
        path_of(script): "is not in README.md, or has no comment below its first line"
        for script in sorted((ROOT / "scripts").iterdir())
        if f"`{script.name}`" not in named or "\n# " not in script.read_text()[:40]
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


def _readme_above(file: Path) -> str:
    """The README of a module's room: of its package, else of the nearest one above."""
    for package in file.parents:
        text = readme_of(package)
        if text or package == ROOT:
            return text
    raise AssertionError(f"{file} is outside the checkout")
