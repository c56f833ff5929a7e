"""What commands print: data on standard output; progress and errors on standard error."""

import sys
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

T = TypeVar("T")

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

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
    """Run a command's coroutine on uvloop, to its end."""
    return uvloop.run(main)


def print_json(document: object) -> None:
    """Print one JSON document on one line, at once."""
    sys.stdout.write(_encode.encode(document).decode() + "\n")
    sys.stdout.flush()


def print_json_lines(documents: Iterable[object]) -> None:
    """Print JSON documents, one a line."""
    sys.stdout.write("".join(_encode.encode(one).decode() + "\n" for one in documents))
    sys.stdout.flush()


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
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else _cell(cell) for cell in row))
    to.print(table)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


class Bar:
    """How far long work got; use `progress_bar`."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, done: int) -> None:
        """So much more is done."""
        self._progress.advance(self._task, done)

    def relabel(self, label: str) -> None:
        """Something else is under way."""
        self._progress.update(self._task, description=label)


@contextmanager
def progress_bar(
    label: str, total: int | None = None, *, of_bytes: bool = False, hidden: bool = False
) -> Iterator[Bar]:
    """Show how far long work got, on a terminal only.

    Args:
        label: What is under way.
        total: How much there is to do; None where nobody knows.
        of_bytes: Whether it is counted in bytes.
        hidden: Show nothing.
    """
    columns = [
        SpinnerColumn(),
        *([BarColumn(), TaskProgressColumn()] if total else []),
        DownloadColumn() if of_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    ]
    with Progress(
        *columns,
        console=err,
        transient=True,
        disable=hidden or not err.is_terminal,
        # What is printed meanwhile shall stand above the bar, unless it goes elsewhere.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        yield Bar(progress, progress.add_task(label, total=total))


@contextmanager
def spinner(label: str) -> Iterator[None]:
    """Show that something is under way, on a terminal only."""
    if not err.is_terminal:
        yield
        return
    with err.status(label):
        yield
