"""The web page in a browser, on real Kafka with all three workers: each screen does its job as a person would use it."""

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Generator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from PIL import Image
from playwright.async_api import Browser, FilePayload, Page, Route, expect

from streams.demo.catalogue import CATALOGUE
from tests.kafka.browser import TIMEOUT, chromium, expect_usable, open_browser, open_page
from tests.kafka.shop import Shop
from tests.kafka.system import PATIENCE, System, picture_server, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PICTURES = sorted(path.name for path in CATALOGUE.glob("*.jpg"))
MARKUP = "<script>alert(1)</script>"
LONG = "ada-" + "x" * 252
SOON = PATIENCE  # seconds
expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def shop(system: System) -> Generator[Shop]:
    """Two shoppers with a bag, and the workers."""
    chromium()
    with picture_server(CATALOGUE) as base:
        found = Shop(system, base)
        try:
            found.start("embed", "profile", "serve")
            users = ["ada", "bob", MARKUP, LONG]
            events = [
                found.event(users[number % 4], picture, number, "view" if number % 3 else "purchase")
                for number, picture in enumerate(PICTURES[:24])
            ]
            asyncio.run(system.produce(events))
            asyncio.run(system.settled("embed", "profile"))
            wait_until(lambda: len(bag(found, LONG)) == 6, SOON, system.log)
            yield found
        finally:
            found.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(shop: Shop) -> AsyncGenerator[Browser]:
    async with open_browser() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def page(shop: Shop, browser: Browser) -> AsyncGenerator[Page]:
    async with open_page(browser, address(shop)) as watched:
        yield watched.page


def address(shop: Shop) -> str:
    return f"http://127.0.0.1:{shop.system.ports['serve']}"


def bag(shop: Shop, user: str) -> list[dict[str, Any]]:
    status, answer = shop.ask(f"/v1/users/{quote(user, safe='')}")
    return answer["items"] if status == 200 else []


def first(shop: Shop, user: str) -> str:
    return shop.recommended(user, "")["categories"][0]["category"]


def photo(number: int) -> FilePayload:
    """A small picture of one colour, as a file that somebody drops."""
    content = io.BytesIO()
    Image.new("RGB", (32, 32), (number * 37 % 256, number * 91 % 256, number * 53 % 256)).save(content, "PNG")
    return {"name": f"{number}.png", "mimeType": "image/png", "buffer": content.getvalue()}


# -- a shopper


async def test_a_shopper_is_found_by_id_and_a_link_leads_a_colleague_there(
    shop: Shop, browser: Browser, page: Page
) -> None:
    await page.goto("/")
    await page.get_by_role("searchbox", name="Shopper id").fill("ada")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("ada")
    await expect(page.locator(".sentence strong")).to_have_text(first(shop, "ada"))
    await expect(page.locator("taste-bag li")).to_have_count(len(bag(shop, "ada")))
    await expect(page.locator("taste-items .card")).to_have_count(12)
    await expect(page.locator("taste-history li")).to_have_count(sum(len(one["types"]) for one in bag(shop, "ada")))
    assert not await page.evaluate("document.documentElement.classList.contains('blurred')")
    await page.get_by_role("button", name="Link to this").click()
    link = await page.get_by_label("Address of this page").input_value()
    async with open_page(browser, address(shop)) as other:
        await other.page.goto(link)
        await expect(other.page.get_by_role("heading", level=1)).to_have_text("ada")


