"""A quantized embedding differs from the original by at most half a quantization step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.quantization import HEADER_BYTES, MAX_VALUE, as_stored, dequantize, is_finite, quantize, quantize_all


@given(arrays(np.float32, st.integers(1, 64), elements=st.floats(-1e4, 1e4, width=32)))
def test_the_error_is_at_most_half_a_step(embedding: np.ndarray) -> None:
    restored = dequantize([quantize(embedding)], len(embedding))[0]
    step = (float(embedding.max()) - float(embedding.min())) / 255
    assert np.abs(restored - embedding).max() <= step / 2 + 1e-6 * (1 + np.abs(embedding).max())


def test_a_row_has_a_header_and_one_byte_per_value() -> None:
    assert len(quantize(np.zeros(1024, np.float32))) == HEADER_BYTES + 1024


def test_quantizing_twice_equals_quantizing_once() -> None:
    embedding = np.random.default_rng(0).random(100).astype(np.float32)
    once = dequantize([quantize(embedding)], 100)[0]
    assert np.allclose(dequantize([quantize(once)], 100)[0], once, atol=1e-6)


def test_many_rows_are_restored_like_single_rows() -> None:
    rows = [quantize(row) for row in np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)]
    together = dequantize(rows, 16)
    assert together.shape == (5, 16)
    assert together.dtype == np.float32
    assert np.array_equal(together, np.concatenate([dequantize([row], 16) for row in rows]))
    assert dequantize([], 16).shape == (0, 16)


def test_a_row_of_the_wrong_length_is_named_with_the_expected_length() -> None:
    rows = [quantize(np.ones(16, np.float32)), quantize(np.ones(15, np.float32))]
    with pytest.raises(ValueError, match=r"row 1 of 2: expected 24 bytes for an embedding of 16, found 23"):
        dequantize(rows, 16)


@pytest.mark.parametrize("embedding", [np.array([1.0, np.nan]), np.array([np.inf]), np.zeros((2, 2)), np.zeros(0)])
def test_anything_but_a_finite_vector_is_refused(embedding: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite vector"):
        quantize(embedding.astype(np.float32))


def test_one_vector_that_is_not_finite_leaves_the_others_of_its_batch_alone() -> None:
    vectors = np.random.default_rng(2).normal(size=(6, 16)).astype(np.float32)
    good = [quantize(vector) for vector in vectors]
    for row, value in ((1, np.nan), (2, np.inf), (4, -np.inf), (5, 2 * MAX_VALUE)):
        vectors[row, 3] = value
    rows = quantize_all(vectors)
    assert [is_finite(row) for row in rows] == [True, False, False, True, False, False]
    assert [rows[0], rows[3]] == [good[0], good[3]]
    assert np.isnan(dequantize(rows, 16)).all(axis=1).tolist() == [False, True, True, False, True, True]
    assert np.array_equal(as_stored(vectors), dequantize(rows, 16), equal_nan=True)


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 16)), elements=st.floats(-1e4, 1e4, width=32)))
def test_a_batch_is_quantized_like_its_single_vectors(vectors: np.ndarray) -> None:
    assert (
        quantize_all(vectors) == [quantize(vector) for vector in vectors] == [one_by_one(vector) for vector in vectors]
    )


def one_by_one(vector: np.ndarray) -> bytes:
    """The definition of a row, for one vector, in plain steps."""
    lo, high = np.float32(vector.min()), np.float64(vector.max())
    scale = np.float32((high - np.float64(lo)) / 255)
    levels = [
        0 if scale == 0 else min(255, max(0, round((float(value) - float(lo)) / float(scale)))) for value in vector
    ]
    return np.array([lo, scale], "<f4").tobytes() + bytes(levels)
