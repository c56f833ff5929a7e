"""Tables in Markdown, from `results.json` alone, between markers of the documents."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from benchmarks.chart import FILE as CHART
from benchmarks.report import cell

BEGIN = "<!-- figures: made by scripts/figures, not by hand -->"
END = "<!-- end of figures -->"

Figures = Mapping[str, Any]


def replace(text: str, document: str, name: str) -> str:
    """A text with everything between its markers made anew."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    made, count = pattern.subn(lambda _: f"{BEGIN}\n\n{document}\n\n{END}", text)
    if count != 1:
        raise SystemExit(f"{name} has no place for figures, between {BEGIN} and {END}")
    return made


def documents(results: Figures) -> dict[str, str]:
    """What stands between the markers, by file; tables without figures are left out."""
    parts = {
        "README.md": (headline, picture, summary, measured_on),
        "benchmarks/FIGURES.md": (
            headline, batches, singles, client, latency, workloads, function, history, memory,
            rebalancing, stages, columns, measured_on,
        ),
    }  # fmt: skip
    return {
        file: "\n\n".join(text for make in makers if (text := make(results)))
        for file, makers in parts.items()
    }


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; the first column is text."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *(map(cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of(*names: str) -> Callable[[Callable[..., str]], Callable[[Figures], str]]:
    """A part that is left out where one of these figures is missing."""

    def decorate(make: Callable[..., str]) -> Callable[[Figures], str]:
        def part(results: Figures) -> str:
            figures = results.get("figures", {})
            if not all(name in figures for name in names):
                return ""
            return make(*(figures[name] for name in names))

        return part

    return decorate


@of("end_to_end", "end_to_end_one_worker")
def headline(two: Figures, one: Figures) -> str:
    row = two["rows"][0]
    names = ("transfers_per_second", "bare_copy_transfers_per_second", "ratio")
    sides = ((f"{row['workers']} workers", two), ("one worker", one))
    rows = [(title, *(run[name] for name in names)) for title, run in sides]
    head = f"{row['transfers']:,} transfers, `bin` batches, 10,000 accounts"
    return table([head, "transfers/s", "bare COPY", "ratio"], rows)


def picture(results: Figures) -> str:
    return f"![Durable transfers a second]({CHART})" if results.get("figures") else ""


def summary(results: Figures) -> str:
    """The most telling line of each benchmark."""
    figures = results.get("figures", {})
    rows: list[tuple[str, str]] = []

    def add(name: str, key: str, value: Any, what: str, told: str) -> None:
        found = [row for row in figures.get(name, {}).get("rows", ()) if row[key] == value]
        rows.extend((what, told.format(**{k: cell(v) for k, v in r.items()})) for r in found)

    median = "{median_ms} ms, p99 {p99_ms} ms"
    add("latency", "load", "entries of one", "1,000 single transfers a second, answered", median)
    add("latency", "load", "50% of capacity, entries of 100", "at half of capacity, answered",
        median)  # fmt: skip
    for name, workers in (("workloads_one_worker", "one worker"), ("workloads", "two workers")):
        for value, what in (
            ("hot, credited", "one hot account in every transfer"),
            ("holds", "30% holds and 30% posts and voids"),
            ("declined", "1% declined for want of funds"),
        ):
            add(name, "workload", value, f"{what}, {workers}", "{ratio} of the plain workload")
    add("history", "what", "balance", "balance of an account", median)
    add("history", "what", "last 100 postings", "its last 100 postings", median)
    for name in ("rebalancing", "rebalancing_at_ease"):
        for run in [figures[name]] if name in figures else []:
            what = f"a shard moves, under {run['rate']:,} transfers/s: it stands still"
            rows.append((what, f"{run['pause_median_ms']} ms, at most {run['pause_max_ms']} ms"))
    memory = figures.get("memory", {}).get("rows", ())
    for row in memory[-1:]:
        what = f"memory of a process that has met {row['accounts']:,} accounts"
        rows.append((what, f"{row['resident_mb']:,} MB"))
    postings = figures.get("history", {}).get("postings")
    title = f"and (history: of {postings:,} postings)" if postings else "and"
    return table([title, "median"], rows) if rows else ""


@of("batches")
def batches(run: Figures) -> str:
    names = ("transfers_an_entry", "transfers_per_second", "ratio")
    rows = [[row[name] for name in names] for row in run["rows"] if row.get("in_flight") != 1]
    alone = [row for row in run["rows"] if row.get("in_flight") == 1]
    rows += [[f"{row['transfers_an_entry']}, one entry in flight", *(row[n] for n in names[1:])]
             for row in alone]  # fmt: skip
    return table(["transfers an entry", "transfers/s", "ratio"], rows)


@of("singles")
def singles(run: Figures) -> str:
    headings = ["entries of one, in flight", "transfers/s", "median ms", "p99 ms",
                "bare INSERT transactions/s", "ratio"]  # fmt: skip
    names = ("in_flight", "transfers_per_second", "median_ms", "p99_ms", "bare_insert_per_second",
             "ratio")  # fmt: skip
    return table(headings, [[row[name] for name in names] for row in run["rows"]])


