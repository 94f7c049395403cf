"""A quantized embedding differs from the original by at most half a quantization step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.quantization import HEADER_BYTES, dequantize, quantize


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
