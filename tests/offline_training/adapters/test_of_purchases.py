"""Users of the task *purchases* choose an adapter by the surprise at what they bought, and measure what it costs."""

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from model.quantization import as_stored
from offline_training.adapters.of_purchases import PurchaseUsers
from offline_training.tasks.purchases import PurchaseSplit
from tests.bundles import write_trending
from tests.offline_training.tasks.test_purchase_figures import contexts
from tests.offline_training.tasks.test_purchases import taken

ITEMS = 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_trending(tmp_path_factory.mktemp("bundle") / "trending"))


def users_of(bundle: Bundle) -> PurchaseUsers:
    """Three users. The second one is asked twice, the first time with two purchases on the day."""
    asked = contexts([0, 1, 1, 2], [5, 6, 9, 9], [[0], [1], [1, 2], [3]], [[1], [2, 3], [0], [0]])
    touches = [(0, 1, 0, 100, True), (1, 2, 1, 100, True), (1, 6, 2, 100, True), (2, 1, 3, 100, True)]
    labels = np.zeros((ITEMS, len(bundle.categories)), bool)
    for field in bundle.fields:
        labels[np.arange(ITEMS), field.categories[:ITEMS]] = True
    split = PurchaseSplit(asked, asked, asked, asked)
    return PurchaseUsers(taken(touches), split, labels, list(bundle.fields), np.zeros(ITEMS, bool))


def codes(bundle: Bundle, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(ITEMS, bundle.embedding_size))
    return as_stored(rows.astype(np.float32))


def test_moments_with_an_unknown_item_in_the_bag_are_left_out(bundle: Bundle) -> None:
    users = users_of(bundle)
    assert users.counts == {"validation": 4, "test": 4}
    some = users.of_known(np.array([True, True, False, True]))
    assert some.split.test.day.tolist() == [5, 6, 9]
    assert some.counts == {"validation": 3, "test": 3}, "an unknown item that is only bought is no matter"


def test_the_loss_of_a_user_is_the_mean_surprise_at_the_purchases(bundle: Bundle) -> None:
    users, rows = users_of(bundle), codes(bundle, 0)
    losses = users.losses(bundle, rows)
    figures = users.costs(bundle, {"native": rows})["native"]
    assert losses.shape == (3,)
    assert (losses[0] + 3 * losses[1] + losses[2]) / 5 == pytest.approx(figures["bits"]), "of five purchases"
    assert (figures["purchases"], figures["users"]) == (5, 3)


def test_costs_are_differences_to_native_codes_at_the_same_purchases(bundle: Bundle) -> None:
    users, native, other = users_of(bundle), codes(bundle, 0), codes(bundle, 1)
    found = users.costs(bundle, {"native": native, "adapted": other, "the same": native})
    for name in ("macro hit@3", "bits"):
        assert found["adapted"][f"{name} - native"] == pytest.approx(found["adapted"][name] - found["native"][name])
        ends = [found["adapted"][f"{name} - native {end}"] for end in ("low", "high")]
        assert ends[0] <= found["adapted"][f"{name} - native"] <= ends[1]
        assert found["the same"][f"{name} - native"] == 0
    assert found["adapted"]["bits"] != found["native"]["bits"]
    assert "bits - native" not in found["native"]
