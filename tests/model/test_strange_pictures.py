"""An unusual but valid file embeds like its plain PNG twin. Metadata that no decoder needs changes no pixel."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, features

from model.bundle import Bundle
from model.embedder import Embedder, SplitEmbedder
from model.preprocessing import decode_picture
from tests.model.containers import gif_extension, png_chunk, segment
from tests.model.hostile_pictures import CATALOGUE, FORMATS, saved

PHOTOS = ["red-boxing-gloves.jpg", "bonsai-tree.jpg", "grey-tufted-sofa.jpg"]
SIMILAR = 0.97
avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


@pytest.fixture(scope="module")
def embedder(bundle: Bundle) -> Embedder:
    """MobileNet's own embeddings. The item codes amplify small differences between pictures."""
    backbone = bundle.backbone()
    return SplitEmbedder(backbone, None, backbone.version)


@pytest.fixture(params=PHOTOS)
def photo(request: pytest.FixtureRequest) -> Iterator[Image.Image]:
    with Image.open(CATALOGUE / request.param) as picture:
        yield picture.convert("RGB").resize((400, 300))


def cosine(embedder: Embedder, one: bytes, other: bytes) -> float:
    pixels = np.stack([decode_picture(data, 224) for data in (one, other)])
    a, b = embedder.embed(pixels)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def turned(photo: Image.Image, orientation: int) -> Image.Image:
    """`photo` as a camera stores it with this EXIF orientation."""
    back: dict[int, tuple[Image.Transpose, ...]] = {
        1: (),
        2: (Image.Transpose.FLIP_LEFT_RIGHT,),
        3: (Image.Transpose.ROTATE_180,),
        4: (Image.Transpose.FLIP_TOP_BOTTOM,),
        5: (Image.Transpose.TRANSPOSE,),
        6: (Image.Transpose.ROTATE_90,),
        7: (Image.Transpose.TRANSVERSE,),
        8: (Image.Transpose.ROTATE_270,),
    }
    for step in back[orientation]:
        photo = photo.transpose(step)
    return photo


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", [name for name in FORMATS if name != "GIF"])
def test_every_orientation_is_undone(embedder: Embedder, orientation: int, file_format: str) -> None:
    with Image.open(CATALOGUE / PHOTOS[0]) as opened:
        photo = opened.convert("RGB").resize((400, 300))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(turned(photo, orientation), file_format, exif=exif, quality=95)
    assert cosine(embedder, data, saved(photo, "PNG")) > SIMILAR


def sixteen_bits(photo: Image.Image) -> bytes:
    return saved(Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257), "PNG")


def stored_as_rgb(photo: Image.Image) -> bytes:
    """An RGB JPEG that only the Adobe segment marks as RGB."""
    data = saved(photo, "JPEG", quality=95, keep_rgb=True)
    assert b"Adobe" in data and b"JFIF" not in data
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    numbered = bytearray(data)
    for number in range(3):
        numbered[frame + 10 + 3 * number] = numbered[scan + 5 + 2 * number] = number + 1
    return bytes(numbered)


def animated(file_format: str) -> Callable[[Image.Image], bytes]:
    return lambda photo: saved(
        photo, file_format, save_all=True, append_images=[ImageOps.invert(photo), photo.rotate(90)], duration=50
    )


def tagged(file_format: str) -> Callable[[Image.Image], bytes]:
    return lambda photo: saved(photo, file_format, icc_profile=profile())


