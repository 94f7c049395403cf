"""The parts that all aggregators share. All have the interface of `aggregator.onnx`, with logits instead of scores:

    embeddings float32 [B, M, d], log_weight float32 [B, M] (-inf is padding) -> logits [B, D], attention [B, M]

All of them also have `start_at(prior [D])`. It sets the biases so that the untrained network predicts the prior.

Sources: Zaheer et al., "Deep Sets", NeurIPS 2017 (pools); Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988, 4.3.2
(noisy-or).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

EPSILON = 1e-5  # minimum distance of a probability from 0 and 1 before its logarithm


@dataclass(frozen=True)
class Config:
    """Sizes and initial values of an aggregator."""

    embedding_size: int = 1024
    categories: int = 70
    gated: bool = True
    tanh_gate: bool = False
    """Whether the gate uses tanh instead of sigmoid. The paper has sigmoid; the code of its authors has tanh."""
    input_scale: float = 1 / 32
    """Factor of the embeddings. MobileNet embeddings are means of ReLU6 outputs and have a length of about 25. Scaled to a
    length near 1, they do not saturate gate and tanh at the start."""
    gate_bias: float = 2.0
    """Initial bias of the gate. sigmoid(2) = .88 is almost open: the network starts as a linear layer on the average."""

    def without_gate(self) -> "Config":
        """Return the same sizes without context gating."""
        return replace(self, gated=False)


def weighted_sum(items: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:  # [B,M,d], [B,M] -> [B,d], [B,M]
    """Return the sum of the items weighted by softmax(logits), and these weights."""
    attention = torch.softmax(logits, dim=1)  # [B,M]; exactly 0 where the logit is -inf
    return torch.matmul(attention.unsqueeze(1), items).squeeze(1), attention


def blank_padding(embeddings: Tensor, log_weight: Tensor) -> Tensor:  # [B,M,d], [B,M] -> [B,M,d]
    """Replace padded items by zeros. Weight 0 alone is not enough: 0 * inf and 0 * NaN are NaN."""
    return torch.where(torch.isneginf(log_weight).unsqueeze(2), torch.zeros((), dtype=embeddings.dtype), embeddings)


@torch.no_grad()
def start_layer_at(layer: nn.Linear, prior: Tensor) -> None:
    """Set the biases of a layer to the log odds of the prior, probabilities [D]."""
    layer.bias.copy_(torch.logit(prior, eps=1e-3))


def weighted_maximum(items: Tensor, log_weight: Tensor) -> Tensor:  # [B,M,h], [B,M] -> [B,h]
    """Return the maximum over the items, after adding the log weight relative to the heaviest item.

    An item whose weight goes to 0 drops out of the maximum, as it drops out of a mean.
    """
    return (items + (log_weight - log_weight.amax(1, keepdim=True)).unsqueeze(2)).amax(1)


def relative_weights(log_weight: Tensor) -> Tensor:  # [B,M] -> [B,M,1]
    """Return the weights of the items relative to the heaviest. Padding has weight 0."""
    return torch.exp(log_weight - log_weight.amax(1, keepdim=True)).unsqueeze(2)


def noisy_or(probabilities: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:  # [B,M,D], [B,M] -> [B,D], [B,M]
    """Return the probability that any item has the label, and the share of each item in it.

    The probability is 1 - prod (1 - p)^w, with w the weight of an item relative to the heaviest. The share of an item in one
    label is proportional to -log (1 - p)^w. Its share in all labels weighs each label by its probability.
    """
    evidence = (EPSILON - torch.log1p(-probabilities.clamp(max=1 - EPSILON))) * relative_weights(log_weight)  # [B,M,D]
    total = evidence.sum(1)  # [B,D]
    union = 1 - torch.exp(-total)
    of_label = union / (total * union.sum(1, keepdim=True))  # [B,D]
    return union, torch.matmul(evidence, of_label.unsqueeze(2)).squeeze(2)


def log_odds(probabilities: Tensor) -> Tensor:
    """Return log(p / (1 - p)), with p kept `EPSILON` away from 0 and 1."""
    bounded = probabilities.clamp(EPSILON, 1 - EPSILON)
    return torch.log(bounded) - torch.log1p(-bounded)


def drop_some_items(log_weight: Tensor, share: float) -> Tensor:  # [B,M] -> [B,M]
    """Turn a random `share` of the items into padding, but never all items of a bag."""
    kept = torch.where(torch.rand_like(log_weight) < share, -torch.inf, log_weight)
    return torch.where(torch.isneginf(kept).all(1, keepdim=True), log_weight, kept)
