"""Trains an aggregator on the bags of a task, and scores bags with it."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from offline_training.aggregators.paper import MaskedAverage, NeuralAggregationNetwork, Unmasked
from offline_training.aggregators.sets import LabelStack
from offline_training.tasks.bags import Bags
from offline_training.tasks.split import Split

SCORING_BATCH = 1024  # bags per call
WRAPPER = "network."  # prefix of the parameter names of a network inside `Unmasked`
SORTING_WINDOW = 16  # batches whose bags are sorted by size together


@dataclass(frozen=True)
class FitRecipe:
    """Hyperparameters of training with AdamW and a one-cycle schedule. The epoch with the lowest validation loss is kept."""

    epochs: int = 14
    batch: int = 256
    rate: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.1
    warm_up: float = 0.2
    """Share of the steps in which the learning rate rises."""
    drawn: int = 32
    """Epochs on bags that are drawn anew for each epoch, for a split that can draw bags. 0: never draw."""
    settling: int = 8
    """Epochs on the fixed bags after the drawn ones. If bags are drawn, `drawn` and `settling` replace `epochs`."""
    rates: dict[str, float] = field(default_factory=dict[str, float])
    """Learning rates that replace `rate` for parts of a network, by the first word of the parameter name."""

    def length(self, split: Split) -> int:
        """Return the number of epochs for the bags of a task."""
        return self.epochs if split.drawn is None or not self.drawn else self.drawn + self.settling


LINEAR = FitRecipe(
    epochs=14,
    drawn=0,
    weight_decay=0.002,
    rates={"layer": 0.03, "gate": 0.01, "first_query": 0.003, "second_query": 0.0003},
)
"""For a linear layer on pooled embeddings. The layer learns much faster than the parameters that weigh the items."""

STACK = FitRecipe(drawn=20, settling=0)
"""Drawn bags only: the fixed bags have more items than bags of new products."""


def recipe_for(network: nn.Module) -> FitRecipe:
    """Return the recipe that suits a network. Found on validation bags of H&M."""
    if isinstance(network, Unmasked):
        return recipe_for(network.network)
    if isinstance(network, MaskedAverage | NeuralAggregationNetwork):
        return LINEAR
    return STACK if isinstance(network, LabelStack) else FitRecipe()


@dataclass
class Curve:
    """Loss of each epoch: summed over the labels, averaged over the bags."""

    train: list[float] = field(default_factory=list[float])
    validation: list[float] = field(default_factory=list[float])


def fit(
    network: nn.Module,
    embeddings: Tensor,
    split: Split,
    recipe: FitRecipe,
    *,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Curve:
    """Train a network in place: minimize the binary cross-entropy summed over all labels.

    Args:
        network: Newly initialized aggregator.
        embeddings: float32 [items, d]. The rows of the bags are indices into it.
        split: Training and validation bags. Its test bags are not used.
        recipe: Hyperparameters.
        seed: Random seed of the drawn bags and of their order.
        advance: Called with 1 after each epoch.

    Returns:
        Training and validation loss of each epoch.
    """
    rng = np.random.default_rng(seed)
    network.start_at(torch.from_numpy(split.train.targets.mean(0)).float())  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(_groups(network, recipe), weight_decay=recipe.weight_decay)
    epochs = recipe.length(split)
    steps = epochs * -(-len(split.train.rows) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, pct_start=recipe.warm_up
    )
    curve, best = Curve(), deepcopy(network.state_dict())
    for epoch in range(epochs):
        bags = split.drawn(rng) if split.drawn and epoch < recipe.drawn else split.train
        network.train()
        total = 0.0
        for chosen in batches(bags.sizes, recipe.batch, rng):
            batch = bags.of(chosen)
            logits, _ = network(*inputs_of(embeddings, batch))
            loss = _loss(logits, torch.from_numpy(batch.targets).float())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        curve.train.append(total / len(bags.rows))
        curve.validation.append(_mean_loss(network, embeddings, split.validation))
        if curve.validation[-1] == min(curve.validation):
            best = deepcopy(network.state_dict())
        advance(1)
    network.load_state_dict(best)
    network.eval()
    return curve


def batches(sizes: NDArray[np.integer], batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of each bag once, in random batches. Bags of a batch have similar sizes, so there is little padding.

    Args:
        sizes: Items of each bag, int [N].
        batch: Bags per batch.
        rng: Source of randomness.
    """
    order = rng.permutation(len(sizes))
    window = SORTING_WINDOW * batch
    parts = (order[start : start + window] for start in range(0, len(order), window))
    alike = [part[np.argsort(sizes[part], kind="stable")] for part in parts]
    found = [part[start : start + batch] for part in alike for start in range(0, len(part), batch)]
    for number in rng.permutation(len(found)):
        yield found[number]


@torch.inference_mode()
def predict(network: nn.Module, embeddings: Tensor, bags: Bags) -> NDArray[np.float32]:
    """Return the scores of bags, float32 [N, D], in the order of the bags."""
    network.eval()
    return np.concatenate([torch.sigmoid(logits).numpy() for logits in _logits(network, embeddings, bags)])


def inputs_of(embeddings: Tensor, bags: Bags) -> tuple[Tensor, Tensor]:
    """Return the inputs of a network for bags: embeddings float32 [B, M, d] and log weights float32 [B, M]."""
    places = torch.from_numpy(bags.rows.astype(np.int64))
    return embeddings[places.clamp(min=0)], torch.from_numpy(bags.log_weight)


def _logits(network: nn.Module, embeddings: Tensor, bags: Bags) -> Iterator[Tensor]:
    for start in range(0, len(bags.rows), SCORING_BATCH):
        yield network(*inputs_of(embeddings, bags.of(slice(start, start + SCORING_BATCH))))[0]


@torch.inference_mode()
def _mean_loss(network: nn.Module, embeddings: Tensor, bags: Bags) -> float:
    network.eval()
    logits = torch.cat(list(_logits(network, embeddings, bags)))
    return float(_loss(logits, torch.from_numpy(bags.targets).float()))


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def _groups(network: nn.Module, recipe: FitRecipe) -> list[dict[str, object]]:
    return [
        {"params": [parameter], "lr": recipe.rates.get(name.removeprefix(WRAPPER).split(".")[0], recipe.rate)}
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]
