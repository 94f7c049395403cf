"""The page of a profile: it holds the photos, loads nothing, and shows text of strangers as text."""

import base64
import contextlib
import io
import re
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from streams import cli
from streams.demo.catalogue import CATALOGUE
from streams.messages import CategoryScore, FieldScores, Model
from streams.taste.page import STYLE, PagePicture, page, trimmed
from streams.taste.profile import Because, Profile, ProfilePhoto, RefusedPhoto, UnreadablePlace
from tests.pages import Page
from tests.streams.taste.made import STRANGE, products, write_photos

EVIL = "<script>alert(1)</script>\"'><img src=http://evil.example/>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the made folder."""
    folder = tmp_path_factory.mktemp("page")
    write_photos(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["tastestream", "taste", "photos", "--html", "me.html"])
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code
    return (folder / "me.html").read_text(encoding="utf-8")


def profile(photos: int = 2, **changes: object) -> Profile:
    of_page: dict[str, object] = {
        "produced_at": datetime(2024, 6, 1, tzinfo=UTC),
        "model": Model(EVIL, EVIL),
        "bag_size": photos,
        "categories": [CategoryScore(EVIL, 0.0)],
        "fields": [FieldScores(EVIL, [CategoryScore(EVIL, 1.0)])],
        "photos": [
            ProfilePhoto(
                name=EVIL, type="view", taken=datetime(2024, 5, 1, tzinfo=UTC), taken_by="exif", weight=1 / photos
            )
            for _ in range(photos)
        ],
        "because": [Because(EVIL, [EVIL])],
        "refused": [RefusedPhoto(name=EVIL, reason="not_a_picture", detail=EVIL)],
        "refused_count": {"not_a_picture": 5},
        "older": 3,
        "others": {EVIL: 1},
        "unreadable": [UnreadablePlace(EVIL, EVIL)],
        "unreadable_count": 1,
    }
    return Profile(**(of_page | changes))  # type: ignore[arg-type]


def rendered(some: Profile) -> str:
    pictures = [PagePicture(b"large", b"small")] * len(some.photos)
    return page(some, (pictures, [[(EVIL, b"small")]] * len(some.categories)))


def test_every_photo_of_the_bag_is_in_the_page_with_an_alternative_text(made: str) -> None:
    images = Page(made).all("img")
    assert all(image["alt"] for image in images)
    shown = [image for image in images if "of the attention" in image["alt"]]
    assert len(shown) == 14
    for image in images:
        kind, _, content = image["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert max(picture.size) <= 480
    assert {image["alt"].partition(",")[0] for image in shown} >= {"2024/IMG_3000.HEIC", "2024/june/chat.webp"}


def test_turned_photos_are_upright_on_the_page(made: str) -> None:
    by_name = {image["alt"].partition(",")[0]: image["src"] for image in Page(made).all("img")}
    for number, product in enumerate(products("sneakers")):  # each has another orientation
        content = base64.b64decode(by_name[f"2024/IMG_{1000 + number}.JPG"].partition(",")[2])
        with Image.open(io.BytesIO(content)) as shown, Image.open(CATALOGUE / product.file) as upright:
            small = (60, 60 * upright.height // upright.width)
            pixels = [np.asarray(one.convert("RGB").resize(small), int) for one in (shown, upright)]
        assert np.abs(pixels[0] - pixels[1]).mean() < 12


def test_it_loads_nothing_and_its_policy_permits_nothing_else(made: str) -> None:
    found = Page(made)
    assert {tag for tag, _ in found.tags} & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "a",
    } == set()
    [policy] = [meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not [name for _, attributes in found.tags for name in attributes if name == "style" or name.startswith("on")]
    assert not re.search(r"url\(|@import|https?://", STYLE)
    assert f"<style>{STYLE}</style>" in made


def test_names_of_files_and_categories_are_text(made: str) -> None:
    assert STRANGE not in made
    assert "\x1b" not in made
    assert Page(made).all("b")[0].keys() <= {"title"}
    text = rendered(profile())
    found = Page(text)
    assert not found.all("script")
    assert "evil.example" not in "".join(image["src"] for image in found.all("img"))


def test_the_words_fit_the_numbers() -> None:
    text = rendered(profile(1, refused_count={}, refused=[], others={}, unreadable=[], unreadable_count=0, older=0))
    assert "What 1 photo say" not in text
    assert "was not used" not in text
    assert "What was not used: 7 files" in rendered(profile())


def test_one_photo_and_no_thumbnail_make_a_page() -> None:
    some = profile(1)
    assert Page(page(some, ([PagePicture(b"", b"")], [[]]))).all("img") == []


@pytest.mark.parametrize(("height", "width"), [(60, 96), (96, 41), (96, 96), (1, 96)])
def test_the_white_bars_of_a_square_are_cut(height: int, width: int) -> None:
    square = np.full((96, 96, 3), 255, np.uint8)
    top, left = (96 - height) // 2, (96 - width) // 2
    square[top : top + height, left : left + width] = 7
    found = trimmed(square)
    assert abs(found.shape[0] - height) <= 1
    assert abs(found.shape[1] - width) <= 1
    assert trimmed(np.full((8, 8, 3), 255, np.uint8)).shape == (8, 8, 3)
