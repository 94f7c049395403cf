"""Trains an aggregator on the bags of a task, and scores bags with it.

Epochs are right for many users. Of few users an epoch is one or two steps, and then a training of some epochs ends before the
network has learnt anything. So what is short in steps is trained again, each time twice as long, for as long as that lowers the loss of
the validation bags.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from offline_training.aggregators.paper import MaskedAverage, NeuralAggregationNetwork, SqueezedAttention, Unmasked
from offline_training.aggregators.sets import LabelStack
from offline_training.tasks.bags import Bags
from offline_training.tasks.split import Split

SCORING_BATCH = 1024  # bags per call
WRAPPER = "network."  # prefix of the parameter names of a network inside `Unmasked`
SORTING_WINDOW = 16  # batches whose bags are sorted by size together
EVALUATIONS = 40  # of the validation bags in one training, at most
GAIN = 0.005  # of the loss of popularity: a smaller gain of the validation loss is none
LAST_PART = 0.1  # of a training


@dataclass(frozen=True)
class FitRecipe:
    """Hyperparameters of training with AdamW and a one-cycle schedule. The state with the lowest validation loss is kept."""

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
    min_steps: int = 100
    """Least steps of a training. The epochs are repeated if they have fewer."""
    enough_steps: int = 400
    """A shorter training is tried again with twice the steps, until that gains nothing. 0: never."""
    max_steps: int = 1_700
    """A training is not tried again with more steps than this: about as many as the users of H&M need."""

    def length(self, split: Split) -> int:
        """Return the number of epochs for the bags of a task."""
        return self.epochs if split.drawn is None or not self.drawn else self.drawn + self.settling


LINEAR = FitRecipe(
    epochs=14,
    drawn=0,
    weight_decay=0.002,
    rates={"layer": 0.03, "gate": 0.01, "first_query": 0.003, "second_query": 0.0003, "query": 0.003},
)
"""For a linear layer on pooled embeddings. The layer learns much faster than the parameters that weigh the items."""

STACK = FitRecipe(drawn=20, settling=0)
"""Drawn bags only: the fixed bags have more items than bags of new products."""


def recipe_for(network: nn.Module) -> FitRecipe:
    """Return the recipe that suits a network. Found on validation bags of H&M."""
    if isinstance(network, Unmasked):
        return recipe_for(network.network)
    if isinstance(network, MaskedAverage | NeuralAggregationNetwork | SqueezedAttention):
        return LINEAR
    return STACK if isinstance(network, LabelStack) else FitRecipe()


@dataclass
class Curve:
    """Losses in the course of a training: summed over the labels, averaged over the bags.

    Attributes:
        train: since the evaluation before.
        validation: at each evaluation.
        steps: steps of the training.
        kept_step: the step whose state was kept.
        converged: whether more steps would not have helped, as far as the validation bags tell. False where the kept state is the
            last one, and the loss still fell.
    """

    train: list[float] = field(default_factory=list[float])
    validation: list[float] = field(default_factory=list[float])
    steps: int = 0
    kept_step: int = 0
    converged: bool = True

    @property
    def best(self) -> float:
        """The loss of the validation bags at the kept step."""
        return min(self.validation)


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
        advance: Called with 1 after each epoch of the first training, which has at least `recipe.length` of them.

    Returns:
        The course of the training that was kept.
    """
    network.start_at(torch.from_numpy(split.train.targets.mean(0)).float())  # pyright: ignore[reportCallIssue]
    start = deepcopy(network.state_dict())
    gain = GAIN * _loss_of_popularity(split)
    steps_each = -(-len(split.train.rows) // recipe.batch)
    epochs = recipe.length(split)
    steps = epochs * steps_each
    first = max(epochs, -(-recipe.min_steps // steps_each))
    trained = _train(network, embeddings, split, recipe, epochs=first, seed=seed, advance=advance)
    if steps >= recipe.enough_steps:
        last = trained.validation[int(len(trained.validation) * (1 - LAST_PART)) - 1 :]
        trained.converged = trained.kept_step < trained.steps or last[0] - last[-1] < gain
        return trained
    trained.converged = False
    while not trained.converged and 2 * trained.steps <= recipe.max_steps:
        kept = deepcopy(network.state_dict())
        network.load_state_dict(start)
        twice = 2 * trained.steps // steps_each
        longer = _train(network, embeddings, split, recipe, epochs=twice, seed=seed)
        if trained.best - longer.best < gain:
            network.load_state_dict(kept)
            trained.converged = True
        else:
            trained = replace(longer, converged=False)
    network.eval()
    return trained


def _train(
    network: nn.Module,
    embeddings: Tensor,
    split: Split,
    recipe: FitRecipe,
    *,
    epochs: int,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Curve:
    """Train a network from its present state, and leave it in the state with the lowest validation loss."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(_groups(network, recipe), weight_decay=recipe.weight_decay)
    steps_each = -(-len(split.train.rows) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=epochs * steps_each,
        pct_start=recipe.warm_up,
    )
    drawn = round(epochs * recipe.drawn / recipe.length(split)) if split.drawn else 0
    every = -(-epochs // EVALUATIONS) if epochs > recipe.length(split) else 1
    curve, best = Curve(steps=epochs * steps_each), deepcopy(network.state_dict())
    total, seen = 0.0, 0
    for epoch in range(epochs):
        bags = split.drawn(rng) if split.drawn and epoch < drawn else split.train
        network.train()
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
        seen += len(bags.rows)
        advance(1)
        if (epoch + 1) % every and epoch + 1 < epochs:
            continue
        curve.train.append(total / seen)
        curve.validation.append(_mean_loss(network, embeddings, split.validation))
        total, seen = 0.0, 0
        if curve.validation[-1] == curve.best:
            best, curve.kept_step = deepcopy(network.state_dict()), (epoch + 1) * steps_each
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


def _loss_of_popularity(split: Split) -> float:
    """Return the loss of the validation bags when each label has the probability that it has among the training bags."""
    share = torch.from_numpy(split.train.targets.mean(0)).float().clamp(1e-4, 1 - 1e-4)
    targets = torch.from_numpy(split.validation.targets).float()
    return float(_loss(torch.logit(share).expand_as(targets), targets))


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def _groups(network: nn.Module, recipe: FitRecipe) -> list[dict[str, object]]:
    return [
        {"params": [parameter], "lr": recipe.rates.get(name.removeprefix(WRAPPER).split(".")[0], recipe.rate)}
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    ]
