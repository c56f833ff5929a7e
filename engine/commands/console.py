"""`engine console`: what operators see and do, in a browser."""

from typing import Annotated
from urllib.parse import urlencode

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.crew import parse_listen, run_until_signal
from engine.commands.screen import Json, err, out, print_json, run_busy_loop
from engine.console.app import Console
from engine.console.door import Keys
from engine.console.server import Server, address_of, bind
from engine.operating.freeze_acts import check_words
from engine.operating.letters import who_acts
from engine.servers import Addresses
from engine.settings import stream_prefix
from engine.store.reader import find_reader


def console(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where to; port 0 is a free one.")
    ] = "127.0.0.1:8787",
    by: Annotated[
        str | None,
        typer.Option("--by", help="Who acts, where a form names nobody else; else the user here."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="HOST[:PORT]",
            help="Another name that browsers reach it by, as a proxy's; repeatable.",
        ),
    ] = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Serve a console for browsers, until Ctrl-C or TERM.

    It prints its address, which has a token: whoever has it sees all and may
    act. It reads as the reader's role; what is done, by whom, is kept as with the commands. Put a
    proxy with TLS before it anywhere but on this machine.

    Example: engine console --listen 127.0.0.1:8787
    """
    place = parse_listen(listen, "--listen")
    addresses = find_addresses(postgres_dsn, redis_url, data)
    who = by or who_acts()
    check_words(who, "none")
    run_busy_loop(_serve(addresses, place, who, tuple(name or ()), json=json))


async def _serve(
    addresses: Addresses, place: tuple[str, int], by: str, names: tuple[str, ...], *, json: bool
) -> None:
    reading = await find_reader(addresses.postgres_dsn)
    listening = bind(*place)
    host, port = place[0], listening.getsockname()[1]
    keys = Keys(host, port, names)
    pages = Console(addresses, reading, stream_prefix(), by, keys)
    server = Server(pages.app)
    url = f"{address_of(host, port)}?{urlencode({'token': keys.token})}"
    if not reading.is_reader:
        err.print(
            f"It reads as {reading.role}, which may write: there are no roles, or this login is no "
            "reader; see `engine roles`."
        )
    if json:
        print_json({"event": "ready", "url": url, "reads_as": reading.role, "by": by})
    else:
        out.print(f"The console is at {url}\nWhoever has this address may act. Ctrl-C stops it.")
    await run_until_signal(
        lambda: server.serve(sockets=[listening]), server.stop, server.stop_at_once
    )
