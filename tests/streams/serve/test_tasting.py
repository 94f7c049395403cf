"""Codes of strangers' pictures are those of the embed worker, each picture fails on its own, and a request has limits."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import quantize_all
from streams.bundles import Bundles
from streams.demo.catalogue import CATALOGUE, read_products
from streams.embed.opening import open_embedding_cache
from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender, ScoringOptions
from streams.serve import tasting
from streams.serve.interface import Tasted, Taster, Uploaded
from streams.serve.taste import Shown, bag_of, taste_of
from streams.serve.tasting import MAX_PICTURES, PictureTaster, open_taster
from streams.settings import Settings, read_settings
from streams.trend.trend import Trend
from tests.streams.web.servers import serving

NOON = 1_398_945_600_000
PHOTOS = [(CATALOGUE / product.file) for product in list(read_products().values())[:6]]


def settings_of(**changes: Any) -> Settings:
    return read_settings(fetch_allow_networks=(ip_network("127.0.0.0/8"),), **changes)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


class Pictures:
    """Serves photos by their file name; /slow/N answers nothing until `end` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.reached = asyncio.Event()  # whether /slow was asked
        self.end = asyncio.Event()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path.startswith("/slow"):
            self.reached.set()
            await self.end.wait()
        path = CATALOGUE / request.path.strip("/")
        return web.Response(body=path.read_bytes()) if path.is_file() else web.Response(status=404)


@asynccontextmanager
async def tasting_of(bundle: Bundle, **changes: Any) -> AsyncGenerator[tuple[PictureTaster, str, Pictures]]:
    pictures = Pictures()
    async with serving(pictures.answer) as url, open_taster(settings_of(**changes), bundle) as taster:
        try:
            yield taster, url, pictures
        finally:
            pictures.end.set()


def uploaded(path: Path) -> Uploaded:
    return Uploaded(path.name, path.read_bytes())


async def test_a_picture_has_the_code_that_the_embed_worker_makes(bundle: Bundle, tmp_path: Path) -> None:
    async with tasting_of(bundle) as (taster, url, _):
        urls = [f"{url}/{path.name}" for path in PHOTOS]
        found = await taster.taste([*urls, *map(uploaded, PHOTOS)])
        async with open_embedding_cache(settings_of(), Bundles(bundle), tmp_path) as cache:
            expected = [(await cache.codes(one)).served for one in urls]
    assert [one.code for one in found] == expected * 2
    assert [one.name for one in found] == urls + [path.name for path in PHOTOS]
    assert {(one.reason, one.detail) for one in found} == {("", "")}
    assert taster.embedder_version == bundle.embedder_version


