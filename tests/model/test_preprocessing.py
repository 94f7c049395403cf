"""Every format gives the same square of pixels, or the picture is refused with a reason."""

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.exceptions import PictureError
from model.limits import MAX_PIXELS
from model.preprocessing import decode_picture

SIZE = 32
RED, BLUE, WHITE = (220, 20, 20), (20, 20, 220), (255, 255, 255)


def two_halves(width: int = 64, height: int = 64) -> Image.Image:
    """Left half red, right half blue."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (width // 2, 0, width, height))
    return picture


def encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def near(pixel: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> bool:
    return bool((np.abs(pixel.astype(int) - colour) <= tolerance).all())


def refused(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(PictureError) as caught:
        decode_picture(data, SIZE, max_pixels)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_every_format_gives_rgb_pixels_at_their_places(file_format: str) -> None:
    pixels = decode_picture(encoded(two_halves(), file_format), SIZE)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    assert near(pixels[16, 4], RED)
    assert near(pixels[16, 28], BLUE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_colour_mode_gives_the_same_grey(mode: str) -> None:
    grey = (
        Image.fromarray(np.full((40, 40), 255 * 257, np.uint16))
        if mode == "I;16"
        else Image.new("L", (40, 40), 255).convert(mode)
    )
    data = encoded(grey, "JPEG" if mode == "CMYK" else "PNG")
    assert near(decode_picture(data, SIZE)[16, 16], WHITE, 2)


def test_16_bits_are_scaled_not_clipped() -> None:
    data = encoded(Image.fromarray(np.full((40, 40), 128 * 256, np.uint16)), "PNG")
    assert near(decode_picture(data, SIZE)[16, 16], (128, 128, 128), 2)


def test_transparency_becomes_white() -> None:
    assert near(decode_picture(encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 0)), "PNG"), SIZE)[16, 16], WHITE, 0)
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([0, 0, 0] * 256)
    assert near(decode_picture(encoded(palette, "GIF", transparency=0), SIZE)[16, 16], WHITE, 0)


def test_the_aspect_ratio_is_kept_and_the_rest_is_white() -> None:
    pixels = decode_picture(encoded(two_halves(80, 20), "PNG"), SIZE)
    assert near(pixels[16, 2], RED)
    assert near(pixels[2, 16], WHITE, 0)
    assert near(pixels[29, 16], WHITE, 0)


@pytest.mark.parametrize(
    ("orientation", "red_side"),
    [(1, "left"), (2, "right"), (3, "right"), (4, "left"), (5, "top"), (6, "top"), (7, "bottom"), (8, "bottom")],
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, red_side: str, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_picture(encoded(two_halves(), file_format, exif=exif), SIZE)
    place = {"left": (16, 3), "right": (16, 28), "top": (3, 16), "bottom": (28, 16)}[red_side]
    assert near(pixels[place], RED)


@pytest.mark.filterwarnings("error")  # Pillow never sees the block
def test_a_picture_with_a_damaged_exif_block_is_decoded() -> None:
    data = encoded(two_halves(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\0\0")
    assert near(decode_picture(data, SIZE)[16, 4], RED)


def test_the_first_frame_of_an_animation_is_decoded() -> None:
    frames = [Image.new("RGB", (40, 40), RED), Image.new("RGB", (40, 40), BLUE)]
    for file_format in ("GIF", "WEBP"):
        data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=50)
        assert near(decode_picture(data, SIZE)[16, 16], RED)


def test_a_picture_one_pixel_wide_is_decoded() -> None:
    assert decode_picture(encoded(Image.new("RGB", (1, 4000), RED), "PNG"), SIZE).shape == (SIZE, SIZE, 3)


def oversized() -> list[bytes]:
    gif = b"GIF89a" + struct.pack("<HHBBB", 50_000, 50_000, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    gif_frame = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 50_000, 50_000, 0)
    webp = b"RIFF" + struct.pack("<I", 1000) + b"WEBPVP8X" + struct.pack("<IBxxx", 10, 0) + b"\x7f\x3e\x00\x7f\x3e\x00"
    return [png_header(50_000, 50_000), gif, gif_frame, webp]


@pytest.mark.parametrize("data", oversized(), ids=["PNG", "GIF screen", "GIF frame", "WebP"])
def test_an_oversized_picture_is_refused_by_its_header_without_a_warning(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(data) == "picture_too_large"


def test_the_pixel_limit_is_inclusive() -> None:
    data = encoded(two_halves(64, 50), "JPEG")
    decode_picture(data, SIZE, max_pixels=3200)
    assert refused(data, max_pixels=3199) == "picture_too_large"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_half_a_picture_is_refused_as_truncated(file_format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    data = encoded(noise, file_format)
    assert refused(data[: len(data) // 2]) == "truncated_picture"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>not found</html>",
        b"II*\0" + bytes(50),
        encoded(two_halves(), "BMP"),
        encoded(two_halves(), "TIFF"),
        b"\xff\xd8\xff",
    ],
)
def test_other_files_are_refused_as_not_a_picture(data: bytes) -> None:
    assert refused(data) == "not_a_picture"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns about damaged metadata
@settings(deadline=None)  # a busy machine is not a slow decoder
@given(file_format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]), data=st.data())
def test_a_damaged_picture_is_decoded_or_refused_with_a_reason(file_format: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(two_halves(), file_format))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = decode_picture(bytes(whole[: data.draw(st.integers(0, len(whole)))]), SIZE).shape
    except PictureError as refusal:
        outcome = refusal.reason
    assert outcome in {
        (SIZE, SIZE, 3),
        "not_a_picture",
        "truncated_picture",
        "picture_too_large",
        "picture_too_complex",
    }


def test_threads_do_not_affect_each_other() -> None:
    files = [
        encoded(two_halves(64 + n, 64), file_format) for n in range(8) for file_format in ("JPEG", "PNG", "WEBP", "GIF")
    ]
    alone = [decode_picture(file, SIZE) for file in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode_picture, files, [SIZE] * len(files)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
