"""`python -m shards.commands`."""

from shards.commands.main import run

run()
