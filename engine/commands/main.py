"""The program `engine`: its commands, and how their errors look."""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any, Final, NoReturn

import typer

from engine.commands.logs import configure_logs, default_level
from engine.commands.screen import err
from engine.errors import EngineError, InvariantBroken

COMMANDS: Final = {
    "demo": "engine.commands.demo:demo",
    "up": "engine.commands.up:up",
    "init": "engine.commands.init:init",
    "worker": "engine.commands.worker:worker",
    "accounts": "engine.commands.accounts:accounts_app",
    "submit": "engine.commands.submit:submit",
    "transfer": "engine.commands.transfer:transfer",
    "balance": "engine.commands.balance:balance",
    "history": "engine.commands.balance:history",
    "status": "engine.commands.status:status",
    "flows": "engine.commands.flows:flows_app",
    "review": "engine.commands.review:review_app",
    "verify": "engine.commands.verify:verify",
    "bench": "benchmarks.command:bench",
}
"""Where each command is, in the order of `engine --help`."""


def run() -> None:
    """Run the command of the command line and exit: 0 done, 1 failed, 2 wrong usage."""
    # Only the command that is wanted is imported: drivers and numpy take their time.
    wanted = [name for name in sys.argv[1:2] if name in COMMANDS]
    run_app(build_app(wanted or COMMANDS))


def build_app(names: Iterable[str]) -> typer.Typer:
    """The program with some of its commands."""
    app = typer.Typer(
        name="engine",
        epilog="Start with `engine demo`. Each command has a --help with an example.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback()
    def engine() -> None:
        """Payment transfers: pushed to Redis streams, decided in memory, kept in Postgres."""

    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command: Any = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name)(command)
    return app


def run_app(program: typer.Typer) -> NoReturn:
    """Run a program; an error of ours is one clear line and exit code 1."""
    configure_logs(default_level("warning"))
    try:
        program()
    except* EngineError as group:
        error = _first(group)
        title = "INVARIANT BROKEN" if isinstance(error, InvariantBroken) else "error"
        err.print(f"{title}: {error}", style="red")
        if isinstance(error, InvariantBroken):
            err.print("Nothing of it was committed. Run `engine verify`, and keep the logs.")
        sys.exit(1)
    sys.exit(0)


def _first(group: BaseExceptionGroup[EngineError]) -> EngineError:
    """The error to act upon: a broken invariant before all others."""
    errors: list[EngineError] = []
    stack: list[BaseException] = [group]
    while stack:
        one = stack.pop()
        if isinstance(one, BaseExceptionGroup):
            stack.extend(one.exceptions)
        elif isinstance(one, EngineError):
            errors.append(one)
    return next((e for e in errors if isinstance(e, InvariantBroken)), errors[0])


if __name__ == "__main__":
    run()
