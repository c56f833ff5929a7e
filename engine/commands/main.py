"""The program `engine`: its commands."""

from typing import Final, NoReturn

from engine.commands.ends import EPILOG
from engine.commands.program import Command, make_program, run_program

COMMANDS: Final = {
    "demo": Command("engine.commands.demo:demo", "Watch it work, on servers that are thrown away."),
    "up": Command(
        "engine.commands.up:up", "Start a Postgres, a Valkey, the ledger and workers, all here."
    ),
    "init": Command(
        "engine.commands.init:init", "Make the ledger in Postgres, or bring it up to date."
    ),
    "roles": Command(
        "engine.commands.roles:roles", "Print who may do what in Postgres and Redis, or make it so."
    ),
    "worker": Command(
        "engine.commands.worker:worker", "Run workers: read the streams, decide, write to Postgres."
    ),
    "accounts": Command(
        "engine.commands.accounts:accounts_app", "Create accounts and look at them."
    ),
    "submit": Command("engine.commands.submit:submit", "Send transfers from a file, in its order."),
    "transfer": Command(
        "engine.commands.transfer:transfer", "Make one transfer and print its outcome."
    ),
    "balance": Command(
        "engine.commands.balance:balance", "Show the balances of accounts, in minor units."
    ),
    "history": Command(
        "engine.commands.balance:history", "Show the last postings of an account, newest first."
    ),
    "status": Command(
        "engine.commands.status:status",
        "Show servers, workers, shards, what waits and what is wrong.",
    ),
    "doctor": Command(
        "engine.commands.doctor:doctor",
        "Check everything that can be wrong, and say what to do next.",
    ),
    "where": Command("engine.commands.where:where", "Tell an id's whole life, or where it waits."),
    "events": Command("engine.commands.events:events", "Tell what happened lately."),
    "letters": Command(
        "engine.commands.letters:letters_app", "Dead letters: show, repair, resend, dismiss."
    ),
    "freeze": Command(
        "engine.commands.freezes:freeze", "Freeze an account, a ledger, a transfer code or a shard."
    ),
    "thaw": Command(
        "engine.commands.freezes:thaw", "End a freeze: what waits is decided, in order."
    ),
    "freezes": Command(
        "engine.commands.freezes:freezes",
        "List what is frozen, by whom and why, and what waits for it.",
    ),
    "top": Command(
        "engine.commands.top:top",
        "Watch shards and workers, rates, lag, latency, and what happened.",
    ),
    "console": Command(
        "engine.commands.console:console", "Serve a console for browsers, until Ctrl-C or TERM."
    ),
    "flows": Command(
        "engine.commands.flow_schedules:flows_app", "Money movement in several steps."
    ),
    "review": Command("engine.commands.review:review_app", "What flows ask people."),
    "verify": Command(
        "engine.commands.verify:verify",
        "Check every posting, balance, id and position of the ledger.",
    ),
    "chain": Command(
        "engine.commands.chain:chain",
        "Print the heads of the chain, to be kept or signed elsewhere.",
    ),
    "bench": Command(
        "benchmarks.command:bench", "Measure durable transfers a second, beside bare COPY."
    ),
}
"""In the order of `engine --help`."""

program = make_program(
    "engine",
    "Payment transfers: pushed to Redis streams, decided in memory, kept in Postgres.",
    f"Start with `engine demo`. Each command has a --help with an example. {EPILOG}",
    COMMANDS,
)


def run() -> NoReturn:
    """Run the command of the command line and exit."""
    run_program(program)


if __name__ == "__main__":
    run()
