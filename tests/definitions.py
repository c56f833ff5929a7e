"""What the migrations make, asked of a new ledger: `scripts/definitions` writes it down."""

import asyncio
import tempfile
from pathlib import Path

import asyncpg

import engine.verify
from engine.servers import Servers
from engine.verify.definitions import definitions_of, written
from tests.ledgers import Ledger, make_ledger

MADE = Path(engine.verify.__file__).parent / "definitions_made"


async def text_for(ledger: Ledger) -> tuple[Path, str]:
    """The file for the Postgres of a new ledger, and what is to be in it."""
    connection = await asyncpg.connect(ledger.dsn)
    try:
        async with connection.transaction():
            text = written(await definitions_of(connection))
        return MADE / f"{connection.get_server_version().major}.txt", text
    finally:
        await connection.close()


async def main() -> None:
    """Write it down."""
    with (
        tempfile.TemporaryDirectory(prefix="engine-definitions-") as directory,
        Servers(Path(directory)) as servers,
    ):
        ledger = await make_ledger(servers.postgres.dsn, servers.valkey.url)
        file, text = await text_for(ledger)
        file.write_text(text)
        print(f"{file}: {len(text.splitlines()) - 1} objects")


if __name__ == "__main__":
    asyncio.run(main())
