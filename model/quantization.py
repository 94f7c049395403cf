"""Quantizes embeddings and features to rows of bytes for state and messages: affine uint8, a quarter of the size of float32.

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
_NOT_FINITE = np.frombuffer(_HEADER.pack(float("nan"), float("nan")), np.uint8)
_AT_A_TIME = 4096  # vectors, so that what is computed in between takes little memory
NOT_STORABLE = "the networks of the bundle made an embedding that is not finite, or too large; check the bundle"
MAX_VALUE = 1e6  # of an embedding: far above what embedders make, and its products are far below infinity in float32


def quantize(embedding: NDArray[np.float32]) -> bytes:
    """Quantize one embedding, float32 [d], to a row of 8 + d bytes.

    Raises:
        ValueError: If `embedding` is not one finite vector.
    """
    if embedding.ndim != 1 or embedding.size == 0 or not np.isfinite(embedding).all():
        raise ValueError(f"an embedding must be one finite vector, found shape {embedding.shape}, {embedding.dtype}")
    return _quantized(embedding[None])[0].tobytes()


def quantize_all(values: NDArray[np.float32]) -> list[bytes]:
    """Quantize vectors, float32 [n, d], to n rows.

    A vector with a number that is not finite, or above `MAX_VALUE`, becomes a row that `is_finite` refuses and that
    `dequantize` restores to NaN: one bad picture must not spoil the others of its batch.
    """
    fits = (values.min(axis=1) >= -MAX_VALUE) & (values.max(axis=1) <= MAX_VALUE)  # false for NaN, too
    table = _quantized(values if fits.all() else np.where(fits[:, None], values, np.float32(0)))
    table[~fits, :HEADER_BYTES] = _NOT_FINITE
    return [row.tobytes() for row in table]


def _quantized(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Quantize finite vectors, float32 [n, d], to rows, uint8 [n, 8 + d]."""
    lo = values.min(axis=1, keepdims=True)  # [n,1]
    scale = ((values.max(axis=1, keepdims=True).astype(np.float64) - lo) / _LEVELS).astype(np.float32)  # [n,1]
    levels = values.astype(np.float64)
    levels -= lo
    levels /= np.where(scale > 0, scale, np.float32(1))  # 0 if all values are equal: then all levels are 0 as well
    np.rint(levels, out=levels)
    np.clip(levels, 0, _LEVELS, out=levels)
    table = np.empty((len(values), HEADER_BYTES + values.shape[1]), np.uint8)
    table[:, :HEADER_BYTES] = np.concatenate([lo, scale], axis=1).astype("<f4").view(np.uint8)
    table[:, HEADER_BYTES:] = levels
    return table


def dequantize(rows: Sequence[bytes], size: int) -> NDArray[np.float32]:
    """Restore rows of 8 + size bytes to float32 [len(rows), size].

    Raises:
        ValueError: If a row has another length. The message gives its number and length.
    """
    expected = HEADER_BYTES + size
    if set(map(len, rows)) - {expected}:
        number = next(number for number, row in enumerate(rows) if len(row) != expected)
        raise ValueError(
            f"row {number} of {len(rows)}: expected {expected} bytes for an embedding of {size}, found {len(rows[number])}"
        )
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), expected)
    header = table[:, :HEADER_BYTES].copy().view("<f4")  # [n,2]: lo, scale
    values = table[:, HEADER_BYTES:].astype(np.float32)  # [n,size]
    values *= header[:, 1:]
    values += header[:, :1]
    return values


def as_stored(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quantize and restore embeddings or features, float32 [n, d]: the values that a reader of stored rows gets.

    Those that cannot be stored become NaN, as in `quantize_all`.
    """
    stored = np.empty_like(vectors)
    for start in range(0, len(vectors), _AT_A_TIME):
        part = slice(start, start + _AT_A_TIME)
        stored[part] = dequantize(quantize_all(vectors[part]), vectors.shape[1])
    return stored


def storable(embedding: NDArray[np.float32]) -> bool:
    """Whether all numbers of one embedding are finite and at most `MAX_VALUE`."""
    return bool((np.abs(embedding) <= MAX_VALUE).all())  # false for NaN, too


def is_finite(embedding: bytes) -> bool:
    """Whether all values of an encoded embedding are finite and below `MAX_VALUE`, by its range."""
    if len(embedding) < HEADER_BYTES:
        return False
    low, step = _HEADER.unpack_from(embedding)
    return abs(low) <= MAX_VALUE and abs(low + _LEVELS * step) <= MAX_VALUE  # false for NaN, too
