"""Resident memory of a worker's process that has met many accounts.

Every account is credited once: the worker has loaded it and keeps it. Beside it the same
process over a hundredth of the accounts, which is what the program itself takes.

Example: python -m benchmarks.memory --accounts 1000000
"""

import argparse

from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import funded, resident_mb
from benchmarks.workload import make_accounts

SIZES = {
    "accounts": Size(1_000_000, 100_000, "met by the worker"),
    "workers": Size(1, 1, "in one engine process"),
}
FEW = 100


def measure(options: argparse.Namespace) -> Result:
    rows: list[Row] = []
    faults: list[str] = []
    for count in (options.accounts // FEW, options.accounts):
        with funded(make_accounts(count), options.workers) as (ledger, engine):
            found = resident_mb(engine.pid)
            faults += ledger.audit()
        rows.append(
            {"accounts": count, "resident_mb": found["VmRSS"], "resident_mb_max": found["VmHWM"]}
        )
        note(f"{count:,} accounts: {rows[-1]['resident_mb']} MB")
    per_account = (rows[1]["resident_mb"] - rows[0]["resident_mb"]) * 10**6
    summary = {"bytes_per_account": round(per_account / (options.accounts * (1 - 1 / FEW)))}
    return Result(rows, faults, summary)


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
