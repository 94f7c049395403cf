"""Twins and their groups: what comparing everything with everything says, whatever came and went before."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from model.item_search import twins
from model.item_search.index import CodeIndex
from model.item_search.twins import Twins
from model.quantization import dequantize, quantize_all

SIZE, LEAST = 8, 0.99


class Items:
    """Codes at places, which come and go, and how many were searched for."""

    def __init__(self) -> None:
        self.index = CodeIndex(SIZE)
        self.codes: dict[int, bytes] = {}
        self.searched = self.size = 0
        self.found = Twins(LEAST)

    def put(self, place: int, code: bytes) -> None:
        self.codes[place] = code
        self.index.put(np.array([place]), [code])

    def remove(self, place: int) -> None:
        del self.codes[place]
        self.index.remove(np.array([place]))

    def rows(self, places: Sequence[int]) -> list[bytes]:
        return self.index.rows(np.asarray(places, np.intp))

    def nearest(
        self, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        self.searched += len(queries)
        return self.index.search(queries, count, mask)

    def mask(self) -> NDArray[np.bool_]:
        self.size = max(self.size, max(self.codes, default=-1) + 1)
        mask = np.zeros(self.size, bool)
        mask[list(self.codes)] = True
        return mask

    def look(self) -> list[int | None]:
        return list(self.found.look(self.rows, self.nearest, self.mask))

    def groups(self) -> list[tuple[list[int], list[float]]]:
        groups = self.found.groups()
        return [
            (groups.places[groups.of(number)].tolist(), groups.cosines[groups.of(number)].tolist())
            for number in range(len(groups))
        ]

    def expected(self) -> list[tuple[list[int], list[float]]]:
        """The same, by comparing everything with everything."""
        places = sorted(self.codes)
        rows = dequantize([self.codes[place] for place in places], SIZE).astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        twin: dict[int, tuple[int, float]] = {}
        for own, place in enumerate(places):
            others = [(-round(float(rows[own] @ rows[n]), 7), other) for n, other in enumerate(places) if n != own]
            cosine, other = min(others, default=(0.0, -1))
            if -cosine >= LEAST:
                twin[place] = other, -cosine
        group = {place: place for place in twin}
        for place, (other, _) in list(twin.items()) * len(twin):
            group[place] = group[other] = min(group[place], group[other])
        found = [sorted(one for one in twin if group[one] == name) for name in sorted(set(group.values()))]
        found.sort(key=lambda one: (-len(one), -max(twin[place][1] for place in one), one[0]))
        return [(one, [twin[place][1] for place in one]) for one in found]


def code(rng: np.random.Generator, like: bytes | None = None, by: float = 0.05) -> bytes:
    values = rng.standard_normal((1, SIZE))
    if like is not None:
        values = dequantize([like], SIZE) + by * values
    return quantize_all(values.astype(np.float32))[0]


def same(found: list[tuple[list[int], list[float]]], expected: list[tuple[list[int], list[float]]]) -> None:
    assert sorted(places for places, _ in found) == sorted(places for places, _ in expected)
    cosines = {place: cosine for places, some in expected for place, cosine in zip(places, some, strict=True)}
    for places, some in found:
        assert some == pytest.approx([cosines[place] for place in places], abs=1e-5)
    assert [len(places) for places, _ in found] == [len(places) for places, _ in expected]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes_and_goes_the_groups_are_those_of_comparing_everything(seed: int) -> None:
    rng, items = np.random.default_rng(seed), Items()
    for _ in range(12):
        for _ in range(int(rng.integers(1, 30))):
            place = int(rng.integers(0, 60))
            known = [items.codes[one] for one in sorted(items.codes)]
            kind = rng.random()
            if kind < 0.3 and place in items.codes:
                items.remove(place)
            elif kind < 0.5 and known:
                items.put(place, known[int(rng.integers(len(known)))])
            elif kind < 0.9 and known:
                items.put(place, code(rng, known[int(rng.integers(len(known)))]))
            else:
                items.put(place, code(rng))
        items.look()
        same(items.groups(), items.expected())


def test_only_what_is_new_and_what_lost_its_twin_is_searched_for() -> None:
    rng, items = np.random.default_rng(0), Items()
    for place in range(40):
        items.put(place, code(rng))
    items.put(40, code(rng, items.codes[0], 0.01))
    items.look()
    assert items.searched == 41
    items.look()
    assert items.searched == 41
    items.put(41, code(rng))
    items.look()
    assert items.searched == 42
    items.remove(40)
    items.look()
    assert items.searched == 43
    assert items.groups() == []


def test_a_picture_that_many_items_share_is_searched_for_once() -> None:
    rng, items = np.random.default_rng(0), Items()
    shared = code(rng)
    for place in range(100):
        items.put(place, shared)
    items.put(100, code(rng))
    items.look()
    assert items.searched == 2
    assert items.groups() == [(list(range(100)), [1.0] * 100)]


def test_more_alike_items_than_are_asked_for_at_first_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "FIRST", 2)
    rng, items = np.random.default_rng(1), Items()
    middle = code(rng)
    for place in range(20):
        items.put(place, code(rng, middle, 0.13))
    items.look()
    items.put(20, middle)
    items.look()
    same(items.groups(), items.expected())
    assert 20 in items.groups()[0][0]


def test_what_changes_during_a_look_is_right_after_the_next() -> None:
    rng, items = np.random.default_rng(2), Items()
    for place in range(40):
        items.put(place, code(rng))
    items.put(40, items.codes[3])
    steps = items.found.look(items.rows, items.nearest, items.mask)
    next(steps)
    next(steps)
    items.remove(40)
    items.put(41, items.codes[5])
    items.put(7, items.codes[9])
    assert list(steps)
    items.look()
    same(items.groups(), items.expected())
    assert [places for places, _ in items.groups()] == [[5, 41], [7, 9]]


def test_it_says_how_far_it_is_and_whether_a_code_is_that_which_was_looked_at() -> None:
    rng, items = np.random.default_rng(3), Items()
    assert items.look() == [0]
    assert items.groups() == []
    for place in range(30):
        items.put(place, code(rng))
    assert items.look() == [None, 30, 22, 14, 6, 0]
    other = code(rng)
    assert items.found.holds([0, 1], [items.codes[0], other]).tolist() == [True, False]
