"""Tells the categories of an item from its stored embedding, for counting what is wanted.

Counts are sums and differences over many items, so the same row has to give the same whole numbers at any time, on any machine
and in any batch. The products are of whole numbers, which float32 and float64 add up exactly; only the last step, one softmax
for each field, rounds.

`labels.npz` holds, for K outputs of a linear layer over embeddings of d numbers:

    weights   int8 [K, d]
    scales    float64 [K], of the weights
    biases    float64 [K]
    category  int32 [K], the category of an output; -1: none of the categories of its group
    group     int32 [K], outputs of one group share a softmax; an output of group -1 has a sigmoid of its own
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.exceptions import BundleError
from model.quantization import HEADER_BYTES

HUNDREDTHS = 100  # of an item: what a label of probability 1 counts
_ARRAYS = {
    "weights": (np.int8, 2),
    "scales": (np.float64, 1),
    "biases": (np.float64, 1),
    "category": (np.int32, 1),
    "group": (np.int32, 1),
}
_PRODUCTS = 500_000  # of one call of BLAS: larger ones run on all processors, and take more of their time
_ROWS = 64  # at a time: what is computed of them stays in the cache of the processor
_EXACT_IN_FLOAT32 = 2**24 // (255 * 128)  # numbers in an embedding up to which all sums are whole numbers of float32


class ItemLabels:
    """A linear layer over stored embeddings, and what its outputs mean. `Bundle.item_labels` makes it. Threads may share it."""

    def __init__(
        self,
        *,
        weights: NDArray[np.int8],
        scales: NDArray[np.float64],
        biases: NDArray[np.float64],
        category: NDArray[np.int32],
        group: NDArray[np.int32],
        categories: int,
    ) -> None:
        self.embedding_size = weights.shape[1]
        self.categories = categories
        kind = np.float32 if self.embedding_size <= _EXACT_IN_FLOAT32 else np.float64
        # Outputs of a group stand side by side, so that a group is a slice and not a copy.
        alone = np.flatnonzero(group < 0)
        groups = [np.flatnonzero(group == number) for number in np.unique(group[group >= 0])]
        order = np.concatenate([*groups, alone])
        ends = np.cumsum([len(outputs) for outputs in groups], dtype=np.intp).tolist()
        self._groups = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        self._alone = slice(len(order) - len(alone), None)
        self._weights = np.ascontiguousarray(weights[order].T.astype(kind))  # [d,K]
        self._sums = weights[order].sum(axis=1, dtype=np.int64).astype(np.float64)  # [K]
        self._scales, self._biases = scales[order], biases[order]
        self._output_of = np.empty(categories, np.intp)  # [D]: where the output of each category is
        named = np.flatnonzero(category[order] >= 0)
        self._output_of[category[order][named]] = named

    def of(self, rows: Sequence[bytes]) -> NDArray[np.int64]:
        """How much each item belongs to each category, in hundredths.

        Args:
            rows: embeddings as `model.quantization` encodes them, n rows of 8 + d bytes.

        Returns:
            int64 [n, D], from 0 to 100.

        Raises:
            ValueError: a row has another length.
        """
        expected = HEADER_BYTES + self.embedding_size
        for number, row in enumerate(rows):
            if len(row) != expected:
                raise ValueError(f"row {number} of {len(rows)}: expected {expected} bytes, found {len(row)}")
        table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), expected)
        header = table[:, :HEADER_BYTES].copy().view("<f4").astype(np.float64)  # [n,2]: lo, scale
        found = np.empty((len(rows), self.categories), np.int64)
        for start in range(0, len(rows), _ROWS):
            some = slice(start, start + _ROWS)
            numbers = table[some, HEADER_BYTES:].astype(self._weights.dtype)
            found[some] = self._hundredths(numbers, header[some]).take(self._output_of, axis=1)
        return found

    def _hundredths(self, numbers: NDArray[np.floating], header: NDArray[np.float64]) -> NDArray[np.float64]:
        """The hundredths of each output, whole numbers [n,K]. numbers: [n,d], header: lo and scale [n,2]."""
        found = np.empty((len(numbers), self._weights.shape[1]))
        step = max(_PRODUCTS // self._weights.size, 1)
        for start in range(0, len(numbers), step):
            found[start : start + step] = numbers[start : start + step] @ self._weights  # exact
        found *= header[:, 1:]
        found += self._sums * header[:, :1]
        found *= self._scales
        found += self._biases
        for outputs in self._groups:
            own = found[:, outputs]
            own -= own.max(axis=1, keepdims=True)
        alone = found[:, self._alone]
        np.negative(alone, out=alone)
        np.exp(found, out=found)
        for outputs in self._groups:
            own = found[:, outputs]
            own /= own.sum(axis=1, keepdims=True)
        alone += 1
        np.divide(1, alone, out=alone)
        found *= HUNDREDTHS
        return np.rint(found, out=found)


def read_item_labels(path: Path, content: bytes, *, embedding_size: int, categories: int) -> ItemLabels:
    """Read `labels.npz`.

    Raises:
        BundleError: it is no such file, or does not fit embeddings of this size and so many categories.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if any(member.compress_type != zipfile.ZIP_STORED for member in packed.infolist()):
                raise BundleError(f"{path}: expected arrays that are not compressed, as numpy.savez writes them")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: expected the arrays {', '.join(_ARRAYS)}, found {error}") from error
    outputs = len(arrays["weights"]) if arrays["weights"].ndim else 0
    for name, (kind, dimensions) in _ARRAYS.items():
        shape = (outputs, embedding_size)[:dimensions]
        if arrays[name].dtype != kind or arrays[name].shape != shape:
            found = f"{arrays[name].dtype} {arrays[name].shape}"
            raise BundleError(f"{path}: expected {name} as {np.dtype(kind)} {shape}, found {found}")
    places = arrays["category"][arrays["category"] >= 0]
    if sorted(places.tolist()) != list(range(categories)):
        raise BundleError(f"{path}: expected each of the {categories} categories once, found {len(places)} others")
    if not (np.isfinite(arrays["scales"]).all() and np.isfinite(arrays["biases"]).all()):
        raise BundleError(f"{path}: expected finite numbers, found others")
    return ItemLabels(**arrays, categories=categories)
