"""The heads of the chain: the end of each worker's, in one snapshot, to be kept elsewhere."""

from importlib.resources import files
from typing import Any

import msgspec

from engine.errors import InputError
from engine.store.snapshot import snapshot
from engine.verify.definitions import definitions_of, digest_of_all
from engine.verify.run import SETTINGS


class Head(msgspec.Struct, frozen=True):
    """The end of one worker's chain."""

    worker: str
    sequence: int
    link: str


class Heads(msgspec.Struct, frozen=True):
    """The ends of all chains in one snapshot: to be kept, or signed, elsewhere."""

    ledger: str
    began: int
    """Number of the first flush that is in the chain."""
    definitions: str
    """SHA-256 of what the ledger is made of, and of names that never change."""
    heads: list[Head]


def decode_heads(text: bytes) -> Heads:
    """Heads as `engine chain --json` printed them. Raises InputError."""
    try:
        return msgspec.json.decode(text, type=Heads)
    except msgspec.MsgspecError as error:
        raise InputError(
            f"these are no heads as `engine chain --json` prints them: {error}"
        ) from None


async def read_heads(dsn: str) -> Heads:
    """The heads of all chains as they are now."""
    async with snapshot(dsn, SETTINGS) as connection:
        return await heads_of(connection)


def chain_query(name: str) -> str:
    """The text of a file of `chain_rows`."""
    return (files("engine.verify") / "chain_rows" / f"{name}.sql").read_text()


async def heads_of(connection: Any) -> Heads:
    """The heads as a snapshot has them."""
    rows = await connection.fetch(chain_query("heads"))
    return Heads(
        str(await connection.fetchval("SELECT identity FROM ledger.settings")),
        await connection.fetchval("SELECT number FROM ledger.chain_began") or 0,
        digest_of_all(await definitions_of(connection)),
        [Head(str(row["worker"]), row["sequence"], bytes(row["link"]).hex()) for row in rows],
    )
