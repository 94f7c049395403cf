"""Trains a classification layer and the last blocks of a backbone on labelled pictures.

The layer starts as a linear probe of the embeddings before, so that its first steps do not spoil the features (Kumar et
al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022): the one of the strongest
penalty, as the best one may know all training pictures by heart, which leaves little loss to learn from. It sees standardized
embeddings, as the probe does: on plain ones, none of which is negative, a step of AdamW moves the logits further. Then AdamW
with a one-cycle schedule (Smith and Topin, 2018), smoothed labels and a random view of each picture in each epoch. Validation
may fall below the start while the rate is high and rises as it anneals: judge a recipe by its whole cycle. Kept is the epoch
that validates best.

After each epoch everything is written down; a training that goes on from there ends with the same numbers as one that was
never interrupted: the chance of an epoch depends on the seed and its number only.
"""

import copy
import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from offline_training.embedders.backbones import Backbone
from offline_training.embedders.exceptions import EmbedderError
from offline_training.embedders.probe import Accuracy, Linear, Scale, measure
from offline_training.embedders.views import Views, batches

MEASURING_BATCH = 64


@dataclass(frozen=True)
class Recipe:
    """Numbers of the fine-tuning; they end in the report."""

    epochs: int = 5
    """At most."""
    patience: int = 0
    """Stop after so many epochs in a row without a better validation; 0 never does: the rate has to anneal."""
    batch: int = 32
    block_rate: float = 1e-4
    """Learning rate of the blocks at its peak."""
    layer_rate: float = 1e-3
    weight_decay: float = 0.02
    warm_up: float = 0.2
    """Share of the steps."""
    label_smoothing: float = 0.1
    balanced: bool = False
    """Weigh categories against their frequency, so that each counts the same in the loss."""


