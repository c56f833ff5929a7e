"""The console over plain HTTP: who comes in, what pages say, what is done after a yes."""

import re
import uuid
from html.parser import HTMLParser
from http import HTTPStatus
from urllib.parse import quote, urlencode

from engine.store.freezes import read_frozen
from engine.store.roles import Login, apply_roles
from tests.desks import A, desk_over, transfer
from tests.everything import id_of
from tests.ledgers import Ledger, as_user
from tests.visitors import HOST, Visitor, spoilt, text_of, visiting

PAGES = ("/", "/events", "/letters", "/accounts", "/where", "/plans", "/freezes")


HARMLESS = (
    "html head meta title link script body a header nav ul li form label input button main h1 h2 h3"
    " p div dl dt dd table caption thead tbody tr th td section footer bdi strong small code time"
    " span b figure figcaption svg rect select option textarea pre"
)
"""The elements that pages are made of."""


class Parsed(HTMLParser):
    """A page as a browser understands it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: list[str | None] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "script":
            self.scripts.append(dict(attrs).get("src"))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


# ------------------------------------------------------------- the door


async def test_without_the_token_nothing_is_shown_and_nothing_done(ledger: Ledger) -> None:
    async with visiting(ledger) as visitor:
        stranger = Visitor(visitor.port, visitor.keys)
        wrong = "/?token=" + "x" * len(visitor.keys.token)
        for path in (*PAGES, "/static/live.js", "/nowhere", wrong, "/?token=", "/?token=%00"):
            answer = await stranger.ask("GET", path)
            assert answer.status == HTTPStatus.UNAUTHORIZED, path
            assert "set-cookie" not in answer.headers
        stranger.cookie = f"{visitor.keys.cookie}={visitor.keys.token}"
        assert (await stranger.ask("GET", "/")).status == HTTPStatus.UNAUTHORIZED
        stranger.cookie = None
        for verb in ("freeze", "abort", "nothing"):
            answer = await stranger.post(f"/acts/{verb}", kind="shard", what="0", reason="x")
            assert answer.status == HTTPStatus.UNAUTHORIZED
    assert await read_frozen(ledger.dsn) == []


async def test_the_token_becomes_a_cookie_and_leaves_the_address(ledger: Ledger) -> None:
    async with visiting(ledger) as visitor:
        query = urlencode({"since": "1h", "token": visitor.keys.token})
        answer = await Visitor(visitor.port, visitor.keys).ask("GET", f"/events?{query}")
        assert answer.status == HTTPStatus.SEE_OTHER
        assert answer.headers["location"] == "/events?since=1h"
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert visitor.keys.token not in cookie
        answer = await visitor.ask("GET", f"//evil.example/?{query}")
        assert answer.headers["location"].startswith("/evil.example")


async def test_a_name_that_leads_here_by_a_trick_is_refused(ledger: Ledger) -> None:
    async with visiting(ledger) as visitor:
        for host in ("evil.example", f"evil.example:{visitor.port}", HOST, f"{HOST}:1", ""):
            answer = await visitor.ask("GET", "/", host=host)
            assert answer.status == HTTPStatus.BAD_REQUEST, host
        for host in (f"localhost:{visitor.port}", f"[::1]:{visitor.port}"):
            assert (await visitor.ask("GET", "/where", host=host)).status == HTTPStatus.OK


async def test_a_form_of_another_page_does_nothing(ledger: Ledger) -> None:
    fields = {"kind": "shard", "what": "0", "reason": "x", "by": "x", "sure": "yes"}
    async with ledger.working(), visiting(ledger) as visitor:
        ours = {"form": visitor.keys.form}
        for form, headers in (
            ({}, {}),
            ({"form": "x"}, {}),
            ({"form": visitor.keys.token}, {}),
            (ours, {"Origin": "http://evil.example"}),
            (ours, {"Origin": "null"}),
            (ours, {"Sec_Fetch_Site": "cross-site"}),
            (ours, {"Sec_Fetch_Site": "same-site"}),
        ):
            body = urlencode(fields | form)
            answer = await visitor.ask("POST", "/acts/freeze", body, **headers)
            assert answer.status == HTTPStatus.FORBIDDEN, (form, headers)
        assert await read_frozen(ledger.dsn) == []
        answer = await visitor.ask("POST", "/acts/freeze", urlencode(fields | ours))
        assert answer.status == HTTPStatus.SEE_OTHER
    assert len(await read_frozen(ledger.dsn)) == 1


async def test_nothing_is_done_by_a_get(ledger: Ledger) -> None:
    async with visiting(ledger) as visitor:
        query = urlencode(
            {"form": visitor.keys.form, "kind": "shard", "what": "0", "reason": "x", "by": "x"}
            | {"sure": "yes"}
        )
        answer = await visitor.ask("GET", f"/acts/freeze?{query}")
        assert answer.status == HTTPStatus.METHOD_NOT_ALLOWED
        for path in ("/", "/plans"):
            assert (await visitor.ask("POST", path, query)).status == HTTPStatus.METHOD_NOT_ALLOWED
    assert await read_frozen(ledger.dsn) == []


async def test_every_answer_forbids_scripts_that_are_no_file_of_ours(ledger: Ledger) -> None:
    async with visiting(ledger) as visitor:
        for path in (*PAGES, "/static/live.js", "/nowhere", "/where?id=%ff"):
            answer = await visitor.ask("GET", path)
            policy = dict(
                rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; ")
            )
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == "'self'"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=|javascript:", answer.text)


async def test_a_form_that_is_too_large_is_refused(ledger: Ledger) -> None:
    async with visiting(ledger) as visitor:
        answer = await visitor.post("/acts/freeze", kind="shard", what="0", reason="x" * 2**20)
        assert answer.status == HTTPStatus.BAD_REQUEST
        assert "1,048,576 bytes" in answer.text


# ------------------------------------------------------------- the pages


async def test_all_pages_are_read_by_the_readers_role(full_ledger: Ledger) -> None:
    name = f"{full_ledger.prefix}_looks"
    await apply_roles(full_ledger.dsn, logins=[Login(name, "secret", ("reader",))])
    [letter] = await full_ledger.sql("SELECT letter FROM ledger.letters LIMIT 1")
    places = [*PAGES, "/plans/new", f"/letters/{letter['letter']}", "/events?since=7d"]
    for each in ("a", "limited", "held 1"):
        places += [f"/accounts?account={id_of(each)}", f"/where?id={id_of(each)}"]
    rows = await full_ledger.sql("SELECT id FROM ledger.spent")
    places += [f"/where?id={row['id']}" for row in rows]
    async with visiting(full_ledger, as_user(full_ledger.dsn, name)) as visitor:
        pages = {place: text_of(await visitor.see(place)) for place in places}
        assert f"Reads as {name}." in pages["/"]
        assert "may not do that" not in " ".join(pages.values())
        assert "Created a second" in pages["/"]
        assert "worker started" in pages["/events?since=7d"]
        # Who only reads is told so when acting.
        answer = await visitor.post("/acts/freeze", kind="shard", what="0", reason="x",
                                    by="x", sure="yes")  # fmt: skip
        assert answer.status == HTTPStatus.CONFLICT
        assert "the role that Postgres is asked by may not do that" in text_of(answer.text)


async def test_a_login_that_may_write_reads_as_the_reader(ledger: Ledger) -> None:
    async with visiting(ledger, ledger.app_dsn) as visitor:
        assert f"Reads as {ledger.prefix}_app." in text_of(await visitor.see("/"))
    await apply_roles(
        ledger.dsn,
        logins=[Login(f"{ledger.prefix}_app", "secret", ("engine", "creator", "reader"))],
    )
    async with visiting(ledger, ledger.app_dsn) as visitor:
        assert f"Reads as {ledger.prefix}_reader." in text_of(await visitor.see("/"))


async def test_hostile_names_are_shown_and_do_nothing(ledger: Ledger) -> None:
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202eback"
    account = str(uuid.UUID(int=uuid.uuid4().int & ~0xF))
    async with desk_over(ledger) as desk, ledger.working():
        await ledger.sql(
            "INSERT INTO ledger.accounts (id, ledger, code, name) VALUES ($1, 1, 1, $2)",
            account, evil,
        )  # fmt: skip
        await desk.send([transfer(credit=account), transfer()])
        await desk.answers(1)
        letter = await spoilt(desk, json="{" + evil.replace("\u202e", ""), **{evil: evil})
        async with visiting(ledger, by=evil[:100]) as visitor:
            query = urlencode({"id": evil, "account": evil, "kind": evil, "what": evil})
            shown = [
                await visitor.see("/accounts"),
                await visitor.see(f"/accounts?account={account}"),
                await visitor.see(f"/accounts?account={A}"),
                await visitor.see(f"/accounts?{query}"),
                await visitor.see(f"/where?{query}"),
                await visitor.see(f"/where?id={account}"),
                await visitor.see(f"/freezes?{query}"),
                await visitor.see(f"/letters/{letter}"),
                await visitor.see(f"/letters/{quote(evil.replace('/', ''))}", 400),
                await visitor.see(f"/events?{urlencode({'since': evil})}", 400),
                await visitor.see("/letters"),
                await visitor.act("freeze", kind="account", what=evil, how="wait", reason=evil,
                                  by=evil),
                await visitor.see("/events"),
                await visitor.see("/"),
                await visitor.act("dismiss", letter=letter, reason=evil, by=evil),
            ]  # fmt: skip
    for page in shown:
        parsed = Parsed(page)
        assert parsed.scripts == ["/static/live.js"]
        assert parsed.names <= set(HARMLESS.split())
        assert not any(name.startswith("on") for name in parsed.attributes)
        assert "\u202e" not in "".join(parsed.texts)
    assert "&lt;script&gt;alert(1)" in shown[1]
    assert "\\u202eback" in shown[1]


async def test_a_moment_without_postgres_is_shown(ledger: Ledger) -> None:
    role = ledger.app_dsn.split("//")[1].split(":")[0]
    async with visiting(ledger) as visitor:
        await ledger.sql(f'ALTER ROLE "{role}" NOLOGIN')
        page = text_of(await visitor.see("/"))
        assert "Postgres away" in page
        assert "is wrong" in page
        answer = await visitor.ask("GET", "/letters")
        assert answer.status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.CONFLICT}
        await ledger.sql(f'ALTER ROLE "{role}" LOGIN')
        await visitor.see("/letters")
