"""`engine roles`: who may do what, in Postgres and in Redis."""

from pathlib import Path
from typing import Annotated, Final

import typer

from engine.commands.addresses import (
    Data,
    OwnerDsn,
    RedisUrl,
    find_addresses,
    find_owner_postgres,
)
from engine.commands.screen import Json, out, print_json, run_loop
from engine.errors import ConfigurationError
from engine.settings import stream_prefix
from engine.store.roles import Kind, Login, Roles, apply_roles, find_roles, parse_kinds, script
from engine.streams.users import USER_KINDS, UserKind, apply_user, command_of

PASSWORD_LENGTH_MIN: Final = 8


def roles(
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Make the roles in Postgres and grant them their rights."),
    ] = False,
    login: Annotated[
        str | None,
        typer.Option("--login", metavar="ROLE", help="Make a role that logs in to Postgres, too."),
    ] = None,
    redis_user: Annotated[
        str | None,
        typer.Option("--redis-user", metavar="USER", help="Make a user of Redis, and no roles."),
    ] = None,
    may: Annotated[
        list[str] | None,
        typer.Option(
            "--may",
            metavar="WHAT",
            help="What it is for: engine, creator and reader in Postgres; engine, producer or "
            "operator in Redis.",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", metavar="FILE", help="Its password: the first line of a file."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="What the names of the roles begin with; else the database's name, since roles "
            "are shared by all databases of a server.",
        ),
    ] = None,
    postgres_dsn: OwnerDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Print who may do what in Postgres and Redis, or make it so.

    Postgres: the owner made the tables; an engine inserts and reads; a creator creates accounts; a
    reader reads the views. Redis: producers, engines, operators. Safe to repeat, while workers run.

    Example: engine roles --apply --login worker --may engine --password-file worker.password
    """
    password = _password_of(password_file)
    if redis_user is not None:
        _apply_user(redis_user, may or [], password, (postgres_dsn, redis_url, data), json=json)
        return
    dsn = find_owner_postgres(postgres_dsn, data)
    logins = _logins_of(login, may or [], password)
    if logins and not apply:
        raise typer.BadParameter("--login makes a role: give --apply with it")
    found = run_loop(apply_roles(dsn, name, logins) if apply else find_roles(dsn, name))
    prefix = stream_prefix()
    if json:
        users = {kind: command_of(kind, prefix, kind) for kind in USER_KINDS}
        print_json({"applied": apply, **_told(found), "redis": users})
    elif apply:
        for kind, role in _told(found).items():
            out.print(f"{kind:<8} {role}")
        for each in logins:
            out.print(f"login    {each.name}: {', '.join(each.kinds)}")
    else:
        _print_all(found, prefix)


def _told(found: Roles) -> dict[str, str]:
    return {
        "owner": found.owner,
        "engine": found.engine,
        "creator": found.creator,
        "reader": found.reader,
    }


def _print_all(found: Roles, prefix: str) -> None:
    out.print("-- Postgres: run this as the owner of the ledger, or let --apply do it.\n")
    out.print(script(found))
    out.print("\n-- Redis: run these on each server, with passwords; or --redis-user does it.\n")
    for kind in USER_KINDS:
        out.print(f"-- {command_of(kind, prefix, kind)}")


def _logins_of(login: str | None, may: list[str], password: str | None) -> list[Login]:
    if login is None:
        if may or password:
            raise typer.BadParameter("--may and --password-file are of a --login or a --redis-user")
        return []
    kinds: tuple[Kind, ...] = parse_kinds(may)
    if not kinds or password is None:
        raise typer.BadParameter("a --login needs --may and --password-file")
    return [Login(login, password, kinds)]


def _apply_user(
    user: str,
    may: list[str],
    password: str | None,
    where: tuple[str | None, str | None, Path | None],
    *,
    json: bool,
) -> None:
    kind: UserKind | None = next((kind for kind in USER_KINDS if [kind] == may), None)
    if kind is None:
        raise typer.BadParameter(f"a --redis-user needs one --may: {', '.join(USER_KINDS)}")
    url = where[1] if where[1] and where[2] is None else find_addresses(*where).redis_url
    is_kept = run_loop(apply_user(url, kind, stream_prefix(), user, password))
    if json:
        print_json({"applied": True, "user": user, "may": kind, "kept": is_kept})
        return
    out.print(f"{kind:<8} {user}")
    if not is_kept:
        out.print(
            "Redis keeps it until it is restarted: give it an `aclfile`, or put the user in its "
            "configuration."
        )


def _password_of(file: Path | None) -> str | None:
    """Secrets come from files: what stands on a command line everybody can see."""
    if file is None:
        return None
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the password cannot be read from {file}: {error}") from None
    password = lines[0] if lines else ""
    if len(password) < PASSWORD_LENGTH_MIN:
        raise ConfigurationError(
            f"the first line of {file} is no password of at least {PASSWORD_LENGTH_MIN} characters"
        )
    return password
