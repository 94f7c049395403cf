"""Exact search over quantized codes: against brute force in float64, with ties, masks, changes and other threads."""

import threading

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.item_search import index
from model.item_search.index import BLOCK, CodeIndex
from model.quantization import dequantize, quantize_all

SIZE = 6


def brute_force(rows: list[bytes], queries: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """All cosines in float64, [Q, N]; 0 where a side has no direction."""
    items, asked = dequantize(rows, size).astype(np.float64), queries.astype(np.float64)
    lengths = [np.linalg.norm(values, axis=1) for values in (asked, items)]
    asked, items = (
        np.divide(values, length[:, None], out=np.zeros_like(values), where=length[:, None] > 1e-18)
        for values, length in zip((asked, items), lengths, strict=True)
    )
    return asked @ items.T


def made(count: int, size: int = SIZE, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)


def filled(values: NDArray[np.float32]) -> tuple[CodeIndex, list[bytes]]:
    found, rows = CodeIndex(values.shape[1]), quantize_all(values)
    found.put(np.arange(len(rows)), rows)
    return found, rows


def check_exact(found: index.Found, cosines: NDArray[np.float64], allowed: NDArray[np.intp], count: int) -> None:
    """The places are the best allowed ones, best first, ties by place."""
    assert found.places.shape == found.cosines.shape == (len(cosines), min(count, len(allowed)))
    for places, told, every in zip(found.places, found.cosines, cosines, strict=True):
        assert len(set(places.tolist())) == len(places)
        assert np.isin(places, allowed).all()
        best = np.sort(every[allowed])[::-1][: len(places)]
        np.testing.assert_allclose(every[places], best, rtol=0, atol=1e-12)
        np.testing.assert_allclose(told, best, rtol=0, atol=1e-6)


Search = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], int]
"""Codes, queries, a mask and a count."""

numbers = st.floats(-1000, 1000, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-30, 1e5])


@st.composite
def searches(draw: st.DrawFn) -> Search:
    size = draw(st.integers(1, 9))
    vectors = st.lists(numbers, min_size=size, max_size=size)
    distinct = draw(st.lists(vectors, min_size=1, max_size=12))
    chosen = draw(st.lists(st.integers(0, len(distinct) - 1), min_size=1, max_size=60))  # many are equal
    queries = draw(st.lists(vectors | st.sampled_from(distinct), min_size=1, max_size=10))
    mask = draw(st.lists(st.booleans(), max_size=70))
    values = np.array(distinct, np.float32)[chosen]
    return values, np.array(queries, np.float32), np.array(mask, bool), draw(st.integers(0, 70))


@settings(max_examples=300, deadline=None)
@given(searches())
def test_it_finds_what_brute_force_in_float64_finds(search: Search) -> None:
    values, queries, mask, count = search
    found, rows = filled(values)
    cosines = brute_force(rows, queries, values.shape[1])
    check_exact(found.search(queries, count), cosines, np.arange(len(rows)), count)
    allowed = np.flatnonzero(mask[: len(rows)])
    check_exact(found.search(queries, count, mask), cosines, allowed, count)


@settings(max_examples=100, deadline=None)
@given(searches())
def test_equal_codes_come_in_the_order_of_their_places(search: Search) -> None:
    values, queries, _, count = search
    found, rows = filled(values)
    for places in found.search(queries, count).places.tolist():
        before: dict[bytes, int] = {}
        for place in places:
            assert before.get(rows[place], -1) < place
            before[rows[place]] = place
        left = set(range(len(rows))) - set(places)
        assert all(place > before[rows[place]] for place in left if rows[place] in before)


@pytest.mark.parametrize("allowed", [1.0, 0.6, 0.01])
def test_it_is_exact_over_several_blocks_and_more_queries_than_one_product_takes(allowed: float) -> None:
    """Items are close to each other, and some are copies: the bound of the rounding decides nothing alone."""
    centre = made(1, 32, seed=1)
    values = np.add(centre, made(2 * BLOCK + 300, 32, seed=2) / 50, dtype=np.float32)
    values[[5, BLOCK + 7, 2 * BLOCK + 200]] = values[100]
    found, rows = filled(values)
    mask = np.random.default_rng(3).random(len(values)) < allowed
    mask[[5, 100, BLOCK + 7, 2 * BLOCK + 200]] = True
    near = np.add(centre, made(2 * index.QUERIES, 32, seed=4) / 50, dtype=np.float32)
    queries = np.concatenate([near, values[100:101]])
    answer = found.search(queries, 50, mask)
    check_exact(answer, brute_force(rows, queries, 32), np.flatnonzero(mask), 50)
    assert answer.places[-1, :4].tolist() == [5, 100, BLOCK + 7, 2 * BLOCK + 200]


