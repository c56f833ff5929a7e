"""The frame of every benchmark: its options, its table, its line of JSON, its exit code."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]


class Size(NamedTuple):
    """How much of something, unless told otherwise."""

    default: int
    quick: int
    what: str


class Result(NamedTuple):
    """What was measured."""

    rows: list[Row]
    """All with the same names, which say their units."""
    faults: list[str]
    """What does not add up, in words; a run with any fails."""
    summary: Mapping[str, Any] = {}
    """What a program reads first."""
    details: Mapping[str, list[Row]] = {}
    """More tables, by title."""


Measure = Callable[[argparse.Namespace], Result]


def run(
    document: str,
    measure: Measure,
    sizes: Mapping[str, Size],
    more: Callable[[argparse.ArgumentParser], None] = lambda _: None,
    arguments: list[str] | None = None,
    compare: Callable[[Measure, argparse.Namespace], Result] | None = None,
) -> None:
    """Parse the options, measure, print; exit 1 when the result does not add up.

    Args:
        document: Of the benchmark's module: its first line is the title.
        measure: The benchmark.
        sizes: By option, how much it is by default and with --quick.
        more: Adds options of its own.
        arguments: Those of the command line unless given.
        compare: Measures beside another commit, where the benchmark can.
    """
    title = document.split("\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, size in sizes.items():
        text = f"{size.what} ({size.default:,}; with --quick {size.quick:,})"
        parser.add_argument(f"--{name}", type=int, help=text)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", action="store_true", help="end in one line of JSON")
    if compare is not None:
        parser.add_argument("--against", metavar="COMMIT", help="beside it, in alternation")
        parser.add_argument("--turns", type=int, default=3, help="how often each then (3)")
    more(parser)
    options = parser.parse_args(arguments)
    for name, size in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, size.quick if options.quick else size.default)
    if compare is not None and options.against is not None:
        result = compare(measure, options)
    else:
        result = measure(options)
    console = Console(stderr=options.json, highlight=False, width=None if _on_terminal() else 160)
    for name, rows in {title: result.rows, **result.details}.items():
        if rows:
            console.print(_table(name, rows))
    for fault in result.faults:
        print(f"it does not add up: {fault}", file=sys.stderr)
    if options.json:
        print(json.dumps({**result.summary, "rows": result.rows, "details": result.details}))
    sys.exit(1 if result.faults else 0)


def note(what: str) -> None:
    """Say what is under way."""
    print(f"  {what}", file=sys.stderr)


def cell(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in rows[0]:
        numbers = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(cell(row[name]) for name in rows[0]))
    return table


def _on_terminal() -> bool:
    return sys.stdout.isatty()
