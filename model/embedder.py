"""Runs the first network of a bundle: pictures to embeddings."""

from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class Embedder:
    """Runs `embedder.onnx`. Created by `Bundle.embedder`. `embed` is safe to call from several threads at once."""

    def __init__(
        self, session: onnxruntime.InferenceSession, image_size: int, embedding_size: int, version: str
    ) -> None:
        self._session = session
        self.image_size = image_size
        self.embedding_size = embedding_size
        self.version = version

    def __repr__(self) -> str:
        return f"Embedder(image_size={self.image_size}, embedding_size={self.embedding_size}, version={self.version!r})"

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures from `model.preprocessing.decode_picture`.

        Args:
            pictures: uint8 [B, image_size, image_size, 3], RGB. B may be 0.

        Returns:
            float32 [B, embedding_size].

        Raises:
            ValueError: If the shape or dtype differs.
        """
        expected = (self.image_size, self.image_size, 3)
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != expected:
            raise ValueError(
                f"expected pictures uint8 [B, {', '.join(map(str, expected))}], found {pictures.dtype} {pictures.shape}"
            )
        if not len(pictures):
            return np.empty((0, self.embedding_size), np.float32)
        (embeddings,) = self._session.run(["embedding"], {"image": pictures})
        return cast("NDArray[np.float32]", embeddings)
