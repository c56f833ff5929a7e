"""The code read as text and as trees, for those who hold house rules to it."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent
ENGINE: Final = ROOT / "engine"
QUERIES: Final = ENGINE / "store" / "queries"
MIGRATIONS: Final = ENGINE / "store" / "migrations"

RUNS_A_STATEMENT: Final = frozenset(
    {"read", "write", "write_rows", "watch", "ask", "_rows", "_fetch"}
)
"""Functions that take a statement's name and, after it, its arguments."""

NAMES_A_STATEMENT: Final = frozenset({"statement", "text"})
"""Functions that take a statement's name alone; what surrounds the call has its arguments."""

WAITS: Final = {
    "wait_for": 1,
    "until": 2,
    "answers": 1,
    "timeout": 0,
    "move_on_after": 0,
    "fail_after": 0,
    "communicate": 1,
    "run": 9,
    "create_connection": 1,
    "join": 0,
    "poll": 0,
    "wait": 1,
}
"""Functions that wait, and which of their arguments says how long at most."""

_STATEMENT: Final = re.compile(r"[a-z][a-z0-9_]*")
_SQL_ASIDE: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)


def path_of(file: Path) -> str:
    """A file as rules name it: from the root of the checkout."""
    return file.relative_to(ROOT).as_posix()


def modules(*rooms: str) -> list[Path]:
    """All modules below some rooms, in order."""
    return sorted(file for room in rooms for file in (ROOT / room).rglob("*.py"))


def packages(*rooms: str) -> list[Path]:
    """All directories below some rooms that are packages."""
    return sorted({file.parent for file in modules(*rooms) if file.name == "__init__.py"})


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def texts() -> list[Path]:
    """All code, statements and READMEs."""
    rooms = ("engine", "shards", "benchmarks", "tests")
    below = [file for room in rooms for file in (ROOT / room).rglob("*.*")]
    return sorted(f for f in [*ROOT.glob("*.md"), *below] if f.suffix in {".py", ".sql", ".md"})


def readme_of(package: Path) -> str:
    """What the README of a package says; nothing where there is none."""
    readme = package / "README.md"
    return readme.read_text() if readme.exists() else ""


