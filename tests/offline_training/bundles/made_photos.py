"""Tiny stand-ins for the data of the default bundle: MobileNet weights, clothing, grocery, and a catalogue of the demo's form."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from offline_training.embedders.backbones.mobilenet import BLOCKS, WEIGHTS_FILE

COLOURS = {
    "camera": (230, 40, 40),
    "teapot": (40, 200, 60),
    "dress": (40, 70, 230),
    "hat": (230, 220, 50),
    "apple": (30, 200, 220),
    "milk": (220, 60, 220),
}
"""The categories, each in a colour of its own: two of each source, in the order in which the bundle lists them."""
CATALOGUE, CLOTHING, GROCERY = (list(COLOURS)[start : start + 2] for start in (0, 2, 4))
TRAIN, HELD_OUT = 4, 3  # photos of each category, in each split; a bag of the figures has three held-out photos


def write_all(folder: Path) -> tuple[Path, Path]:
    """Write all of it under `folder`. Returns the folders for `--data` and `--catalogue`."""
    data, catalogue = folder / "data", folder / "catalogue"
    photos = _photos()
    write_mobilenet(data / "mobilenet" / WEIGHTS_FILE)
    for split in ("train", "validation", "test"):
        for category in CLOTHING:
            for number in range(TRAIN if split == "train" else HELD_OUT):
                _write(next(photos[category]), data / "clothing" / split / category / f"{number}.jpg")
    _write_grocery(data / "grocery", photos)
    products: list[dict[str, str]] = []
    for split in ("train", "demo"):
        for category in CATALOGUE:
            for number in range(TRAIN if split == "train" else HELD_OUT):
                file = f"{category}-{split}-{number}.jpg"
                _write(next(photos[category]), catalogue / file)
                products.append({"file": file, "category": category.title(), "split": split})
    (catalogue / "catalogue.json").write_text(json.dumps({"products": products}))
    return data, catalogue


def write_mobilenet(path: Path) -> None:
    """Write random weights under the names and in the shapes of TensorFlow's MobileNet v1 1.0 224."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}

    def layer(name: str, kernel: str, shape: tuple[int, ...], inputs: int, outputs: int) -> None:
        arrays[f"{name}/{kernel}"] = rng.normal(scale=(2 / inputs) ** 0.5, size=shape).astype(np.float32)
        for part, value in {"moving_mean": 0, "moving_variance": 1, "gamma": 1, "beta": 0}.items():
            arrays[f"{name}/BatchNorm/{part}"] = np.full(outputs, value, np.float32)

    channels = 32
    layer("Conv2d_0", "weights", (3, 3, 3, channels), 27, channels)
    for number, (_, outputs) in enumerate(BLOCKS, start=1):
        layer(f"Conv2d_{number}_depthwise", "depthwise_weights", (3, 3, channels, 1), 9, channels)
        layer(f"Conv2d_{number}_pointwise", "weights", (1, 1, channels, outputs), channels, outputs)
        channels = outputs
    arrays["Logits/Conv2d_1c_1x1/weights"] = np.zeros((1, 1, channels, 1001), np.float32)
    arrays["Logits/Conv2d_1c_1x1/biases"] = np.zeros(1001, np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType] -- its second argument is another


def photo(category: str, rng: np.random.Generator) -> Image.Image:
    """Make a noisy picture in the category's colour."""
    pixels = np.array(COLOURS[category]) + rng.normal(0, 20, (48, 48, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _photos() -> dict[str, Iterator[Image.Image]]:
    rng = np.random.default_rng(1)
    return {category: iter(lambda category=category: photo(category, rng), None) for category in COLOURS}


def _write_grocery(folder: Path, photos: dict[str, Iterator[Image.Image]]) -> None:
    folder.mkdir(parents=True)
    with (folder / "classes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Class Name (str)", "Class ID (int)", "Coarse Class Name (str)", "Coarse Class ID (int)"])
        writer.writerows([name.title(), number, name.title(), number] for number, name in enumerate(GROCERY))
    for split in ("train", "val", "test"):
        lines: list[str] = []
        for number, category in enumerate(GROCERY):
            for count in range(TRAIN if split == "train" else HELD_OUT):
                path = f"{split}/{category}_{count}.jpg"
                _write(next(photos[category]), folder / path)
                lines.append(f"{path}, {number}, {number}")
        (folder / f"{split}.txt").write_text("\n".join(lines))


def _write(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
