"""Rules about statements, outcomes in SQL, and quotes of mutations."""

from engine.ledger.outcomes import Outcome
from tests.house import Found
from tests.house.code import (
    ENGINE,
    MIGRATIONS,
    ROOT,
    arguments_of,
    modules,
    outcomes_in_sql,
    path_of,
    statements,
    uses,
    words_of,
)
from tests.mutations import MUTATIONS


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
        name, *within = mutation.test.split("::")
        file = ROOT / name
        test = f"def {within[-1]}" if within else ""
        if name.endswith(".py") and (not file.exists() or test not in file.read_text()):
            found[mutation.test] = "is to notice a mutation, and is not there"
    return found
