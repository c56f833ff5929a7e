"""What the programs import before they answer: help, a version, a wrong command need nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from engine import __version__
from engine.commands import main as engine_main
from engine.commands.program import load_command
from shards.commands import main as shards_main
from tests.bounds import PROCESS_SECONDS_MAX

HEAVY = {"asyncpg", "asyncio", "hiredis", "msgspec", "numpy", "redis", "structlog", "uvloop"}
"""Numbers, the drivers, the event loops and the log renderer."""

LEFT_OUT_BY_STATUS = {"numpy", "pygments", "structlog", "uvloop"}

_RUN = """
import json, sys
from {module} import run
try:
    run()
except SystemExit as end:
    print("ENDED", json.dumps([end.code, sorted(sys.modules)]))
"""


def run(module: str, *words: str) -> tuple[int, set[str], str]:
    """The exit code, the packages imported, and what was printed."""
    ended = subprocess.run(
        [sys.executable, "-c", _RUN.format(module=module), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=PROCESS_SECONDS_MAX,
    )
    printed, _, last = ended.stdout.partition("ENDED ")
    code, modules = json.loads(last)
    return code, {name.partition(".")[0] for name in modules}, printed + ended.stderr


@pytest.mark.parametrize("program", ["engine", "shards"])
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--help"], 0, "Commands:"),
        ([], 2, "Commands:"),
        (["--version"], 0, __version__),
        (["no-such-command"], 2, "No such command"),
        (["--no-such-option"], 2, "No such option"),
    ],
)
def test_help_version_and_a_wrong_command_import_nothing_heavy(
    program: str, words: list[str], code: int, says: str
) -> None:
    ended, imported, printed = run(f"{program}.commands.main", *words)
    assert ended == code, printed
    assert says in printed
    assert not imported & HEAVY


@pytest.mark.parametrize("main", [engine_main, shards_main])
def test_the_line_of_each_command_is_the_first_of_its_help(main) -> None:
    for name, command in main.COMMANDS.items():
        assert isinstance(main.program, typer.Typer)
        loaded = load_command(command)
        assert loaded.help.split("\n\n")[0].replace("\n", " ") == command.line, name
        assert len(command.line) <= 66, f"{name}: the list would cut it"


def test_the_level_of_the_log_has_one_name() -> None:
    from engine.commands import program  # noqa: PLC0415
    from engine.settings import LOG_LEVEL_VARIABLE  # noqa: PLC0415

    assert program._LOG_LEVEL == LOG_LEVEL_VARIABLE


def test_the_readme_has_every_variable_of_the_environment() -> None:
    from engine import settings  # noqa: PLC0415

    readme = (Path(__file__).parents[2] / "README.md").read_text()
    names = {value for name, value in vars(settings).items() if name.endswith("_VARIABLE")}
    assert len(names) == 8
    assert {name for name in names if f"`{name}`" not in readme} == set()
