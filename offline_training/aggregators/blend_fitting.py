"""Fits the blend of `offline_training.aggregators.blend` on next purchases, by steps, and stops where validation is best.

First the few numbers of the blend, then the network with them. The network corrects only the fields in which it wins on validation.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.bundle.manifest import Field
from offline_training.aggregators.blend import Blend
from offline_training.progress import Advance
from offline_training.tasks.purchases import Contexts, Daily

SCORING_BATCH = 512  # contexts per call


@dataclass(frozen=True)
class BlendRecipe:
    """Hyperparameters. Found on validation users of H&M."""

    batch: int = 256
    blend_steps: int = 640
    blend_rate: float = 0.05
    """Peak rate of the numbers of the blend alone."""
    network_steps: int = 1000
    network_rate: float = 2e-3
    """Peak rate of the network, and of the blend beside it."""
    weight_decay: float = 0.1
    """Of the network."""
    checks: int = 10
    """How often each part of the training is measured on validation. The best is kept."""
    hidden: int = 128
    dropout: float = 0.5

    @property
    def steps(self) -> int:
        """Steps of both parts."""
        return self.blend_steps + self.network_steps


class Known(NamedTuple):
    """What the contexts refer to.

    Attributes:
        labels: how much each item belongs to each category, by its picture, float32 [N, D].
        matrix: the labels of the items, bool [N, D].
        trend: float32 [days, 3, D], by predicted labels.
        fields: categories that exclude each other.
    """

    labels: NDArray[np.float32]
    matrix: NDArray[np.bool_]
    trend: Daily
    fields: Sequence[Field]


class FittedBlend(NamedTuple):
    """A fitted blend, and what its validation loss was, in nats for each purchase: of the blend alone, and with the network."""

    blend: Blend
    validation: dict[str, tuple[float, float]]
    """By field, and `` for the labels of no field."""


def prior_of(contexts: Contexts, known: Known) -> NDArray[np.float64]:
    """Return the share of each category among the purchases; of a field, among those with one of its categories, [D]."""
    share = known.matrix[contexts.targets].mean(0)
    for field in known.fields:
        own = share[field.categories] + 1e-5
        share[field.categories] = own / own.sum()
    return share


def fit_blend(
    known: Known, train: Contexts, validation: Sequence[Contexts], recipe: BlendRecipe, *, seed: int, advance: Advance
) -> FittedBlend:
    """Fit a blend.

    Args:
        known: what the contexts refer to.
        train: contexts to fit on, each with an item.
        validation: kinds of contexts that count the same.
        recipe: hyperparameters.
        seed: random seed.
        advance: called with 1 after each step.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    fields = [field.categories for field in known.fields]
    blend = Blend(
        fields, torch.from_numpy(prior_of(train, known)).float(), hidden=recipe.hidden, dropout=recipe.dropout
    )
    parts = _Parts(known)
    blend.corrected.zero_()
    few = {"params": blend.blend_parameters()}
    training = _Training([few], recipe.blend_rate, recipe.blend_steps, recipe.checks, recipe.batch)
    _train(blend, parts, train, validation, training=training, rng=rng, advance=advance)
    alone = parts.losses(blend, validation)
    before = deepcopy(blend.state_dict())
    blend.corrected.fill_(1.0)
    many = {"params": blend.network_parameters(), "weight_decay": recipe.weight_decay}
    training = _Training([few, many], recipe.network_rate, recipe.network_steps, recipe.checks, recipe.batch)
    _train(blend, parts, train, validation, training=training, rng=rng, advance=advance)
    both = parts.losses(blend, validation)
    wins = both < alone  # [sets]
    if not wins.any():
        blend.load_state_dict(before)
    blend.corrected.copy_(torch.from_numpy(wins).float()[blend.of_set])
    names = [field.name for field in known.fields] + ([""] if blend.any_alone else [])
    return FittedBlend(
        blend.eval(), {name: (float(a), float(b)) for name, a, b in zip(names, alone, both, strict=True)}
    )


@torch.inference_mode()
def predict(blend: Blend, known: Known, contexts: Contexts) -> NDArray[np.float32]:
    """Return the scores of contexts, float32 [C, D]."""
    blend.eval()
    parts = _Parts(known)
    found = [blend.log_scores(blend(*parts.inputs(contexts, part))[0]).exp().numpy() for part in _slices(contexts)]
    return np.concatenate(found)


