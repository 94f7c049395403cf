"""Random views of a photo: other crops, scales, colours and rotations. They let a network learn from few photos."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from model.preprocessing import WHITE, decode_picture

AUGMENTATION = "views-1"
"""Version of the augmentation. It is part of cache keys: change it whenever a view changes."""

DECODED_SIZE = 320
"""Side of the decoded picture, pixels. Larger than the 224 of the networks, so that a crop keeps detail."""


def random_view(data: bytes, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Decode a picture as serving does and return a random view of it.

    Args:
        data: Content of the picture file.
        size: Side of the square, pixels.
        rng: The only source of randomness.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    picture = Image.fromarray(decode_picture(data, DECODED_SIZE))
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.4:
        picture = picture.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR, fillcolor=WHITE)
    picture = _zoom_out(picture, rng) if rng.random() < 0.25 else _crop(picture, rng)
    picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhancer(picture).enhance(rng.uniform(0.65, 1.35))
    if rng.random() < 0.3:
        picture = _turn_hue(picture, int(rng.integers(-18, 19)))
    if rng.random() < 0.1:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5)))
    return np.asarray(picture)


def _crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Crop a rectangle of 35 to 100 % of the area and an aspect ratio of up to 1 : 1.3."""
    side = picture.width
    area, aspect = rng.uniform(0.35, 1.0) * side * side, math.exp(rng.uniform(-0.26, 0.26))
    width, height = (min(side, round(math.sqrt(area * ratio))) for ratio in (aspect, 1 / aspect))
    left, top = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
    return picture.crop((int(left), int(top), int(left) + width, int(top) + height))


def _zoom_out(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Place the whole picture at random on a white square of up to 1.6 times its side."""
    side = round(picture.width * rng.uniform(1.0, 1.6))
    square = Image.new("RGB", (side, side), WHITE)
    corner = rng.integers(0, side - picture.width + 1, 2)
    square.paste(picture, (int(corner[0]), int(corner[1])))
    return square


def _turn_hue(picture: Image.Image, degrees: int) -> Image.Image:
    hsv = np.array(picture.convert("HSV"))
    hsv[..., 0] += np.uint8(degrees * 256 // 360 % 256)  # uint8 wraps around like the hue
    return Image.frombytes("HSV", picture.size, hsv.tobytes()).convert("RGB")