async def test_a_link_is_copied_without_tls(shop: Shop, browser: Browser) -> None:
    """A browser gives `navigator.clipboard` only to sites with TLS, and to this machine."""
    async with open_page(browser, address(shop)) as watched:
        page = watched.page
        await page.add_init_script(
            "Object.defineProperty(window, 'isSecureContext', {value: false});"
            "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        )
        await page.goto("/#/shopper/ada")
        await page.get_by_role("button", name="Link to this").click()
        await expect(page.get_by_label("Address of this page")).to_have_value(page.url)
        await expect(page.get_by_text("Copied.").or_(page.get_by_text("Press Ctrl+C to copy."))).to_be_visible()


async def test_whoever_is_active_is_followed(shop: Shop, page: Page) -> None:
    async with page.expect_response("**/v1/stream"):
        await page.goto("/")
    await expect(page.get_by_text("Nobody has been active")).to_be_visible()
    await shop.system.produce([shop.event("new shopper", PICTURES[3], 100)])
    await expect(page.get_by_role("heading", level=1)).to_have_text("new shopper")
    await expect(page.locator(".sentence strong")).to_have_text(first(shop, "new shopper"))
    await expect(page.get_by_role("link", name="new shopper")).to_be_visible()
    await page.get_by_role("button", name="Link to this").click()
    await expect(page.get_by_label("Address of this page")).to_have_value(f"{address(shop)}/#/shopper/new%20shopper")


async def test_the_change_by_the_last_event_is_shown(shop: Shop, page: Page) -> None:
    await page.goto("/#/shopper/changing")
    await expect(page.locator(".sentence")).to_contain_text("Nothing is held on this shopper")
    await shop.system.produce([shop.event("changing", "pink-orchid.jpg", 110)])
    await expect(page.locator("taste-bag li")).to_have_count(1)
    before = {one["category"]: one["score"] for one in shop.recommended("changing", "k=100")["categories"]}
    await shop.system.produce([shop.event("changing", "twin-lens-reflex-camera.jpg", 111)])
    await expect(page.locator("taste-bag li")).to_have_count(2)
    answer = shop.recommended("changing", "k=100")["categories"]
    grown = max(answer[:10], key=lambda one: one["score"] - before[one["category"]])
    row = page.locator(".bar-row", has=page.get_by_text(grown["category"], exact=True))
    await expect(row.locator(".change.up")).to_contain_text(f"+{grown['score'] - before[grown['category']]:.2f}")


async def test_a_picture_under_the_pointer_tells_the_categories_without_it_while_events_arrive(
    shop: Shop, page: Page
) -> None:
    await page.goto("/#/shopper/bob")
    item = max(bag(shop, "bob"), key=lambda one: one["weight"])["item_id"]
    tile = page.locator(f'taste-bag button[data-item="{item}"]')
    await tile.hover()
    what = page.locator(".in-categories .what")
    await expect(what).to_contain_text(f"Without {item}")
    await expect_without(shop, page, "bob", item)
    tiles = await page.locator("taste-bag li").count()
    await shop.system.produce([shop.event("bob", "red-cruiser-skateboard.jpg", 120)])
    await expect(page.locator("taste-history li").first).to_have_attribute("title", "red-cruiser-skateboard")
    await expect(what).to_contain_text(f"Without {item}")
    await expect_without(shop, page, "bob", item)
    await expect(page.locator("taste-bag li")).to_have_count(tiles)
    await page.mouse.move(0, 0)
    await expect(page.locator("taste-bag li")).to_have_count(tiles + 1)
    await expect(what).not_to_contain_text("Without")


async def expect_without(shop: Shop, page: Page, user: str, item: str) -> None:
    """Expect the scores that the API gives for the bag without the item."""
    _, answer = shop.ask(f"/v1/users/{user}/without?item={item}&k=100")
    shown = {one["category"]: one["without"] for one in answer["categories"]}
    for one in shop.recommended(user, "k=3")["categories"]:
        row = page.locator(".bar-row", has=page.get_by_text(one["category"], exact=True))
        await expect(row.locator(".score")).to_have_text(f"{shown[one['category']]:.2f}")


async def test_the_keyboard_reaches_the_pictures(shop: Shop, page: Page) -> None:
    await page.goto("/#/shopper/ada")
    await expect(page.locator("taste-bag li")).to_have_count(len(bag(shop, "ada")))
    await page.get_by_role("button", name="Link to this").focus()
    await page.keyboard.press("Tab")
    heaviest = max(bag(shop, "ada"), key=lambda one: one["weight"])["item_id"]
    await expect(page.locator(":focus")).to_have_attribute("data-item", heaviest)
    await expect(page.locator(".in-categories .what")).to_contain_text(f"Without {heaviest}")


# -- pictures of one's own


async def test_pictures_are_tried_and_types_and_removal_change_the_answer(shop: Shop, page: Page) -> None:
    items = shop.ask("/v1/status")[1]["items"]
    await page.goto("/#/try")
    await expect(page.get_by_text("Nothing is stored")).to_be_visible()
    files = [CATALOGUE / name for name in ("pink-orchid.jpg", "twin-lens-reflex-camera.jpg")]
    await page.locator("picture-picker input").first.set_input_files(files)
    badges = page.locator(".tried .badge")
    await expect(badges.nth(1)).to_be_visible()
    await expect(page.locator("taste-items .card")).to_have_count(12)
    before = await badges.all_inner_texts()
    await expect(page.locator(".tried .loudest .badge")).to_have_text(max(before, key=lambda text: int(text[:-1])))
    await page.get_by_role("group", name="pink-orchid").get_by_text("bought").locator("..").click()
    await expect(badges.first).not_to_have_text(before[0])
    weight = int((await badges.first.inner_text())[:-1])
    assert weight > int(before[0][:-1]), "a picture that was bought says more than one that was viewed"
    await page.get_by_role("button", name="Remove twin-lens-reflex-camera.jpg").click()
    await expect(badges).to_have_text(["100%"])
    await page.get_by_role("button", name="Remove pink-orchid.jpg").click()
    await expect(page.locator(".tried li")).to_have_count(0)
    await expect(page.locator(".sentence")).to_be_empty()
    await expect(page.locator(".try-answer")).to_be_hidden()
    assert await page.evaluate("urls.size") == 0
    assert shop.ask("/v1/status")[1]["items"] == items


async def test_no_more_than_64_pictures_are_taken_however_they_are_dropped(page: Page) -> None:
    await page.goto("/#/try")
    field = page.locator("picture-picker input").first
    for start in (0, 30, 60):
        await field.set_input_files([photo(start + number) for number in range(30)])
    await expect(page.locator(".tried li")).to_have_count(64)
    await expect(page.get_by_text("26 were left out: 64 is the limit.")).to_be_visible()
    await page.get_by_role("button", name="Remove all").click()
    await expect(page.locator(".tried li")).to_have_count(0)
    assert await page.evaluate("urls.size") == 0


async def test_a_file_that_is_no_picture_is_told_and_its_name_is_text(page: Page) -> None:
    await page.goto("/#/try")
    name = f"{MARKUP}\u202egpj.exe"
    file: FilePayload = {"name": name, "mimeType": "image/jpeg", "buffer": b"<svg onload=alert(1)>"}
    await page.locator("picture-picker input").first.set_input_files([file, photo(1)])
    await expect(page.locator(".tried .fate").first).to_contain_text("send a JPEG")
    await expect(page.get_by_role("button", name=f"Remove {MARKUP}\\u202egpj.exe")).to_be_visible()
    await expect(page.locator(".sentence strong")).not_to_be_empty()


# -- the catalogue


async def offer(shop: Shop, items: Mapping[str, dict[str, Any] | None]) -> None:
    """Write items of the shop; None removes one."""
    async with AIOKafkaProducer(bootstrap_servers=shop.system.broker.bootstrap) as producer:
        for item_id, item in items.items():
            await producer.send_and_wait("items", item and json.dumps(item).encode(), key=item_id.encode())


async def test_whose_taste_new_items_meet_and_which_items_have_the_same_picture(shop: Shop, browser: Browser) -> None:
    pictures = {
        "lens": "telephoto-zoom-lens.jpg",
        "lens-copy": "telephoto-zoom-lens.jpg?copy",
        "ball": "tennis-ball.jpg",
    }
    async with open_page(browser, address(shop), viewport={"width": 360, "height": 700}) as watched:
        page = watched.page
        await page.goto("/#/catalogue/duplicates")
        await expect(page.get_by_text("No two items have the same picture.")).to_be_visible()
        await offer(shop, {name: {"image_url": f"{shop.base}/{picture}"} for name, picture in pictures.items()})
        wait_until(lambda: len(shop.ask("/v1/items")[1]["items"]) == 3, SOON, shop.system.log)
        found: dict[str, Any] = {}

        def counted() -> bool:
            found.update(shop.ask("/v1/items:arrivals")[1])
            return found["sample"]["complete"] and all(one["tastes"] is not None for one in found["items"])

        wait_until(counted, 60, shop.system.log)
        users = [user for user in ("ada", "bob", MARKUP, LONG, "new shopper", "changing") if bag(shop, user)]
        shown = [one["item_id"] for user in users for one in shop.recommended(user, "items=12")["items"]]
        assert found["sample"]["bags"] == len(users)
        await page.get_by_role("link", name="New arrivals").click()
        await expect(page.locator("catalogue-screen .progress")).to_contain_text(f"A sample of {len(users)} shoppers")
        for name in pictures:
            card = page.locator("catalogue-screen .card", has=page.get_by_text(name, exact=True)).first
            await expect(card.locator(".tastes")).to_have_text(f"for {shown.count(name)} of {len(users)} shoppers")
        await expect_usable(page, 360)
        wait_until(lambda: shop.ask("/v1/items:duplicates")[1]["found"] == 1, 60, shop.system.log)
        await page.get_by_role("link", name="Duplicates").focus()
        await page.keyboard.press("Enter")
        group = page.locator(".copies > li")
        await expect(group).to_have_count(1)
        await expect(group.get_by_role("heading")).to_have_text("2 items with the same picture")
        assert set(await group.locator(".title").all_text_contents()) == {"lens", "lens-copy"}
        await expect_usable(page, 360)
        copies = {f"copy-{number}": {"image_url": f"{shop.base}/{PICTURES[number]}?new"} for number in range(13)}
        await offer(shop, copies)
        wait_until(lambda: shop.ask("/v1/items:duplicates")[1]["found"] == 14, 60, shop.system.log)
        await page.reload()
        await expect(group).to_have_count(12)
        await page.get_by_role("button", name="Show more groups").click()
        await expect(group).to_have_count(14)
        await expect(page.get_by_role("button", name="Show more groups")).to_be_hidden()
    await offer(shop, dict.fromkeys([*pictures, *copies]))
    wait_until(lambda: not shop.ask("/v1/items")[1]["items"], SOON, shop.system.log)


async def test_items_are_found_by_id_and_by_picture(shop: Shop, page: Page) -> None:
    await page.goto("/#/catalogue")
    await page.get_by_role("searchbox", name="Item id").fill("pink-orchid")
    wait_until(lambda: shop.ask("/v1/items/pink-orchid")[0] == 200, SOON, shop.system.log)
    await page.keyboard.press("Enter")
    found = page.locator("taste-items .card .title")
    _, similar = shop.ask("/v1/items/pink-orchid/similar?n=24")
    await expect(found).to_have_text([one["item_id"] for one in similar["items"]])
    await page.locator("picture-picker input").first.set_input_files(CATALOGUE / "pink-orchid.jpg")
    await expect(found.first).to_have_text("pink-orchid")
    await page.get_by_label("in stock only").check()  # of which nobody has said anything
    await expect(page.get_by_text("No item meets the filter.")).to_be_visible()
    await page.get_by_label("in stock only").uncheck()
    await expect(found.first).to_have_text("pink-orchid")
    await page.get_by_role("searchbox", name="Item id").fill("nothing")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("nothing is not in the catalogue")
    await expect(found.first).to_be_hidden()


async def test_new_arrivals_their_twins_and_items_without_a_picture_are_listed(shop: Shop, page: Page) -> None:
    items = {
        "first": {"image_url": f"{shop.base}/wireless-mouse.jpg", "title": "A mouse", "price": 25, "in_stock": True},
        "second": {"image_url": f"{shop.base}/wireless-mouse.jpg", "title": MARKUP},
        "absent": {"image_url": f"{shop.base}/none.jpg"},
    }
    await offer(shop, items)
    wait_until(lambda: len(shop.ask("/v1/items")[1]["items"]) == 2, SOON, shop.system.log)
    wait_until(lambda: len(shop.ask("/v1/items?which=without_picture")[1]["items"]) == 1, SOON, shop.system.log)
    await page.goto("/#/catalogue")
    cards = page.locator("catalogue-screen .card")
    await expect(cards).to_have_count(2)
    card = page.locator(".card", has_text="A mouse")
    await expect(card).to_contain_text("25.00 · in stock")
    await expect(card.locator(".twin")).to_contain_text("the same picture as")
    await expect(page.locator(".card .title", has_text=MARKUP)).to_be_visible()
    await page.goto("/#/shopper/ada")
    offered = page.locator("taste-items .card .title")
    await expect(offered).to_have_count(12)
    await page.get_by_role("spinbutton", name="Price at most").fill("25")
    await page.keyboard.press("Enter")
    await expect(offered).to_have_text(["A mouse"])
    await page.get_by_role("spinbutton", name="Price at most").fill("24.99")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("No item meets the filter.")).to_be_visible()
    await page.goto("/#/catalogue")
    await page.get_by_role("link", name="Without a picture").click()
    await expect(cards).to_have_count(1)
    await expect(cards).to_contain_text(f"from {shop.base.removeprefix('http://')}: http_status")
    await cards.get_by_role("link", name="http_status").click()
    await expect(page.locator(".letters > li")).to_contain_text("the server answered with status 404")


