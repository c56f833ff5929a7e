"""Flows under many seeds: `python -m tests.flow_seeds --first 0 --seeds 20000`."""

import argparse
import sys

from tests.flow_judge import judge, judge_calls
from tests.flow_world import live


def faults_of(seed: int) -> list[str]:
    """All that is wrong in the world of a seed."""
    world = live(seed)
    return [
        *judge(world.table, world.journal, world.ledger.spent, world.ledger.open),
        *judge_calls(world.called, world.table, world.journal),
        *world.faults_of_answers(),
    ]


def main() -> None:
    """Stop at the first seed in which something is wrong."""
    parser = argparse.ArgumentParser(description="Drawn flows in worlds that misbehave.")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1000)
    options = parser.parse_args()
    for seed in range(options.first, options.first + options.seeds):
        faults = faults_of(seed)
        if faults:
            print(f"seed {seed}:", *faults, sep="\n  ")
            sys.exit(1)
    print(f"{options.seeds} seeds from {options.first}: nothing wrong")


if __name__ == "__main__":
    main()