class _Training(NamedTuple):
    """One part of the training."""

    groups: list[dict[str, Any]]
    """Parameters, as optimizers take them."""
    rate: float
    """Peak learning rate."""
    steps: int
    checks: int
    batch: int

    @property
    def check_every(self) -> int:
        """Steps between two measurements on validation."""
        return max(1, self.steps // self.checks)


class _Parts:
    """Makes inputs and losses of contexts."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._labels = torch.from_numpy(known.labels)

    def inputs(self, contexts: Contexts, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bags = contexts.padded(chosen)
        trend = self._known.trend.at(contexts.day[chosen]).astype(np.float32)
        empty = bags.log_weight <= -50  # an empty bag has an item of zeros; its labels weigh nothing
        labels = self._labels[torch.from_numpy(np.where(empty, 0, bags.rows.clip(min=0)).astype(np.int64))]
        return labels, torch.from_numpy(bags.log_weight), torch.from_numpy(bags.ages), torch.from_numpy(trend)

    def loss(self, blend: Blend, contexts: Contexts, chosen: NDArray[np.int64], starts: NDArray[np.int64]) -> Tensor:
        """Return the loss of each set of parameters, summed over the purchases, [sets]."""
        logits, _ = blend(*self.inputs(contexts, chosen))
        counts = np.diff(starts)[chosen]
        context = np.repeat(np.arange(len(chosen)), counts)
        place = (
            np.arange(len(context)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts[chosen], counts)
        )
        wanted = np.zeros(logits.shape, np.float32)
        np.add.at(wanted, context, self._known.matrix[contexts.targets[place]].astype(np.float32))
        target = torch.from_numpy(wanted)
        logs = blend.log_scores(logits)
        missed = -target * logs
        if blend.any_alone:
            others = torch.from_numpy(counts.astype(np.float32))[:, None] - target
            missed = missed - blend.alone * others * functional.logsigmoid(-logits)
        return torch.matmul(blend.in_set, missed.sum(0))

    @torch.inference_mode()
    def losses(self, blend: Blend, kinds: Sequence[Contexts]) -> NDArray[np.float64]:
        """Return the loss of each set of parameters, for a purchase, averaged over the kinds, [sets]."""
        blend.eval()
        found = []
        for contexts in kinds:
            starts = target_starts(contexts)
            total = sum(self.loss(blend, contexts, part, starts).double() for part in _slices(contexts))
            found.append((total / max(len(contexts.targets), 1)).numpy())  # pyright: ignore[reportAttributeAccessIssue]
        return np.mean(found, axis=0)


def target_starts(contexts: Contexts) -> NDArray[np.int64]:
    """Where the targets of each context begin, [C + 1]."""
    return np.searchsorted(contexts.of_target, np.arange(len(contexts.day) + 1)).astype(np.int64)


def _slices(contexts: Contexts) -> list[NDArray[np.int64]]:
    """All contexts, in order, in batches."""
    return [
        np.arange(start, min(start + SCORING_BATCH, len(contexts.day)))
        for start in range(0, len(contexts.day), SCORING_BATCH)
    ]


def _train(
    blend: Blend,
    parts: _Parts,
    train: Contexts,
    validation: Sequence[Contexts],
    *,
    training: _Training,
    rng: np.random.Generator,
    advance: Advance,
) -> None:
    """Train some parameters, and keep what was best on validation."""
    parameters = [parameter for group in training.groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(training.groups, lr=training.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.rate, total_steps=training.steps, pct_start=0.2)
    starts = target_starts(train)
    best, kept = float(parts.losses(blend, validation).sum()), deepcopy(blend.state_dict())
    batches = _batches(train, training.batch, rng)
    for step in range(1, training.steps + 1):
        chosen = next(batches)
        blend.train()
        loss = parts.loss(blend, train, chosen, starts).sum() / max(int(np.diff(starts)[chosen].sum()), 1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        advance(1)
        if step % training.check_every == 0 or step == training.steps:
            now = float(parts.losses(blend, validation).sum())
            if now < best:
                best, kept = now, deepcopy(blend.state_dict())
    blend.load_state_dict(kept)


def _batches(contexts: Contexts, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield random batches for ever. Bags of a batch have similar sizes, so there is little padding."""
    while True:
        order = rng.permutation(len(contexts.day))
        for part in np.array_split(order, max(1, len(order) // (16 * batch))):
            alike = part[np.argsort(contexts.sizes[part], kind="stable")]
            found = [alike[start : start + batch] for start in range(0, len(alike), batch)]
            for number in rng.permutation(len(found)):
                yield found[number]
