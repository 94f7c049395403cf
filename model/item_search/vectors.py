"""Vectors of length 1, and products that stay on one core."""

import numpy as np
from numpy.typing import NDArray

_PRODUCTS = 2**18  # of one call of OpenBLAS: it splits larger ones among all processors, and waits where they are busy


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1, float32 [n, d]. Zeros stay zeros."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def products(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """`left` [n,d] times `right` [m,d], float32 [n, m], on the thread that calls."""
    step = max(_PRODUCTS // max(right.size, 1), 1)
    found = np.empty((len(left), len(right)), np.float32)
    for start in range(0, len(left), step):
        np.matmul(left[start : start + step], right.T, out=found[start : start + step])
    return found
