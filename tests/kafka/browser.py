"""A headless Chromium for tests of the web page, and pages that note what a browser complains about."""

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

NAMES = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome")
TIMEOUT = 60_000  # milliseconds within which the page shows what it has to, on a slow machine with others
WATCH = """
    window.violations = [];
    addEventListener('securitypolicyviolation', (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    window.urls = new Set();
    const { createObjectURL, revokeObjectURL } = URL;
    URL.createObjectURL = (blob) => { const url = createObjectURL(blob); urls.add(url); return url; };
    URL.revokeObjectURL = (url) => { urls.delete(url); revokeObjectURL(url); };
"""
"""Runs before the page does: notes violations of the Content-Security-Policy, and the object URLs that were not given back."""


def chromium() -> str:
    """The path of a Chromium. Skips the test where there is none; fails in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        assert not os.environ.get("CI"), f"no Chromium: none of {', '.join(NAMES)} is on the path"
        pytest.skip("no Chromium on the path: apt-get install chromium-headless-shell")
    return found


@asynccontextmanager
async def open_browser() -> AsyncGenerator[Browser]:
    """Run Chromium. Its sandbox needs rights that containers do not have."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        await browser.close()


@dataclass
class Watched:
    """A page of the browser, and what went wrong on it."""

    page: Page
    errors: list[str] = field(default_factory=list[str])

    async def complaints(self) -> list[str]:
        """What the browser complained about, but for a worker that does not answer or refuses."""
        violations: list[str] = await self.page.evaluate("violations")
        return [*violations, *(one for one in self.errors if "Failed to load resource" not in one)]


@asynccontextmanager
async def open_page(browser: Browser, base: str, **options: Any) -> AsyncGenerator[Watched]:
    """Open a page in a profile of its own. Fails at the end if the browser complained. options: of the profile."""
    context = await browser.new_context(base_url=base, **options)
    context.set_default_timeout(TIMEOUT)
    await context.add_init_script(WATCH)
    watched = Watched(await context.new_page())

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            watched.errors.append(message.text)

    watched.page.on("console", note)
    watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
    yield watched
    assert await watched.complaints() == []
    await watched.page.unroute_all(behavior="wait")  # an answer that a test changes may be under way
    await context.close()


async def expect_usable(page: Page, width: int) -> None:
    """Expect that a page does not scroll sideways, and that axe finds nothing serious on it, light and dark."""
    assert await page.evaluate("document.documentElement.scrollWidth") == width, "it scrolls sideways"
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        found = await Axe().run(page)
        serious = [one for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
        assert not serious, found.generate_report()
