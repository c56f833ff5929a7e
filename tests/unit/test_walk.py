"""The walk that `engine/README.md` tells is the walk that a transfer takes."""

import ast
import re
from itertools import groupby
from pathlib import Path

ENGINE = Path(__file__).parents[2] / "engine"
README = (ENGINE / "README.md").read_text()
WALK = README.partition("## The walk")[2].partition("\n## ")[0]
STEP = re.compile(r"`(\w+/\w+\.py): (\w+)`")
FILE = re.compile(r"`(\w+/\w+\.py)`")


def functions_of(file: str) -> set[str]:
    """All functions and methods of a module."""
    tree = ast.parse((ENGINE / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def rooms(text: str) -> list[str]:
    """The rooms that a text enters, one after the other."""
    return [room for room, _ in groupby(file.split("/")[0] for file, _ in STEP.findall(text))]


def test_every_step_of_the_walk_is_in_the_code() -> None:
    steps = STEP.findall(README)
    assert len(steps) > 15
    wrong = [f"{file}: {name}" for file, name in steps if not (ENGINE / file).exists()]
    wrong += [
        f"{file}: {name}"
        for file, name in steps
        if (ENGINE / file).exists() and name not in functions_of(file)
    ]
    assert not wrong


def test_every_file_that_the_readme_names_is_there() -> None:
    assert [file for file in FILE.findall(README) if not (ENGINE / file).exists()] == []


def test_the_walk_enters_each_room_once_there_and_goes_back_the_same_way() -> None:
    there, _, back = WALK.partition("\nBack")
    way = rooms(there)
    assert way == ["client", "streams", "wire", "worker", "deciding", "book", "store"]
    assert len(way) == len(set(way))
    assert rooms(back) == ["worker", "wire", "streams", "client"]


def test_every_change_is_at_home_in_three_rooms_at_most() -> None:
    table = README.partition("## For this change")[2].partition("\n## ")[0]
    folders = [folder.name for folder in ENGINE.iterdir() if (folder / "__init__.py").exists()]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == 7
    for change, where in rows:
        named = {room for room in folders if re.search(rf"`{room}\b", where)}
        assert 1 <= len(named) <= 3, change


def test_every_room_is_in_the_picture() -> None:
    picture = README.partition("## The walk")[0]
    folders = [folder.name for folder in ENGINE.iterdir() if (folder / "__init__.py").exists()]
    assert [room for room in folders if not re.search(rf"\b{room} +\w", picture)] == []
