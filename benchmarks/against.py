"""The same benchmark on this program and on that of another commit, in alternation."""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.program import THIS, checked_out, measuring
from benchmarks.report import Measure, Result, Row, note


def compare(measure: Measure, options: argparse.Namespace) -> Result:
    """Measure `options.turns` times each, and say medians and ratios.

    What is the same in all runs says what a row is; all other numbers are compared. A ratio is
    what is measured here over what is measured there; the lowest and the highest are of one turn.
    """
    runs: Mapping[str, list[Sequence[Row]]] = {"here": [], "there": []}
    faults: list[str] = []
    with checked_out(options.against) as other:
        for turn in range(options.turns):
            sides = [("here", THIS), ("there", other)]
            for side, program in sides if turn % 2 == 0 else sides[::-1]:
                note(f"turn {turn + 1} of {options.turns}, {program.name}:")
                with measuring(program):
                    result = measure(options)
                runs[side].append(result.rows)
                faults += [f"{program.name}: {fault}" for fault in result.faults]
    rows = rows_of(runs["here"], runs["there"])
    return Result(rows, faults, {"against": options.against, "turns": options.turns})


def rows_of(here: Sequence[Sequence[Row]], there: Sequence[Sequence[Row]]) -> list[Row]:
    """A row for each number that was measured.

    Args:
        here: Run by run, the rows of this program.
        there: Of the other.
    """
    runs = [*here, *there]
    labels = [
        name
        for name in runs[0][0]
        if all(
            _is_label(run[place][name], row[name])
            for run in runs
            for place, row in enumerate(runs[0])
        )
    ]
    rows: list[Row] = []
    for place, first in enumerate(runs[0]):
        for name in first:
            mine, its = ([run[place][name] for run in side] for side in (here, there))
            if name not in labels and all(map(_is_number, mine + its)):
                shown = {label: first[label] for label in labels}
                rows.append({**shown, "measured": name, **_compared(mine, its)})
    return rows


def _is_label(value: Any, first: Any) -> bool:
    """Whether a value says what a row is: no measurement, and in every run the same."""
    return value == first and not isinstance(value, float | None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _compared(here: Sequence[float], there: Sequence[float]) -> Row:
    ratios = [mine / its for mine, its in zip(here, there, strict=True)]
    mine, its = statistics.median(here), statistics.median(there)
    return {
        "here": mine,
        "there": its,
        "ratio": round(mine / its, 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
    }
