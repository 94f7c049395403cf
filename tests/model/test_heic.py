"""HEIC, the format of phones: read if its decoder is given, refused with a word on what to do if not."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.containers import open_container, picture_format
from model.containers.heic import MAX_ITEMS
from model.exceptions import PictureError
from model.heic import decoders_with_heic, has_heic
from model.preprocessing import DECODERS, decode_picture

PHOTOS = Path(__file__).parents[1] / "streams" / "taste"
HALVES = (PHOTOS / "halves.heic").read_bytes()  # 64 x 64; see tests/streams/taste/made.py
BONSAI = (PHOTOS / "bonsai.heic").read_bytes()
SIZE = 32

needs_heic = pytest.mark.skipif(not has_heic(), reason="the extra heic is not installed")


def refusal(data: bytes, **options: object) -> PictureError:
    with pytest.raises(PictureError) as caught:
        decode_picture(data, SIZE, **options)  # type: ignore[arg-type]
    return caught.value


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


@needs_heic
def test_a_turned_photo_is_upright_by_its_own_properties_and_not_by_exif_as_well() -> None:
    pixels = decode_picture(HALVES, SIZE, decoders=decoders_with_heic()).astype(int)
    red, blue = pixels[16, 4], pixels[16, 28]
    assert red[0] - red[2] > 100
    assert blue[2] - blue[0] > 100
    assert np.abs(pixels[4, 4] - pixels[28, 4]).max() < 60  # the halves stand side by side


@needs_heic
def test_the_other_formats_are_decoded_as_without_it() -> None:
    assert {name: decoders_with_heic()[name] for name in DECODERS} == DECODERS


def test_without_the_decoder_it_is_refused_with_its_name() -> None:
    refused = refusal(HALVES)
    assert (refused.reason, str(refused)) == (
        "not_a_picture", f"a HEIC file of {len(HALVES)} bytes: send a JPEG, PNG, WebP, GIF or AVIF"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIC"),
        (b"heix\0\0\0\0", "HEIC"),
        (b"mif1\0\0\0\0mif1heic", "HEIC"),
        (b"mif1\0\0\0\0mif1avif", "AVIF"),
        (b"mif1\0\0\0\0avifheic", "AVIF"),
        (b"mif1\0\0\0\0mif1", None),
        (b"hevc\0\0\0\0hevc", None),  # a sequence
        (b"qt  \0\0\0\0qt  ", None),
        (b"isom\0\0\0\0mp41", None),
    ],
)
def test_the_brands_tell_heic_from_avif_and_from_videos(brands: bytes, expected: str | None) -> None:
    assert picture_format(box(b"ftyp", brands)) == expected


def test_its_size_is_checked_before_the_decoder_sees_it() -> None:
    refused = refusal(HALVES, max_pixels=64 * 64 - 1, decoders={**DECODERS, "HEIC": None})
    assert (refused.reason, str(refused)) == (
        "picture_too_large", "a HEIC of 64 x 64 pixels, over the limit of 4095: send a smaller picture"
    )  # fmt: skip


def test_the_decoder_sees_no_exif() -> None:
    assert b"Exif\0\0MM" in BONSAI or b"Exif\0\0II" in BONSAI
    contents = open_container("HEIC", BONSAI)
    entry = BONSAI.index(b"infe", BONSAI.index(b"infe") + 1)
    assert BONSAI.find(b"Exif", entry) > 0
    kinds = [
        contents.data[at + 12 : at + 16] for at in range(len(contents.data)) if contents.data[at : at + 4] == b"infe"
    ]
    assert kinds == [b"hvc1", b"skip"]
    assert (contents.width, contents.height, contents.exif) == (336, 448, b"")


def test_a_file_with_too_many_pictures_is_refused() -> None:
    entry = box(b"infe", struct.pack(">BxxxHH4s", 2, 1, 0, b"hvc1"))
    meta = box(b"iprp", box(b"ipco", box(b"ispe", bytes(4) + struct.pack(">II", 8, 8))))
    meta += box(b"iinf", struct.pack(">BxxxH", 0, 65535) + entry * (MAX_ITEMS + 1))
    refused = refusal(
        box(b"ftyp", b"heic\0\0\0\0heic") + box(b"meta", bytes(4) + meta), decoders={**DECODERS, "HEIC": None}
    )
    assert refused.reason == "picture_too_complex"


def test_an_entry_that_ends_before_its_type_is_refused_and_hides_nothing_behind_it() -> None:
    at = BONSAI.index(b"infe", BONSAI.index(b"infe") + 1) - 4
    short = BONSAI[:at] + struct.pack(">I", 16) + BONSAI[at + 4 :]
    refused = refusal(short, decoders={**DECODERS, "HEIC": None})
    assert (refused.reason, str(refused).rpartition(": ")[2]) == ("not_a_picture", "an item entry of 8 bytes")


@needs_heic
@pytest.mark.parametrize(
    ("length", "reason"), [(300, "not_a_picture"), (3000, "truncated_picture"), (len(BONSAI) - 1, "truncated_picture")]
)
def test_a_part_of_a_file_is_refused(length: int, reason: str) -> None:
    assert refusal(BONSAI[:length], decoders=decoders_with_heic()).reason == reason


@given(
    changes=st.lists(st.tuples(st.integers(0, 450), st.integers(0, 255)), min_size=1, max_size=6),
    length=st.integers(8, len(HALVES)),
)
@settings(max_examples=300)
def test_the_parser_refuses_any_file_or_gives_one_of_the_same_length(
    changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(HALVES)
    for place, value in changes:
        data[place] = value
    data = data[:length]
    try:
        contents = open_container("HEIC", bytes(data))
    except PictureError:
        return
    assert len(contents.data) == len(data)
