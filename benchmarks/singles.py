"""One transfer an entry, in a closed loop through the streams: from append to answer.

With one in flight it is the latency of an idle engine; with 1,000 its throughput where no
producer gathers anything. Beside it, what has to be waited for in any case: a transaction
that inserts the same three rows, and waits for the disk, by as many connections (16 at
most), without reading, deciding, answering.

Example: python -m benchmarks.singles
"""

import argparse

import numpy as np

from benchmarks.baseline import beside_inserts
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import funded
from benchmarks.workload import make_accounts, uniform

SIZES = {
    "transfers": Size(50_000, 5_000, "with 1,000 in flight; with one a fiftieth"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "workers": Size(1, 1, "in one engine process"),
}
PARTS = {1: 50, 10: 10, 1000: 1}
"""By how many are in flight, by what the number of transfers is divided."""


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(options.accounts)
    rows: list[Row] = []
    faults = []
    with funded(accounts, options.workers) as (ledger, engine):
        for in_flight, divisor in PARTS.items():
            transfers = uniform(accounts, options.transfers // divisor, seed=in_flight)
            sent, found = ledger.send(transfers, batch=1, in_flight_max=in_flight)
            per_second = len(transfers.rows) / sent.seconds
            median, most = np.quantile(sent.latencies_ms(), (0.5, 0.99))
            rows.append(
                {
                    "in_flight": in_flight,
                    "transfers": len(transfers.rows),
                    "transfers_per_second": round(per_second),
                    "median_ms": round(float(median), 3),
                    "p99_ms": round(float(most), 3),
                }
            )
            note(f"{in_flight} in flight: {per_second:,.0f}/s")
            faults += found
        engine.end()
        faults += ledger.audit()
        for row in rows:
            beside_inserts(row, ledger.dsn, min(16, row["in_flight"]))
    return Result(rows, faults)


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
