"""Which Postgres and which Redis: as given, as the environment says, or those of a running `up`."""

import re
from pathlib import Path
from typing import Final

from engine.errors import ConfigurationError
from engine.servers import Addresses, find_owner, find_running
from engine.settings import (
    OWNER_VARIABLE,
    POSTGRES_VARIABLE,
    REDIS_VARIABLE,
    data_directory,
    read_variable,
)

_PASSWORD_WORD: Final = re.compile(
    r"(\b(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s'\\]|\\.)+)", re.IGNORECASE
)
"""As in `host=... password=...`."""

_SHOWN: Final = frozenset(
    {
        "db", "dbname", "host", "port", "user", "username", "sslmode", "sslrootcert",
        "ssl_ca_certs", "ssl_cert_reqs", "target_session_attrs", "connect_timeout",
    }
)  # fmt: skip
"""Options of addresses that are printed as they are; of any other only the name is."""


def find_addresses(
    postgres_dsn: str | None = None, redis_url: str | None = None, data: Path | None = None
) -> Addresses:
    """Both servers, from the same source: a ledger and streams that belong together.

    A directory that is given goes before the environment; without one, what is given or set as
    an address goes before the directory that the environment names.

    Args:
        postgres_dsn: Where the ledger is.
        redis_url: Where the streams are.
        data: The directory of a running `engine up`.

    Raises:
        ConfigurationError: There are none, or only one, or one is given twice.
    """
    if data is not None:
        _check_given_once(postgres_dsn or redis_url)
        return _running(data)
    postgres_dsn = postgres_dsn or read_variable(POSTGRES_VARIABLE)
    redis_url = redis_url or read_variable(REDIS_VARIABLE)
    if postgres_dsn and redis_url:
        return Addresses(postgres_dsn, redis_url)
    if postgres_dsn:
        raise ConfigurationError(
            f"there is a Postgres but no Redis: set {REDIS_VARIABLE}, or give its address"
        )
    if redis_url:
        raise ConfigurationError(
            f"there is a Redis but no Postgres: set {POSTGRES_VARIABLE}, or give its address"
        )
    return _running(None)


def find_postgres(postgres_dsn: str | None = None, data: Path | None = None) -> str:
    """The Postgres alone. Raises ConfigurationError, as `find_addresses`."""
    if data is not None:
        _check_given_once(postgres_dsn)
        return _running(data).postgres_dsn
    return postgres_dsn or read_variable(POSTGRES_VARIABLE) or _running(None).postgres_dsn


def find_owner_postgres(postgres_dsn: str | None = None, data: Path | None = None) -> str:
    """The Postgres for whoever makes and changes the ledger; of a running `up` its owner's.

    Raises ConfigurationError, as `find_addresses`.
    """
    if data is not None:
        _check_given_once(postgres_dsn)
    else:
        given = postgres_dsn or read_variable(OWNER_VARIABLE) or read_variable(POSTGRES_VARIABLE)
        if given:
            return given
    return find_owner(data_directory(data)) or _running(data).postgres_dsn


def without_password(address: str) -> str:
    """An address that may be printed: as whom and where, and no secret of its options."""
    scheme, found, rest = address.partition("://")
    user, at, host = rest.rpartition("@")
    if not found or not at:
        return mask_options(address)
    name = user.partition(":")[0]
    return mask_options(f"{scheme}://{name}@{host}" if name else f"{scheme}://{host}")


def mask_options(address: str) -> str:
    """An address, or a word with one in it, whose options tell no secret."""
    place, query, options = address.partition("?")
    words = _PASSWORD_WORD.sub(r"\1...", place)
    shown = [
        f"{name}{equals}{value if name in _SHOWN else '...' if equals else ''}"
        for name, equals, value in (option.partition("=") for option in options.split("&"))
    ]
    return words + query + "&".join(shown)


def _check_given_once(address: str | None) -> None:
    if address:
        raise ConfigurationError("give a data directory or addresses, not both")


def _running(data: Path | None) -> Addresses:
    directory = data_directory(data)
    running = find_running(directory)
    if running is None:
        raise ConfigurationError(
            f"no servers to talk to: no `engine up` runs in {directory}. Start one with "
            f"`engine up --data {directory}`, name the directory of another with --data, or set "
            f"{POSTGRES_VARIABLE} and {REDIS_VARIABLE} to servers of your own",
        )
    return running
