"""The program `shards`: its commands."""

import typer

from engine.commands.main import run_app
from shards.commands.abort import abort
from shards.commands.apply import apply
from shards.commands.auto import auto
from shards.commands.drain import drain
from shards.commands.plan import plan
from shards.commands.status import status
from shards.commands.verify import verify

app = typer.Typer(
    name="shards",
    help="Shards, the slices of the ledger, and the workers that own them.",
    epilog="First `shards plan --out plan.json`, then `shards apply plan.json`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def shards() -> None:
    """Shards, the slices of the ledger, and the workers that own them."""


for command in (status, plan, apply, abort, drain, verify, auto):
    app.command()(command)


def run() -> None:
    """Run the command of the command line and exit: 0 done, 1 failed, 2 wrong usage."""
    run_app(app)
