"""Figures of the task purchases equal values computed by hand; a bundle is scored with the ages of the items and the trend."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from model.bundle.manifest import Field
from model.field_metrics import Paired
from model.quantization import as_stored, quantize_all
from offline_training.bundles import summary
from offline_training.datasets.records import DatasetError
from offline_training.report import sentences
from offline_training.tasks.purchase_figures import (
    BASELINES,
    TREND,
    baselines,
    beside_baselines,
    fine_fields,
    measure,
    scores_of,
)
from offline_training.tasks.purchases import Contexts, Taken, make_taken, popularity, trend_of
from tests.bundles import write_trending
from tests.offline_training.tasks.test_purchases import bags

FIELDS = [Field("colour", [0, 1, 2, 3]), Field("size", [4, 5])]
# item 0 is colour 0, size 0; item 1 is colour 3, size 1; item 2 has a colour only
MATRIX = np.array([[1, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1], [0, 1, 0, 0, 0, 0]], bool)


def contexts(users: list[int], days: list[int], held: list[list[int]], targets: list[list[int]]) -> Contexts:
    sizes = [len(bag) for bag in held]
    rows = np.array([row for bag in held for row in bag], np.int32)
    return Contexts(
        np.array(users, np.int32),
        np.array(days, np.int32),
        np.concatenate([[0], np.cumsum(sizes)]),
        rows,
        np.zeros(len(rows), np.float32),
        np.arange(1, len(rows) + 1).astype(np.float32),
        np.array([row for some in targets for row in some], np.int32),
        np.repeat(np.arange(len(targets)), [len(some) for some in targets]),
    )


ASKED = contexts([0, 1], [5, 9], [[0], [2, 1]], [[0, 1], [2]])
SCORES = np.array([[0.36, 0.3, 0.2, 0.14, 0.75, 0.25], [0.14, 0.2, 0.3, 0.36, 0.5, 0.5]])


def test_each_purchase_of_a_day_is_a_target_and_a_field_without_a_value_does_not_count() -> None:
    found, hits, bits = measure(SCORES, ASKED, MATRIX, FIELDS)
    # item 0: colour first, size first. Item 1: colour fourth, size second. Item 2: colour third.
    assert hits.tolist() == [1, 0.5, 1]
    assert found["macro hit@3"] == pytest.approx(2.5 / 3)
    assert found["macro hit@1"] == pytest.approx(1 / 3)
    assert found["colour: hit@3"] == pytest.approx(2 / 3)
    assert found["size: hit@3"] == 1
    assert found["macro hit@3, not owned"] == 0.5, "item 0 and item 2 are in the bags already"
    assert (found["purchases"], found["not owned"], found["users"]) == (3, 1, 2)
    assert found["NDCG@5, fine fields"] == pytest.approx((1 + 1 / np.log2(5) + 1 / np.log2(4)) / 3), (
        "of the colour alone"
    )
    expected = [-np.log2([0.36, 0.75]).mean(), -np.log2([0.14, 0.25]).mean(), -np.log2(0.2)]
    assert bits.tolist() == pytest.approx(expected)
    assert found["bits"] == pytest.approx(np.mean(expected))
    # colours: best has .36 and is right once of three; sizes: best has .75 and is right once of two
    assert found["colour: calibration error"] == pytest.approx(abs(0.36 - 1 / 3))
    assert found["size: calibration error"] == pytest.approx(0.25)
    assert found["calibration error"] == pytest.approx((abs(0.36 - 1 / 3) + 0.25) / 2)
    assert found["recall@5"] == pytest.approx((1 + 0.5 + 1) / 3), "in the list of all: .75 .36 .3 .25 .2 .14"
    assert found["MRR"] == pytest.approx((1 + 1 / 4 + 1 / 5) / 3)


def test_a_method_is_measured_beside_the_trends_and_its_lead_is_paired_over_users() -> None:
    touches = [(0, 1, 0), (1, 1, 1), (1, 2, 2), (0, 5, 0), (0, 5, 1), (1, 9, 2)]
    user, day, row = (np.array(values) for values in zip(*touches, strict=True))
    taken = _taken(user, day, row)
    found = beside_baselines("test/purchases", SCORES, taken, ASKED, matrix=MATRIX, fields=FIELDS)
    assert list(found) == [
        "test/purchases",
        *(f"test/purchases, {name}" for name in BASELINES),
        "test/purchases, ceiling",
    ]
    for name, days in BASELINES.items():
        scores = popularity(taken, MATRIX, FIELDS, days).at(ASKED.day)
        expected = measure(scores, ASKED, MATRIX, FIELDS)
        assert found[f"test/purchases, {name}"]["macro hit@3"] == pytest.approx(
            expected.figures["macro hit@3"], abs=1e-4
        )
        lead = found["test/purchases"]["macro hit@3"] - found[f"test/purchases, {name}"]["macro hit@3"]
        assert found["test/purchases"][f"macro hit@3 - {name}"] == pytest.approx(lead, abs=2e-4)
    assert found["test/purchases, ceiling"] == {"recall@5": 1, "recall@10": 1}
    assert set(baselines(taken, ASKED, MATRIX, FIELDS)) == set(BASELINES)


def _taken(user: NDArray[np.int64], day: NDArray[np.int64], row: NDArray[np.int64]) -> Taken:
    order = np.argsort(day, kind="stable")
    count = len(user)
    return make_taken(
        [f"user-{number}" for number in range(int(user.max()) + 1)],
        user=user[order],
        day=day[order],
        row=row[order],
        weight=np.full(count, 100),
        bought=np.ones(count, bool),
        apart=np.zeros(int(user.max()) + 1, bool),
    )


def test_a_third_of_the_fields_is_fine_those_with_most_categories() -> None:
    sizes = [50, 231, 21, 10, 15, 109, 56]
    assert fine_fields([Field(str(size), list(range(size))) for size in sizes]) == [1, 5]
    assert fine_fields([Field("colour", [0, 1])]) == [0]


def test_labels_without_a_field_are_refused() -> None:
    with pytest.raises(DatasetError, match="the labels have no field"):
        measure(SCORES, ASKED, MATRIX, [])
    without = contexts([0], [5], [[0]], [[2]])
    with pytest.raises(DatasetError, match="no item that was bought has a label of a field"):
        measure(SCORES[:1], without, MATRIX, [FIELDS[1]])


def test_a_bundle_is_scored_with_ages_and_trend_and_an_empty_bag_gets_the_answer_to_the_trend(tmp_path: Path) -> None:
    bundle = Bundle.load(write_trending(tmp_path / "trending"))
    codes = np.random.default_rng(1).normal(size=(3, bundle.embedding_size)).astype(np.float32)
    taken = _taken(np.array([0, 1, 1, 0]), np.array([1, 2, 4, 9]), np.array([0, 1, 2, 0]))
    asked = contexts([0, 1, 0], [3, 9, 9], [[0], [], [2, 1]], [[0], [1], [2]])
    found = scores_of(bundle, taken, asked, codes)
    labels, rows = bundle.item_labels(), as_stored(codes)
    assert labels is not None
    trend = trend_of(taken, labels.of(quantize_all(codes))).at(asked.day).astype(np.float32)
    nothing = np.zeros((1, 1, bundle.embedding_size), np.float32)
    aggregator = bundle.aggregator()
    for number, (embeddings, weight, ages) in enumerate(
        [(rows[None, [0]], [[0]], [[1]]), (nothing, [[-60]], [[0]]), (rows[None, [2, 1]], [[0, 0]], [[2, 3]])]
    ):
        expected = aggregator.score(
            embeddings, np.array(weight, np.float32), np.array(ages, np.float32), trend[[number]]
        ).scores[0]
        assert np.allclose(found[number], expected, atol=1e-6)
    assert trend[1].any()
    assert not np.allclose(found[1], aggregator.score(nothing, np.full((1, 1), -60, np.float32)).scores[0])


def test_a_bundle_without_a_trend_answers_an_empty_bag_by_its_prior() -> None:
    bundle = Bundle.load()
    codes = np.random.default_rng(1).normal(size=(3, bundle.embedding_size)).astype(np.float32)
    taken = _taken(np.array([0, 1]), np.array([1, 2]), np.array([0, 1]))
    found = scores_of(bundle, taken, contexts([0, 1], [3, 9], [[], [2, 1]], [[0], [1]]), codes)
    assert np.array_equal(found[0], bundle.prior)
    expected = bundle.aggregator().score(as_stored(codes)[None, [2, 1]], np.zeros((1, 2), np.float32)).scores[0]
    assert np.allclose(found[1], expected, atol=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(0, 100))
def test_an_item_is_owned_when_the_bag_has_it(kept: list[bool], seed: int) -> None:
    chance = np.random.default_rng(seed)
    held = [chance.permutation(5)[: chance.integers(0, 4)].tolist() for _ in kept]
    targets = [chance.integers(0, 6, chance.integers(1, 4)).tolist() for _ in kept]
    every = contexts([0] * len(kept), list(range(len(kept))), held, targets)
    some = every.of(np.array(kept))
    expected = [row in bag for bag, wanted, keep in zip(held, targets, kept, strict=True) if keep for row in wanted]
    assert some.owned().tolist() == expected
    assert [[row for row, _, _ in bag] for bag in bags(some).values()] == [
        b for b, keep in zip(held, kept, strict=True) if keep
    ]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Paired(0.03, 0.019, 0.046), "X is ahead of Y by 0.030 [0.019, 0.046] in hits, which is more than chance"),
        (Paired(0.01, -0.02, 0.04), "X is ahead of Y by 0.010 [-0.020, 0.040] in hits, which is not more than chance"),
        (Paired(-0.03, -0.046, -0.019), "X is behind Y by 0.030 [0.019, 0.046] in hits, which is more than chance"),
        (Paired(-0.01, -0.04, 0.02), "X is behind Y by 0.010 [-0.020, 0.040] in hits, which is not more than chance"),
        (Paired(0.0, 0.0, 0.0), "X is ahead of Y by 0.000 [0.000, 0.000] in hits, which is not more than chance"),
    ],
)
def test_the_sentence_says_who_is_ahead_and_whether_that_is_more_than_chance(found: Paired, sentence: str) -> None:
    assert sentences.lead("X", "Y", "hits", found) == sentence


def test_the_table_shows_each_baseline_and_the_ceiling_in_eighty_columns() -> None:
    long = Field("a field with quite a long name", [0, 1, 2, 3])
    taken = _taken(np.array([0, 1]), np.array([1, 2]), np.array([0, 1]))
    found = beside_baselines("test/purchases", SCORES, taken, ASKED, matrix=MATRIX, fields=[long, FIELDS[1]])
    console = summary.Console(width=80, record=True, file=io.StringIO())
    summary.show(console, found, "shop 1.0.0")
    text = console.export_text()
    assert "shop 1.0.0, purchases: 3 purchases of 2 held-out users" in text
    assert all(len(line) <= 80 for line in text.splitlines() if "is ahead of" not in line and "is behind" not in line)
    [row] = [line.split()[2:] for line in text.splitlines() if line.strip().startswith("macro hit@3 ")]
    group = found["test/purchases"], *(found[f"test/purchases, {name}"] for name in BASELINES)
    assert row == [*(f"{one['macro hit@3']:.3f}" for one in group), "1.000"]
    assert f"the 28-day trend by {abs(found['test/purchases'][f'macro hit@3 - {TREND}']):.3f}" in text
