"""Trains a classification layer and the last blocks of a backbone on labelled pictures.

The layer starts as a linear probe of the ImageNet embeddings, so that its first steps do not distort the features (Kumar et
al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022). The probe has the
strongest penalty: a weaker one may fit all training pictures, which leaves little loss to learn from. The layer takes
standardized embeddings, as the probe does. Plain embeddings are never negative, and a step of AdamW moves their logits further.

Training uses AdamW with a one-cycle schedule (Smith and Topin, 2018), label smoothing, and a random view of each picture in
each epoch. Validation accuracy can fall while the learning rate is high, and rises as the rate anneals, so judge a recipe by
its whole cycle. The result is the epoch with the best validation accuracy.

A checkpoint follows each epoch. A resumed training ends with the same numbers as an uninterrupted one, because the
randomness of an epoch depends only on the seed and the epoch number.
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

from offline_training.embedders.backbones.backbones import Backbone
from offline_training.embedders.exceptions import EmbedderError
from offline_training.embedders.probe import Accuracy, LinearClassifier, Standardization, measure
from offline_training.embedders.training_data.views import Views, batches

EMBEDDING_BATCH = 64  # pictures per call


@dataclass(frozen=True)
class FinetuningRecipe:
    """Hyperparameters of fine-tuning. The report contains them."""

    epochs: int = 5
    """Maximum number of epochs."""
    patience: int = 0
    """Stop after this many epochs without a better validation accuracy. 0: never stop early, so that the rate anneals."""
    batch: int = 32
    block_rate: float = 1e-4
    """Peak learning rate of the blocks."""
    layer_rate: float = 1e-3
    """Peak learning rate of the classification layer."""
    weight_decay: float = 0.02
    warm_up: float = 0.2
    """Share of the steps in which the learning rate rises."""
    label_smoothing: float = 0.1
    balanced: bool = False
    """Weigh categories by their inverse frequency, so that each counts the same in the loss."""


def recipe_with(**changes: Any) -> FinetuningRecipe:
    """Return the default recipe with some fields changed. None keeps the default of a field."""
    return replace(FinetuningRecipe(), **{name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True)
class LabelledViews:
    """Pictures of one split, with their labels."""

    views: Views
    labels: NDArray[np.int64]
    """Category number of each picture [N], in the order of the pictures in `views`."""


@dataclass(frozen=True)
class Epoch:
    """Loss and accuracy of one pass over the training pictures. `epoch` counts from 1."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation: Accuracy


@dataclass
class TrainingHistory:
    """The epochs so far, and the state of the best one."""

    epochs: list[Epoch] = field(default_factory=list[Epoch])
    best: int = -1
    """Index of the best epoch in `epochs`. -1: none yet."""
    best_state: dict[str, Any] = field(default_factory=dict[str, Any])

    def is_over(self, recipe: FinetuningRecipe) -> bool:
        return len(self.epochs) >= recipe.epochs or len(self.epochs) - 1 - self.best >= recipe.patience > 0


class Tuned(nn.Module):
    """The trainable part: the blocks of a backbone from `cut` on, and a classification layer on standardized embeddings.

    Args:
        backbone: Pretrained network.
        cut: Number of blocks that stay frozen.
        start: Initial classification layer, for embeddings that are not standardized.
        scale: Mean and deviation of the embeddings. They stay fixed.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, backbone: Backbone, cut: int, start: LinearClassifier, scale: Standardization) -> None:
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

    def classifier(self) -> LinearClassifier:
        """Return the current layer, for embeddings that are not standardized."""
        weight = self.layer.weight.detach() / self.deviation
        return LinearClassifier(weight, self.layer.bias.detach() - weight @ self.mean)

    def trained_state(self) -> dict[str, Any]:
        """Return a copy of the state of the trainable blocks and the layer."""
        state = {"blocks": self.backbone.blocks[self.cut :].state_dict(), "layer": self.layer.state_dict()}
        return copy.deepcopy(state)

    def load_trained(self, state: dict[str, Any]) -> None:
        """Load the result of `trained_state`."""
        self.backbone.blocks[self.cut :].load_state_dict(state["blocks"])
        self.layer.load_state_dict(state["layer"])


def class_weights(labels: NDArray[np.int64], categories: int) -> Tensor:
    """Return N / (C n_c) for each category c with n_c pictures, float32 [C]. The weights of all pictures sum to N."""
    counts = np.bincount(labels, minlength=categories)
    return torch.from_numpy(len(labels) / (categories * counts)).float()


def smoothed_loss(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Return the label-smoothed cross-entropy, each picture weighted by its own category.

    The weights of torch's `cross_entropy` also apply to the smoothed share of the other categories. That would teach the
    layer to prefer rare categories.

    Args:
        logits: float32 [B,C].
        labels: Category numbers, int64 [B].
        weights: Weights of the categories, float32 [C]. None: all 1.
        smoothing: Share of the target that is spread over all categories.
    """
    losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")  # [B]
    return losses.mean() if weights is None else (losses * weights[labels]).sum() / weights[labels].sum()