def recipe_of(**changes: Any) -> Recipe:
    """The recipe with other numbers; None stands for the recipe's own."""
    return replace(Recipe(), **{name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True)
class Part:
    """Pictures of one split. labels: int64 [N], the category's number, in the order of the views' pictures."""

    views: Views
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training pictures came to."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation: Accuracy


@dataclass
class Course:
    """How the training went so far, and the best it found."""

    epochs: list[Epoch] = field(default_factory=list[Epoch])
    best: int = -1
    """Index into `epochs`."""
    best_state: dict[str, Any] = field(default_factory=dict[str, Any])

    def is_over(self, recipe: Recipe) -> bool:
        return len(self.epochs) >= recipe.epochs or len(self.epochs) - 1 - self.best >= recipe.patience > 0


class Tuned(nn.Module):
    """The part that learns: the backbone from block `cut` on, and a classification layer on standardized embeddings.

    start: the layer's start, of the embeddings as they are; scale: the embeddings' mean and deviation, which stay.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, backbone: Backbone, cut: int, start: Linear, scale: Scale) -> None:
        super().__init__()
        self.backbone, self.cut = backbone, cut
        self.register_buffer("mean", scale.mean.clone())
        self.register_buffer("deviation", scale.deviation.clone())
        categories, size = start.weight.shape
        self.layer = nn.Linear(size, categories, device=start.weight.device)
        with torch.no_grad():
            self.layer.weight.copy_(start.weight * self.deviation)
            self.layer.bias.copy_(start.logits(self.mean))

    def forward(self, rows: Tensor) -> Tensor:  # of `Views.rows` -> float32 [B,categories]
        return self.layer((_embed(self.backbone, self.cut, rows) - self.mean) / self.deviation)

    def classifier(self) -> Linear:
        """The layer as it is now, of embeddings as they are."""
        weight = self.layer.weight.detach() / self.deviation
        return Linear(weight, self.layer.bias.detach() - weight @ self.mean)

    def learned(self) -> dict[str, Any]:
        """A copy of the state of the blocks from `cut` on and of the layer."""
        state = {"blocks": self.backbone.blocks[self.cut :].state_dict(), "layer": self.layer.state_dict()}
        return copy.deepcopy(state)

    def take(self, state: dict[str, Any]) -> None:
        self.backbone.blocks[self.cut :].load_state_dict(state["blocks"])
        self.layer.load_state_dict(state["layer"])


def class_weights(labels: NDArray[np.int64], categories: int) -> Tensor:
    """N / (C n_c) for each category c of n_c pictures, float32 [C]: the weights of all pictures add up to N."""
    counts = np.bincount(labels, minlength=categories)
    return torch.from_numpy(len(labels) / (categories * counts)).float()


def smoothed_loss(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy [B,C] against int64 [B], each picture weighted by its own category.

    torch's own weights the share of the other categories by theirs, which teaches the layer to prefer rare ones.
    """
    losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")  # [B]
    return losses.mean() if weights is None else (losses * weights[labels]).sum() / weights[labels].sum()


def embed_views(backbone: Backbone, cut: int, views: Views) -> Tensor:
    """View 0 of each picture, float32 [N,d] on the backbone's device."""
    with torch.inference_mode():
        parts = [
            _embed(backbone, cut, views.rows(numbers, np.zeros_like(numbers)).to(backbone.mean.device))
            for numbers in batches(views.count, MEASURING_BATCH)
        ]
    return torch.cat(parts).clone()


def _embed(backbone: Backbone, cut: int, rows: Tensor) -> Tensor:
    """What `Views.rows` gives, uint8 [B,H,W,3] or float32 [B,C,h,w] -> float32 [B,d]."""
    return backbone.after(backbone.before(rows, cut) if rows.dtype == torch.uint8 else rows, cut)


def fine_tune(
    network: Tuned,
    train: Part,
    validation: Part,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path,
    identity: Sequence[object],
    resume: bool,
    after_epoch: Callable[[Epoch], None],
) -> Course:
    """Train in place; the network ends with the state of its best epoch.

    Args:
        network: fresh.
        train, validation: the pictures.
        recipe: the numbers.
        seed: of the order of the pictures and their views.
        checkpoint: written after each epoch.
        identity: what else the result depends on; a checkpoint of another identity is refused.
        resume: go on from `checkpoint` where it is there.
        after_epoch: told each epoch, those of a checkpoint included.

    Raises:
        EmbedderError: when the checkpoint is of another training.
    """
    device = network.layer.weight.device
    categories = network.layer.out_features
    weights = class_weights(train.labels, categories).to(device) if recipe.balanced else None
    steps = -(-len(train.labels) // recipe.batch)
    blocks = network.backbone.unfreeze(network.cut)
    groups = [{"params": blocks, "lr": recipe.block_rate}] if blocks else []
    optimizer = torch.optim.AdamW(
        [*groups, {"params": list(network.layer.parameters()), "lr": recipe.layer_rate}],
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps * recipe.epochs,
        pct_start=recipe.warm_up,
    )
    name = hashlib.sha256(repr((asdict(recipe), seed, network.cut, categories, *identity)).encode()).hexdigest()
    running = _Running(network, optimizer, schedule)
    course = _go_on(checkpoint, name, running) if resume and checkpoint.is_file() else Course()
    for epoch in course.epochs:
        after_epoch(epoch)

    while not course.is_over(recipe):
        rng = np.random.default_rng((seed, len(course.epochs)))
        order = rng.permutation(len(train.labels))
        views = rng.integers(0, train.views.views, len(order))
        total = 0.0
        for numbers in np.array_split(np.arange(len(order)), steps):
            rows = train.views.rows(order[numbers], views[numbers]).to(device)
            labels = torch.from_numpy(train.labels[order[numbers]]).to(device)
            loss = smoothed_loss(network(rows), labels, weights, recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*blocks, *network.layer.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(numbers)
        validated = _validate(network, validation, device)
        course.epochs.append(Epoch(len(course.epochs) + 1, total / len(order), *validated))
        if course.best < 0 or _rank(course.epochs[-1]) > _rank(course.epochs[course.best]):
            course.best, course.best_state = len(course.epochs) - 1, network.learned()
        _write(checkpoint, name, course, running)
        after_epoch(course.epochs[-1])
    network.take(course.best_state)
    return course


def _rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.validation.accuracy, -epoch.validation_loss


def _validate(network: Tuned, part: Part, device: torch.device) -> tuple[float, Accuracy]:
    labels = torch.from_numpy(part.labels).to(device)
    with torch.inference_mode():
        logits = network.classifier().logits(embed_views(network.backbone, network.cut, part.views))
        return float(functional.cross_entropy(logits, labels)), measure(logits, labels)


@dataclass(frozen=True)
class _Running:
    """What changes with each step."""

    network: Tuned
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler


def _write(path: Path, name: str, course: Course, running: _Running) -> None:
    """All that the next epoch depends on; a checkpoint is replaced when the new one is whole."""
    part = path.with_suffix(".part")
    state = {
        "name": name,
        "epochs": [asdict(epoch) for epoch in course.epochs],
        "best": course.best,
        "best_state": course.best_state,
        "state": running.network.learned(),
        "optimizer": running.optimizer.state_dict(),
        "schedule": running.schedule.state_dict(),
    }
    torch.save(state, part)
    part.replace(path)


def _go_on(path: Path, name: str, running: _Running) -> Course:
    try:
        state = torch.load(path, map_location=running.network.layer.weight.device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise EmbedderError(f"{path}: this is no checkpoint: train without --resume") from error
    if state["name"] != name:
        raise EmbedderError(
            f"{path}: the checkpoint is of a training with other pictures, weights or options: "
            "give those again, or train without --resume"
        )
    running.network.take(state["state"])
    running.optimizer.load_state_dict(state["optimizer"])
    running.schedule.load_state_dict(state["schedule"])
    return Course(msgspec.convert(state["epochs"], list[Epoch]), state["best"], state["best_state"])
