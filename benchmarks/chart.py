"""A chart of durable transfers a second, as SVG text, from `results.json` alone."""

from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

FILE = "benchmarks/throughput.svg"

WIDTH = 760
LABELS = 270
BAR = 22
GAP = 10
TOP = 54
COLOURS = {"engine": "#2f6fb3", "baseline": "#b8bfc7", "postgres": "#d98f3e"}


class Shown(NamedTuple):
    """One bar."""

    label: str
    value: float
    kind: str


def bars(results: Mapping[str, Any]) -> list[Shown]:
    """What is shown; what was not measured is left out."""
    figures = results.get("figures", {})
    found = []

    def add(
        label: str, kind: str, name: str, key: str, where: tuple[str, Any] | None = None
    ) -> None:
        figure = figures.get(name)
        if figure is None:
            return
        rows = [figure] if where is None else figure["rows"]
        value = next(
            (row[key] for row in rows if where is None or str(row[where[0]]).startswith(where[1])),
            None,
        )
        if value is not None:
            found.append(Shown(label, value, kind))

    rate = "transfers_per_second"
    add("bare COPY, two connections", "baseline", "end_to_end", f"bare_copy_{rate}")
    add("engine, two workers", "engine", "end_to_end", rate)
    add("engine, one worker", "engine", "end_to_end_one_worker", rate)
    add("engine, entries of 100", "engine", "batches", rate, ("transfers_an_entry", "100"))
    add("Python client, columns", "engine", "client", rate, ("calls", "one call"))
    add("Python client, 1,000 callers", "engine", "client", rate, ("calls", "1,000"))
    add("a Postgres function a transfer", "postgres", "function", rate, ("what", "Postgres"))
    add("pgbench TPC-B", "postgres", "function", rate, ("what", "pgbench"))
    return found


def draw(results: Mapping[str, Any]) -> str:
    """The chart."""
    shown = bars(results)
    most = max((bar.value for bar in shown), default=1)
    height = TOP + len(shown) * (BAR + GAP) + GAP
    scale = (WIDTH - LABELS - 100) / most
    cores = results.get("machine", {}).get("cores", "?")
    title = f"Durable transfers a second, everything on the same {cores} cores"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        f' width="{WIDTH}" height="{height}"',
        ' font-family="Helvetica, Arial, sans-serif" font-size="14" fill="#24292f">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        f'<text x="20" y="32" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for place, bar in enumerate(shown):
        y = TOP + place * (BAR + GAP)
        length = max(2.0, bar.value * scale)
        lines += [
            f'<text x="{LABELS - 10}" y="{y + 16}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}"',
            f' rx="2" fill="{COLOURS[bar.kind]}"/>',
            f'<text x="{LABELS + length + 8:.1f}" y="{y + 16}">{bar.value:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
