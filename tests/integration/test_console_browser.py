"""The console in a real Chromium, over a running `engine up` under load.

A picture of each page is kept in `build/console`, in the light, in the dark and as on a phone.
"""

import asyncio
import json
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.bounds import CONDITION_SECONDS_MAX, PROCESS_SECONDS_MAX
from tests.browsers import (
    ALICE,
    BANK,
    EVIL,
    KEPT,
    ODD,
    SHOP,
    browsing,
    entered,
    loaded,
    overflowing,
    spoil,
)
from tests.chromium import Chromium, NoChromiumError, find_chromium
from tests.integration.test_commands import ENGINE, Up, start

BUILD: Final = Path(__file__).parents[2] / "build"
PICTURES: Final = BUILD / "console"
PHONE: Final = {"width": 360, "height": 740}
DESK: Final = {"width": 1280, "height": 900}

expect.set_options(timeout=CONDITION_SECONDS_MAX * 1000)


@pytest.fixture(scope="module")
def chromium() -> Chromium:
    try:
        return find_chromium(BUILD / "chromium")
    except NoChromiumError as error:
        # Only where there is neither a browser nor a Debian that gives one.
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
                assert await overflowing(page) == [], name
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


async def test_an_account_is_frozen_and_thawed_by_keyboard_alone(
    up: Up, url: str, chromium: Chromium
) -> None:
    troubles: list[str] = []
    async with browsing(chromium) as browser:
        context = await browser.new_context()
        page = await entered(context, url, troubles)
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        await expect(focused).to_have_text("Skip to content")
        await expect(focused).to_be_in_viewport()
        outline = await focused.evaluate("e => getComputedStyle(e).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.goto(url.partition("/?")[0] + f"/accounts?account={ALICE}")
        await page.get_by_role("link", name="Freeze this account").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Which")).to_have_value(ALICE)
        await page.get_by_label("Why").focus()
        await page.keyboard.type("case 7")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Freeze account {ALICE}")
        assert up.run("freezes", "--json").out == ""
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        await page.screenshot(path=PICTURES / "yes, light.png", full_page=True)
        await page.get_by_label("Who does it").focus()
        await page.keyboard.press("Control+A")
        await page.keyboard.type("ann")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text(f"account {ALICE} is frozen.")).to_be_visible()
        await expect(page).not_to_have_url(re.compile("said"))
        [frozen] = up.run("freezes", "--json").lines()
        assert (frozen["what"], frozen["by"], frozen["reason"]) == (ALICE, "ann", "case 7")
        # What somebody types is not taken away by what is new.
        why = page.get_by_role("table").get_by_label("Why")
        await why.focus()
        await page.keyboard.type("over")
        assert up.run("freeze", "code", "99", "--by", "bob", "--reason", "other").code == 0
        await expect(page.locator("#live")).to_contain_text("Live, ")
        await expect(why).to_have_value("over")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Yes: thaw").press("Enter")
        await expect(page.get_by_text(f"account {ALICE} is thawed.")).to_be_visible()
        await expect(page.get_by_role("rowheader", name="code 99")).to_be_visible()
        assert up.run("thaw", "code", "99", "--by", "bob", "--reason", "other").code == 0
        await expect(page.get_by_text("Nothing is frozen.")).to_be_visible()
    assert troubles == []


async def test_what_changes_is_shown_by_itself_said_once_and_can_be_paused(
    up: Up, url: str, chromium: Chromium
) -> None:
    troubles: list[str] = []
    async with loaded(up), browsing(chromium) as browser:
        page = await entered(await browser.new_context(), url, troubles)
        created = page.locator("dt", has_text="Created a second").locator("+ dd")
        before = await created.inner_text()
        await expect(created).not_to_have_text(before)
        await expect(page.locator(".chart > rect.created").nth(1)).to_be_visible()
        await expect(page.locator(".chart > rect.declined").first).to_be_visible()
        # Somebody who cannot see is told of what is new, not of each figure.
        announcer = page.locator("#announce")
        await expect(announcer).to_be_empty()
        worker = up.start("worker", "--json")
        assert worker.stdout is not None
        assert json.loads(worker.stdout.readline())["event"] == "ready"
        await expect(page.locator("#workers tbody tr")).to_have_count(3)
        worker.kill()
        worker.communicate(timeout=PROCESS_SECONDS_MAX)
        await expect(page.locator("#lately")).to_contain_text("worker died")
        await expect(page.locator("#verdict")).to_contain_text("All is well.")
        await page.get_by_role("button", name="Pause").click()
        still = await created.inner_text()
        for _ in range(3):
            await asyncio.sleep(1)
            assert await created.inner_text() == still
        await page.get_by_role("button", name="Go on").click()
        await expect(created).not_to_have_text(still)
    assert troubles == []


async def test_without_a_script_everything_is_read_and_done(
    up: Up, url: str, chromium: Chromium
) -> None:
    letter = spoil(up)
    async with browsing(chromium) as browser:
        context = await browser.new_context(java_script_enabled=False)
        page = await entered(context, url, [])
        await expect(page.locator("#shards")).to_contain_text("/s")
        await page.get_by_role("link", name="Dead letters").click()
        await page.get_by_role("link", name=letter).click()
        await page.get_by_label("Why nothing is to be done").fill("a test")
        await page.get_by_role("button", name="Dismiss").click()
        await page.get_by_role("button", name="Yes: dismiss").click()
        await expect(page.get_by_text(f"{letter} is dismissed.")).to_be_visible()
        stranger = await (await browser.new_context()).new_page()
        answer = await stranger.goto(url.partition("?")[0])
        assert answer is not None
        assert answer.status == 401
    [shown] = up.run("letters", "show", letter, "--json").lines()
    assert (shown["state"], shown["acted_by"]) == ("dismissed", "night desk")
