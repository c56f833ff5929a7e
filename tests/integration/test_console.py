"""The console over plain HTTP: who comes in, what pages say, what is done after a yes."""

import json
import re
import uuid
from html.parser import HTMLParser
from http import HTTPStatus
from urllib.parse import quote, urlencode

import pytest

from engine.store.freezes import read_frozen
from engine.store.letters import open_letters
from engine.store.roles import Login, apply_roles
from tests.desks import A, Desk, desk_over, transfer
from tests.everything import id_of
from tests.ledgers import Ledger, as_user, until
from tests.visitors import HOST, Visitor, text_of, visiting

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


async def spoil(desk: Desk, **fields: str) -> str:
    """An entry that nobody can read; the name of its letter."""
    await desk.redis.xadd(desk.stream(), fields)
    await desk.drained()
    async with open_letters(desk.ledger.app_dsn) as letters:
        return (await letters.list(None, 1))[0].letter


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
        letter = await spoil(desk, json="{" + evil.replace("\u202e", ""), **{evil: evil})
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


# ------------------------------------------------------------- acts


async def test_a_freeze_and_a_thaw_after_a_yes_with_who_did_it(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working(), visiting(ledger) as visitor:
        asked = {"kind": "account", "what": A, "how": "wait", "reason": "case 7"}
        first = await visitor.post("/acts/freeze", **asked)
        assert f"Freeze account {A}" in text_of(first.text)
        assert await read_frozen(ledger.dsn) == []
        page = text_of(await visitor.act("freeze", **asked, by="ann"))
        assert f"account {A} is frozen." in page
        [frozen] = await read_frozen(ledger.dsn)
        assert (frozen.what, frozen.by, frozen.reason) == (A, "ann", "case 7")
        made = transfer()
        await desk.send([made])
        await desk.drained()
        life = text_of(await visitor.see(f"/where?id={made['id']}"))
        assert f"Frozen account {A}" in life
        assert "by ann: case 7" in life
        again = await visitor.post("/acts/freeze", **asked, by="ann", sure="yes")
        assert again.status == HTTPStatus.BAD_REQUEST
        assert "is frozen already" in text_of(again.text)
        await visitor.act("thaw", kind="account", what=A, reason="closed", by="ann")
        await desk.answers(1)
        events = text_of(await visitor.see("/events"))
        assert "frozen account" in events
        assert "thawed account" in events


async def test_a_letter_is_sent_again_repaired_or_dismissed(ledger: Ledger) -> None:
    good = transfer()
    async with desk_over(ledger) as desk, ledger.working(), visiting(ledger) as visitor:
        letter = await spoil(desk, json=json.dumps([good | {"amount": "much"}]))
        page = await visitor.see(f"/letters/{letter}")
        assert "much" in text_of(page)
        as_it_was = await visitor.post("/acts/resend", letter=letter, by="ann", sure="yes")
        assert as_it_was.status == HTTPStatus.BAD_REQUEST
        assert "would be a dead letter again" in text_of(as_it_was.text)
        repaired = json.dumps([good], indent=1)
        page = await visitor.act("resend", letter=letter, repaired=repaired, by="ann")
        assert f"{letter} is sent again" in text_of(page)
        await desk.drained()
        assert await desk.count() == 1
        other = await spoil(desk, json="{")
        await visitor.act("dismiss", letter=other, reason="a test", by="bob")
        dismissed = text_of(await visitor.see("/letters?state=dismissed"))
        assert other in dismissed
        assert "No dead letters are open." in text_of(await visitor.see("/letters"))
    acts = await ledger.sql("SELECT kind, acted_by FROM ledger.letter_acts ORDER BY act")
    assert [tuple(act) for act in acts] == [("resent", "ann"), ("dismissed", "bob")]


async def test_a_plan_is_drawn_and_applied_and_none_is_aborted_that_is_over(ledger: Ledger) -> None:
    workers = [ledger.worker(), ledger.worker()]
    async with ledger.working(*workers), visiting(ledger) as visitor:
        await until(lambda: all(len(worker.owned) == 8 for worker in workers), "both to own some")

        async def drawn() -> str | None:
            # The workers measure themselves, now and then, that they have nothing to do.
            await ledger.sql(
                "INSERT INTO ledger.loads (shard, worker, transfers_per_second)"
                " SELECT shard, worker, 1000 FROM ledger.owners WHERE worker = $1"
                " ON CONFLICT (shard) DO UPDATE SET worker = excluded.worker,"
                " transfers_per_second = 1000, measured_at = clock_timestamp()",
                uuid.UUID(bytes=workers[0].store.worker),
            )
            page = await visitor.see("/plans/new")
            found = re.search(r'name="plan" value="([^"]+)"', page)
            return None if found is None else found[1]

        plan = await until(drawn, "a plan with moves")
        done = text_of(await visitor.act("apply", plan=plan, by="ann"))
        assert f"Plan {plan[:8]} is being applied." in done

        async def over() -> str | None:
            page = text_of(await visitor.see("/plans"))
            return page if f"{plan[:8]} done" in page else None

        assert re.search(r" ann .* [1-9]\d* done", await until(over, "the plan to be over"))
        gone = await visitor.post("/acts/abort", plan=plan, by="ann", sure="yes")
        assert gone.status == HTTPStatus.BAD_REQUEST
        assert "it was over already" in text_of(gone.text)
        forgotten = await visitor.post("/acts/apply", plan=str(uuid.uuid4()))
        assert "this plan is forgotten" in text_of(forgotten.text)
    [row] = await ledger.sql("SELECT applied_by, state FROM ledger.plans")
    assert tuple(row) == ("ann", "done")


async def test_a_plan_whose_command_died_is_aborted(ledger: Ledger) -> None:
    plan = str(uuid.uuid4())
    await ledger.sql(
        "INSERT INTO ledger.plans (plan, document, applied_by) VALUES ($1, '{}', 'bob')", plan
    )
    async with visiting(ledger) as visitor:
        assert f"Abort {plan[:8]}" in text_of(await visitor.see("/plans"))
        done = text_of(await visitor.act("abort", plan=plan, by="ann"))
        assert f"Plan {plan[:8]} is aborted." in done
    [row] = await ledger.sql("SELECT state, why FROM ledger.plans")
    assert tuple(row) == ("aborted", "aborted by ann")


@pytest.mark.parametrize("by", ["", " ", "x" * 201])
async def test_nothing_is_done_by_nobody(ledger: Ledger, by: str) -> None:
    async with ledger.working(), visiting(ledger) as visitor:
        answer = await visitor.post(
            "/acts/freeze", kind="shard", what="0", reason="x", by=by, sure="yes"
        )
        assert answer.status == HTTPStatus.BAD_REQUEST
    assert await read_frozen(ledger.dsn) == []
