"""Durable transfers a second by the size of the entries that producers send.

Closed loop through the streams: so many entries sent ahead of the answers, at last one alone, as
by a producer that waits. Entries of 8,189 are what the wire takes at most; they are the baseline
of the smaller ones, over the same accounts.

Example: python -m benchmarks.batches
"""

import argparse

from benchmarks.against import compare
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import WORKERS_BEST, CpuTimes, funded
from benchmarks.workload import BATCH, make_accounts, uniform

SIZES = {
    "transfers": Size(500_000, 50_000, "in entries of 8,189; of 100 half as many, of 10 a tenth"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "workers": Size(WORKERS_BEST, WORKERS_BEST, "in one engine process"),
}
PARTS = ((BATCH, 40, 1), (100, 1000, 2), (10, 1000, 10), (100, 1, 20))
"""Transfers an entry, entries in flight, and by what the number of transfers is divided."""


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(options.accounts)
    rows: list[Row] = []
    faults = []
    with funded(accounts, options.workers) as (ledger, engine):
        for place, (batch, in_flight_max, divisor) in enumerate(PARTS):
            transfers = uniform(accounts, options.transfers // divisor, seed=1000 + place)
            cpu = CpuTimes(ledger, engine)
            sent, found = ledger.send(transfers, batch=batch, in_flight_max=in_flight_max)
            per_second = len(transfers.rows) / sent.seconds
            whole = rows[0]["transfers_per_second"] if rows else per_second
            rows.append(
                {
                    "transfers_an_entry": batch,
                    "in_flight": in_flight_max,
                    "transfers": len(transfers.rows),
                    "transfers_per_second": round(per_second),
                    "ratio": round(per_second / whole, 3),
                    **cpu.per_transfer(len(transfers.rows)),
                }
            )
            note(f"entries of {batch}, {in_flight_max} in flight: {per_second:,.0f}/s")
            faults += found
        faults += ledger.audit()
    return Result(rows, faults)


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments, compare=compare)


if __name__ == "__main__":
    main()
