"""The networks that turn a bag of embeddings into category scores. All have one interface, that of `aggregator.onnx`:

    embeddings float32 [B, M, d], log_prior float32 [B, M] (log weight; -inf is padding) -> logits [B, D], attention [B, M]

`Served` puts the sigmoid behind the logits for export; training works on the logits.

Sources: Savchenko and Demochkin, "Decision-making in visual product recommendation using neural aggregation network
and context gating", DDA 2018 (the whole); Yang et al., "Neural Aggregation Network for Video Face Recognition", CVPR
2017, eq. 1 to 5 (attention blocks); Miech et al., "Learnable pooling with Context Gating for video classification",
2017, eq. 1 (gate).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional


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


class AttentionBlock(nn.Module):
    """Weighs items by their product with a query (Yang et al., eq. 2 and 3), the log prior added."""

    def forward(self, items: Tensor, query: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
        # Shapes: [B,M,d], [B,d] and [B,M] in.
        energy = torch.matmul(items, query.unsqueeze(2)).squeeze(2)  # [B,M]
        return weighted_sum(items, energy + log_prior)  # [B,d], [B,M]


class ContextGate(nn.Module):
    """Y = sigmoid(W X + b) * X (Miech et al., eq. 1), or tanh."""

    def __init__(self, size: int, bias: float, *, tanh: bool = False) -> None:
        super().__init__()
        self.transform: nn.Module = _constant_layer(size, bias)
        self.tanh = tanh

    def forward(self, x: Tensor) -> Tensor:  # [B,d] -> [B,d]
        openness = self.transform(x)
        return (torch.tanh(openness) if self.tanh else torch.sigmoid(openness)) * x


class NeuralAggregationNetwork(nn.Module):
    """Two cascaded attention blocks, context gating, and a layer.

    Both queries start at zero, where the attention is the log prior alone and the network a weighted average: training departs from the
    average only where that pays.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        size = config.embedding_size
        self.input_scale = config.input_scale
        self.attend = AttentionBlock()
        self.first_query = nn.Parameter(torch.zeros(size))  # q0 [d]
        self.second_query: nn.Module = _constant_layer(size, 0.0)  # q1 = tanh(W r0 + b)
        self.gate = ContextGate(size, config.gate_bias, tanh=config.tanh_gate) if config.gated else nn.Identity()
        self.layer = nn.Linear(size, config.categories)

    def start_at(self, prior: Tensor) -> None:  # [D]
        """Let the untrained network answer everybody with about the prior: the first steps need not learn it."""
        start_layer_at(self.layer, prior)

    def forward(self, embeddings: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
        items = blank_padding(embeddings, log_prior) * self.input_scale  # [B,M,d]
        query = self.first_query.expand(items.shape[0], -1)  # [B,d]
        first, _ = self.attend(items, query, log_prior)  # r0 [B,d]
        query = torch.tanh(self.second_query(first))  # q1 [B,d]
        second, attention = self.attend(items, query, log_prior)  # r1 [B,d], a [B,M]
        return self.layer(self.gate(second)), attention  # [B,D], [B,M]


class MaskedAverage(nn.Module):
    """The baseline: a weighted average of the items that are there, and a layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.input_scale = config.input_scale
        self.layer = nn.Linear(config.embedding_size, config.categories)

    def start_at(self, prior: Tensor) -> None:  # [D]
        """Let the untrained network answer everybody with about the prior."""
        start_layer_at(self.layer, prior)

    def forward(self, embeddings: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
        items = blank_padding(embeddings, log_prior) * self.input_scale  # [B,M,d]
        average, attention = weighted_sum(items, log_prior)  # [B,d], [B,M]
        return self.layer(average), attention  # [B,D], [B,M]


class Int8Linear(nn.Module):
    """A linear layer whose matrix is stored in int8 with one scale for each output; the arithmetic is float32.

    In the exported graph the matrix is a Cast and a Mul of constants, which ONNX Runtime computes once, while loading.
    """

    levels: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()  # [out,in]
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127  # [out,1]
        self.register_buffer("levels", torch.round(weight / scale).to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:  # [B,in] -> [B,out]
        return functional.linear(x, self.levels.float() * self.scale, self.bias)


class Served(nn.Module):
    """A trained network as it is exported: scores instead of logits, its square matrices in int8."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        if isinstance(network, NeuralAggregationNetwork):
            _store_in_int8(network)

    def forward(self, embeddings: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
        logits, attention = self.network(embeddings, log_prior)
        return torch.sigmoid(logits), attention  # scores [B,D], attention [B,M]


def weighted_sum(items: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:  # [B,M,d], [B,M] -> [B,d], [B,M]
    attention = torch.softmax(logits, dim=1)  # [B,M]; exactly 0 where the logit is -inf
    return torch.matmul(attention.unsqueeze(1), items).squeeze(1), attention


def blank_padding(embeddings: Tensor, log_prior: Tensor) -> Tensor:  # [B,M,d], [B,M] -> [B,M,d]
    """Zeros in place of padded items: weight 0 alone would let an infinity or NaN through."""
    return torch.where(torch.isneginf(log_prior).unsqueeze(2), torch.zeros((), dtype=embeddings.dtype), embeddings)


@torch.no_grad()
def start_layer_at(layer: nn.Linear, prior: Tensor) -> None:
    """Set the biases to the log odds of probabilities [D]."""
    layer.bias.copy_(torch.logit(prior, eps=1e-3))


def _constant_layer(size: int, bias: float) -> nn.Linear:
    """A square layer that answers `bias` to everything until it is trained."""
    layer = nn.Linear(size, size)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


def _store_in_int8(network: NeuralAggregationNetwork) -> None:
    if isinstance(network.second_query, nn.Linear):
        network.second_query = Int8Linear(network.second_query)
    if isinstance(network.gate, ContextGate) and isinstance(network.gate.transform, nn.Linear):
        network.gate.transform = Int8Linear(network.gate.transform)
