"""Milliseconds from append to answer, at loads that do not wait for the engine.

Open loop: entries are due at random times, so many a second, and count from when they were
due, also where the producer or Redis was late: nothing that is slow hides what comes after
it. First the capacity for entries of 100 transfers is measured in a closed loop; then loads
of 1%, 25% and 50% of it in such entries, and 1,000 entries a second of one transfer each.
The first second of each is not counted. Beside them the floor: one connection that inserts
the same rows in a transaction a transfer, one after the other.

Example: python -m benchmarks.latency
"""

import argparse
import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.baseline import insert_each
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import funded
from benchmarks.workload import make_accounts, uniform

SIZES = {
    "seconds": Size(15, 4, "of each load"),
    "capacity": Size(300_000, 50_000, "transfers to measure the capacity with"),
    "singles": Size(1_000, 1_000, "single transfers a second"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "workers": Size(1, 1, "in one engine process, as `engine up` has it"),
}
ENTRY = 100
SHARES = (0.01, 0.25, 0.5)
WARM_UP_SECONDS = 1.0


def describe(load: str, per_second: float, latencies_ms: npt.NDArray[np.float64]) -> dict[str, Any]:
    quantiles = np.quantile(latencies_ms, (0.5, 0.99, 0.999, 1)).tolist()
    names = ("median_ms", "p99_ms", "p99_9_ms", "most_ms")
    return {
        "load": load,
        "transfers_per_second": round(per_second),
        "entries": len(latencies_ms),
        **{name: round(value, 3) for name, value in zip(names, quantiles, strict=True)},
    }


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(options.accounts)
    rows: list[Row] = []
    faults = []
    with funded(accounts, options.workers) as (ledger, engine):
        sent, found = ledger.send(
            uniform(accounts, options.capacity), batch=ENTRY, in_flight_max=1000
        )
        capacity = options.capacity / sent.seconds
        note(f"capacity in entries of {ENTRY}: {capacity:,.0f}/s")
        faults += found
        loads = [(f"{s:.0%} of capacity, entries of {ENTRY}", capacity * s, ENTRY) for s in SHARES]
        loads.append(("entries of one", options.singles, 1))
        for seed, (load, per_second, batch) in enumerate(loads, 20):
            count = max(5 * batch, round(per_second * (options.seconds + WARM_UP_SECONDS)))
            sent, found = ledger.send(
                uniform(accounts, count, seed=seed), batch=batch, per_second=per_second / batch
            )
            faults += found
            rows.append(describe(load, per_second, sent.latencies_ms(WARM_UP_SECONDS)))
            note(f"{load}: median {rows[-1]['median_ms']} ms")
        engine.end()
        faults += ledger.audit()
        bare = np.array(asyncio.run(insert_each(ledger.dsn, 100 * options.seconds, 1)))
        rows.append(describe("bare INSERT, one by one", 1 / bare.mean(), bare * 1000))
    return Result(rows, faults, {"capacity_transfers_per_second": round(capacity)})


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
