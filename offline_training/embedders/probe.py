"""How well embeddings tell categories apart: a linear classifier on top of them, and its accuracy on held-out pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Of the L2 penalty on standardized features, from the strongest: each solution is the next one's start."""

ITERATIONS = 50


@dataclass(frozen=True)
class Accuracy:
    """Shares of pictures named correctly: of all, and the mean over categories (macro: a rare category counts as much)."""

    accuracy: float
    macro: float


@dataclass(frozen=True)
class Linear:
    """Logits = embeddings @ weight.T + bias. weight: float32 [C,d]; bias: float32 [C]."""

    weight: Tensor
    bias: Tensor

    def logits(self, embeddings: Tensor) -> Tensor:  # [N,d] -> [N,C]
        return functional.linear(embeddings, self.weight, self.bias)


@dataclass(frozen=True)
class Scale:
    """mean, deviation: float32 [d], of the training pictures' embeddings."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, embeddings: Tensor) -> "Scale":  # [N,d]
        return cls(embeddings.mean(dim=0), embeddings.std(dim=0).clamp_min(1e-4))


@dataclass(frozen=True)
class Labelled:
    """embeddings: float32 [N,d]; labels: int64 [N], the category's number."""

    embeddings: Tensor
    labels: Tensor


def measure(logits: Tensor, labels: Tensor) -> Accuracy:
    """logits [N,C] against labels int64 [N]; the macro mean is over the categories that occur in the labels."""
    right = (logits.argmax(dim=1) == labels).double()
    of_category = [float(right[labels == category].mean()) for category in labels.unique()]
    return Accuracy(float(right.mean()), sum(of_category) / len(of_category))


def fit(train: Labelled, validation: Labelled, categories: int, strengths: Sequence[float] = STRENGTHS) -> Linear:
    """Multinomial logistic regression by L-BFGS, of the penalty that has the least cross-entropy on validation.

    Args:
        train, validation: embeddings and labels.
        categories: C.
        strengths: the penalties to choose from, falling.

    Returns:
        A classifier of the embeddings as they are: the standardization is folded into it.
    """
    scale = Scale.of(train.embeddings)
    features = (train.embeddings - scale.mean) / scale.deviation
    weight = torch.zeros((categories, features.shape[1]), device=features.device, requires_grad=True)
    bias = torch.zeros(categories, device=features.device, requires_grad=True)
    best, least = None, float("inf")
    for strength in strengths:
        _minimize(weight, bias, features, train.labels, strength)
        with torch.no_grad():
            scaled = weight / scale.deviation
            found = Linear(scaled, bias - scaled @ scale.mean)
            loss = float(functional.cross_entropy(found.logits(validation.embeddings), validation.labels))
        if best is None or loss < least:
            best, least = found, loss
    assert best is not None  # noqa: S101  (strengths are not empty)
    return best


def _minimize(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, strength: float) -> None:
    """Mean cross-entropy + strength / 2 |weight|^2, in place, from where weight and bias are."""
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(functional.linear(features, weight, bias), labels)
        value = value + strength / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]  (torch annotates float; it takes tensors)
