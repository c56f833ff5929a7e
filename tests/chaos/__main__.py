"""Chaos: what can go wrong does, one thing after the other, under load; then all is checked.

scripts/chaos --minutes 5 --seed 7
scripts/chaos --only table_locked,redis_busy     or --without NAME,...
scripts/chaos --flows 10000 --kills 20           flows, and every process killed in turn
"""

import argparse
import asyncio
import functools
import signal
import tempfile
import time
from pathlib import Path

import structlog

from tests.chaos.cluster_faults import OF_CLUSTERS
from tests.chaos.faults import FAULTS
from tests.chaos.flow_kills import FlowKills
from tests.chaos.run import Chaos


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"faults: {', '.join(FAULTS)}",
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--only", default="", help="faults to draw from, with commas")
    parser.add_argument("--without", default="", help="faults not to draw from")
    parser.add_argument(
        "--bulk", type=int, default=0, metavar="N", help="send entries of N plain transfers too"
    )
    parser.add_argument(
        "--disk", type=int, default=0, metavar="MIB", help="a small disk, which is full at times"
    )
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="streams on a Redis Cluster whose slots move; so too where --only names slot_moved",
    )
    parser.add_argument("--log", type=Path, help="a file for what workers log")
    parser.add_argument("--flows", type=int, default=0, metavar="N", help="kill -9 under N flows")
    parser.add_argument("--kills", type=int, default=20, help="how many, with --flows")
    options = parser.parse_args()
    only, without = ({*text.split(",")} - {""} for text in (options.only, options.without))
    if unknown := (only | without) - FAULTS.keys():
        parser.error(f"no fault {', '.join(sorted(unknown))}")
    faults = (only or FAULTS.keys()) - without
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="engine-chaos-") as directory:
        say = functools.partial(print, flush=True)
        if options.flows:
            kills = FlowKills(Path(directory), options.seed, options.flows, options.kills, 1.5, say)
            asyncio.run(kills.run())
            return
        chaos = Chaos(
            Path(directory),
            options.seed,
            say,
            faults,
            options.log,
            options.bulk,
            options.disk,
            clustered=options.cluster or bool(only & OF_CLUSTERS),
        )
        asyncio.run(chaos.run(options.minutes * 60))


if __name__ == "__main__":
    main()
