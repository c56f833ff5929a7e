"""`engine freeze`, `thaw`, `freezes`: stop buttons."""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import typer

from engine.commands.addresses import Data, PostgresDsn, find_postgres
from engine.commands.screen import Json, out, print_json, print_json_lines, run_loop
from engine.errors import InputError
from engine.operating.freeze_acts import check_words, find_frozen, read_kind
from engine.store.freezes import FreezeAct, Frozen, read_frozen, set_freeze

Kind: TypeAlias = Annotated[
    str, typer.Argument(metavar="account|ledger|code|shard", help="What kind of thing it is.")
]
What: TypeAlias = Annotated[
    str, typer.Argument(metavar="WHAT", help="An account's id or name, or the number of another.")
]
By: TypeAlias = Annotated[str, typer.Option("--by", help="Who does it.")]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", help="Why: it is kept.")]


def freeze(
    kind: Kind,
    what: What,
    by: By,
    reason: Reason,
    decline: Annotated[
        bool, typer.Option("--decline", help="Decline what matches, instead of letting it wait.")
    ] = False,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Freeze an account, a ledger, a transfer code or a shard.

    Requests that match wait, in the order of their stream, until it is thawed. All others go on.
    A frozen shard is not read at all. Holds expire all the same.

    Example: engine freeze account alice --by night-desk --reason "case 4711"
    """
    _act("freeze", kind, what, by, reason, decline, postgres_dsn, data, json=json)


def thaw(
    kind: Kind,
    what: What,
    by: By,
    reason: Reason,
    decline: Annotated[
        bool, typer.Option("--decline", help="Decline what waits for it, instead of deciding it.")
    ] = False,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """End a freeze: what waits is decided, in order.

    Example: engine thaw account alice --by night-desk --reason "case 4711 is closed"
    """
    _act("thaw", kind, what, by, reason, decline, postgres_dsn, data, json=json)


def freezes(postgres_dsn: PostgresDsn = None, data: Data = None, json: Json = False) -> None:
    """List what is frozen, by whom and why, and what waits for it.

    Example: engine freezes --json
    """
    found = run_loop(read_frozen(find_postgres(postgres_dsn, data)))
    if json:
        print_json_lines(found)
        return
    for frozen in found:
        _print_frozen(frozen)
    if not found:
        out.print("Nothing is frozen.")


def _print_frozen(frozen: Frozen) -> None:
    how = "declined" if frozen.declines else "waits"
    out.print(f"{frozen.kind} {frozen.what}: what matches {how}", style="bold")
    out.print(f"  since {frozen.since[:19].replace('T', ' ')}, by {frozen.by}: {frozen.reason}")
    if frozen.entries:
        out.print(f"  {frozen.transfers:,} transfers wait in {frozen.entries:,} entries")


def _act(
    act: Literal["freeze", "thaw"],
    kind: str,
    what: str,
    by: str,
    reason: str,
    decline: bool,
    postgres_dsn: str | None,
    data: Any,
    *,
    json: bool,
) -> None:
    try:
        of_kind = read_kind(kind)
        check_words(by, reason)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    dsn = find_postgres(postgres_dsn, data)

    async def do() -> tuple[FreezeAct, int]:
        try:
            name = await find_frozen(dsn, of_kind, what)
        except InputError as error:
            if of_kind == "account":
                raise
            raise typer.BadParameter(str(error)) from None
        asked = FreezeAct(act, of_kind, name, by, reason, decline)
        return asked, await set_freeze(dsn, asked)

    asked, number = run_loop(do())
    if json:
        print_json(msgspec.structs.asdict(asked) | {"freeze": number})
    else:
        done = "is frozen" if act == "freeze" else "is thawed"
        out.print(f"{kind} {asked.what} {done}", style="green")
