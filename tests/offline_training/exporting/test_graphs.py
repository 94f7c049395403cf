"""The base and the item network of an embedder, and that they need no torch."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx")

from model.bundle import Bundle
from offline_training.exporting.graphs import coder, open_base

HIDDEN = ("torch", "torchvision", "onnxscript")


def test_the_item_network_after_the_base_equals_the_embedder() -> None:
    bundle = Bundle.load()
    pictures = np.random.default_rng(0).integers(0, 256, (2, bundle.image_size, bundle.image_size, 3), np.uint8)
    embeddings = coder(bundle)(open_base(bundle).embed(pictures))
    assert np.allclose(embeddings, bundle.embedder().embed(pictures), atol=1e-4)


@pytest.mark.parametrize(
    "module", ["offline_training.cli", "offline_training.exporting.graphs", "offline_training.tasks.evaluation"]
)
def test_what_evaluate_imports_needs_no_torch(module: str) -> None:
    code = f"import sys; sys.modules |= dict.fromkeys({HIDDEN}); import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
