"""`engine chain`: the heads of the chain, to be kept elsewhere."""

from pathlib import Path

from engine.commands.addresses import Data, PostgresDsn, find_postgres
from engine.commands.screen import Json, out, print_json, print_table, run_loop
from engine.errors import ConfigurationError
from engine.verify.heads import Heads, decode_heads, read_heads


def chain(postgres_dsn: PostgresDsn = None, data: Data = None, json: Json = False) -> None:
    """Print the heads of the chain, to be kept or signed elsewhere.

    What is altered before a head that was kept is found by `engine verify --chain --heads FILE`.

    Example: engine chain --json > heads.json
    """
    heads = run_loop(read_heads(find_postgres(postgres_dsn, data)))
    if json:
        print_json(heads)
        return
    out.print(f"ledger {heads.ledger}, in the chain from flush {heads.began} on")
    out.print(f"definitions {heads.definitions}")
    print_table(
        ["worker", "sequence", "link"],
        [(head.worker, head.sequence, head.link) for head in heads.heads],
        numbers=["sequence"],
    )


def read_kept(file: Path) -> Heads:
    """Heads that were kept in a file."""
    try:
        return decode_heads(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None
