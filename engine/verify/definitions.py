"""What the ledger is made of, held to what the migrations make.

What they make is known by a digest of each object, for a major version of Postgres:
`scripts/definitions` asks a new ledger. Where somebody dropped a trigger or a CHECK, or replaced a
function or a view, the object is named. Columns, tables, views and plain indexes that somebody
added harm nothing and are let be.
"""

import hashlib
import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from engine.store.migrate import migrations
from engine.verify.report import OFFENDERS_MAX, CheckResult

TITLE: Final = "Tables, functions, triggers, constraints and views are as the migrations make them"

HARMLESS: Final = ("column", "index", "sequence", "table", "view")
"""Kinds of objects that may be added."""

_ROWS: Final = files("engine.verify") / "chain_rows" / "definitions.sql"
_DIGITS: Final = 32


async def definitions_of(connection: Any) -> dict[str, str]:
    """What each object is, by kind and name, as Postgres writes it for nobody's search path."""
    before = await connection.fetchval("SELECT current_setting('search_path')")
    await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
    rows = await connection.fetch(_ROWS.read_text())
    await connection.execute("SELECT set_config('search_path', $1, true)", before)
    return {row["object"]: row["definition"] for row in rows}


def digest_of_all(definitions: Mapping[str, str]) -> str:
    """One digest of them all."""
    lines = sorted(f"{name} {definition}" for name, definition in definitions.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


async def check_definitions(connection: Any) -> CheckResult:
    """Name what is not as the migrations make it.

    Args:
        connection: With a transaction open.
    """
    began = time.monotonic()
    found = digests_of(await definitions_of(connection))
    made = made_by(connection.get_server_version().major)
    offenders = [] if made is None else _compare(found, made)
    counted = {"definitions": len(found), "compared": 0 if made is None else len(made)}
    return CheckResult(
        "definitions",
        TITLE,
        counted,
        len(offenders),
        offenders[:OFFENDERS_MAX],
        not offenders,
        time.monotonic() - began,
    )


def _compare(found: Mapping[str, str], made: Mapping[str, str]) -> list[dict[str, Any]]:
    offenders = []
    for name in sorted(found.keys() | made.keys()):
        fault = "is another than the migrations make"
        if name not in found:
            fault = "is gone"
        elif name not in made:
            fault = "was added"
            if name.split()[0] in HARMLESS:
                continue
        if found.get(name) != made.get(name):
            offenders.append({"what": "definitions", "fault": fault, "object": name})
    return offenders


def digests_of(definitions: Mapping[str, str]) -> dict[str, str]:
    """The digest of each, whatever the number of shards; what is each ledger's own is left out."""
    shards = definitions["settings"].split()[0]
    texts = {
        name: text.replace(f"({shards} - 1)", "(:shard_count - 1)") if "shard_of" in name else text
        for name, text in definitions.items()
        if name != "settings"
    }
    return {
        name: hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] for name, text in texts.items()
    }


def digest_of_migrations() -> str:
    """Of the texts of all migrations."""
    texts = "\n".join(text for _, _, text in migrations())
    return hashlib.sha256(texts.encode()).hexdigest()[:_DIGITS]


def made_by(major: int) -> dict[str, str] | None:
    """The digest of each object that the migrations make with a Postgres.

    Returns:
        None where that is not known: of another major version, or of other migrations.
    """
    file = files("engine.verify") / "definitions_made" / f"{major}.txt"
    if not file.is_file():
        return None
    head, *lines = file.read_text().splitlines()
    if head != digest_of_migrations():
        return None
    return {line[_DIGITS + 1 :]: line[:_DIGITS] for line in lines}


def written(definitions: Mapping[str, str]) -> str:
    """As `made_by` reads them."""
    lines = [f"{digest} {name}" for name, digest in sorted(digests_of(definitions).items())]
    return "\n".join([digest_of_migrations(), *lines]) + "\n"
