"""What whoever is on call does on real Kafka: send events of dead letters again, over the API and on the page; notice a lost broker, or
a host of pictures that is away.

A picture is missing, so its event is refused. Somebody mends the web site, and sends the event again.
"""

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncGenerator, Generator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from typing_extensions import override

from streams.demo.catalogue import CATALOGUE
from streams.kafka.remarks import EVERY
from streams.serve.overview.heard import SILENT
from streams.web.circuit_breaker import SILENT_FAILURES_TO_OPEN
from tests.kafka.browser import TIMEOUT, expect_usable, open_browser, open_page
from tests.kafka.shop import Shop
from tests.kafka.system import PATIENCE, PictureHandler, System, picture_server, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = PATIENCE  # seconds
LOOKS = 15.0  # seconds: the last answer of the broker, from which its absence counts, is at most that old
PICTURE = "pink-orchid.jpg"
MARKUP = "<script>alert(1)</script>"
expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shop's web site."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(CATALOGUE / PICTURE, folder)
    return folder


@pytest.fixture(scope="module")
def shop(system: System, site: Path) -> Generator[Shop]:
    """The workers, which have seen one event."""
    system.configure(cache_failure_age=0, fetch_attempts=1)
    with picture_server(site) as base:
        found = Shop(system, base)
        try:
            found.start("embed", "profile", "serve")
            asyncio.run(system.produce([found.event("ada", PICTURE, 0)]))
            asyncio.run(system.settled())
            yield found
        finally:
            found.stop()


def letters(shop: Shop, **conditions: str) -> list[dict[str, Any]]:
    """The dead letters that meet the conditions."""
    status, answer = shop.ask(f"/v1/dead-letters?{urlencode(conditions)}")
    assert status == 200, answer
    assert len(answer["letters"]) == answer["matching"]
    return answer["letters"]


def redrive(shop: Shop, **given: Any) -> dict[str, Any]:
    status, answer = shop.ask("/v1/dead-letters/redrive", "POST", given)
    assert status == 200, answer
    return answer


def holds(shop: Shop, user: str, item: str) -> bool:
    status, answer = shop.ask(f"/v1/users/{user}")
    return status == 200 and item in {one["item_id"] for one in answer["items"]}


# -- over the API


async def test_the_event_of_a_dead_letter_is_sent_again_over_the_api_and_answered(shop: Shop, site: Path) -> None:
    event = shop.event("bob", "api-vase.jpg", 1)
    await shop.system.produce([event, b"\xff\x00 <script>"])
    wait_until(lambda: len(letters(shop)) == 2, SOON, shop.system.log)
    [letter] = letters(shop, reason="http_status", topic="user-interactions", user_id="bob", host="127.0.0.1")
    assert (letter["event_id"], letter["field"], letter["attempts"], letter["sent"]) == (
        "event-1",
        "image_url",
        0,
        False,
    )
    assert letters(shop, topic="items") == letters(shop, until=letter["at"], reason="http_status") == []
    [broken] = letters(shop, reason="invalid_json")
    _, whole = shop.ask(f"/v1/dead-letters/{letter['partition']}/{letter['offset']}")
    assert json.loads(whole["value"]) == event
    assert whole["original"]["topic"] == "user-interactions"
    _, whole = shop.ask(f"/v1/dead-letters/{broken['partition']}/{broken['offset']}")
    assert (whole["value"], whole["value_encoding"]) == ("/wAgPHNjcmlwdD4=", "base64")
    places = [{"partition": letter["partition"], "offset": letter["offset"]}]
    ends = await shop.system.ends("user-interactions")
    would = {"dry_run": True, "selected": 1, "sent": 1, "doubtful": 0, "skipped": {}}
    assert redrive(shop, letters=places) == would
    assert await shop.system.ends("user-interactions") == ends, "a dry run sent something"
    shutil.copy(CATALOGUE / "twin-lens-reflex-camera.jpg", site / "api-vase.jpg")
    assert redrive(shop, letters=places, dry_run=False) == would | {"dry_run": False}
    wait_until(lambda: holds(shop, "bob", "api-vase"), SOON, shop.system.log)
    assert shop.recommended("bob")["event_id"] == "event-1"
    [letter] = letters(shop, reason="http_status")
    assert letter["sent"]
    assert redrive(shop, letters=places)["skipped"] == {"sent": 1}


