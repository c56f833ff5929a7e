"""Named statements: the files in the folders of `queries`, each found by its stem."""

from functools import cache
from importlib.resources import files

from engine.errors import InvariantBroken


@cache
def statements() -> dict[str, str]:
    """All named statements: the stems of the files in the folders of `queries`, and their texts."""
    found: dict[str, str] = {}
    for folder in (files("engine.store") / "queries").iterdir():
        if not folder.is_dir():
            continue
        for file in folder.iterdir():
            name = file.name.removesuffix(".sql")
            if name in found:
                raise InvariantBroken(f"two statements have the name {name}")
            if name != file.name:
                found[name] = file.read_text()
    return found


def statement(name: str) -> str:
    """The text of a named statement in `queries`, whichever folder it is in."""
    return statements()[name]
