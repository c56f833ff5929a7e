"""How far long work got, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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

from engine.commands.screen import err


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
        SpinnerColumn("dots" if err.encoding.startswith("utf") else "line"),
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
    with err.status(label, spinner="dots" if err.encoding.startswith("utf") else "line"):
        yield
