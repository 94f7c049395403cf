"""An item network on items of its training set, and on other items."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from offline_training.aggregators.item_model import ItemModel  # noqa: E402
from offline_training.bundles.simulated_users import Pool, simulate  # noqa: E402
from offline_training.item_network.network import ItemRecipe  # noqa: E402
from offline_training.tasks.bags import Bags  # noqa: E402
from offline_training.tasks.catalogue import Catalogue  # noqa: E402
from offline_training.tasks.split import Split  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402

PRODUCTS, SIZE = 60, 32
LABELS = ["hat", "shoe", "tie"]
MEMORIZE = ItemRecipe(
    code_size=8, width=64, epochs=60, batch=32, weight_decay=0, dropout=0, drop_input=0, mixup=0, min_steps=0
)


def users(seed: int) -> Bags:
    """Users whose tastes are unrelated to the pictures of the items."""
    pool = Pool({kind: np.arange(kind, 2 * PRODUCTS, 3) for kind in range(3)}, {"one": [0, 1, 2]}, 3)
    return simulate(pool, 400, np.random.default_rng(seed), max_bag=6)


VALIDATION = users(1)


def model(*, variants_share_a_product: bool = True, features: np.ndarray | None = None, epochs: int = 60) -> ItemModel:
    """A model of random labels: they can be memorized, but not predicted. Two variants of a product look the same."""
    rng = np.random.default_rng(0)
    products = np.repeat(np.arange(PRODUCTS), 2)
    matrix = np.eye(3, dtype=bool)[rng.integers(0, 3, PRODUCTS)][products]
    embeddings = (rng.normal(size=(PRODUCTS, SIZE)).astype(np.float32) if features is None else features)[products]
    catalogue = Catalogue([str(number) for number in range(2 * PRODUCTS)], LABELS, embeddings, matrix, missing=0)
    numbers = products if variants_share_a_product else np.tile([0, 1], PRODUCTS)
    split = Split(users(0), VALIDATION, users(2), np.zeros(2 * PRODUCTS, bool), numbers)
    return ItemModel(catalogue, split, recipe=replace(MEMORIZE, epochs=epochs), seed=0, step=step)


@pytest.fixture(scope="module")
def trained() -> ItemModel:
    """One model for the tests that ask for the same networks: they are trained on first use."""
    return model()


def test_it_is_trained_on_features_as_they_are_stored() -> None:
    rng = np.random.default_rng(3)
    stored = rng.integers(1, 255, (PRODUCTS, SIZE)).astype(np.float32)
    stored[:, :2] = 0, 255  # so that a step of a stored row is exactly 1
    raw = stored + rng.uniform(-0.4, 0.4, stored.shape).astype(np.float32)
    raw[:, :2] = 0, 255
    first, other = (model(features=features, epochs=1) for features in (raw, stored))
    assert np.array_equal(first.codes, other.codes)
    assert np.array_equal(first.out_of_fold, other.out_of_fold)


def share_right(probabilities: np.ndarray) -> float:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, PRODUCTS)[np.repeat(np.arange(PRODUCTS), 2)]
    return float((probabilities.argmax(1) == kinds).mean())


@pytest.mark.slow
def test_out_of_fold_probabilities_come_from_networks_that_have_not_seen_the_product(trained: ItemModel) -> None:
    codes = torch.from_numpy(trained.codes)
    with torch.inference_mode():
        known = trained.network.head(codes).numpy()
    assert share_right(known) > 0.95
    assert share_right(trained.out_of_fold) < 0.55


@pytest.mark.slow
def test_a_variant_in_training_would_leak_the_labels_of_an_item() -> None:
    assert share_right(model(variants_share_a_product=False).out_of_fold) > 0.95


@pytest.mark.slow
def test_a_stack_learns_how_reliable_the_label_probabilities_are(trained: ItemModel) -> None:
    fitted = trained.aggregator("stack")
    assert len(fitted.curve.train) >= 14
    assert not fitted.network.training
    union = trained.aggregator("union").validation
    wrong = [np.abs(scores - VALIDATION.targets).mean() for scores in (fitted.validation, union)]
    assert wrong[0] < wrong[1]
