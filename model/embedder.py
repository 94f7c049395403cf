"""Runs the networks of a bundle that make an embedding from a picture.

    picture -> backbone -> features, in bytes -> item network -> embedding

The item network takes features as they are stored (`model.quantization`), and nothing else. So an embedding that is made
at once from a picture equals one that is made later from stored features.

An adapter makes an embedding without a picture, from the one that an older bundle made of it.

All of these are safe to call from several threads at once. `Bundle` creates them.
"""

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.quantization import dequantize, quantize_all


class Embedder(Protocol):
    """Makes embeddings from pictures."""

    @property
    def image_size(self) -> int:
        """Side of the square pictures that it takes, pixels."""
        ...

    @property
    def embedding_size(self) -> int:
        """Numbers in an embedding, d."""
        ...

    @property
    def version(self) -> str:
        """What identifies the embeddings."""
        ...

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures from `model.preprocessing.decode_picture`.

        Args:
            pictures: uint8 [B, image_size, image_size, 3], RGB. B may be 0.

        Returns:
            float32 [B, embedding_size]. NaN for a picture whose features are not finite.

        Raises:
            ValueError: If the shape or dtype differs.
        """
        ...


class WholeEmbedder:
    """Runs one network from picture to embedding: the `embedder.onnx` of early bundles."""

    def __init__(
        self, session: onnxruntime.InferenceSession, image_size: int, embedding_size: int, version: str
    ) -> None:
        self._session = session
        self.image_size = image_size
        self.embedding_size = embedding_size
        self.version = version

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        return _run(self._session, pictures, self.image_size, self.embedding_size)


class Backbone:
    """Runs `backbone.onnx`, from pictures to features."""

    def __init__(self, session: onnxruntime.InferenceSession, image_size: int, feature_size: int, version: str) -> None:
        self._session = session
        self.image_size = image_size
        self.feature_size = feature_size
        self.version = version

    def features(self, pictures: NDArray[np.uint8]) -> list[bytes]:
        """Make the features of pictures, each a row of `model.quantization`.

        Args:
            pictures: As `Embedder.embed` takes them.

        Returns:
            B rows of 8 + feature_size bytes. A row is not `is_finite` if the features are not.

        Raises:
            ValueError: If the shape or dtype differs.
        """
        return quantize_all(_run(self._session, pictures, self.image_size, self.feature_size))


class ItemCoder:
    """Runs `items.onnx`, from features to embeddings."""

    def __init__(self, session: onnxruntime.InferenceSession, feature_size: int, embedding_size: int) -> None:
        self._session = session
        self.feature_size = feature_size
        self.embedding_size = embedding_size

    def embed(self, features: Sequence[bytes]) -> NDArray[np.float32]:
        """Make embeddings from features.

        Args:
            features: B rows, as `Backbone.features` makes them.

        Returns:
            float32 [B, embedding_size]. NaN where the features are not finite, whatever the network makes of them.

        Raises:
            ValueError: If a row has another length.
        """
        if not features:
            return np.empty((0, self.embedding_size), np.float32)
        return _run_on_rows(self._session, dequantize(features, self.feature_size), "features", "embedding")


class Adapter:
    """Runs `adapter.onnx`, from the embeddings of an older bundle to nearly those that the bundle itself would make."""

    def __init__(
        self, session: onnxruntime.InferenceSession, from_embedder_version: str, from_size: int, embedding_size: int
    ) -> None:
        self._session = session
        self.from_embedder_version = from_embedder_version
        self.from_size = from_size
        self.embedding_size = embedding_size

    def embed(self, rows: Sequence[bytes]) -> NDArray[np.float32]:
        """Make embeddings from those of the older bundle.

        Args:
            rows: B rows of 8 + from_size bytes, as bags keep them.

        Returns:
            float32 [B, embedding_size]. NaN where the older embedding is not finite.

        Raises:
            ValueError: If a row has another length.
        """
        if not rows:
            return np.empty((0, self.embedding_size), np.float32)
        return _run_on_rows(self._session, dequantize(rows, self.from_size), "embedding", "adapted")


class SplitEmbedder:
    """Runs a backbone, and an item network on its features. Without an item network, the features are the embedding."""

    def __init__(self, backbone: Backbone, items: ItemCoder | None, version: str) -> None:
        self.backbone = backbone
        self._items = items
        self.image_size = backbone.image_size
        self.embedding_size = items.embedding_size if items else backbone.feature_size
        self.version = version

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        return self.of_features(self.backbone.features(pictures))

    def of_features(self, features: Sequence[bytes]) -> NDArray[np.float32]:
        """Make the embeddings that `embed` makes, from the features of the pictures."""
        return self._items.embed(features) if self._items else dequantize(features, self.embedding_size)


def _run_on_rows(
    session: onnxruntime.InferenceSession, values: NDArray[np.float32], given: str, made: str
) -> NDArray[np.float32]:
    """Run a network on restored rows, float32 [B, n]. What is not finite stays so, whatever the network makes of it."""
    (found,) = session.run([made], {given: values})
    embeddings = cast("NDArray[np.float32]", found)
    embeddings[~np.isfinite(values[:, 0])] = np.nan
    return embeddings


def _run(
    session: onnxruntime.InferenceSession, pictures: NDArray[np.uint8], image_size: int, numbers: int
) -> NDArray[np.float32]:
    """Run a network with one output of `numbers` numbers for a picture."""
    expected = (image_size, image_size, 3)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != expected:
        raise ValueError(
            f"expected pictures uint8 [B, {', '.join(map(str, expected))}], found {pictures.dtype} {pictures.shape}"
        )
    if not len(pictures):
        return np.empty((0, numbers), np.float32)
    (found,) = session.run(None, {"image": pictures})
    return cast("NDArray[np.float32]", found)
