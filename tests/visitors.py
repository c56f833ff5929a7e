"""Who visits a console: over plain HTTP, with cookies, as a browser without a script does."""

import asyncio
import contextlib
import http.client
import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Final, NamedTuple
from urllib.parse import urlencode, urljoin

from engine.console.app import Console
from engine.console.door import Keys
from engine.console.server import Server, address_of, bind
from engine.servers import Addresses
from engine.store.letters import open_letters
from engine.store.reader import find_reader
from tests.bounds import PROCESS_SECONDS_MAX
from tests.desks import Desk
from tests.ledgers import Ledger, until

HOST: Final = "127.0.0.1"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


class Visitor:
    """Somebody with a browser.

    Args:
        port: Where the console listens.
        keys: Its secrets.
    """

    def __init__(self, port: int, keys: Keys) -> None:
        self.port = port
        self.keys = keys
        self.cookie: str | None = None
        self.url = f"{address_of(HOST, port)}?{urlencode({'token': keys.token})}"

    async def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        """One request; headers are named with _ for -."""
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    def _ask(self, method: str, path: str, body: str | None, given: dict[str, str]) -> Answer:
        headers = {} if self.cookie is None else {"Cookie": self.cookie}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Origin"] = f"http://{HOST}:{self.port}"
        headers |= {name.replace("_", "-"): value for name, value in given.items()}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PROCESS_SECONDS_MAX)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read().decode())
        finally:
            connection.close()

    async def enter(self) -> None:
        """Come in by the address with the token."""
        answer = await self.ask("GET", f"/?{urlencode({'token': self.keys.token})}")
        assert answer.status == 303, answer
        self.cookie = answer.headers["set-cookie"].partition(";")[0]

    async def see(self, path: str, status: int = 200) -> str:
        """A page."""
        answer = await self.ask("GET", path)
        assert answer.status == status, f"{path}: {answer.status}\n{answer.text[-2000:]}"
        return answer.text

    async def post(self, path: str, **fields: str) -> Answer:
        """Send a form with the word of the console's pages."""
        return await self.ask("POST", path, urlencode({"form": self.keys.form} | fields))

    async def act(self, verb: str, **fields: str) -> str:
        """Both steps of an act; the page that shows what was done."""
        first = await self.post(f"/acts/{verb}", **fields)
        assert first.status == 200, first.text[-2000:]
        kept = {
            unescape(name): unescape(value)
            for name, value in re.findall(
                r'<input type="hidden" name="([^"]*)" value="([^"]*)">', first.text
            )
        }
        assert kept["sure"] == "yes"
        assert fields.items() <= (kept | {"by": fields.get("by", "")}).items()
        done = await self.post(f"/acts/{verb}", **(kept | {"by": fields.get("by", "night desk")}))
        assert done.status == 303, f"{done.status}: {text_of(done.text)}"
        return await self.see(urljoin("/", done.headers["location"]))


def text_of(page: str) -> str:
    """What a page says, without its markup."""
    inline = re.sub(r"</?(?:a|b|bdi|code|strong|time)\b[^>]*>", "", page)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", inline)).split())


@contextlib.asynccontextmanager
async def visiting(
    ledger: Ledger, dsn: str | None = None, by: str = "night desk"
) -> AsyncIterator[Visitor]:
    """A console over a ledger, and somebody who has come in."""
    acting = Addresses(dsn or ledger.app_dsn, ledger.redis_url)
    listening = bind(HOST, 0)
    port = listening.getsockname()[1]
    keys = Keys(HOST, port)
    reading = await find_reader(acting.postgres_dsn)
    server = Server(Console(acting, reading, ledger.prefix, by, keys).app)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await until(lambda: server.started or task.done(), "the console")
        visitor = Visitor(port, keys)
        await visitor.enter()
        yield visitor
    finally:
        server.stop()
        await task


async def spoilt(desk: Desk, **fields: str) -> str:
    """An entry that nobody can read; the name of its letter."""
    await desk.redis.xadd(desk.stream(), fields)
    await desk.drained()
    async with open_letters(desk.ledger.app_dsn) as letters:
        return (await letters.list(None, 1))[0].letter
