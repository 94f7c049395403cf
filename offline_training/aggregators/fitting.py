"""Trains a network of `offline_training.aggregators` on the bags of a task, and scores bags with it."""

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

SCORED = 1024  # bags at a time
WRAPPED = "network."
"""Before the names of what is inside `Unmasked`."""
WINDOW = 16  # batches whose bags are put in the order of their size


@dataclass(frozen=True)
class FitRecipe:
    """Numbers of the training. AdamW, one cycle; the epoch with the lowest loss on validation bags is kept."""

    epochs: int = 14
    batch: int = 256
    rate: float = 1e-3
    weight_decay: float = 0.1
    warm_up: float = 0.2
    """Share of the steps."""
    drawn: int = 32
    settling: int = 8
    """Where bags can be drawn: epochs of such, each other ones, and then epochs of the bags as they are, instead of `epochs`.
    0: never drawn."""
    rates: dict[str, float] = field(default_factory=dict[str, float])
    """Of parts of a network, by the first word of a parameter's name, instead of `rate`."""

    def length(self, split: Split) -> int:
        """Epochs on the bags of a task."""
        return self.epochs if split.drawn is None or not self.drawn else self.drawn + self.settling


LINEAR = FitRecipe(
    epochs=14,
    drawn=0,
    weight_decay=0.002,
    rates={"layer": 0.03, "gate": 0.01, "first_query": 0.003, "second_query": 0.0003},
)
"""For a layer on pooled embeddings: the layer learns much faster than what weighs the items before it."""


STACK = FitRecipe(drawn=20, settling=0)
"""Bags as they are hold more items than those of products that are new."""


def recipe_for(network: nn.Module) -> FitRecipe:
    """What trains a network well, found on validation bags of H&M."""
    if isinstance(network, Unmasked):
        return recipe_for(network.network)
    if isinstance(network, MaskedAverage | NeuralAggregationNetwork):
        return LINEAR
    return STACK if isinstance(network, LabelStack) else FitRecipe()


@dataclass
class Curve:
    """Mean loss of each epoch, summed over the labels."""

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
    """Minimize the binary cross-entropy of all labels, in place.

    Args:
        network: fresh; its own chance was its initialization.
        embeddings: float32 [items, d], what the rows of the bags stand for.
        split: whose test bags are not looked at.
        seed: of the order of the bags.
        advance: told 1 after each epoch.
    """
    chance = np.random.default_rng(seed)
    network.start_at(torch.from_numpy(split.train.targets.mean(0)).float())  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(_groups(network, recipe), weight_decay=recipe.weight_decay)
    epochs = recipe.length(split)
    steps = epochs * -(-len(split.train.rows) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, pct_start=recipe.warm_up
    )
    curve, best = Curve(), deepcopy(network.state_dict())
    for epoch in range(epochs):
        bags = split.drawn(chance) if split.drawn and epoch < recipe.drawn else split.train
        network.train()
        total = 0.0
        for chosen in batches(bags.sizes, recipe.batch, chance):
            batch = bags.of(chosen)
            logits, _ = network(*taken(embeddings, batch))
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


def batches(sizes: NDArray[np.integer], batch: int, chance: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Each bag once, in batches by chance of bags of about one size [N], so that little of a batch is padding."""
    order = chance.permutation(len(sizes))
    window = WINDOW * batch
    parts = (order[start : start + window] for start in range(0, len(order), window))
    alike = [part[np.argsort(sizes[part], kind="stable")] for part in parts]
    found = [part[start : start + batch] for part in alike for start in range(0, len(part), batch)]
    for number in chance.permutation(len(found)):
        yield found[number]


@torch.inference_mode()
def predict(network: nn.Module, embeddings: Tensor, bags: Bags) -> NDArray[np.float32]:
    """Scores float32 [N, D] of bags, in their order."""
    network.eval()
    return np.concatenate([torch.sigmoid(logits).numpy() for logits in _logits(network, embeddings, bags)])


def taken(embeddings: Tensor, bags: Bags) -> tuple[Tensor, Tensor]:
    """What a network takes: the embeddings [B, M, d] of bags, and their log weights [B, M]."""
    places = torch.from_numpy(bags.rows.astype(np.int64))
    return embeddings[places.clamp(min=0)], torch.from_numpy(bags.log_weight)


def _logits(network: nn.Module, embeddings: Tensor, bags: Bags) -> Iterator[Tensor]:
    for start in range(0, len(bags.rows), SCORED):
        yield network(*taken(embeddings, bags.of(slice(start, start + SCORED))))[0]


@torch.inference_mode()
def _mean_loss(network: nn.Module, embeddings: Tensor, bags: Bags) -> float:
    network.eval()
    logits = torch.cat(list(_logits(network, embeddings, bags)))
    return float(_loss(logits, torch.from_numpy(bags.targets).float()))


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def _groups(network: nn.Module, recipe: FitRecipe) -> list[dict[str, object]]:
    return [
        {"params": [parameter], "lr": recipe.rates.get(name.removeprefix(WRAPPED).split(".")[0], recipe.rate)}
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]
