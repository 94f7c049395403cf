"""The time of a photo: by its EXIF block, in each format, and whatever the block holds."""

import io
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from streams.taste.taken import BLOCK, HEAD, exif_block, time_taken
from tests.streams.taste.made import HERE, exif, photo, products

MAY = datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC)
SOUND = exif(6, "2024:05:06 07:08:09", "+02:00").removeprefix(b"Exif\0\0")


def taken(content: bytes, file_format: str) -> datetime | None:
    return time_taken(exif_block(io.BytesIO(content), file_format))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_each_format_has_its_time(file_format: str) -> None:
    content = photo(products("sneakers")[0], file_format, 6, "2024:05:06 07:08:09", "+02:00")
    assert taken(content, file_format) == MAY
    assert taken(photo(products("sneakers")[0], file_format), file_format) is None


def test_heic_has_its_time() -> None:
    assert taken((HERE / "bonsai.heic").read_bytes(), "HEIC") == MAY


def test_a_time_without_a_zone_is_utc() -> None:
    assert time_taken(exif(1, "2024:05:06 07:08:09")[6:]) == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone"),
    [("0000:00:00 00:00:00", ""), ("    :  :     :  :  ", ""), ("2024:13:41 07:08:09", ""), ("yesterday", ""),
     ("0001:01:01 00:00:00", "+14:00")],
)  # fmt: skip
def test_what_is_no_time_is_none(text: str, zone: str) -> None:
    assert time_taken(exif(1, text, zone)[6:]) is None


def test_a_broken_zone_is_utc() -> None:
    assert time_taken(exif(1, "2024:05:06 07:08:09", "+ 2:00")[6:]) == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_the_time_of_the_shot_counts_before_that_of_the_last_change() -> None:
    block = Image.Exif()
    block[0x0132] = "2025:01:01 00:00:00"
    assert time_taken(block.tobytes()[6:]) == datetime(2025, 1, 1, tzinfo=UTC)
    block.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    assert time_taken(block.tobytes()[6:]) == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@given(place=st.integers(0, len(SOUND) - 1), value=st.integers(0, 255), length=st.integers(0, len(SOUND)))
@settings(max_examples=500)
def test_any_block_has_a_time_or_none(place: int, value: int, length: int) -> None:
    block = bytearray(SOUND)
    block[place] = value
    found = time_taken(bytes(block[:length]))
    assert found is None or found.tzinfo is UTC


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "HEIC"])
@given(content=st.binary(max_size=300))
@settings(max_examples=50)
def test_any_bytes_have_a_block_of_bounded_length(file_format: str, content: bytes) -> None:
    file = Counted(content * 5000)
    assert len(exif_block(file, file_format)) <= BLOCK
    assert file.count <= HEAD + BLOCK
