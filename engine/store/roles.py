"""Roles in Postgres: who owns the ledger, who writes it, who creates accounts, who reads.

The owner made the tables (`engine init`) and no worker uses it. The others log in as nobody and
have the privileges of `grants.sql`; whoever logs in is a member of those it needs. Roles are the
cluster's and not the database's, so that their names begin with the database's: two ledgers in one
cluster have roles of their own, and may do nothing to each other.
"""

from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Any, Final, Literal, TypeAlias, get_args

import asyncpg
import msgspec

from engine.errors import ConfigurationError
from engine.store.address import where_of
from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.scram import scram_of

Kind: TypeAlias = Literal["engine", "creator", "reader"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_GRANTS: Final = "grants"

NAME_BYTES_MAX: Final = 63
"""Of a role; what is longer Postgres would cut off."""

MIGRATIONS_LOCK: Final = "LOCK TABLE ledger.migrations IN SHARE ROW EXCLUSIVE MODE"
"""Whoever migrates or grants is alone. A table of our own: an advisory lock could be held by any
role that may connect."""


class Login(msgspec.Struct, frozen=True):
    """A role that logs in."""

    name: str
    password: str
    kinds: tuple[Kind, ...]
    """What it may."""
    looks: bool = False
    """Whether it sees what all sessions do, as `engine doctor` wants to on a server of our own."""


class Roles(msgspec.Struct, frozen=True):
    """The roles of a ledger, by name."""

    owner: str
    engine: str
    creator: str
    reader: str

    def of(self, kind: Kind) -> str:
        """The role of a kind."""
        name: str = getattr(self, kind)
        return name


def grants(roles: Roles) -> str:
    """The statements that give the roles what they may, and take all else from them."""
    text = (files("engine.store") / f"{_GRANTS}.sql").read_text()
    for kind in KINDS:
        text = text.replace(f":{kind}", quoted(roles.of(kind)))
    return text


def script(roles: Roles) -> str:
    """All that `apply_roles` does, as an administrator would do it by hand with psql."""
    lines = ["BEGIN;"]
    for kind in KINDS:
        name = roles.of(kind)
        lines += [
            f"DO $$ BEGIN IF to_regrole({literal(quoted(name))}) IS NULL THEN",
            f"    CREATE ROLE {quoted(name)} NOLOGIN; END IF; END $$;",
            f"{_record(kind, name)};",
        ]
    lines += [grants(roles).rstrip(), "COMMIT;", ""]
    lines += [
        "-- Who logs in is a member of what it needs. The owner is a member of each login, so that",
        "-- a frozen worker can be cleared by one of another. Set passwords by \\password of psql.",
        f"-- CREATE ROLE worker LOGIN IN ROLE {quoted(roles.engine)};",
        f"-- GRANT worker TO {quoted(roles.owner)};",
    ]
    return "\n".join(lines) + "\n"


async def find_roles(dsn: str, prefix: str | None = None) -> Roles:
    """The roles of the ledger as they are recorded, or as they would be called.

    Args:
        dsn: Of any role that may look, best of the owner.
        prefix: What their names begin with; None for those that are there, else for the
            database's name.

    Raises:
        ConfigurationError: There is no ledger, or a name would be too long.
        TryAgainError: Postgres is out of reach.
    """
    connection = await connect(dsn, "engine roles")
    try:
        with translated(where_of(dsn)):
            return await _find(connection, prefix)
    finally:
        connection.terminate()


async def apply_roles(dsn: str, prefix: str | None = None, logins: Sequence[Login] = ()) -> Roles:
    """Make the roles, and give them what they may; safe to repeat, while workers run.

    Args:
        dsn: The owner's, who may create roles where they are not there yet.
        prefix: As `find_roles`.
        logins: Roles that log in, made or changed too. Their passwords are sent as what Postgres
            keeps of them, so that no log of it shows one.

    Raises:
        ConfigurationError: Who asks may not, or a name is somebody else's.
        TryAgainError: Postgres is out of reach.
    """
    connection = await connect(dsn, "engine roles")
    try:
        with translated(where_of(dsn)):
            await check_owner(connection)
            async with connection.transaction():
                await connection.execute(MIGRATIONS_LOCK)
                roles = await _find(connection, prefix)
                for kind in KINDS:
                    await _make_role(connection, roles.of(kind), "NOLOGIN")
                    await connection.execute(_record(kind, roles.of(kind)))
                await connection.execute(grants(roles))
                for login in logins:
                    await _make_login(connection, roles, login)
        return roles
    finally:
        connection.terminate()


async def grant_again(connection: asyncpg.Connection) -> None:
    """After a migration: what it made is granted too, where this ledger has roles."""
    roles = await _find(connection, None)
    there = await connection.fetchval(
        "SELECT count(*) FROM ledger.roles r JOIN pg_catalog.pg_roles p ON p.rolname = r.role"
    )
    # Elsewhere they were never made, or the ledger was brought here from another cluster.
    if there == len(KINDS):
        await connection.execute(grants(roles))


async def _find(connection: asyncpg.Connection, prefix: str | None) -> Roles:
    database, owner = await _database_and_owner(connection)
    if owner is None:
        raise ConfigurationError("there is no ledger in this database; run `engine init` first")
    kept: dict[str, str] = {}
    if prefix is None:
        rows = await connection.fetch("SELECT kind, role FROM ledger.roles")
        kept = {each["kind"]: each["role"] for each in rows}
    names = {kind: kept.get(kind, f"{prefix or database}_{kind}") for kind in KINDS}
    for name in names.values():
        if len(name.encode()) > NAME_BYTES_MAX or "\0" in name:
            raise ConfigurationError(
                f"{name!r} is too long for the name of a role: give a shorter one with --name"
            )
    return Roles(owner, **names)


async def check_owner(connection: asyncpg.Connection) -> None:
    """See that whoever asks owns the ledger, where there is one.

    Raises:
        ConfigurationError: Its role is another's.
    """
    _, owner = await _database_and_owner(connection)
    if owner is not None and not await connection.fetchval(
        "SELECT pg_catalog.pg_has_role($1, 'USAGE')", owner
    ):
        me = await connection.fetchval("SELECT current_user")
        raise ConfigurationError(
            f"the ledger is {owner}'s and {me} asks: its owner alone makes it, changes it and says "
            "who may do what; name that role in ENGINE_OWNER_DSN"
        )


async def _database_and_owner(connection: asyncpg.Connection) -> tuple[str, str | None]:
    row: Any = await connection.fetchrow(
        "SELECT pg_catalog.current_database() AS database,"
        " (SELECT pg_catalog.pg_get_userbyid(n.nspowner)"
        " FROM pg_catalog.pg_namespace n WHERE n.nspname = 'ledger') AS owner"
    )
    return row["database"], row["owner"]


async def _make_role(connection: asyncpg.Connection, name: str, attributes: str) -> None:
    """Make a role, or see that the one of that name is none that may more than it should."""
    row = await connection.fetchrow(
        "SELECT rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole OR EXISTS ("
        " SELECT FROM pg_catalog.pg_namespace n WHERE n.nspowner = r.oid) AS is_mighty"
        " FROM pg_catalog.pg_roles r WHERE rolname = $1",
        name,
    )
    if row is None:
        await connection.execute(f"CREATE ROLE {quoted(name)} {attributes}")
    elif row["is_mighty"]:
        raise ConfigurationError(
            f"the role {name} is there and may more than a role of the ledger should: give "
            "another name with --name or --login"
        )


async def _make_login(connection: asyncpg.Connection, roles: Roles, login: Login) -> None:
    await _make_role(connection, login.name, "LOGIN")
    name = quoted(login.name)
    kept = literal(scram_of(login.password))
    await connection.execute(f"ALTER ROLE {name} LOGIN PASSWORD {kept}")
    for kind in KINDS:
        if kind in login.kinds:
            await connection.execute(f"GRANT {quoted(roles.of(kind))} TO {name}")
        else:
            await _revoke(connection, roles.of(kind), login.name)
    if login.looks:
        await connection.execute(f"GRANT pg_read_all_stats, pg_read_all_settings TO {name}")
    is_super = await connection.fetchval(
        "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1", roles.owner
    )
    if not is_super:
        # `end_frozen_backend` has the owner's rights: it may end whom the owner could be.
        await connection.execute(f"GRANT {name} TO {quoted(roles.owner)}")


async def _revoke(connection: asyncpg.Connection, role: str, member: str) -> None:
    if await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_auth_members m"
        " JOIN pg_catalog.pg_roles r ON r.oid = m.roleid"
        " JOIN pg_catalog.pg_roles l ON l.oid = m.member WHERE r.rolname = $1 AND l.rolname = $2)",
        role,
        member,
    ):
        await connection.execute(f"REVOKE {quoted(role)} FROM {quoted(member)}")


def _record(kind: Kind, name: str) -> str:
    return (
        f"INSERT INTO ledger.roles (kind, role) VALUES ('{kind}', {literal(name)})"  # noqa: S608 - quoted
        " ON CONFLICT (kind) DO UPDATE SET role = excluded.role"
    )


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL has it; our sessions take a backslash for a backslash."""
    return "'" + text.replace("'", "''") + "'"


def parse_kinds(given: Collection[str]) -> tuple[Kind, ...]:
    """Kinds by name. Raises ConfigurationError where one is none."""
    unknown = sorted(set(given) - set(KINDS))
    if unknown:
        raise ConfigurationError(f"{unknown[0]} is no kind of role: give {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in given)
