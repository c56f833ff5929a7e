"""What it costs to be seen: metrics scraped each second, logs, and a trace of 1% of all flushes.

What runs: one engine process of one worker, a producer process in a closed loop, Valkey and
Postgres, all on this machine; in turn an engine that tells nothing and one that tells all of it,
over one ledger. Spans go by OTLP to a server here that throws them away. Compared is the CPU time
of the engine process for each transfer, which what else runs does not blur as it does the speed.

What it is held against: the rounds without. The result is audited: every transfer kept once, every
balance right, or the run fails.

Example: python -m benchmarks.observing --transfers 400000
"""

import argparse
import contextlib
import os
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import Engine, Ledger, cpu_seconds, new_ledger, running_engine
from benchmarks.workload import fund, make_accounts, uniform

SIZES = {
    "transfers": Size(400_000, 50_000, "transfers a round"),
    "rounds": Size(5, 2, "rounds of each"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "batch": Size(100, 100, "transfers an entry"),
}
SCRAPE_SECONDS = 1.0
SHARE = "0.01"
WARM_UP_TRANSFERS = 10_000


class Taker(BaseHTTPRequestHandler):
    """Takes spans, and throws them away."""

    def do_POST(self) -> None:
        """Take them."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def taking_spans() -> Iterator[str]:
    """Something that takes what OTLP sends; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@contextlib.contextmanager
def scraping(engine: Engine) -> Iterator[None]:
    """Ask for the metrics again and again, as Prometheus would, but more often."""
    ended = threading.Event()

    def scrape() -> None:
        while engine.metrics is not None and not ended.wait(SCRAPE_SECONDS):
            urllib.request.urlopen(f"http://{engine.metrics}/metrics").read()

    asking = threading.Thread(target=scrape)
    asking.start()
    yield
    ended.set()
    asking.join()


def measure_round(
    ledger: Ledger, transfers: int, batch: int, seed: int, spans: str | None
) -> tuple[Row, list[str]]:
    """One load through an engine of its own; spans go to that address, or nothing is told."""
    words = ("--log-level", "warning")
    environment = {}
    if spans is not None:
        words = ("--log-level", "info", "--metrics", "127.0.0.1:0")
        environment = {"ENGINE_TRACES": SHARE, "OTEL_EXPORTER_OTLP_ENDPOINT": spans}
    with running_engine(ledger, 1, words=words, environment=environment) as engine:
        _, first = ledger.send(uniform(ledger.accounts, WARM_UP_TRANSFERS, seed=seed), batch=batch)
        with scraping(engine):
            spent, began = cpu_seconds(engine.pid), time.perf_counter()
            _, faults = ledger.send(uniform(ledger.accounts, transfers, seed=seed + 1), batch=batch)
            seconds, cpu = time.perf_counter() - began, cpu_seconds(engine.pid) - spent
    row = {
        "told": "nothing" if spans is None else "all",
        "transfers_per_second": round(transfers / seconds),
        "cpu_us_per_transfer": round(cpu / transfers * 1e6, 3),
    }
    return row, first + faults


def measure(options: argparse.Namespace) -> Result:
    """Rounds of both, in turn."""
    rows, faults = [], []
    with taking_spans() as spans, new_ledger(make_accounts(options.accounts)) as ledger:
        with running_engine(ledger, 1):
            faults += ledger.send(fund(ledger.accounts))[1]
        for turn in range(2 * options.rounds):
            to = spans if turn % 2 else None
            row, found = measure_round(ledger, options.transfers, options.batch, 100 + 2 * turn, to)
            note(f"{row}")
            rows.append(row)
            faults += found
        faults += ledger.audit()
    cost = {
        told: statistics.median(r["cpu_us_per_transfer"] for r in rows if r["told"] == told)
        for told in ("nothing", "all")
    }
    share = cost["all"] / cost["nothing"] - 1
    return Result(rows, faults, {"cost_percent": round(share * 100, 2), "cores": os.cpu_count()})


if __name__ == "__main__":
    run(__doc__ or "", measure, SIZES)
