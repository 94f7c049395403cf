"""Measures how well embeddings separate categories: a linear classifier, and its accuracy on held-out pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Strengths of the L2 penalty on standardized features, strongest first. Each solution is the start of the next."""

ITERATIONS = 50  # of L-BFGS per strength


@dataclass(frozen=True)
class Accuracy:
    """Shares of pictures that are classified correctly."""

    accuracy: float
    """Over all pictures."""
    macro: float
    """Mean over the categories: a rare category counts as much as a frequent one."""


@dataclass(frozen=True)
class LinearClassifier:
    """Logits = embeddings @ weight.T + bias. weight: float32 [C,d]; bias: float32 [C]."""

    weight: Tensor
    bias: Tensor

    def logits(self, embeddings: Tensor) -> Tensor:  # [N,d] -> [N,C]
        return functional.linear(embeddings, self.weight, self.bias)


@dataclass(frozen=True)
class Standardization:
    """Mean and standard deviation of the training embeddings, float32 [d] each."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, embeddings: Tensor) -> "Standardization":  # [N,d]
        return cls(embeddings.mean(dim=0), embeddings.std(dim=0).clamp_min(1e-4))


@dataclass(frozen=True)
class LabelledEmbeddings:
    """Embeddings float32 [N,d] with their category numbers int64 [N]."""

    embeddings: Tensor
    labels: Tensor


def measure(logits: Tensor, labels: Tensor) -> Accuracy:
    """Return the accuracy of logits [N,C] for labels int64 [N]. The macro mean is over the categories in the labels."""
    right = (logits.argmax(dim=1) == labels).double()
    of_category = [float(right[labels == category].mean()) for category in labels.unique()]
    return Accuracy(float(right.mean()), sum(of_category) / len(of_category))


def fit(
    train: LabelledEmbeddings, validation: LabelledEmbeddings, categories: int, strengths: Sequence[float] = STRENGTHS
) -> LinearClassifier:
    """Fit a multinomial logistic regression by L-BFGS. Choose the penalty with the lowest cross-entropy on validation.

    Args:
        train: Embeddings to fit.
        validation: Embeddings that choose the penalty.
        categories: Number of categories, C.
        strengths: Penalties to choose from, strongest first.

    Returns:
        A classifier of embeddings that are not standardized: the standardization is folded into it.
    """
    best, least = None, float("inf")
    for found in path_of_classifiers(train, categories, strengths):
        with torch.no_grad():
            loss = float(functional.cross_entropy(found.logits(validation.embeddings), validation.labels))
        if best is None or loss < least:
            best, least = found, loss
    assert best is not None  # noqa: S101  (strengths are not empty)
    return best


def path_of_classifiers(
    train: LabelledEmbeddings, categories: int, strengths: Sequence[float]
) -> Iterator[LinearClassifier]:
    """Fit a multinomial logistic regression for each penalty, from the solution for the one before.

    Args:
        train: Embeddings to fit.
        categories: Number of categories, C.
        strengths: Penalties, strongest first.

    Yields:
        Classifiers of embeddings that are not standardized: the standardization is folded into them.
    """
    scale = Standardization.of(train.embeddings)
    features = (train.embeddings - scale.mean) / scale.deviation
    weight = torch.zeros((categories, features.shape[1]), device=features.device, requires_grad=True)
    bias = torch.zeros(categories, device=features.device, requires_grad=True)
    for strength in strengths:
        _minimize(weight, bias, features, train.labels, strength)
        with torch.no_grad():
            scaled = weight / scale.deviation
            yield LinearClassifier(scaled, bias - scaled @ scale.mean)


def _minimize(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, strength: float) -> None:
    """Minimize mean cross-entropy + strength / 2 |weight|^2 in place, starting from `weight` and `bias`."""
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(functional.linear(features, weight, bias), labels)
        value = value + strength / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]  (torch annotates float; it takes tensors)
