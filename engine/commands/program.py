"""What the programs `engine` and `shards` have in common: commands on demand, and their ends.

A program knows its commands by a line each and imports the one that is wanted: help, the
version and a wrong command wait for no driver and no numpy.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup

import engine
from engine.commands.ends import FAILED, UNKNOWN
from engine.errors import EngineError, InvariantBroken, OutcomeUnknownError
from engine.operating.phrases import printable

FIRST_FREE_DESCRIPTOR: Final = 3
"""After standard input, output and errors."""

_LOG_LEVEL: Final = "ENGINE_LOG_LEVEL"
"""As `engine.settings` has it, which is not imported for help."""


class Command(NamedTuple):
    """Where a command is, as `module:function`, and the first line of its help."""

    where: str
    line: str


class CommandsOnDemand(TyperGroup):
    """Commands that are imported when they are called, and not when they are listed."""

    table: ClassVar[Mapping[str, Command]]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a command that is none before its options are read, which imports far more."""
        if args and not args[0].startswith("-") and args[0] not in self.table:
            super().resolve_command(ctx, args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is called, and put the real one in the place of its line."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self.table:
            command = load_command(self.table[name])
            command.name = name
        return name, command, rest


def make_program(name: str, about: str, epilog: str, table: Mapping[str, Command]) -> typer.Typer:
    """A program.

    Args:
        name: As it is called.
        about: What it is, in a sentence.
        epilog: Below its help.
        table: Its commands, in the order of the help.
    """
    program = typer.Typer(
        name=name,
        cls=type("Commands", (CommandsOnDemand,), {"table": table}),
        help=about,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain text at once: rich takes longer to import than all the rest
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{name} {engine.__version__}")
            raise typer.Exit

    @program.callback()
    def _(
        _version: Annotated[
            bool,
            typer.Option(
                "--version", callback=print_version, is_eager=True, help="Show the version."
            ),
        ] = False,
    ) -> None:
        return

    for listed, command in table.items():
        program.command(listed, help=command.line)(_listed)
    return program


def _listed() -> None:
    """Stands in the list of commands for one that is imported when it is called."""


def load_command(command: Command) -> Any:
    """Import a command."""
    module, _, attribute = command.where.partition(":")
    found: Any = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command()(found)
        found = alone
    return typer.main.get_command(found)


def run_program(program: typer.Typer) -> NoReturn:
    """Run a program to its exit: whatever went wrong is one clear line, and a code."""
    _take_the_first_descriptors()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # It was closed before we began.
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, nowhere)
        stream = getattr(sys, name)
        # What a terminal cannot show is shown by its number.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_exit_code(program))


def _take_the_first_descriptors() -> None:
    """Where standard input, output or errors are closed no socket may get their places."""
    while (taken := os.open(os.devnull, os.O_RDWR)) < FIRST_FREE_DESCRIPTOR:
        pass
    os.close(taken)


def _exit_code(program: typer.Typer) -> int:
    try:
        try:
            program()
        except SystemExit as end:
            sys.stdout.flush()
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return FAILED
    except Exception as error:  # noqa: BLE001 - every error ends here, in a line
        return _tell(gravest(error))
    return 0


def _tell(error: BaseException) -> int:
    """Say in a line what happened; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        discard_output()
        return FAILED
    with contextlib.suppress(OSError):
        for text in _words(error):
            # An error has lines where it quotes a log.
            lines = "\n".join(map(printable, text.splitlines()))
            typer.secho(lines, fg=typer.colors.RED, err=True)
    if isinstance(error, OSError):
        discard_output()
    return UNKNOWN if isinstance(error, OutcomeUnknownError) else FAILED


def _words(error: BaseException) -> Iterator[str]:
    if isinstance(error, InvariantBroken):
        yield f"INVARIANT BROKEN: {error}"
        yield "Nothing of it was committed. Run `engine verify`, and keep the logs."
    elif isinstance(error, EngineError):
        yield f"error: {error}"
    elif isinstance(error, OSError):
        yield f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    else:
        if os.environ.get(_LOG_LEVEL) == "debug":
            yield "".join(traceback.format_exception(error)).rstrip()
        yield (
            f"error: {type(error).__name__}: {' '.join(str(error).split())}. This is not foreseen: "
            f"please report it, with what {_LOG_LEVEL}=debug shows"
        )


def discard_output() -> None:
    """Nobody reads it, or it has no place: at its end the interpreter shall not try again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())


def gravest(error: BaseException) -> BaseException:
    """The one error to act upon: a broken invariant before all others, ours before foreign."""
    errors: list[BaseException] = []
    stack = [error]
    while stack:
        found = stack.pop()
        if isinstance(found, BaseExceptionGroup):
            stack.extend(found.exceptions)
        else:
            errors.append(found)
    for kind in (InvariantBroken, EngineError):
        for found in errors:
            if isinstance(found, kind):
                return found
    return errors[0]