# -- on the page


@pytest_asyncio.fixture(loop_scope="module")
async def page(shop: Shop) -> AsyncGenerator[Page]:
    base = f"http://127.0.0.1:{shop.system.ports['serve']}"
    async with open_browser() as browser, open_page(browser, base) as watched:
        yield watched.page


async def test_redrive_a_letter_as_a_person_would(shop: Shop, site: Path, page: Page) -> None:
    before = len(letters(shop))
    await shop.system.produce([shop.event("cleo", "page-vase.jpg", 2), MARKUP.encode() + b"\xff"])
    wait_until(lambda: len(letters(shop)) == before + 2, SOON, shop.system.log)
    await page.goto("/#/letters")
    rows = page.locator(".letters > li")
    broken = rows.filter(has_text="invalid_json").first
    await broken.get_by_text("Look at the bytes").click()
    await expect(broken.get_by_role("group", name="Value")).to_contain_text("000010  3c 2f 73 63 72 69 70 74 3e ff")
    await expect(broken.get_by_role("group", name="Value")).to_contain_text("<script>alert(1)")
    await page.get_by_role("combobox", name="Reason").fill("http_status")
    await page.get_by_role("combobox", name="Topic").fill("user-interactions")
    await page.get_by_role("combobox", name="Shopper id").fill("cleo")
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_role("heading", level=2)).to_have_text("1 dead letter")
    await expect(rows).to_contain_text("the server answered with status 404")
    await rows.get_by_text("Look at the bytes").click()
    await expect(rows.get_by_role("group", name="Value")).to_contain_text('"item_id": "page-vase"')
    shutil.copy(CATALOGUE / PICTURE, site / "page-vase.jpg")
    ask, told = page.get_by_role("button", name="What would be sent?"), page.locator("taste-redrive .told")
    await expect(ask).to_be_disabled()
    await rows.get_by_role("checkbox", name="Choose event-2").check()
    await ask.click()
    await expect(told).to_have_text("1 of 1 would be sent again.")
    assert not holds(shop, "cleo", "page-vase")
    await page.get_by_role("button", name="Send 1 event again").click()
    await expect(told).to_have_text("1 event was sent again.")
    await expect(rows.locator(".fate")).to_have_text("sent again")
    await expect(rows.get_by_role("checkbox")).to_be_disabled()
    wait_until(lambda: holds(shop, "cleo", "page-vase"), SOON, shop.system.log)


async def test_dead_letters_can_be_read_by_everybody_on_a_phone_light_and_dark(shop: Shop, page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 700})
    await page.goto("/#/letters")
    await page.get_by_text("Look at the bytes").first.click()
    await expect(page.get_by_role("group", name="Value").first).to_be_visible()
    await page.get_by_role("button", name="Choose all").click()
    await page.get_by_role("button", name="What would be sent?").click()
    await expect(page.locator("taste-redrive .told")).to_contain_text("would be sent again")
    await expect_usable(page, 360)


async def times_of(page: Page, chart: str) -> list[float]:
    """Where the points of a chart's lines are, from left to right if no time has two."""
    paths = await page.locator(f'time-chart svg[aria-label^="{chart}"] path').evaluate_all(
        "(all) => all.map((one) => one.getAttribute('d'))"
    )
    return [float(x) for path in paths[:1] for x in re.findall(r"[ML]([\d.]+) ", path or "")]