# -- now


async def test_who_is_on_call_sees_that_all_is_well_and_what_is_not(shop: Shop, page: Page) -> None:
    await page.goto("/#/now")
    headline, rows = page.get_by_role("heading", level=1), page.locator("now-screen tbody tr")
    await expect(headline).to_contain_text("All is well")
    await expect(rows).to_have_count(8)
    await expect(rows.first).to_contain_text("127.0.0.1")
    await shop.system.produce([shop.event(f"user-{number}", PICTURES[0], 400 + number) for number in range(10)])
    await expect(page.get_by_role("img", name="Events per second: in")).to_be_visible()
    wait_until(lambda: shop.ask("/v1/overview")[1]["latency"]["samples"] > 0, SOON, shop.system.log)
    await expect(page.get_by_role("img", name="Time to the recommendation")).not_to_have_attribute(
        "aria-label", "Time to the recommendation: half within –, 99 % within –", timeout=TIMEOUT
    )
    await shop.system.settled()  # else these events are delivered again, and wait with the next one
    shop.kill("embed")
    await shop.system.produce([shop.event("ada", PICTURES[1], 420)])
    await expect(headline).to_have_text("No embed worker runs, and 1 event waits.")
    await expect(page.locator(".verdict code")).to_have_text("docs/operate/runbook.md#nobody-reads-a-partition")
    shop.start("embed")
    await expect(headline).to_contain_text("All is well")
    await expect(page.locator(".marks")).to_contain_text("has left")


