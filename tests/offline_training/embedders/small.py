"""Small networks with random weights, and pictures whose categories are colours."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from offline_training.embedders.backbones.backbones import Backbone
from offline_training.embedders.backbones.mobilenet import BLOCKS, EMBEDDING_SIZE

SIZE = 32
COLOURS = {"blue": (40, 60, 220), "green": (60, 200, 60), "red": (220, 60, 40)}
HALF = (0.5, 0.5, 0.5)


def backbone(seed: int = 0) -> Backbone:
    """Three blocks with batch norm, uint8 [B,32,32,3] -> [B,16]."""
    torch.manual_seed(seed)
    blocks = [
        nn.Sequential(nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.BatchNorm2d(outside), nn.ReLU6())
        for inside, outside in ((3, 8), (8, 8), (8, 16))
    ]
    return Backbone("small", nn.Sequential(*blocks), mean=HALF, deviation=HALF, embedding_size=16, image_size=SIZE)


def photos(folder: Path, counts: dict[str, dict[str, int]], seed: int = 0) -> Path:
    """Write `<split>/<colour>/<number>.png`, noisy squares of the colour. The split "" writes no folder for the split."""
    rng = np.random.default_rng(seed)
    for split, colours in counts.items():
        for colour, count in colours.items():
            place = folder / split / colour
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noisy = np.array(COLOURS[colour]) + rng.normal(0, 60, (SIZE, SIZE, 3))
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")
    return folder


def tensorflow_arrays(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random arrays with the names and shapes of MobileNet v1."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.float32]] = {}

    def add(name: str, kind: str, shape: tuple[int, ...], channels: int) -> None:
        fan_in = shape[0] * shape[1] * (1 if kind == "depthwise_weights" else shape[2])
        arrays[f"{name}/{kind}"] = rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)
        for part in ("moving_mean", "beta"):
            arrays[f"{name}/BatchNorm/{part}"] = rng.normal(0, 0.1, channels).astype(np.float32)
        for part in ("moving_variance", "gamma"):
            arrays[f"{name}/BatchNorm/{part}"] = rng.uniform(0.8, 1.2, channels).astype(np.float32)

    add("Conv2d_0", "weights", (3, 3, 3, 32), 32)
    channels = 32
    for number, (_, wider) in enumerate(BLOCKS, start=1):
        add(f"Conv2d_{number}_depthwise", "depthwise_weights", (3, 3, channels, 1), channels)
        add(f"Conv2d_{number}_pointwise", "weights", (1, 1, channels, wider), wider)
        channels = wider
    arrays["Logits/Conv2d_1c_1x1/weights"] = np.zeros((1, 1, EMBEDDING_SIZE, 1001), np.float32)
    arrays["Logits/Conv2d_1c_1x1/biases"] = np.zeros(1001, np.float32)
    return arrays
