"""What all networks that turn a bag into category scores have in common. All have one interface, that of `aggregator.onnx`:

    embeddings float32 [B, M, d], log_weight float32 [B, M] (log weight; -inf is padding) -> logits [B, D], attention [B, M]

Sources: Zaheer et al., "Deep Sets", NeurIPS 2017 (pools); Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988, 4.3.2
(noisy-or).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

EPSILON = 1e-5  # probabilities keep this distance from 0 and 1 where their logarithm is taken


@dataclass(frozen=True)
class Config:
    """Sizes of a network, and the one constant of its input.

    `input_scale` multiplies the embeddings. Those of MobileNet are averages of ReLU6 outputs with a length of about 25; scaled, a
    bag's vector has a length near that of a standard normal one over sqrt(d), which keeps gate and tanh out of saturation at the start.
    """

    embedding_size: int = 1024
    categories: int = 70
    gated: bool = True
    tanh_gate: bool = False
    """tanh instead of sigmoid in the gate: the paper writes the latter, its authors' code computes the former."""
    input_scale: float = 1 / 32
    gate_bias: float = 2.0
    """The gate starts open, at sigmoid(2) = .88: the network begins as a linear layer on the average, and learns to close it."""

    def without_gate(self) -> "Config":
        """The same network, NAN alone."""
        return replace(self, gated=False)


def weighted_sum(items: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:  # [B,M,d], [B,M] -> [B,d], [B,M]
    attention = torch.softmax(logits, dim=1)  # [B,M]; exactly 0 where the logit is -inf
    return torch.matmul(attention.unsqueeze(1), items).squeeze(1), attention


def blank_padding(embeddings: Tensor, log_weight: Tensor) -> Tensor:  # [B,M,d], [B,M] -> [B,M,d]
    """Zeros in place of padded items: weight 0 alone would let an infinity or NaN through."""
    return torch.where(torch.isneginf(log_weight).unsqueeze(2), torch.zeros((), dtype=embeddings.dtype), embeddings)


@torch.no_grad()
def start_layer_at(layer: nn.Linear, prior: Tensor) -> None:
    """Set the biases to the log odds of probabilities [D]."""
    layer.bias.copy_(torch.logit(prior, eps=1e-3))


def maximum(items: Tensor, log_weight: Tensor) -> Tensor:  # [B,M,h], [B,M] -> [B,h]
    """Over the items, each with the log of its weight relative to the heaviest added: one that fades leaves it as it leaves a mean."""
    return (items + (log_weight - log_weight.amax(1, keepdim=True)).unsqueeze(2)).amax(1)


def weights_of(log_weight: Tensor) -> Tensor:  # [B,M] -> [B,M,1]
    """Of items, relative to the heaviest; 0 for padding."""
    return torch.exp(log_weight - log_weight.amax(1, keepdim=True)).unsqueeze(2)


def noisy_or(probabilities: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:  # [B,M,D], [B,M] -> [B,D], [B,M]
    """That any item has the label: 1 - prod (1 - p)^w, w the weight of an item relative to the heaviest.

    With it the share of each item in that: of every label by log (1 - p)^w, of all labels by how likely they are.
    """
    evidence = (EPSILON - torch.log1p(-probabilities.clamp(max=1 - EPSILON))) * weights_of(log_weight)  # [B,M,D]
    total = evidence.sum(1)  # [B,D]
    union = 1 - torch.exp(-total)
    of_label = union / (total * union.sum(1, keepdim=True))  # [B,D]
    return union, torch.matmul(evidence, of_label.unsqueeze(2)).squeeze(2)


def log_odds(probabilities: Tensor) -> Tensor:
    bounded = probabilities.clamp(EPSILON, 1 - EPSILON)
    return torch.log(bounded) - torch.log1p(-bounded)


def without_some(log_weight: Tensor, share: float) -> Tensor:  # [B,M] -> [B,M]
    """Leave out a share of the items, by chance, but never all of a bag."""
    kept = torch.where(torch.rand_like(log_weight) < share, -torch.inf, log_weight)
    return torch.where(torch.isneginf(kept).all(1, keepdim=True), log_weight, kept)