def profile() -> bytes:
    """A profile of a colour space in which the same numbers are other colours."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def cut_out(photo: Image.Image) -> Image.Image:
    """`photo` with a transparent half. The hidden pixels have a colour."""
    picture = photo.convert("RGBA")
    picture.paste((255, 0, 255, 0), (0, 0, 400, 150))
    return picture


def on_white(photo: Image.Image) -> Image.Image:
    picture = photo.copy()
    picture.paste((255, 255, 255), (0, 0, 400, 150))
    return picture


def transparent_palette(photo: Image.Image) -> bytes:
    picture = photo.quantize(200)
    picture.putpalette([*(picture.getpalette() or [])[: 3 * 200], 255, 0, 255])
    picture.paste(200, (0, 0, 400, 150))
    return saved(picture, "PNG", transparency=200)


def grey(photo: Image.Image) -> Image.Image:
    return photo.convert("L")


def bilevel(photo: Image.Image) -> Image.Image:
    return photo.convert("1")


def same(photo: Image.Image) -> Image.Image:
    return photo


STRANGE: dict[str, tuple[Callable[[Image.Image], bytes], Callable[[Image.Image], Image.Image]]] = {
    "CMYK, inverted as Adobe does": (lambda photo: saved(photo.convert("CMYK"), "JPEG", quality=95), same),
    "CMYK, progressive": (lambda photo: saved(photo.convert("CMYK"), "JPEG", quality=95, progressive=True), same),
    "RGB by Adobe's marker": (stored_as_rgb, same),
    "16 bits, grey": (sixteen_bits, grey),
    "grey PNG": (lambda photo: saved(grey(photo), "PNG"), grey),
    "grey JPEG": (lambda photo: saved(grey(photo), "JPEG", quality=95), grey),
    "grey and alpha": (lambda photo: saved(photo.convert("LA"), "PNG"), grey),
    "1 bit": (lambda photo: saved(bilevel(photo), "PNG"), bilevel),
    "palette": (lambda photo: saved(photo.quantize(256), "PNG"), same),
    "palette with transparency": (transparent_palette, lambda photo: on_white(photo.quantize(200).convert("RGB"))),
    "alpha, PNG": (lambda photo: saved(cut_out(photo), "PNG"), on_white),
    "alpha, WebP": (lambda photo: saved(cut_out(photo), "WEBP", lossless=True), on_white),
    "animated GIF": (animated("GIF"), same),
    "animated WebP": (animated("WEBP"), same),
    "animated PNG": (animated("PNG"), same),
    "ICC profile, PNG": (tagged("PNG"), same),
    "ICC profile, JPEG": (tagged("JPEG"), same),
    "ICC profile, WebP": (tagged("WEBP"), same),
}
STRANGE_AVIF: dict[str, tuple[Callable[[Image.Image], bytes], Callable[[Image.Image], Image.Image]]] = {
    "AVIF": (lambda photo: saved(photo, "AVIF", quality=90), same),
    "AVIF, alpha": (lambda photo: saved(cut_out(photo), "AVIF", quality=90), on_white),
    "AVIF, grey": (lambda photo: saved(grey(photo), "AVIF", quality=90), grey),
    "AVIF, animated": (animated("AVIF"), same),
    "AVIF, ICC profile": (tagged("AVIF"), same),
}


@pytest.mark.parametrize("name", STRANGE)
def test_an_unusual_picture_embeds_like_its_plain_twin(embedder: Embedder, photo: Image.Image, name: str) -> None:
    make, twin = STRANGE[name]
    assert cosine(embedder, make(photo), saved(twin(photo), "PNG")) > SIMILAR


@avif
@pytest.mark.parametrize("name", STRANGE_AVIF)
def test_an_avif_embeds_like_its_plain_twin(embedder: Embedder, photo: Image.Image, name: str) -> None:
    make, twin = STRANGE_AVIF[name]
    assert cosine(embedder, make(photo), saved(twin(photo), "PNG")) > SIMILAR


@pytest.mark.parametrize("size", [(400, 1), (1, 400)])
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_picture_one_pixel_wide_or_high_is_embedded(
    embedder: Embedder, file_format: str, size: tuple[int, int]
) -> None:
    with Image.open(CATALOGUE / PHOTOS[0]) as opened:
        line = opened.convert("RGB").resize(size)
    assert cosine(embedder, saved(line, file_format), saved(line, "PNG")) > SIMILAR


def pixels(data: bytes) -> NDArray[np.uint8]:
    return decode_picture(data, 96)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_colour_profile_changes_no_pixel(photo: Image.Image, file_format: str) -> None:
    plain, with_profile = saved(photo, file_format), saved(photo, file_format, icc_profile=profile())
    assert file_format == "GIF" or with_profile != plain
    assert np.array_equal(pixels(with_profile), pixels(plain))


def metadata(file_format: str, data: bytes) -> bytes:
    """`data` with additional metadata that no decoder needs."""
    match file_format:
        case "JPEG":
            return (
                data[:2] + segment(0xFE, b"a comment") + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + data[2:]
            )
        case "PNG":
            return data[:33] + png_chunk(b"tEXt", b"Comment\0text") + png_chunk(b"teSt", b"x") + data[33:]
        case "GIF":
            start = 13 + 3 * 2 ** ((data[10] & 7) + 1)
            return data[:start] + gif_extension(0xFE, b"a comment") + gif_extension(0xFF, b"XMP DataXMP") + data[start:]
        case _:
            with Image.open(io.BytesIO(data)) as picture:
                return saved(picture, file_format, lossless=True, xmp=b"<x/>")


@pytest.mark.parametrize("file_format", [name for name in FORMATS if name != "AVIF"])
def test_metadata_changes_no_pixel(photo: Image.Image, file_format: str) -> None:
    data = saved(photo, file_format, lossless=True)
    assert metadata(file_format, data) != data
    assert np.array_equal(pixels(metadata(file_format, data)), pixels(data))
