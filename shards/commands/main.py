"""The program `shards`: its commands."""

from typing import Final, NoReturn

from engine.commands.ends import EPILOG
from engine.commands.program import Command, make_program, run_program

COMMANDS: Final = {
    "status": Command(
        "shards.commands.status:status", "Show each shard: its worker, its position, what waits."
    ),
    "plan": Command(
        "shards.commands.plan:plan",
        "Plan moves that even out the load, or those that are asked for.",
    ),
    "apply": Command("shards.commands.apply:apply", "Move shards as planned, while traffic flows."),
    "abort": Command("shards.commands.abort:abort", "End all plans that are being applied."),
    "drain": Command("shards.commands.drain:drain", "Move all shards of a worker to the others."),
    "undrain": Command("shards.commands.drain:undrain", "Let a drained worker take shards again."),
    "verify": Command(
        "shards.commands.verify:verify",
        "Check chains, positions, owners and the order of each account.",
    ),
    "auto": Command(
        "shards.commands.auto:auto", "Even out the load whenever it has been uneven for a while."
    ),
}
"""In the order of `shards --help`."""

program = make_program(
    "shards",
    "Shards, the slices of the ledger, and the workers that own them.",
    f"First `shards plan --out plan.json`, then `shards apply plan.json`. {EPILOG}",
    COMMANDS,
)


def run() -> NoReturn:
    """Run the command of the command line and exit."""
    run_program(program)
