"""Fuzzing: hostile entries, ids and keys on one shard at a time, honest producers on the others.

No session and no process ends, no other shard stands, the one recovers, memory is bounded, all that
was sent is decided or a dead letter, and `engine verify` passes; else it stops and says why.

    scripts/fuzz --minutes 5 --seed 7
    scripts/fuzz --each                      each action by itself, on a ledger of its own
    scripts/fuzz --only giant_entry,groups   or --without NAME,...
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from engine.servers import Servers
from tests.fuzz.actions import ACTIONS
from tests.fuzz.run import Broken, Fuzz
from tests.ledgers import make_ledger

SHARDS = 8
EACH_SECONDS = 8.0
EACH_ROUNDS = 12


def _print(line: str) -> None:
    print(line, flush=True)


async def run(servers: Servers, directory: Path, options: argparse.Namespace) -> None:
    """One run with all actions that are wanted."""
    ledger = await make_ledger(servers.postgres.dsn, servers.valkey.url, shard_count=SHARDS)
    fuzz = Fuzz(
        ledger, directory, options.seed, _print, options.actions, options.patience, options.workers
    )
    await fuzz.run(options.minutes * 60)


async def run_each(servers: Servers, directory: Path, options: argparse.Namespace) -> int:
    """A short run for each action; how many of them break something."""
    broken = 0
    for name in options.actions:
        ledger = await make_ledger(servers.postgres.dsn, servers.valkey.url, shard_count=SHARDS)
        fuzz = Fuzz(
            ledger,
            directory,
            options.seed,
            lambda _: None,
            [name],
            options.patience,
            options.workers,
        )
        try:
            await fuzz.run(EACH_SECONDS, EACH_ROUNDS)
        except (Broken, AssertionError) as error:
            broken += 1
            _print(f"{name:32} BROKEN  {error}")
        else:
            _print(f"{name:32} borne, {fuzz.done[name]} times")
    return broken


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--workers", type=int, default=1, help="in the process (1)")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds a shard may stand")
    parser.add_argument("--only", default="", help="actions to draw from, with commas")
    parser.add_argument("--without", default="", help="actions not to draw from")
    parser.add_argument("--each", action="store_true", help="each action by itself")
    parser.add_argument("--list", action="store_true", help="name the actions and end")
    options = parser.parse_args()
    only, without = ({*text.split(",")} - {""} for text in (options.only, options.without))
    if unknown := (only | without) - ACTIONS.keys():
        parser.error(f"no action {', '.join(sorted(unknown))}; --list names them")
    options.actions = [
        name for name in ACTIONS if name in (only or ACTIONS) and name not in without
    ]
    if options.list:
        print("\n".join(options.actions))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _print(f"seed {options.seed}")
    with (
        tempfile.TemporaryDirectory(prefix="engine-fuzz-") as name,
        Servers(Path(name), postgres_settings={"shared_buffers": "128MB"}) as servers,
    ):
        if options.each:
            sys.exit(min(asyncio.run(run_each(servers, Path(name), options)), 1))
        try:
            asyncio.run(run(servers, Path(name), options))
        except Broken as error:
            _print(f"BROKEN, seed {options.seed}: {error}")
            sys.exit(1)


if __name__ == "__main__":
    main()