def embed_views(backbone: Backbone, cut: int, views: Views) -> Tensor:
    """Embed view 0 of each picture: float32 [N,d] on the device of the backbone."""
    with torch.inference_mode():
        parts = [
            _embed(backbone, cut, views.rows(numbers, np.zeros_like(numbers)).to(backbone.mean.device))
            for numbers in batches(views.count, EMBEDDING_BATCH)
        ]
    return torch.cat(parts).clone()


def _embed(backbone: Backbone, cut: int, rows: Tensor) -> Tensor:
    """Embed the rows of `Views.rows`: pixels uint8 [B,H,W,3], or activations float32 [B,C,h,w] -> float32 [B,d]."""
    return backbone.after(backbone.before(rows, cut) if rows.dtype == torch.uint8 else rows, cut)


def fine_tune(
    network: Tuned,
    train: LabelledViews,
    validation: LabelledViews,
    recipe: FinetuningRecipe,
    *,
    seed: int,
    checkpoint: Path,
    identity: Sequence[object],
    resume: bool,
    after_epoch: Callable[[Epoch], None],
) -> TrainingHistory:
    """Train a network in place. It ends with the state of its best epoch.

    Args:
        network: New network.
        train: Training pictures.
        validation: Validation pictures.
        recipe: Hyperparameters.
        seed: Random seed of the order of the pictures and of their views.
        checkpoint: File that is written after each epoch.
        identity: Everything else that the result depends on. A checkpoint with another identity is refused.
        resume: Whether to continue from `checkpoint`, if the file exists.
        after_epoch: Called with each epoch, including those of a checkpoint.

    Returns:
        All epochs, and the state of the best one.

    Raises:
        EmbedderError: If the checkpoint belongs to another training.
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
    running = _TrainingState(network, optimizer, schedule)
    history = _resume(checkpoint, name, running) if resume and checkpoint.is_file() else TrainingHistory()
    for epoch in history.epochs:
        after_epoch(epoch)

    while not history.is_over(recipe):
        rng = np.random.default_rng((seed, len(history.epochs)))
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
        history.epochs.append(Epoch(len(history.epochs) + 1, total / len(order), *validated))
        if history.best < 0 or _rank(history.epochs[-1]) > _rank(history.epochs[history.best]):
            history.best, history.best_state = len(history.epochs) - 1, network.trained_state()
        _write(checkpoint, name, history, running)
        after_epoch(history.epochs[-1])
    network.load_trained(history.best_state)
    return history


def _rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.validation.accuracy, -epoch.validation_loss


def _validate(network: Tuned, part: LabelledViews, device: torch.device) -> tuple[float, Accuracy]:
    labels = torch.from_numpy(part.labels).to(device)
    with torch.inference_mode():
        logits = network.classifier().logits(embed_views(network.backbone, network.cut, part.views))
        return float(functional.cross_entropy(logits, labels)), measure(logits, labels)


@dataclass(frozen=True)
class _TrainingState:
    """Objects whose state changes with each step."""

    network: Tuned
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler


def _write(path: Path, name: str, history: TrainingHistory, running: _TrainingState) -> None:
    """Write everything that the next epoch depends on. The old checkpoint is replaced when the new one is complete."""
    part = path.with_suffix(".part")
    state = {
        "name": name,
        "epochs": [asdict(epoch) for epoch in history.epochs],
        "best": history.best,
        "best_state": history.best_state,
        "state": running.network.trained_state(),
        "optimizer": running.optimizer.state_dict(),
        "schedule": running.schedule.state_dict(),
    }
    torch.save(state, part)
    part.replace(path)


def _resume(path: Path, name: str, running: _TrainingState) -> TrainingHistory:
    try:
        state = torch.load(path, map_location=running.network.layer.weight.device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise EmbedderError(f"{path}: this is not a checkpoint: train without --resume") from error
    if state["name"] != name:
        raise EmbedderError(
            f"{path}: the checkpoint is from a training with other pictures, weights or options: "
            "use the same ones, or train without --resume"
        )
    running.network.load_trained(state["state"])
    running.optimizer.load_state_dict(state["optimizer"])
    running.schedule.load_state_dict(state["schedule"])
    return TrainingHistory(msgspec.convert(state["epochs"], list[Epoch]), state["best"], state["best_state"])
