"""`scripts/simulate`: run seeds, and say which break a promise."""

import argparse
import os
import sys
import time

from tests.simulation.flow_run import run_flow_seed
from tests.simulation.run import Run, run_seed


def tell(run: Run, *, lines: int | None) -> None:
    """Print what happened, the last lines of it, and why it is wrong."""
    story = list(run.world.story())
    for line in story if lines is None else story[-lines:]:
        print(line)
    failure = run.failure
    if failure is not None:
        print(f"seed {run.seed}: {type(failure).__name__}: {failure}")
        print(f"again: scripts/simulate --from {run.seed} --seeds 1 --trace")
    else:
        print(f"seed {run.seed}: {run.world.fingerprint()}")


def main() -> None:
    """Run the seeds asked for; exit 1 if one fails."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    parser.add_argument("--flows", action="store_true", help="flow workers beside the others")
    options = parser.parse_args()
    simulate = run_flow_seed if options.flows else run_seed
    began, failed, lines = time.monotonic(), [], 0
    for seed in range(options.first, options.first + options.seeds):
        run = simulate(seed)
        lines += len(run.world.lines)
        if options.trace:
            tell(run, lines=None)
        elif run.failure is not None:
            if options.keep_going:
                print(f"seed {seed}: {type(run.failure).__name__}: {run.failure}"[:400], flush=True)
            else:
                tell(run, lines=150)
        if run.failure is not None:
            failed.append(seed)
            if not options.keep_going:
                break
        done = seed - options.first + 1
        if done % 100 == 0 or done == options.seeds:
            seconds = time.monotonic() - began
            print(
                f"{done} seeds, {lines} events, {len(failed)} failed, {seconds:.0f} s", flush=True
            )
    if failed:
        print(f"failed: {failed}")
        sys.exit(1)


if __name__ == "__main__":
    # Sets of bytes are visited in one order in every process.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    main()
