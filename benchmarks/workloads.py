"""Other workloads beside the plain one, in the same run: ratios of durable transfers a second.

Each on fresh servers, by bin batches in a closed loop, after the accounts got their money:

- plain: accounts drawn alike, nothing declined. Measured before and after all others; the
  ratios are to the mean of both.
- many accounts: the plain one over a hundred times as many (1,000,000).
- zipf: accounts drawn by Zipf's law: one is in a fifth of all transfers.
- hot, credited: one account is credited by every transfer; hot, both ways: every transfer
  debits or credits it.
- holds: 30% hold an amount, 30% post or void such a hold up to 20,000 transfers later.
- declined: 1% ask for more than the account has.
- random ids: uuid4 instead of uuid7.

Example: python -m benchmarks.workloads --workers 1
"""

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks import workload
from benchmarks.against import compare
from benchmarks.report import Result, Size, note, run
from benchmarks.serving import WORKERS_BEST, CpuTimes, funded
from benchmarks.workload import Draw, make_accounts

SIZES = {
    "transfers": Size(500_000, 100_000, "of each workload"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "workers": Size(WORKERS_BEST, WORKERS_BEST, "in one engine process"),
}
MANY = 100
WORKLOADS: Mapping[str, tuple[int, Draw]] = {
    "plain": (1, workload.uniform),
    "many accounts": (MANY, workload.uniform),
    "zipf": (1, workload.zipf),
    "hot, credited": (1, workload.hot_credit),
    "hot, both ways": (1, workload.hot_both),
    "holds": (1, workload.holds),
    "declined": (1, workload.declined),
    "random ids": (1, workload.random_ids),
    "plain again": (1, workload.uniform),
}


def measure(options: argparse.Namespace) -> Result:
    rows: list[dict[str, Any]] = []
    faults = []
    chosen = options.only.split(",") if options.only else [*WORKLOADS]
    for name, (times, draw) in WORKLOADS.items():
        if name not in {*chosen, "plain", "plain again"}:
            continue
        accounts = make_accounts(options.accounts * times)
        transfers = draw(accounts, options.transfers)
        with funded(accounts, options.workers) as (ledger, engine):
            cpu = CpuTimes(ledger, engine)
            sent, found = ledger.send(transfers)
            costs = cpu.per_transfer(options.transfers)
            faults += [f"{name}: {fault}" for fault in found + ledger.audit()]
        rows.append(
            {
                "workload": name,
                "accounts": options.accounts * times,
                "workers": options.workers,
                "transfers": options.transfers,
                "transfers_per_second": round(options.transfers / sent.seconds),
                **costs,
            }
        )
        note(f"{name}: {rows[-1]['transfers_per_second']:,}/s")
    plain = (rows[0]["transfers_per_second"] + rows[-1]["transfers_per_second"]) / 2
    for row in rows:
        row["ratio"] = round(row["transfers_per_second"] / plain, 3)
    return Result([*rows], faults)


def add_options(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(WORKLOADS)
    parser.add_argument("--only", metavar="NAMES", help=f"beside plain; of {names}")


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, add_options, arguments, compare)


if __name__ == "__main__":
    main()
