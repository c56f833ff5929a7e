"""A browser in the console of a running `engine up`, and a producer meanwhile."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

import redis
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from engine.client import connect
from tests.chromium import Chromium
from tests.integration.test_commands import Up

BANK, ALICE, SHOP, ODD = (f"019b0000-0000-7000-8000-00000000000{n}" for n in range(1, 5))
EVIL: Final = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
KEPT: Final = "019b0000-0000-7000-8000-0000000000aa"
"""A transfer whose life is looked at."""


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


async def overflowing(page: Page) -> list[str]:
    """What is wider than the screen, or than the form that it is in."""
    found: list[str] = await page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((e) => {
            const outer = e.parentElement.closest("form, tr, body").getBoundingClientRect();
            const inner = e.getBoundingClientRect();
            const right = Math.min(outer.right, document.documentElement.clientWidth);
            return inner.right > right + 1 && !e.closest("thead, .hidden, .skip");
        }).map((e) => e.outerHTML.slice(0, 200))"""
    )
    return found