def test_the_largest_codes_and_queries_do_not_saturate_the_product() -> None:
    """Sums of two products in 16 bits saturate on processors without VNNI: parts of a query stay within 64."""
    parts, combine, _ = index._rounded(index._units(np.array([[1, 1, -1, 0.999], [1, 0, 0, 0]], np.float32)))
    assert np.abs(parts.astype(int)).max() <= 64
    assert 2 * 255 * 64 <= 2**15 - 1
    whole = combine.astype(np.float64) @ parts.T
    np.testing.assert_allclose(whole[1], [1, 0, 0, 0], atol=1e-6)


def test_a_removed_item_is_not_found_and_its_place_is_used_again() -> None:
    values = made(20)
    found, rows = filled(values)
    found.remove(np.array([3, 19, 500, 3]))
    assert len(found) == 18
    assert not set(found.search(values[3:4], 20).places[0].tolist()) & {3, 19}
    found.put(np.array([3]), [rows[7]])
    assert found.search(values[7:8], 2).places[0].tolist() == [3, 7]


def test_of_a_place_that_comes_twice_the_last_code_counts() -> None:
    values = made(2)
    found = CodeIndex(SIZE)
    found.put(np.array([4, 4]), quantize_all(values))
    assert len(found) == 1
    assert found.search(values[1:], 1).cosines[0, 0] > 0.999


def test_places_behind_the_mask_are_not_found() -> None:
    found, _ = filled(made(30))
    assert sorted(found.search(made(1, seed=9), 30, np.ones(12, bool)).places[0].tolist()) == list(range(12))
    assert found.search(made(1), 5, np.zeros(0, bool)).places.shape == (1, 0)
    assert CodeIndex(SIZE).search(made(3), 5).places.shape == (3, 0)
    assert found.search(made(0), 5).places.shape == (0, 5)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"short", "expected 14 bytes.*found 5"),
        (quantize_all(np.full((1, SIZE), np.nan, np.float32))[0], "quantization"),
        (np.array([-1, 1 / 100], "<f4").tobytes() + bytes([100] * SIZE), "quantization"),  # no least value
        (np.array([np.inf, 1], "<f4").tobytes() + bytes(SIZE), "quantization"),
    ],
)
def test_a_code_of_another_form_is_refused_and_nothing_is_put(row: bytes, why: str) -> None:
    found, rows = filled(made(2))
    with pytest.raises(ValueError, match=why):
        found.put(np.array([0, 1]), [rows[1], row])
    assert found.search(dequantize(rows[:1], SIZE), 1).places[0, 0] == 0


@pytest.mark.parametrize("queries", [made(1, SIZE + 1), np.full((1, SIZE), np.nan, np.float32), made(1)[0]])
def test_a_query_of_another_form_is_refused(queries: NDArray[np.float32]) -> None:
    found, _ = filled(made(3))
    with pytest.raises(ValueError, match="finite queries"):
        found.search(queries, 1)


def test_a_search_sees_all_of_a_change_or_nothing_while_another_thread_puts() -> None:
    """One thread puts all items here or there, in two blocks at once. No search finds a mixture, or half a code."""
    here, there = quantize_all(made(1, 16, seed=1))[0], quantize_all(-made(1, 16, seed=1))[0]
    places = np.array([0, 1, BLOCK, BLOCK + 1])
    found = CodeIndex(16)
    found.put(places, [here] * 4)
    done = threading.Event()

    def change() -> None:
        for turn in range(60):
            found.put(places, [(there, here)[turn % 2]] * 4)
        done.set()

    changing = threading.Thread(target=change)
    changing.start()
    query, seen = made(1, 16, seed=1), 0
    while not done.is_set() or not seen:
        cosines = found.search(query, 4).cosines[0]
        assert np.abs(np.abs(cosines) - 1).max() < 1e-4
        assert len(set(np.sign(cosines).tolist())) == 1
        seen += 1
    changing.join()


def test_the_network_is_onnx() -> None:
    onnx.checker.check_model(onnx.load_from_string(index._network(300)), full_check=True)


def test_it_takes_the_memory_that_it_states() -> None:
    found, _ = filled(made(BLOCK, 32))
    held = sum(array.nbytes for block in found._blocks for array in block)
    assert held == BLOCK * (32 + 12)
