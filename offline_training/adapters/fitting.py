"""Fits small maps from the embeddings of one embedder to those of another, on pictures that have both.

    rotation   orthogonal Procrustes: a rotation, one scale, a shift
    affine     ridge regression; its strength is chosen on held-out pictures
    residual   the affine map, and a small network that corrects it

Sources: Vejendla, "Drift-Adapter: A Practical Approach to Near Zero-Downtime Embedding Model Upgrades in Vector Databases",
EMNLP 2025, which compares a rotation, an affine map of low rank and a residual network (there from new queries to old
embeddings); Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966; Hoerl and Kennard,
"Ridge regression", Technometrics 1970.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of the ridge penalty, in units of the mean variance of the old embeddings."""
HELD_OUT = 5  # one product of so many is held out to choose the strength
"""Of the residual network."""
HIDDEN, EPOCHS, BATCH, RATE, WEIGHT_DECAY = 256, 20, 256, 2e-3, 0.1


class Pairs(NamedTuple):
    """Embeddings of n pictures, at least 2, by two embedders."""

    old: NDArray[np.float32]
    """[n, e]"""
    new: NDArray[np.float32]
    """[n, d]"""
    products: NDArray[np.int64]
    """[n]. Pictures of one product are held out together."""

    def of(self, chosen: NDArray[np.bool_]) -> "Pairs":
        """The pairs of some pictures, bool [n]."""
        return Pairs(self.old[chosen], self.new[chosen], self.products[chosen])


Fit = Callable[[Pairs], nn.Module]
"""Fits a network: embeddings float32 [B, e] -> [B, d]."""


class Corrected(nn.Module):
    """An affine map, and a network that sees the same embedding and corrects the result."""

    def __init__(self, affine: nn.Linear, old: Tensor, spread: Tensor, hidden: int) -> None:
        super().__init__()
        self.affine = affine.requires_grad_(requires_grad=False)
        self.register_buffer("mean", old.mean(0))
        self.register_buffer("scale", old.std(0).clamp_min(1e-6))
        self.register_buffer("spread", spread)
        self.mean: Tensor
        self.scale: Tensor
        self.spread: Tensor
        last = nn.Linear(hidden, affine.out_features)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(nn.Linear(affine.in_features, hidden), nn.GELU(), last)

    def forward(self, embeddings: Tensor) -> Tensor:  # [B, e] -> [B, d]
        return self.affine(embeddings) + self.spread * self.correction((embeddings - self.mean) / self.scale)


def rotation(pairs: Pairs) -> nn.Linear:
    """Fit a rotation, a scale and a shift. With different sizes, the rotation also leaves directions out or adds empty ones."""
    old_mean, new_mean, old, new = _centred(pairs)
    left, strengths, right = np.linalg.svd(old.T @ new, full_matrices=False)
    turn = left @ right
    length = float(np.square(old @ turn).sum())
    return _linear(turn * (strengths.sum() / length if length else 0.0), old_mean, new_mean)


def affine(pairs: Pairs) -> nn.Linear:
    """Fit ridge regression. The strength with the least squared error on held-out pictures is taken."""
    held_out = pairs.products % HELD_OUT == 0
    if held_out.all() or not held_out.any():
        held_out = np.arange(len(pairs.products)) % HELD_OUT == 0
    matrices = _ridge(pairs.of(~held_out), STRENGTHS)
    seen, asked = pairs.of(~held_out), pairs.of(held_out)
    errors = [
        float(np.square((asked.old - seen.old.mean(0)) @ matrix + seen.new.mean(0) - asked.new).sum())
        for matrix in matrices
    ]
    [matrix] = _ridge(pairs, [STRENGTHS[int(np.argmin(errors))]])
    return _linear(matrix, pairs.old.mean(0), pairs.new.mean(0))


def residual(pairs: Pairs) -> nn.Module:
    """Fit the affine map, and then train a network on what it leaves over."""
    base = affine(pairs)
    old, new = torch.from_numpy(pairs.old), torch.from_numpy(pairs.new)
    with torch.inference_mode():
        left_over = new - base(old)
        spread = left_over.std().clamp_min(1e-6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Corrected(base, old, spread.clone(), HIDDEN)
        _train(network, (old - network.mean) / network.scale, left_over.clone() / spread)
    return network.eval()


def apply(network: nn.Module, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a fitted network on embeddings, float32 [n, e]. Returns float32 [n, d]."""
    with torch.inference_mode():
        return network(torch.from_numpy(embeddings)).numpy()


METHODS: dict[str, Fit] = {"rotation": rotation, "affine": affine, "residual": residual}
"""By name, the simplest first."""


def _train(network: Corrected, inputs: Tensor, targets: Tensor) -> None:
    """Minimize the squared error of the correction with AdamW and a one-cycle schedule."""
    optimizer = torch.optim.AdamW(network.correction.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.2)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(BATCH):
            loss = functional.mse_loss(network.correction(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _centred(
    pairs: Pairs,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return both means, and both embeddings without them, in double precision."""
    old, new = pairs.old.astype(np.float64), pairs.new.astype(np.float64)
    old_mean, new_mean = old.mean(0), new.mean(0)
    return old_mean, new_mean, old - old_mean, new - new_mean


def _ridge(pairs: Pairs, strengths: tuple[float, ...] | list[float]) -> list[NDArray[np.float64]]:
    """Return the matrix [e, d] of each strength."""
    _, _, old, new = _centred(pairs)
    variances, directions = np.linalg.eigh(old.T @ old)
    variances = np.maximum(variances, 0)
    products = directions.T @ (old.T @ new)
    unit = float(variances.mean()) or 1.0
    return [directions @ (products / (variances + strength * unit)[:, None]) for strength in strengths]


def _linear(matrix: NDArray[np.float64], old_mean: NDArray[np.floating], new_mean: NDArray[np.floating]) -> nn.Linear:
    """Return the layer that maps x to (x - old_mean) matrix + new_mean."""
    layer = cast("nn.Linear", nn.utils.skip_init(nn.Linear, *matrix.shape))  # draws no random numbers
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(matrix.T.astype(np.float32)))
        layer.bias.copy_(torch.from_numpy((new_mean - old_mean @ matrix).astype(np.float32)))
    return layer.requires_grad_(requires_grad=False).eval()
