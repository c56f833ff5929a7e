"""The console in a real Chromium, over a running `engine up` under load.

A picture of each page is kept in `build/console`, in the light, in the dark and as on a phone.
"""

import asyncio
import contextlib
import json
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from engine.client import connect
from tests.bounds import CONDITION_SECONDS_MAX, PROCESS_SECONDS_MAX
from tests.chromium import Chromium, NoChromiumError, find_chromium
from tests.integration.test_commands import ENGINE, Up, start

BUILD: Final = Path(__file__).parents[2] / "build"
PICTURES: Final = BUILD / "console"
PHONE: Final = {"width": 360, "height": 740}
DESK: Final = {"width": 1280, "height": 900}

BANK, ALICE, SHOP, ODD = (f"019b0000-0000-7000-8000-00000000000{n}" for n in range(1, 5))
EVIL: Final = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
KEPT: Final = "019b0000-0000-7000-8000-0000000000aa"
"""A transfer whose life is looked at."""

expect.set_options(timeout=CONDITION_SECONDS_MAX * 1000)


@pytest.fixture(scope="module")
def chromium() -> Chromium:
    try:
        return find_chromium(BUILD / "chromium")
    except NoChromiumError as error:
        pytest.skip(f"no Chromium, and none can be had: {error}")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"), "--workers", "2")
    accounts = [
        {"id": BANK, "ledger": 978, "code": 1, "name": "bank"},
        {"id": ALICE, "ledger": 978, "code": 2, "name": "alice",
         "flags": ["debits_must_not_exceed_credits"]},
        {"id": SHOP, "ledger": 978, "code": 2, "name": "shop"},
        {"id": ODD, "ledger": 978, "code": 2, "name": EVIL},
    ]  # fmt: skip
    given = "".join(json.dumps(account) + "\n" for account in accounts)
    assert running.run("accounts", "create", "-", given=given).code == 0
    try:
        yield running
    finally:
        running.process.send_signal(signal.SIGTERM)
        running.process.communicate(timeout=PROCESS_SECONDS_MAX)


@pytest.fixture(scope="module")
def url(up: Up) -> Iterator[str]:
    """The address that `engine console` prints."""
    command = [*ENGINE, "console", "--listen", "127.0.0.1:0", "--by", "night desk", "--json"]
    process = start(command, up.directory, ENGINE_DATA="data")
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    yield json.loads(line)["url"]
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PROCESS_SECONDS_MAX)
    assert (process.returncode, "Traceback" in said) == (0, False), said


@contextlib.asynccontextmanager
async def loaded(up: Up) -> AsyncIterator[None]:
    """A producer that sends some transfers, again and again; some ask for more than there is."""

    async def produce() -> None:
        async with connect(up.ready["postgres_dsn"], up.ready["redis_url"]) as client:
            first = {"id": KEPT, "debit_account_id": BANK, "credit_account_id": ALICE}
            await client.create_transfers([first | {"amount": 12_345, "ledger": 978, "code": 1}])
            while True:
                transfers: list[Any] = [
                    {"id": str(uuid.uuid4()), "ledger": 978, "code": 1} | asked
                    for asked in (
                        *({"debit_account_id": BANK, "credit_account_id": SHOP, "amount": n}
                          for n in range(1, 19)),
                        {"debit_account_id": BANK, "credit_account_id": ALICE, "amount": 5},
                        {"debit_account_id": ALICE, "credit_account_id": BANK, "amount": 10**9},
                    )
                ]  # fmt: skip
                await client.create_transfers(transfers)
                await asyncio.sleep(0.1)

    task = asyncio.create_task(produce())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def spoil(up: Up) -> str:
    """An entry that nobody can read; its letter."""
    with redis.Redis.from_url(up.ready["redis_url"]) as client:
        client.xadd("engine:transfers:{0001}", {"json": "{" + EVIL, EVIL: EVIL, "more": b"\xff\0"})
    while not (letters := up.run("letters", "list", "--state", "open", "--json").lines()):
        pass
    return str(letters[0]["letter"])


@contextlib.asynccontextmanager
async def browsing(chromium: Chromium) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium.program,
            env=dict(chromium.environment),
            args=["--disable-gpu"],
        )
        try:
            yield browser
        finally:
            await browser.close()


async def entered(context: BrowserContext, url: str, troubles: list[str]) -> Page:
    """A page inside the console; what goes wrong in it is collected."""
    page = await context.new_page()
    page.on("pageerror", lambda error: troubles.append(f"{page.url}: {error}"))
    page.on(
        "console",
        lambda said: troubles.append(f"{page.url}: {said.text}") if said.type == "error" else None,
    )
    await page.goto(url)
    assert "token" not in page.url
    return page


async def width_of(page: Page) -> int:
    """How wide the page wants to be."""
    width: int = await page.evaluate("document.documentElement.scrollWidth")
    return width


async def test_every_page_is_read_in_light_dark_and_on_a_phone(
    up: Up, url: str, chromium: Chromium
) -> None:
    letter = spoil(up)
    freeze = ("--by", EVIL, "--reason", EVIL, "--json")
    assert up.run("freeze", "account", ODD, *freeze).code == 0
    places = {
        "overview": "/",
        "events": "/events",
        "letters": "/letters",
        "letter": f"/letters/{letter}",
        "accounts": "/accounts",
        "account": f"/accounts?account={ALICE}",
        "hostile account": f"/accounts?account={ODD}",
        "where": f"/where?id={KEPT}",
        "where entry": f"/where?id={letter.replace(':0:', ':')}",
        "unseen": f"/where?id={uuid.UUID(int=0)}",
        "plans": "/plans",
        "plan": "/plans/new",
        "freezes": "/freezes",
        "missing": "/nowhere",
    }
    PICTURES.mkdir(parents=True, exist_ok=True)
    troubles: list[str] = []
    axe = Axe()
    async with loaded(up), browsing(chromium) as browser:
        for scheme, size in (("light", DESK), ("dark", PHONE)):
            how: dict[str, Any] = {"color_scheme": scheme, "viewport": size}
            context = await browser.new_context(**how)
            page = await entered(context, url, troubles)
            for name, place in places.items():
                await page.goto(url.partition("/?")[0] + place)
                found = await axe.run(page)
                assert found.violations_count == 0, f"{name}, {scheme}: {found.generate_report()}"
                assert await page.title() != "taken", name
                assert await page.locator("h1").count() == 1
                assert await width_of(page) <= size["width"], f"{name} is wider than the screen"
                await page.screenshot(path=PICTURES / f"{name}, {scheme}.png", full_page=True)
            # The other light too, of what is seen most.
            await page.goto(url.partition("?")[0])
            other = "light" if scheme == "dark" else "dark"
            await page.emulate_media(color_scheme=other)  # type: ignore[arg-type]
            found = await axe.run(page)
            assert found.violations_count == 0, found.generate_report()
            await page.screenshot(
                path=PICTURES / f"overview, {other}, {size['width']}.png", full_page=True
            )
            await context.close()
    assert up.run("thaw", "account", ODD, *freeze).code == 0
    assert [trouble for trouble in troubles if "404" not in trouble] == []
