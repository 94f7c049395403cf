"""Each URL has one outcome, and no more pictures are fetched once the caller has stopped."""

import io
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.bundle import Bundle
from model.embedder import Embedder
from model.preprocessing import decode_picture
from streams.settings import Settings, read_settings
from streams.warm.embed_urls import embed_urls
from tests.model.bundle.networks import write_colours
from tests.streams.warm.shop import Shop, open_shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Bundle.load().embedder()


@pytest.fixture
def settings() -> Settings:
    return read_settings(
        fetch_allow_networks=(ip_network("127.0.0.0/8"),), embed_in_flight=8, fetch_attempts=1, fetch_timeout=30
    )


def test_each_url_has_one_outcome(shop: Shop, embedder: Embedder, settings: Settings) -> None:
    urls = [*shop.urls(20), f"{shop.url}/gone", "ftp://shop.example/1", ""]
    outcomes = list(embed_urls(settings, embedder, urls))
    assert sorted(url for url, _ in outcomes) == sorted(urls)
    found = dict(outcomes)
    [direct] = embedder.embed(decode_picture(shop.picture, embedder.image_size)[None])
    for url in shop.urls(20):
        embedding = found[url]
        assert isinstance(embedding, np.ndarray)
        assert np.allclose(embedding, direct, atol=1e-4)
    reasons = [found[url][0] for url in urls[20:]]
    assert reasons == ["http_status", "url_scheme", "url_scheme"]
    assert list(embed_urls(settings, embedder, [])) == []


def test_a_picture_without_finite_features_fails_alone(shop: Shop, settings: Settings, tmp_path: Path) -> None:
    embedder = write_colours(tmp_path / "colours").embedder()
    file = io.BytesIO()
    Image.new("RGB", (224, 224)).save(file, "PNG")
    shop.picture = file.getvalue()
    [(url, found)] = embed_urls(settings, embedder, shop.urls(1))
    assert isinstance(found, tuple)
    assert found[0] == "invalid_embedding"
    assert found[1] == (
        f"image_url '{url}': the networks of the bundle made an embedding that is not finite, or too large; check the bundle"
    )


def test_closing_the_generator_stops_fetching(shop: Shop, embedder: Embedder, settings: Settings) -> None:
    outcomes = embed_urls(settings, embedder, shop.urls(3000))
    for _ in range(5):
        next(outcomes)
    outcomes.close()
    assert shop.asked.total() < 300
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("embed-urls", "decode", "embed"))]
