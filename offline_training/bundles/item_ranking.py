"""Trains the weights of the item ranking on next purchases: `tastestream train bundle --items`.

The ranking is a conditional logit over the catalogue, with six numbers (`model.item_search.ranking`). It is trained by sampled
softmax: each purchase against items drawn from a mixture of what sells and of everything, corrected for how often an item is drawn
(Bengio and Senécal, "Adaptive importance sampling to accelerate training of a neural probabilistic language model", 2008). So items
that nobody has bought yet are among the wrong answers, and among the right ones.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.bundle import Bundle
from model.item_search.ranking import LITTLE, Taste
from model.item_search.vectors import unit
from model.item_search.weights import DEFAULT, RankingWeights
from model.quantization import dequantize
from offline_training.datasets.records import DatasetError
from offline_training.progress import Advance, Step
from offline_training.tasks import situations
from offline_training.tasks.item_baselines import POPULAR_DAYS, ItemCounts
from offline_training.tasks.item_figures import tastes_of
from offline_training.tasks.item_methods import Catalogued
from offline_training.tasks.purchases import Contexts, Taken

_ROUND = 4  # digits of the weights in the bundle


@dataclass(frozen=True)
class RankingRecipe:
    """Hyperparameters of the training."""

    contexts: int = 6000
    """Most days of users that are learned from, drawn at random."""
    epochs: int = 4
    batch: int = 128
    drawn: int = 1000
    """Wrong answers of a batch."""
    peak_rate: float = 0.05


class Asked(NamedTuple):
    """Contexts with their tastes, and their targets that are not in the bag."""

    contexts: Contexts
    tastes: list[Taste]
    targets: NDArray[np.intp]
    """Numbers of targets of `contexts`."""


class Known:
    """The items, and how often each was bought.

    Args:
        taken: what all users took.
        items: the items.
        size: numbers in a code.
    """

    def __init__(self, taken: Taken, items: Catalogued, size: int) -> None:
        self.items, self.counts = items, ItemCounts(taken, len(items.rows))
        self.units = torch.from_numpy(unit(dequantize(items.rows, size)))
        self._taken = taken

    @cached_property
    def chance(self) -> NDArray[np.float64]:
        """How likely an item is drawn as a wrong answer: half by sales, half alike, [N]."""
        sold = self.counts.before(self._taken.days[-1] + 1, None).astype(np.float64) + 1
        return 0.5 * sold / sold.sum() + 0.5 / len(sold)

    def shares(self, places: NDArray[np.integer]) -> NDArray[np.float32] | None:
        """How much items belong to each category; each row sums to 1."""
        if self.items.shares is None:
            return None
        found = self.items.shares(self.items.codes(places.tolist())).astype(np.float32)
        return found / np.maximum(found.sum(axis=1, keepdims=True), 1.0)


class Ranking(nn.Module):
    """The formula of `model.item_search.ranking`, to be trained."""

    def __init__(self, start: RankingWeights, *, categories: bool) -> None:
        super().__init__()
        self.with_categories = categories
        values = {
            "similarity": start.similarity,
            "log_sharpness": math.log(start.sharpness),
            "floor": start.floor,
            "categories": start.categories if categories else 0.0,
            "popularity": start.popularity,
            "log_smoothing": math.log(start.smoothing),
        }
        self.of = nn.ParameterDict({name: nn.Parameter(torch.tensor(value)) for name, value in values.items()})

    def weights(self) -> RankingWeights:
        """The weights, rounded."""
        found = {name: value.item() for name, value in self.of.items()}
        found |= {name: math.exp(found.pop(f"log_{name}")) for name in ("sharpness", "smoothing")}
        if not self.with_categories:
            found["categories"] = 0.0
        return RankingWeights(**{name: round(value, _ROUND) for name, value in found.items()})

    def forward(self, asked: Asked, numbers: NDArray[np.integer], places: NDArray[np.integer], known: Known) -> Tensor:
        """The score of each place for some contexts, [B, n]."""
        contexts, of = asked.contexts, self.of
        chosen = contexts.sizes[numbers]
        bags = [contexts.rows[contexts.starts[one] : contexts.starts[one + 1]] for one in numbers]
        attention = torch.from_numpy(np.concatenate([asked.tastes[one].attention for one in numbers]))
        cosines = known.units[np.concatenate(bags)] @ known.units[places].T  # [S,n]
        logs = torch.exp(of["log_sharpness"]) * (cosines - 1) + torch.log(attention + 1e-30)[:, None]
        segment = torch.from_numpy(np.repeat(np.arange(len(numbers)), chosen))
        near = torch.zeros(len(numbers), len(places)).index_add(0, segment, torch.exp(logs))
        found = of["similarity"] * torch.log(near + torch.exp(of["floor"]))
        shares = known.shares(places) if self.with_categories else None
        if shares is not None:
            scores = np.stack([asked.tastes[one].scores for one in numbers])
            found = found + of["categories"] * torch.from_numpy(np.log(scores @ shares.T + LITTLE))
        days, day_of = np.unique(contexts.day[numbers], return_inverse=True)
        counts = np.stack([known.counts.before(int(day), POPULAR_DAYS)[places] for day in days])[day_of]
        return found + of["popularity"] * torch.log(torch.from_numpy(counts) + torch.exp(of["log_smoothing"]))


def train_ranking(
    bundle: Bundle,
    taken: Taken,
    contexts: Contexts,
    codes: NDArray[np.float32],
    *,
    seed: int,
    step: Step,
    recipe: RankingRecipe | None = None,
) -> RankingWeights:
    """Train the weights of the ranking.

    Args:
        bundle: tells tastes and categories.
        taken: what all users took.
        contexts: what is learned from. Those without a bag are left out.
        codes: float32 [N, d], of all items by the bundle's own embedder.
        seed: random seed.
        step: opens progress bars.
        recipe: hyperparameters; None for the default ones.

    Raises:
        DatasetError: nobody bought an item that was not in the bag.
    """
    recipe, rng = recipe or RankingRecipe(), np.random.default_rng(seed)
    items = Catalogued.of(bundle, codes)
    known = Known(taken, items, codes.shape[1])
    warm = situations.read(contexts)
    some = warm.of(rng.choice(len(warm.day), min(recipe.contexts, len(warm.day)), replace=False))
    targets = np.flatnonzero(~some.owned())
    if not len(targets):
        raise DatasetError("--items: none of the purchases to train on is of an item that the user did not have yet")
    asked = Asked(some, list(tastes_of(bundle, taken, some, codes, items.rows)), targets)
    ranking = Ranking(DEFAULT, categories=items.shares is not None)
    batches = -(-len(targets) // recipe.batch)
    with step(f"item ranking, seed {seed}", recipe.epochs * batches) as advance:
        return fit_ranking(ranking, asked, known, recipe, rng=rng, advance=advance)


def fit_ranking(
    ranking: Ranking, asked: Asked, known: Known, recipe: RankingRecipe, *, rng: np.random.Generator, advance: Advance
) -> RankingWeights:
    """Fit a ranking to what was bought. `advance` is called with each batch."""
    optimizer = torch.optim.Adam(ranking.parameters(), lr=recipe.peak_rate)
    batches = -(-len(asked.targets) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_rate, total_steps=recipe.epochs * batches + 1)
    for _ in range(recipe.epochs):
        for batch in np.array_split(rng.permutation(asked.targets), batches):
            loss = sampled_loss(ranking, asked, batch, known, drawn=recipe.drawn, rng=rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(1)
    return ranking.weights()


def sampled_loss(
    ranking: Ranking,
    asked: Asked,
    batch: NDArray[np.intp],
    known: Known,
    *,
    drawn: int,
    rng: np.random.Generator,
) -> Tensor:
    """The mean negative log likelihood of some targets, by numbers, against items that are drawn for all of them."""
    contexts = asked.contexts
    right, numbers = contexts.targets[batch], contexts.of_target[batch]
    wrong = np.unique(rng.choice(len(known.chance), drawn, p=known.chance))
    often = -np.expm1(drawn * np.log1p(-known.chance[wrong]))  # the chance that an item is among those drawn
    scores = ranking(asked, numbers, np.concatenate([wrong, right]), known)
    own = scores[torch.arange(len(batch)), len(wrong) + torch.arange(len(batch))]
    others = scores[:, : len(wrong)] - torch.from_numpy(np.log(often).astype(np.float32))
    held = np.array(
        [np.isin(wrong, contexts.rows[contexts.starts[one] : contexts.starts[one + 1]]) for one in numbers]
    )  # what is in the bag is left out of a list
    others = others.masked_fill(torch.from_numpy(held | (wrong == right[:, None])), -torch.inf)
    return (torch.logsumexp(torch.cat([own[:, None], others], dim=1), dim=1) - own).mean()
