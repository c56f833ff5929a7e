"""What commands print: data on standard output; progress and errors on standard error."""

import asyncio
import gc
import sys
from collections.abc import Coroutine, Iterable, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engine.commands.logs import configure_by_default
from engine.operating.phrases import printable

T = TypeVar("T")

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

LIMIT_MAX: Final = 100_000
"""Rows that a command shows at most; who wants more asks Postgres."""

WHOLE: Final = frozenset({"id", "transfer"})
"""Columns that are copied by hand: never broken, as numbers, however narrow the terminal."""

_WIDTH_MIN: Final = 4
"""Of a column."""

_WIDTH: Final = 200
"""Of tables that no terminal limits: ids shall not be broken."""

_encode: Final = msgspec.json.Encoder()


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        soft_wrap=True,
        width=None if stream.isatty() else _WIDTH,
    )


out: Final = _console(stderr=False)
err: Final = _console(stderr=True)


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine of a command that asks a few questions, to its end."""
    configure_by_default()
    return asyncio.run(main)


def run_busy_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine of a command with much to do, on uvloop, to its end."""
    import uvloop  # noqa: PLC0415 - who asks one question does not wait for it

    configure_by_default()
    # What is loaded by now stays: to look through it for garbage again and again costs.
    gc.freeze()
    return uvloop.run(main)


def print_json(document: object) -> None:
    """Print one JSON document on one line, at once."""
    _write_json(_encode.encode(document) + b"\n")


def print_json_lines(documents: Iterable[object]) -> None:
    """Print JSON documents, one a line."""
    _write_json(b"".join(_encode.encode(document) + b"\n" for document in documents))


def _write_json(lines: bytes) -> None:
    """JSON is UTF-8, whatever the terminal is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    numbers: Sequence[str] = (),
    to: Console = out,
) -> None:
    """Print a small table; a None is an empty cell.

    Args:
        columns: Their headings.
        rows: The cells.
        title: Above it.
        numbers: The columns to align to the right.
        to: Where to.
    """
    shown = [[None if cell == "" else cell for cell in row] for row in rows]
    empty = {
        place
        for place, column in enumerate(columns)
        if shown and column not in numbers and all(row[place] is None for row in shown)
    }
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        if place in empty:  # A narrow terminal has no room for it.
            continue
        right = column in numbers
        justify: Literal["left", "right"] = "right" if right else "left"
        cells = [_text(row[place]) for row in shown] if right else []
        width = max([_WIDTH_MIN, *map(len, cells)])
        table.add_column(
            column,
            justify=justify,
            overflow="fold",
            min_width=width,
            no_wrap=column in WHOLE,
        )
    for row in shown:
        kept = [cell for place, cell in enumerate(row) if place not in empty]
        table.add_row(*map(_text, kept))
    to.print(table)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value))
