"""The weights are read correctly, and rounding them to int8 keeps the direction of the embeddings."""

from pathlib import Path

import numpy as np
import pytest

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import dequantize
from tests.data import DATA, needs

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from offline_training.embedders.backbones.mobilenet import EMBEDDING_SIZE, IMAGE_SIZE, WEIGHTS_FILE, MobileNet  # noqa: E402

pytestmark = pytest.mark.training

MEDIAN_COSINE, FIRST_PERCENTILE = 0.98, 0.95


def pixels(path: Path) -> np.ndarray:
    return decode_picture(path.read_bytes(), IMAGE_SIZE)


@pytest.fixture(scope="module")
def network() -> MobileNet:
    return MobileNet.from_file(DATA / "mobilenet" / WEIGHTS_FILE)


@needs("mobilenet")
@pytest.mark.parametrize(("file", "name"), [("hot_dog.jpg", "hotdog"), ("parrot.jpg", "macaw")])
def test_the_imagenet_head_classifies_a_known_picture(network: MobileNet, file: str, name: str) -> None:
    labels = (DATA / "mobilenet" / "imagenet_labels.txt").read_text().splitlines()
    with torch.inference_mode():
        logits = network.classify(torch.from_numpy(pixels(DATA / "mobilenet" / file).copy())[None])
    assert name in labels[int(logits.argmax())]


@pytest.mark.slow
@needs("mobilenet", "clothing")
def test_the_shipped_int8_embedder_keeps_the_direction_of_the_embeddings(network: MobileNet) -> None:
    pictures = np.stack([pixels(path) for path in sorted((DATA / "clothing" / "test").glob("*/*.jpg"))])
    rounded = dequantize(Bundle.load().backbone(threads=2).features(pictures), EMBEDDING_SIZE)
    with torch.inference_mode():
        exact = np.concatenate([network(torch.from_numpy(part)).numpy() for part in np.array_split(pictures, 24)])
    assert exact.shape == rounded.shape == (len(pictures), EMBEDDING_SIZE)
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert np.median(cosine) >= MEDIAN_COSINE
    assert np.percentile(cosine, 1) >= FIRST_PERCENTILE
