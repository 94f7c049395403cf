"""What an item network says of items that it knows, and of those that it does not."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from offline_training.item_model import ItemModel  # noqa: E402
from offline_training.items import ItemRecipe  # noqa: E402
from offline_training.tasks import Split  # noqa: E402
from offline_training.users import Pool, simulate  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402

PRODUCTS, SIZE = 60, 32
LABELS = ["hat", "shoe", "tie"]
BY_HEART = ItemRecipe(code_size=8, width=64, epochs=60, batch=32, weight_decay=0, dropout=0, drop_input=0, mixup=0)


def model(*, variants_share_a_product: bool = True) -> ItemModel:
    """Two variants of each product look the same; labels are chance: they can be known by heart, or not at all."""
    chance = np.random.default_rng(0)
    products = np.repeat(np.arange(PRODUCTS), 2)
    matrix = np.eye(3, dtype=bool)[chance.integers(0, 3, PRODUCTS)][products]
    embeddings = chance.normal(size=(PRODUCTS, SIZE)).astype(np.float32)[products]
    return ItemModel(
        embeddings,
        matrix,
        LABELS,
        seen=np.ones(2 * PRODUCTS, bool),
        products=products if variants_share_a_product else np.tile([0, 1], PRODUCTS),
        recipe=BY_HEART,
        seed=0,
        step=step,
    )


def share_right(probabilities: np.ndarray) -> float:
    chance = np.random.default_rng(0)
    kinds = chance.integers(0, 3, PRODUCTS)[np.repeat(np.arange(PRODUCTS), 2)]
    return float((probabilities.argmax(1) == kinds).mean())


def test_an_item_is_unfamiliar_to_networks_that_know_all_other_products() -> None:
    made = model()
    codes = torch.from_numpy(made.codes)
    with torch.inference_mode():
        known = made.network.head(codes).numpy()
    assert share_right(known) > 0.95
    assert share_right(made.unfamiliar) < 0.55


def test_a_variant_would_give_an_item_away() -> None:
    assert share_right(model(variants_share_a_product=False).unfamiliar) > 0.95


def test_a_stack_learns_how_far_the_items_can_be_trusted() -> None:
    """Tastes have nothing to do with what the items show here."""
    made = model()
    pool = Pool({kind: np.arange(kind, 2 * PRODUCTS, 3) for kind in range(3)}, {"one": [0, 1, 2]}, 3)
    train, validation, test = (simulate(pool, 400, np.random.default_rng(seed), max_bag=6) for seed in range(3))
    split = Split(train, validation, test, np.zeros(2 * PRODUCTS, bool), np.arange(2 * PRODUCTS))
    fitted = made.aggregator("stack", split)
    assert len(fitted.curve.train) == 14
    believing = made.aggregator("union", split).validation
    wrong = [np.abs(scores - validation.targets).mean() for scores in (fitted.validation, believing)]
    assert wrong[0] < wrong[1]
    assert not fitted.network.training
