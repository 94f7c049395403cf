"""A `PictureRef` knows which of its three forms a text has, and where the picture is."""

from pathlib import Path

import pytest

from offline_training.datasets.picture_ref import ArchiveMember, PictureRef


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("data/a.zip!/hat.jpg", ArchiveMember(Path("data/a.zip"), "hat.jpg")),
        ("a.ZIP!/b.zip!/hat.jpg", ArchiveMember(Path("a.ZIP"), "b.zip!/hat.jpg")),
        ("wow!/hat.jpg", None),
        ("a.zip", None),
        ("a.zip!/", None),
        ("https://shop.example/a.zip!/hat.jpg", None),
    ],
)
def test_a_reference_to_a_member_names_the_archive_and_the_member(text: str, member: ArchiveMember | None) -> None:
    picture = PictureRef(text)
    assert picture.archive_member == member
    if member is not None:
        assert PictureRef.in_archive(*member) == picture


@pytest.mark.parametrize(
    ("text", "is_url", "is_web_url"),
    [
        ("http://shop.example/hat.jpg", True, True),
        ("HTTPS://shop.example/hat.jpg", True, True),
        ("s3://bucket/hat.jpg", True, False),
        ("data:image/gif;base64,R0lGODlh", True, False),
        ("photos/hat.jpg", False, False),
        ("a.zip!/http://shop.example/hat.jpg", False, False),
        ("http:/hat.jpg", False, False),
    ],
)
def test_a_url_of_any_scheme_is_told_from_a_path(text: str, is_url: bool, is_web_url: bool) -> None:
    picture = PictureRef(text)
    assert (picture.is_url, picture.is_web_url) == (is_url, is_web_url)


def test_paths_are_resolved_and_urls_stay() -> None:
    assert PictureRef("hat.jpg").within(Path("/photos")) == PictureRef("/photos/hat.jpg")
    assert PictureRef("/other/hat.jpg").within(Path("/photos")) == PictureRef("/other/hat.jpg")
    assert PictureRef("a.zip!/hat.jpg").absolute() == PictureRef(f"{Path.cwd()}/a.zip!/hat.jpg")
    url = PictureRef("https://shop.example/hat.jpg")
    assert (url.within(Path("/photos")), url.absolute()) == (url, url)


def test_an_empty_text_is_no_picture_and_others_keep_their_text() -> None:
    assert PictureRef.parse("") is PictureRef.parse(None) is None
    assert str(PictureRef.parse("photos//hat.jpg")) == "photos//hat.jpg"


@pytest.mark.parametrize("rest", ["//cdn.example/hat.jpg", "//cdn.example:8080/a.zip!/hat.jpg?x=1"])
def test_a_text_without_a_scheme_as_web_pages_write_it_is_https(rest: str) -> None:
    assert PictureRef.parse(rest) == PictureRef(f"https:{rest}")


@pytest.mark.parametrize("path", ["/photos/hat.jpg", "///photos/hat.jpg", "photos//hat.jpg"])
def test_slashes_elsewhere_are_a_path(path: str) -> None:
    assert PictureRef.parse(path) == PictureRef(path)