async def test_each_picture_fails_on_its_own_and_says_why(bundle: Bundle) -> None:
    good = PHOTOS[0].read_bytes()
    async with tasting_of(bundle, fetch_max_bytes=len(good)) as (taster, url, _):
        found = await taster.taste(
            [
                f"{url}/gone.jpg",
                "http://10.1.2.3/internal.jpg",
                "file:///etc/passwd",
                Uploaded("note.txt", b"no picture"),
                Uploaded("empty.jpg", b""),
                Uploaded("cut.jpg", good[: len(good) // 2]),
                Uploaded("huge.jpg", good + b"\0"),
                Uploaded("good.jpg", good),
            ]
        )
    assert [one.reason for one in found] == [
        "http_status", "address_not_public", "url_scheme", "not_a_picture", "not_a_picture", "truncated_picture",
        "picture_too_many_bytes", "",
    ]  # fmt: skip
    assert all(one.detail and not one.code for one in found[:-1])
    assert found[-1].code


async def test_a_picture_that_is_there_twice_is_made_once(bundle: Bundle) -> None:
    async with tasting_of(bundle) as (taster, url, pictures):
        one = f"{url}/{PHOTOS[0].name}"
        found = await taster.taste([one, one, one])
    assert len({tasted.code for tasted in found}) == 1
    assert len(pictures.asked) == 1


async def test_too_many_pictures_and_too_many_bytes_are_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasting, "MAX_UPLOADED_BYTES", sum(path.stat().st_size for path in PHOTOS[:2]))
    async with tasting_of(bundle) as (taster, url, pictures):
        with pytest.raises(ValueError, match=r"^65 pictures; at most 64"):
            await taster.taste([f"{url}/{number}" for number in range(MAX_PICTURES + 1)])
        assert pictures.asked == []
        found = await taster.taste([uploaded(path) for path in PHOTOS[:3]])
        assert await taster.taste([]) == []
    assert [one.reason for one in found] == ["", "", "picture_too_many_bytes"]


async def test_at_the_deadline_a_request_has_what_is_done(bundle: Bundle) -> None:
    async with tasting_of(bundle) as (taster, url, pictures):
        taster._deadline = 1.0
        slow, quick = await taster.taste([f"{url}/slow/1", uploaded(PHOTOS[0])])
        assert taster._pipeline._fetcher.open_connections == 0
        assert pictures.reached.is_set()
    assert (slow.reason, slow.code) == ("timeout", b"")
    assert "not made within 1 s" in slow.detail
    assert quick.code


async def test_a_request_that_is_cancelled_gives_back_all_that_it_holds(bundle: Bundle) -> None:
    async with tasting_of(bundle, fetch_connections=2) as (taster, url, pictures):
        waiting = asyncio.create_task(taster.taste([f"{url}/slow/{number}" for number in range(8)]))
        async with asyncio.timeout(60):
            await pictures.reached.wait()
        waiting.cancel()
        async with asyncio.timeout(60):
            await asyncio.gather(waiting, return_exceptions=True)
        assert taster._pipeline._fetcher.open_connections == 0
        async with asyncio.timeout(60):  # each of the two places is free again
            found = await taster.taste([f"{url}/{path.name}" for path in PHOTOS] + [uploaded(PHOTOS[0])])
    assert all(one.code for one in found)
    assert waiting.cancelled()


async def test_nothing_is_written(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with tasting_of(bundle, data_dir=tmp_path / "data") as (taster, url, _):
        assert (await taster.taste([f"{url}/{PHOTOS[0].name}"]))[0].code
    assert list(tmp_path.iterdir()) == []


# What pictures say


OPTIONS = ScoringOptions(bag_size=4, top_k=3, type_weights={"purchase": 1.0, "cart": 0.6, "view": 0.0}, half_life=None)


def shown(bundle: Bundle, *kinds: str) -> list[Shown]:
    embedder = bundle.split_embedder()
    rows = [embedder.backbone.features(decode_picture(path.read_bytes(), bundle.image_size)[None]) for path in PHOTOS]
    codes = [quantize_all(embedder.of_features(row))[0] for row in rows]
    return [
        Shown(Tasted(path.name, code), kind, NOON - place)  # type: ignore[arg-type]
        for place, (path, code, kind) in enumerate(zip(PHOTOS, codes, kinds, strict=False))
    ]


def test_pictures_are_scored_as_the_bag_of_a_user_who_did_the_same(bundle: Bundle) -> None:
    recommender, trend = Recommender(bundle, bundle.aggregator(), OPTIONS), Trend(None, {}, len(bundle.categories))
    pictures = shown(bundle, "purchase", "view", "cart", "purchase", "cart", "purchase")
    broken = Shown(Tasted("broken.jpg", b"", "not_a_picture", "no picture"), "purchase", NOON)
    found = taste_of(recommender, trend, [broken, *pictures], NOON)
    bag = Bag()
    for place, (tasted, kind, timestamp) in enumerate(pictures, 1):
        event = EmbeddedInteraction(
            event_id=str(place), user_id="ada", item_id=tasted.name, type=kind, timestamp=timestamp,
            embedder_version=bundle.embedder_version, embedding=tasted.code,
        )  # fmt: skip
        bag = fold(bag, event, max_slots=128, kept={bundle.embedder_version})
    [answer] = recommender.answers([(bag, NOON)], trend)
    assert (found.categories, found.fields, found.bag_size, found.cold_start) == (
        answer.categories,
        answer.fields,
        3,
        False,
    )
    weights = {one.name: one.weight for one in found.pictures}
    assert [one.name for one in found.pictures] == ["broken.jpg", *(path.name for path in PHOTOS)]
    assert {one.item_id: one.weight for one in answer.attention} == {
        name: pytest.approx(weight, abs=1e-6) for name, weight in weights.items() if weight is not None
    }
    left_out = {"broken.jpg", PHOTOS[1].name, PHOTOS[4].name, PHOTOS[5].name}  # one is broken, one hidden, two too old
    assert {name for name, weight in weights.items() if weight is None} == left_out
    assert (found.pictures[0].reason, found.pictures[0].detail) == ("not_a_picture", "no picture")


def test_pictures_that_all_fail_have_the_prior(bundle: Bundle) -> None:
    recommender, trend = Recommender(bundle, bundle.aggregator(), OPTIONS), Trend(None, {}, len(bundle.categories))
    found = taste_of(recommender, trend, [Shown(Tasted("a", b"", "timeout", "late"), "view", NOON)], NOON)
    assert (found.cold_start, found.bag_size, found.pictures[0].weight) == (True, 0, None)
    assert found.categories == recommender.answers([(Bag(), NOON)], trend)[0].categories


def test_of_pictures_with_one_time_the_last_is_the_newest(bundle: Bundle) -> None:
    pictures = [one._replace(timestamp=NOON) for one in shown(bundle, *["purchase"] * 6)]
    recommender, trend = Recommender(bundle, bundle.aggregator(), OPTIONS), Trend(None, {}, len(bundle.categories))
    found = taste_of(recommender, trend, pictures, NOON)
    assert [one.weight is None for one in found.pictures] == [True, True, False, False, False, False]
    assert list(bag_of(pictures, bundle.embedder_version).slots) == [str(place) for place in range(6)]


def taster(one: PictureTaster) -> Taster:
    return one  # for the type checker
