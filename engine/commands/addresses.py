"""Which Postgres and which Redis a command talks to: its options, and what they lead to."""

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from engine import addresses
from engine.servers import Addresses
from engine.settings import (
    DATA_DIRECTORY,
    DATA_VARIABLE,
    OWNER_VARIABLE,
    POSTGRES_VARIABLE,
    REDIS_VARIABLE,
)

_PANEL: Final = "Servers"

PostgresDsn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--postgres-dsn",
        metavar="DSN",
        help="Postgres, as postgresql://user@host/database. "
        f"Else {POSTGRES_VARIABLE} from the environment.",
        rich_help_panel=_PANEL,
    ),
]
OwnerDsn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--postgres-dsn",
        metavar="DSN",
        help="Postgres, as the role that owns the ledger. "
        f"Else {OWNER_VARIABLE}, else {POSTGRES_VARIABLE} from the environment.",
        rich_help_panel=_PANEL,
    ),
]
RedisUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        metavar="URL",
        help="Redis or Valkey, as redis://host:port/0; a cluster as "
        "redis+cluster://host:port,host:port. "
        f"Else {REDIS_VARIABLE} from the environment.",
        rich_help_panel=_PANEL,
    ),
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Use the servers of the `engine up` that runs in this directory. Else "
        f"{DATA_VARIABLE} from the environment, else {DATA_DIRECTORY}.",
        rich_help_panel=_PANEL,
    ),
]


def find_postgres(postgres_dsn: str | None, data: Path | None) -> str:
    """The Postgres to use.

    Raises:
        BadParameter: It is given twice.
        ConfigurationError: There is none.
    """
    if data is not None and postgres_dsn is not None:
        raise typer.BadParameter("give --data or --postgres-dsn, not both")
    return addresses.find_postgres(postgres_dsn, data)


def find_owner_postgres(postgres_dsn: str | None, data: Path | None) -> str:
    """The Postgres to use for what its owner alone may do.

    Raises:
        BadParameter: It is given twice.
        ConfigurationError: There is none.
    """
    if data is not None and postgres_dsn is not None:
        raise typer.BadParameter("give --data or --postgres-dsn, not both")
    return addresses.find_owner_postgres(postgres_dsn, data)


def find_addresses(
    postgres_dsn: str | None,
    redis_url: str | None,
    data: Path | None,
) -> Addresses:
    """Both servers to use.

    Raises:
        BadParameter: They are given twice.
        ConfigurationError: There are none, or only one.
    """
    if data is not None and (postgres_dsn or redis_url):
        raise typer.BadParameter("give --data or addresses (--postgres-dsn, --redis-url), not both")
    return addresses.find_addresses(postgres_dsn, redis_url, data)
