"""An item network trained on a catalogue, and aggregators trained on its codes. Comparison and bundles share it."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.quantization import as_stored
from offline_training.aggregators import AGGREGATORS
from offline_training.aggregators.fitting import Curve, FitRecipe, fit, predict, recipe_for
from offline_training.aggregators.interface import Config
from offline_training.aggregators.sets import LabelStack
from offline_training.item_network.network import ItemNetwork, ItemRecipe, codes, label_groups, train_items
from offline_training.progress import Step
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.split import Split


class Fitted(NamedTuple):
    """A trained aggregator."""

    network: nn.Module
    curve: Curve
    validation: NDArray[np.float32]
    """Scores of the validation bags [N, D]."""


class ItemModel:
    """An item network and its codes of a catalogue. Each property is computed on first use.

    Args:
        catalogue: N items with D labels.
        split: A task on the catalogue. It tells which items the network may train on, and which are variants of one product.
        recipe: Hyperparameters of the item network.
        seed: Random seed.
        step: Opens a progress bar.
        folds: Number of folds of the products for `out_of_fold`. Use more if labels have few items.
        rounded: Whether features and codes are quantized and restored, as they are in storage.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        split: Split,
        *,
        recipe: ItemRecipe,
        seed: int,
        step: Step,
        folds: int = 3,
        rounded: bool = True,
    ) -> None:
        self._catalogue = catalogue
        self._features = as_stored(catalogue.embeddings) if rounded else catalogue.embeddings
        self._split = split
        self._recipe = recipe
        self._seed = seed
        self._step = step
        self._folds = folds
        self._rounded = rounded

    @cached_property
    def network(self) -> ItemNetwork:
        """The network trained on all items that it may train on."""
        return self._trained(~self._split.new, "item network")

    @cached_property
    def codes(self) -> NDArray[np.float32]:
        """Codes of all items, float32 [N, k]."""
        made = codes(self.network, self._features)
        return as_stored(made) if self._rounded else made

    @cached_property
    def out_of_fold(self) -> NDArray[np.float32]:
        """Label probabilities float32 [N, D]. Each item is scored by a network trained without the item and its variants."""
        found = np.zeros(self._catalogue.matrix.shape, np.float32)
        folds = self._split.products % self._folds
        for fold in range(self._folds):
            network = self._trained(~self._split.new & (folds != fold), f"item network without fold {fold + 1}")
            found[folds == fold] = _probabilities(network, self._features[folds == fold])
        return found

    def aggregator(self, name: str, recipe: FitRecipe | None = None, split: Split | None = None) -> Fitted:
        """Train an aggregator on the codes.

        Args:
            name: Key of `AGGREGATORS`.
            recipe: Hyperparameters. None means those of `recipe_for`.
            split: Another split into bags, with the same items for the item network. None means its own.
        """
        torch.manual_seed(self._seed)
        config = Config(self._recipe.code_size, len(self._catalogue.labels), input_scale=1.0)
        network = AGGREGATORS[name](config, self.network.head)
        part, vectors = network, self.codes
        if isinstance(network, LabelStack):
            part, vectors = network.joined, self.out_of_fold
        curve, validation = _fitted(
            part,
            name,
            vectors,
            split or self._split,
            recipe=recipe or recipe_for(network),
            seed=self._seed,
            step=self._step,
        )
        return Fitted(network.eval(), curve, validation)

    def _trained(self, chosen: NDArray[np.bool_], title: str) -> ItemNetwork:
        recipe = self._recipe
        items = int(chosen.sum())
        total = recipe.length(items) * -(-items // recipe.batch)
        with self._step(f"{title}, seed {self._seed}", total) as advance:
            return train_items(
                self._features[chosen],
                self._catalogue.matrix[chosen],
                label_groups(self._catalogue.labels, self._catalogue.matrix),
                recipe,
                seed=self._seed,
                advance=lambda _: advance(1),
            )


def fit_on_codes(
    name: str, codes: NDArray[np.float32], split: Split, config: Config, *, seed: int, step: Step
) -> Fitted:
    """Train an aggregator on the codes, float32 [N, k], that an existing item network makes.

    Args:
        name: Key of `AGGREGATORS`; not one that needs the label head, which only training has.
        codes: Codes of the items.
        split: A task on these items.
        config: Sizes of the aggregator.
        seed: Random seed.
        step: Opens a progress bar.
    """
    torch.manual_seed(seed)
    network = AGGREGATORS[name](config, None)
    curve, validation = _fitted(network, name, codes, split, recipe=recipe_for(network), seed=seed, step=step)
    return Fitted(network.eval(), curve, validation)


def _fitted(
    part: nn.Module,
    name: str,
    vectors: NDArray[np.float32],
    split: Split,
    *,
    recipe: FitRecipe,
    seed: int,
    step: Step,
) -> tuple[Curve, NDArray[np.float32]]:
    inputs = torch.from_numpy(vectors)
    with step(f"aggregator {name}, seed {seed}", recipe.length(split)) as advance:
        curve = fit(part, inputs, split, recipe, seed=seed, advance=advance)
    return curve, predict(part, inputs, split.validation)


@torch.inference_mode()
def _probabilities(network: ItemNetwork, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    return network.head(torch.from_numpy(codes(network, embeddings))).numpy()