@of("client")
def client(run: Figures) -> str:
    headings = ["`engine.connect()`", "transfers/s", "bare INSERT transactions/s", "ratio"]
    names = ("calls", "transfers_per_second", "bare_insert_per_second", "ratio")
    return table(headings, [[row[name] for name in names] for row in run["rows"]])


@of("latency")
def latency(run: Figures) -> str:
    headings = ["append to answer, open loop", "transfers/s", "median ms", "p99 ms", "p99.9 ms"]
    names = ("load", "transfers_per_second", "median_ms", "p99_ms", "p99_9_ms")
    most = ["capacity in entries of 100", run["capacity_transfers_per_second"], None, None, None]
    return table(headings, [most, *([row[name] for name in names] for row in run["rows"])])


@of("workloads", "workloads_one_worker")
def workloads(two: Figures, one: Figures) -> str:
    headings = ["workload", "accounts", "one worker, transfers/s", "ratio",
                "two workers, transfers/s", "ratio"]  # fmt: skip
    rows = [
        (a["workload"], a["accounts"], a["transfers_per_second"], a["ratio"],
         b["transfers_per_second"], b["ratio"])
        for a, b in zip(one["rows"], two["rows"], strict=True)
    ]  # fmt: skip
    return table(headings, rows)


@of("function")
def function(run: Figures) -> str:
    names = ("what", "transfers_per_second", "ratio")
    headings = ["on the same server", "transfers/s", "ratio"]
    return table(headings, [[row[name] for name in names] for row in run["rows"]])


@of("history")
def history(run: Figures) -> str:
    names = ("what", "median_ms", "p99_ms", "most_ms")
    headings = [f"of {run['postings']:,} postings", "median ms", "p99 ms", "most ms"]
    read = table(headings, [[row[name] for name in names] for row in run["rows"]])
    sizes = run["details"]["On disk"]
    return f"{read}\n\n{table(['on disk', 'MB'], [(one['what'], one['mb']) for one in sizes])}"


@of("memory")
def memory(run: Figures) -> str:
    rows = [[f"{row['accounts']:,}", row["resident_mb"]] for row in run["rows"]]
    return table(["accounts met by a process", "resident MB"], rows)


@of("rebalancing", "rebalancing_at_ease")
def rebalancing(*runs: Figures) -> str:
    names = ("part", "moves", "pause_median_ms", "pause_max_ms", "others_per_second",
             "wait_median_ms", "wait_p99_ms")  # fmt: skip
    rows = [(f"{run['rate']:,}", *(row[name] for name in names)) for run in runs
            for row in run["rows"]]  # fmt: skip
    headings = ["transfers a second", "", "moves", "pause, median ms", "most ms",
                "other shards, transfers/s", "wait, median ms", "p99 ms"]  # fmt: skip
    taken = [
        (f"{run['rate']:,}", part["stage"], part["median_ms"], part["max_ms"])
        for run in runs
        for part in run["details"]["Pauses"]
    ]
    parts = table(["transfers a second", "of a pause", "median ms", "most ms"], taken)
    return f"{table(headings, rows)}\n\n{parts}"


@of("stages")
def stages(run: Figures) -> str:
    (costs,) = run["details"].values()
    rows = [(cost["stage"], cost["cpu_us"], cost["wall_us"]) for cost in costs]
    return table(["stage, us a transfer", "CPU", "under way, waiting included"], rows)


@of("columns")
def columns(run: Figures) -> str:
    rows = [(row["what"], row["us_a_transfer"]) for row in run["rows"]]
    return table(["an entry of 8,189 in memory", "us a transfer"], rows)


def measured_on(results: Figures) -> str:
    if not results.get("figures"):
        return ""
    machine, versions = results["machine"], results["versions"]
    days = sorted({figure["on"] for figure in results["figures"].values()})
    dates = [date.fromisoformat(day).strftime("%d %B %Y") for day in sorted({days[0], days[-1]})]
    worker = results["settings"]["worker"]
    text = (
        f"Measured {' to '.join(dates)} on {machine['cores']} cores of {machine['cpu']} with"
        f" {machine['memory_gb']} GB, {machine['system']}, which also run the producer, Valkey and"
        " Postgres (CPython counts to ten million in"
        f" {machine['python_counts_to_ten_million_seconds']} s there). Python {versions['python']},"
        f" PostgreSQL {versions['postgres']}, Valkey {versions['valkey']}; the settings of"
        " `engine up`: `synchronous_commit = on`, at most"
        f" {worker['flush_transfers_max']:,} transfers a flush. All settings and all rounds are in"
        " `benchmarks/results.json`."
    )
    if any(figure["is_quick"] for figure in results["figures"].values()):
        text += " These are trial runs, with `--quick`."
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