# -- the model


async def test_the_bundle_its_figures_and_what_it_makes_of_the_bags_are_shown(shop: Shop, page: Page) -> None:
    await page.goto("/#/model")
    answer = shop.ask("/v1/model")[1]
    served = answer["served"]
    await expect(page.get_by_role("heading", level=2).first).to_have_text(f"{served['name']} {served['version']}")
    assert answer["sample"]["items"] > 0
    await expect(page.locator(".facts").nth(1)).to_contain_text("100%")
    await expect(page.locator("model-screen .marks li")).to_have_count(2)
    facts = page.locator("model-screen .facts").first
    await expect(facts).to_contain_text(served["sources"][1]["name"])
    await expect(facts).not_to_contain_text("unknown")
    await expect(page.locator(".figures details")).to_have_count(len(served["figures"]))
    await page.locator(".figures summary").first.click()
    await expect(page.locator(".figures details[open] tbody tr").first).to_be_visible()


# -- all screens


@pytest.mark.parametrize("place", ["shopper/ada", "try", "catalogue/held", "now", "model"])
async def test_a_screen_can_be_used_by_everybody_on_a_phone_light_and_dark(
    shop: Shop, browser: Browser, place: str
) -> None:
    async with open_page(browser, address(shop), viewport={"width": 360, "height": 700}) as watched:
        page = watched.page
        await page.goto(f"/#/{place}")
        if place == "try":
            await page.locator("picture-picker input").first.set_input_files(CATALOGUE / "pink-orchid.jpg")
        there = {"now": "now-screen tbody tr", "model": ".facts"}.get(place, ".card")
        await expect(page.locator(there).first).to_be_visible()
        await expect_usable(page, 360)