async def test_see_a_lost_broker_come_and_go(shop: Shop, page: Page) -> None:
    shopper = await page.context.new_page()
    await shopper.goto("/#/shopper/ada")
    touches = shopper.locator("taste-history li")
    await expect(touches).to_have_count(1)
    await page.goto("/#/now")
    headline, verdict = page.get_by_role("heading", level=1), page.locator(".verdict")
    await expect(headline).to_contain_text("All is well")
    shop.system.broker.kill()
    try:
        lost = time.time()
        await expect(headline).to_contain_text("The broker does not answer")
        since = datetime.fromisoformat(await verdict.locator("time").get_attribute("datetime") or "")
        assert lost - LOOKS < since.timestamp() <= time.time()
        await expect(verdict.locator("code")).to_have_text("docs/operate/runbook.md#the-broker-is-away")
        await expect(shopper.locator(".state")).to_contain_text("The broker does not answer")
        await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    finally:
        await asyncio.to_thread(shop.system.broker.start)
    await expect(headline).to_contain_text("All is well", timeout=2 * TIMEOUT)
    await expect(verdict.locator("time")).to_have_count(0)
    marks = page.locator(".marks li")
    await expect(marks.filter(has_text="the broker does not answer")).to_have_count(1)
    await expect(marks.filter(has_text="the broker answers again")).to_have_count(1)
    await shop.system.produce([shop.event("ada", "api-vase.jpg", 3)])
    await expect(touches).to_have_count(2, timeout=2 * TIMEOUT)
    await expect(shopper.locator(".state")).not_to_contain_text("The broker does not answer")
    drawn = await times_of(page, "Waiting")
    assert len(drawn) > 1 and drawn == sorted(set(drawn)), drawn


# -- a host that is away


class Flaky(PictureHandler):
    """A picture server that can go away: it closes each connection without a response."""

    away = False

    @override
    def do_GET(self) -> None:
        if Flaky.away:
            self.close_connection = True
        else:
            super().do_GET()


def circuits(shop: Shop) -> list[dict[str, Any]]:
    status, answer = shop.ask("/v1/overview")
    assert status == 200, answer
    return answer["open_circuits"]


@pytest.fixture
def cdn(site: Path) -> Generator[str]:
    """The address of a picture server that has just gone away."""
    with picture_server(site, Flaky) as base:
        Flaky.away = True
        yield base


async def send(shop: Shop, cdn: str, *numbers: int) -> None:
    """Send events whose pictures, each at an address of its own, the host has when it is back."""
    events = [shop.event("dora", PICTURE, number) for number in numbers]
    pictures = [{"image_url": f"{cdn}/{PICTURE}?{number}"} for number in numbers]
    await shop.system.produce([event | picture for event, picture in zip(events, pictures, strict=True)])


async def test_see_a_host_whose_pictures_are_not_fetched_come_and_go(shop: Shop, page: Page, cdn: str) -> None:
    host, begun = cdn.removeprefix("http://"), time.time()
    await page.goto("/#/now")
    headline, rows = page.get_by_role("heading", level=1), page.locator(".hosts li")
    await expect(page.get_by_text("None: pictures of all hosts are fetched.")).to_be_visible()
    await send(shop, cdn, *range(100, 100 + SILENT_FAILURES_TO_OPEN + 2))
    await expect(headline).to_contain_text(f"Pictures of {host} are not fetched")
    [found] = circuits(shop)
    assert (found["host"], found["workers"], found["waiting"]) == (host, 1, 0)
    assert begun - 1 < datetime.fromisoformat(found["since"]).timestamp() < time.time()
    await send(shop, cdn, *range(200, 220))
    await expect(page.locator(".verdict code")).to_have_text(
        "docs/operate/runbook.md#pictures-of-a-host-are-not-fetched"
    )
    await expect(headline).to_contain_text(f"Pictures of {host} are not fetched: ")
    await expect(rows).to_contain_text(re.compile(r"\d\d refused, 0 waiting"))
    await page.set_viewport_size({"width": 360, "height": 700})
    await expect_usable(page, 360)
    Flaky.away = False

    number = 400
    async with asyncio.timeout(2 * PATIENCE):
        while circuits(shop):
            await send(shop, cdn, number := number + 1)  # the first one that is asked for closes the breaker
            await asyncio.sleep(1)
    await expect(rows).to_have_count(0)
    await expect(headline).not_to_contain_text("are not fetched")


async def test_a_worker_that_is_stopped_takes_back_what_it_said(shop: Shop, cdn: str) -> None:
    await send(shop, cdn, *range(300, 300 + SILENT_FAILURES_TO_OPEN + 2))
    wait_until(lambda: bool(circuits(shop)), SOON, shop.system.log)
    begun = time.monotonic()
    assert shop.stop_one("embed") == 0
    stopped = time.monotonic()
    wait_until(lambda: not circuits(shop), SILENT * EVERY, shop.system.log)
    gone = time.monotonic()
    assert gone - stopped < SILENT * EVERY / 2, "it was not taken back, but expired"
    assert stopped - begun < 15
