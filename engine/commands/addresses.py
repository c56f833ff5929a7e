"""Which Postgres and which Redis a command talks to."""

import os
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from engine.errors import ConfigurationError
from engine.servers import Addresses, find_running

DIRECTORY: Final = Path(".engine")
"""Where `engine up` keeps its data unless told otherwise."""

POSTGRES: Final = "ENGINE_POSTGRES_DSN"
REDIS: Final = "ENGINE_REDIS_URL"
DATA: Final = "ENGINE_DATA"
PREFIX: Final = "ENGINE_PREFIX"

_PANEL: Final = "Servers"

PostgresDsn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--postgres-dsn",
        metavar="DSN",
        help=f"Postgres, as postgresql://user@host/database. Else {POSTGRES} from the environment.",
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
        f"Else {REDIS} from the environment.",
        rich_help_panel=_PANEL,
    ),
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Use the servers of the `engine up` that runs in this directory. Else "
        f"{DATA} from the environment, else {DIRECTORY}.",
        rich_help_panel=_PANEL,
    ),
]


def stream_prefix() -> str:
    """Before the names of the streams: `engine`, or as the environment says."""
    return os.environ.get(PREFIX) or "engine"


def choose_directory(data: Path | None) -> Path:
    """The data directory: the one given, that of the environment, or the default."""
    return data or Path(os.environ.get(DATA) or DIRECTORY)


def find_postgres(postgres_dsn: str | None, data: Path | None) -> str:
    """The Postgres to use: as given, by the environment, or that of a running `up`.

    Raises:
        BadParameter: When it is given twice.
        ConfigurationError: When there is none.
    """
    if data is not None and postgres_dsn is not None:
        raise typer.BadParameter("give --data or --postgres-dsn, not both")
    if data is None:
        postgres_dsn = postgres_dsn or os.environ.get(POSTGRES) or None
    return postgres_dsn or _running(data).postgres_dsn


def find_addresses(
    postgres_dsn: str | None,
    redis_url: str | None,
    data: Path | None,
) -> Addresses:
    """Both servers, from the same source: a ledger and a road that belong together.

    Raises:
        BadParameter: When they are given twice.
        ConfigurationError: When there are none, or only one.
    """
    if data is not None and (postgres_dsn or redis_url):
        raise typer.BadParameter("give --data or addresses (--postgres-dsn, --redis-url), not both")
    if data is not None:
        return _running(data)
    postgres_dsn = postgres_dsn or os.environ.get(POSTGRES) or None
    redis_url = redis_url or os.environ.get(REDIS) or None
    if postgres_dsn and redis_url:
        return Addresses(postgres_dsn, redis_url)
    if postgres_dsn:
        raise ConfigurationError(f"there is a Postgres but no Redis: set {REDIS} or --redis-url")
    if redis_url:
        raise ConfigurationError(f"there is a Redis but no Postgres: set {POSTGRES}")
    return _running(None)


def _running(data: Path | None) -> Addresses:
    directory = choose_directory(data)
    running = find_running(directory)
    if running is None:
        raise ConfigurationError(
            f"no servers to talk to: no `engine up` runs in {directory}. Start one with "
            f"`engine up --data {directory}`, name the directory of another with --data, or set "
            f"{POSTGRES} and {REDIS} to servers of your own",
        )
    return running