async def test_text_of_strangers_is_text(shop: Shop, page: Page) -> None:
    await page.goto("/#/shopper/" + quote(MARKUP, safe=""))
    await expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    await expect(page.locator("taste-bag li")).to_have_count(6)
    await page.goto("/#/shopper/" + LONG)
    await expect(page.get_by_role("heading", level=1)).to_have_text(LONG[:79] + "…")

    async def with_long_category(route: Route) -> None:
        """What a bundle with such a category would answer."""
        response = await route.fetch()
        answer = await response.json()
        answer["categories"][0]["category"] = f"{MARKUP}\u202e" + "w" * 500
        await route.fulfill(response=response, json=answer)

    await page.route("**/recommendations?*", with_long_category)
    await page.set_viewport_size({"width": 360, "height": 700})
    await page.goto("/#/shopper/bob")
    await expect(page.locator(".bar-row .name").first).to_contain_text(f"{MARKUP}\\u202ewww")
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


async def test_the_page_is_light_and_paints_at_once(shop: Shop, browser: Browser) -> None:
    async with open_page(browser, address(shop)) as watched:
        page = watched.page
        await page.goto("/#/shopper/ada")
        await expect(page.locator("taste-bag li").first).to_be_visible()
        weight = await page.evaluate(
            "performance.getEntries().filter((one) => one.transferSize && !one.name.includes('/v1/')"
            " && new URL(one.name).origin === origin).reduce((sum, one) => sum + one.transferSize, 0)"
        )
        assert 10_000 < weight < 250_000
        await page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length == 1")