def functions(file: Path) -> Iterator[tuple[str, ast.AST]]:
    """Each function of a module with its name (`Class.method`), and the module itself as ``."""

    def below(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                within = f"{name}.{child.name}".lstrip(".")
                if not isinstance(child, ast.ClassDef):
                    yield within, child
                yield from below(child, within)
            else:
                yield from below(child, name)

    yield "", tree_of(file)
    yield from below(tree_of(file), "")


def words_of(file: Path) -> set[str]:
    """All strings of a module."""
    nodes = ast.walk(tree_of(file))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


# Statements.


def statements() -> dict[str, Path]:
    """The named statements of the store."""
    return {file.stem: file for file in QUERIES.rglob("*.sql")}


def arguments_of(file: Path) -> int:
    """How many arguments a statement takes.

    Raises:
        AssertionError: A number below the highest is not used, so that Postgres knows no type.
    """
    text = _SQL_ASIDE.sub("", file.read_text())
    numbers = {int(number) for number in re.findall(r"\$(\d+)", text)}
    assert numbers == set(range(1, len(numbers) + 1)), f"{path_of(file)} leaves out some of $1..$n"
    return len(numbers)


class Use(NamedTuple):
    """A place that runs a named statement."""

    where: str
    statement: str
    arguments: int | None
    """How many are passed; None where that cannot be told from the text."""


def uses() -> list[Use]:
    """All places of `engine` and `shards` that name a statement."""
    found = []
    for file in modules("engine", "shards"):
        for name, function in functions(file):
            if name:  # a module runs none itself
                where = f"{path_of(file)}: {name}"
                found += [Use(where, *use) for use in _uses_in(function)]
    return list(dict.fromkeys(found))  # one within another function is found with both


def _uses_in(function: ast.AST) -> Iterator[tuple[str, int | None]]:
    told = set()
    for call in ast.walk(function):
        if not isinstance(call, ast.Call):
            continue
        for at, argument in enumerate(call.args):
            named = _named(argument)
            if named is not None:
                told.add(argument)
                yield named, _count(call.args[at + 1 :], function)
        if _callee(call) in RUNS_A_STATEMENT:
            for at, argument in enumerate(call.args):
                if _is_statement(argument):
                    yield argument.value, _count(call.args[at + 1 :], function)  # type: ignore[attr-defined]
                    break
    for call in ast.walk(function):
        named = _named(call)
        if named is not None and call not in told:
            yield named, None


def _callee(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _is_statement(node: ast.AST) -> bool:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_text and _STATEMENT.fullmatch(node.value) is not None  # type: ignore[attr-defined]


def _named(node: ast.AST) -> str | None:
    """The statement whose text a call returns."""
    if isinstance(node, ast.Call) and _callee(node) in NAMES_A_STATEMENT and len(node.args) == 1:
        [argument] = node.args
        return str(argument.value) if _is_statement(argument) else None  # type: ignore[attr-defined]
    return None


def _count(arguments: list[ast.expr], function: ast.AST) -> int | None:
    """How many arguments these are; a starred name is looked up where it is set, if once."""
    count = 0
    for argument in arguments:
        if not isinstance(argument, ast.Starred):
            count += 1
            continue
        values = [argument.value]
        if isinstance(argument.value, ast.Name):
            values = [
                node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                and any(getattr(target, "id", "") == argument.value.id for target in node.targets)
            ]
        if len(values) != 1 or not isinstance(values[0], ast.Tuple | ast.List):
            return None
        within = _count(values[0].elts, function)
        if within is None:
            return None
        count += within
    return count


# Names.


def places_called(file: Path, word: str) -> set[str]:
    """Functions in which a variable, an argument or an attribute has a name."""
    found = set()
    for name, function in functions(file):
        if any(_calls_it(node, word) for node in _own_nodes(function)):
            found.add(f"{path_of(file)}: {name}".removesuffix(": "))
    return found


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function or module, but not of the functions within it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own_nodes(child)


def _calls_it(node: ast.AST, word: str) -> bool:
    match node:
        case ast.Name():
            return node.id == word
        case ast.arg():
            return node.arg == word
        case ast.Attribute():
            return node.attr == word
    return False


def bounds_in(file: Path) -> set[str]:
    """Calls of a module that wait for at most a time that is written out as a number."""
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call) and any(_is_bound(b) for b in _bounds_of(node)):
            found.add(f"{path_of(file)}: {ast.unparse(node)[:80]}")
    return found


def _bounds_of(call: ast.Call) -> list[ast.expr]:
    at = WAITS.get(_callee(call))
    if at is None:
        return []
    named = [k.value for k in call.keywords if k.arg in {"timeout", "seconds_max"}]
    return [*named, *call.args[at : at + 1]]


def _is_bound(node: ast.expr) -> bool:
    """Whether it is a number, but not a moment in which something must not happen."""
    return (
        isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value >= 1
    )


def methods_of(file: Path) -> Iterator[tuple[str, int]]:
    """Each class of a module with the number of its methods, properties among them."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ClassDef):
            methods = {
                child.name
                for child in node.body
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            yield node.name, len(methods)


def outcomes_in_sql() -> dict[str, int]:
    """The rows that migrations put into `ledger.outcomes`, numbers by name."""
    found: dict[str, int] = {}
    insert = re.compile(r"INSERT INTO ledger\.outcomes \(number, name\) VALUES(.*?);", re.DOTALL)
    for file in sorted(MIGRATIONS.glob("*.sql")):
        for rows in insert.findall(file.read_text()):
            for number, name in re.findall(r"\((\d+),\s*'(\w+)'\)", rows):
                assert name not in found, f"{name} stands twice in ledger.outcomes"
                found[name] = int(number)
    return found
