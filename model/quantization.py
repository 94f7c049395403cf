"""Quantizes embeddings to rows of bytes for state and messages: affine uint8, a quarter of the size of float32.

A row is `lo` and `scale` as little-endian float32 (8 bytes), then one byte per value: value = lo + scale * byte.
Each row has its own range, so the error per value is at most scale / 2 = (max - min) / 510, for any network.
"""

from collections.abc import Sequence
from struct import Struct

import numpy as np
from numpy.typing import NDArray

_HEADER = Struct("<ff")  # lo, scale
HEADER_BYTES = _HEADER.size
_LEVELS = 255
MAX_VALUE = 1e6  # of an embedding: far above what embedders make, and its products are far below infinity in float32


def quantize(embedding: NDArray[np.float32]) -> bytes:
    """Quantize one embedding, float32 [d], to a row of 8 + d bytes.

    Raises:
        ValueError: If `embedding` is not one finite vector.
    """
    if embedding.ndim != 1 or embedding.size == 0 or not np.isfinite(embedding).all():
        raise ValueError(f"an embedding must be one finite vector, found shape {embedding.shape}, {embedding.dtype}")
    lo = np.float32(embedding.min())
    scale = np.float32((np.float64(embedding.max()) - np.float64(lo)) / _LEVELS)
    if scale > 0:
        levels = np.rint((embedding.astype(np.float64) - lo) / scale).clip(0, _LEVELS).astype(np.uint8)
    else:
        levels = np.zeros(embedding.size, np.uint8)
    return np.array([lo, scale], "<f4").tobytes() + levels.tobytes()


def dequantize(rows: Sequence[bytes], size: int) -> NDArray[np.float32]:
    """Restore rows of 8 + size bytes to float32 [len(rows), size].

    Raises:
        ValueError: If a row has another length. The message gives its number and length.
    """
    expected = HEADER_BYTES + size
    for number, row in enumerate(rows):
        if len(row) != expected:
            raise ValueError(
                f"row {number} of {len(rows)}: expected {expected} bytes for an embedding of {size}, found {len(row)}"
            )
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), expected)
    header = table[:, :HEADER_BYTES].copy().view("<f4")  # [n,2]: lo, scale
    values = table[:, HEADER_BYTES:].astype(np.float32)  # [n,size]
    values *= header[:, 1:]
    values += header[:, :1]
    return values


def as_stored(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quantize and restore embeddings, float32 [n, d]: the values that a reader of stored rows gets."""
    return dequantize([quantize(embedding) for embedding in embeddings], embeddings.shape[1])


def is_finite(embedding: bytes) -> bool:
    """Whether all values of an encoded embedding are finite and below `MAX_VALUE`, by its range."""
    if len(embedding) < HEADER_BYTES:
        return False
    low, step = _HEADER.unpack_from(embedding)
    return abs(low) <= MAX_VALUE and abs(low + _LEVELS * step) <= MAX_VALUE  # false for NaN, too