# -- what goes wrong


async def test_a_lost_connection_is_told_and_comes_back_without_doubled_points(shop: Shop, page: Page) -> None:
    await page.goto("/#/shopper/bob")
    touches = page.locator("taste-history li")
    await expect(touches.first).to_be_visible()
    before = await touches.evaluate_all("(all) => all.map((one) => one.textContent.split(' ago')[0])")
    shop.kill("serve")
    await expect(page.get_by_text("Connection lost at")).to_be_visible()
    await expect(touches).to_have_count(len(before))
    shop.start("serve")
    await expect(page.get_by_text("Connection lost at")).to_be_hidden()
    await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    await shop.system.produce([shop.event("bob", "memory-module.jpg", 130)])
    await expect(touches.first).to_have_attribute("title", "memory-module")
    await expect(touches).to_have_count(len(before) + 1)


async def test_a_token_is_asked_for_and_kept_in_the_tab(shop: Shop, browser: Browser, tmp_path: Path) -> None:
    made = shop.system.command("token", "create", "--scope", "read", "--name", "page")
    assert made.returncode == 0, made.stderr
    token = next(word for word in made.stdout.split() if len(word) > 40)
    try:
        wait_until(lambda: shop.ask("/v1/status")[0] == 401, SOON, shop.system.log)
        async with open_page(browser, address(shop)) as watched:
            page = watched.page
            await page.goto("/#/shopper/ada")
            await page.get_by_role("textbox", name="Token").fill("wrong")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).to_contain_text("unknown or revoked")
            await page.get_by_role("textbox", name="Token").fill(token)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", level=1)).to_have_text("ada")
            await page.reload()
            await expect(page.get_by_role("heading", level=1)).to_have_text("ada")
            await expect(page.get_by_text("your token does not have the scope “names”")).to_be_visible()
            blurs = "(all) => all.map((one) => getComputedStyle(one).filter)"
            for personal in ("h1", "taste-bag taste-picture", "taste-history taste-picture", ".because taste-picture"):
                found = set(await page.locator(personal).evaluate_all(blurs))
                assert found and "none" not in found, personal
            assert set(await page.locator(".card > a").evaluate_all(blurs)) == {"none"}
            assert "ada" not in await page.title()
            await page.goto("/#/shopper")
            await page.reload()
            await expect(page.get_by_text("Your token does not see who is active")).to_be_visible()
            await page.goto("/#/letters")
            await expect(page.get_by_role("alert")).to_have_text(
                "Your token does not see dead letters: that needs the scope “admin”."
            )
            assert token not in page.url
            await page.get_by_role("button", name="Forget the token").click()
            await expect(page.get_by_role("dialog")).to_be_visible()
    finally:
        shop.system.command("token", "revoke", "--name", "page")
