"""Postgres is away for a minute while millions of requests arrive: the memory, and the end of it.

What runs: a producer process that sends everything at once, one engine process, Valkey and
Postgres, all on this machine. Postgres is stopped at once before the first request and started
after --away seconds. Memory of each process is looked at all the while; the stream itself is in
Valkey, whose part grows with the backlog.

The result is audited: every transfer answered as it must be and kept once, every balance right, or
the run fails. It fails too where the engine took more than --megabytes beyond what it had before.

Example: python -m benchmarks.backlog --transfers 5000000
"""

import argparse
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Self

from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import Engine, Ledger, funded, resident_mb
from benchmarks.workload import make_accounts, uniform

SIZES = {
    "transfers": Size(5_000_000, 200_000, "sent while Postgres is away"),
    "away": Size(60, 5, "seconds"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "workers": Size(2, 2, "in one engine process"),
    "megabytes": Size(1_500, 1_000, "that the engine may take beyond what it had"),
}
LOOK_SECONDS = 0.25
IN_FLIGHT_MAX = 1_000_000


class Watch:
    """The most memory that processes had, by the name of the program; a thread of its own.

    Args:
        ledger: Its servers.
        engine: Its process.
    """

    def __init__(self, ledger: Ledger, engine: Engine) -> None:
        self._ledger = ledger
        self._engine = engine
        self.most_mb: dict[str, int] = defaultdict(int)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for name, pid in self._processes():
                try:
                    now = resident_mb(pid)["VmRSS"]
                except (OSError, KeyError):  # it has ended
                    continue
                self.most_mb[name] = max(self.most_mb[name], now)

    def _processes(self) -> list[tuple[str, int]]:
        servers = self._ledger.servers
        found = [("engine", self._engine.pid)]
        for name, file in (
            ("valkey", servers.valkey.directory / "pid"),
            ("postmaster", servers.postgres.directory / "data" / "postmaster.pid"),
        ):
            if file.exists():
                found.append((name, int(file.read_text().split()[0])))
        postmaster = next((pid for name, pid in found if name == "postmaster"), 0)
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
        if postmaster and children.exists():
            # With the shared buffers that each has touched.
            found += [("largest of postgres", int(pid)) for pid in children.read_text().split()]
        return found


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(options.accounts)
    transfers = uniform(accounts, options.transfers, seed=41)
    with funded(accounts, options.workers) as (ledger, engine):
        before = resident_mb(engine.pid)["VmRSS"]
        postgres = ledger.servers.postgres
        postgres.stop("immediate")
        back: list[float] = []

        def come_back() -> None:
            time.sleep(options.away)
            postgres.start()
            back.append(time.time())
            note(f"Postgres is back after {options.away} s")

        returning = threading.Thread(target=come_back)
        returning.start()
        with Watch(ledger, engine) as watch:
            sent, faults = ledger.send(transfers, in_flight_max=IN_FLIGHT_MAX)
        returning.join()
        faults += ledger.audit()
    rows: list[Row] = [
        {"process": name, "resident_mb_max": most} for name, most in sorted(watch.most_mb.items())
    ]
    taken = watch.most_mb["engine"] - before
    if taken > options.megabytes:
        faults.append(f"the engine took {taken} MB more than it had")
    first, last = float(sent.answered.min() - back[0]), float(sent.answered.max() - back[0])
    summary = {
        "engine_mb_before": before,
        "first_answer_seconds": round(first, 2),
        "all_answered_seconds": round(last, 1),
        "decided_per_second": round(options.transfers / last),
    }
    return Result(rows, faults, summary)


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
