"""The networks of the paper: two cascaded attention blocks (NAN), context gating (CG), and the averages as baselines.

Sources: Savchenko and Demochkin, "Decision-making in visual product recommendation using neural aggregation network
and context gating", DDA 2018 (the whole); Yang et al., "Neural Aggregation Network for Video Face Recognition", CVPR
2017, eq. 1 to 5 (attention blocks); Miech et al., "Learnable pooling with Context Gating for video classification",
2017, eq. 1 (gate).
"""

import torch
from torch import Tensor, nn

from offline_training.aggregators.interface import Config, blank_padding, start_layer_at, weighted_sum


class AttentionBlock(nn.Module):
    """Weighs items by their dot product with a query (Yang et al., eq. 2 and 3) plus their log weight."""

    def forward(self, items: Tensor, query: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        # Shapes of the arguments: [B,M,d], [B,d], [B,M].
        energy = torch.matmul(items, query.unsqueeze(2)).squeeze(2)  # [B,M]
        return weighted_sum(items, energy + log_weight)  # [B,d], [B,M]


class ContextGate(nn.Module):
    """Y = sigmoid(W X + b) * X (Miech et al., eq. 1), or tanh in place of sigmoid."""

    def __init__(self, size: int, bias: float, *, tanh: bool = False) -> None:
        super().__init__()
        self.transform: nn.Module = _constant_layer(size, bias)
        self.tanh = tanh

    def forward(self, x: Tensor) -> Tensor:  # [B,d] -> [B,d]
        openness = self.transform(x)
        return (torch.tanh(openness) if self.tanh else torch.sigmoid(openness)) * x


class NeuralAggregationNetwork(nn.Module):
    """Two cascaded attention blocks, context gating, and a linear layer.

    Both queries start at zero. The attention is then softmax(log_weight), and the network is a weighted average. Training
    moves away from the average only if that lowers the loss.
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
        """Make the untrained network predict about the prior, so that training need not learn it first."""
        start_layer_at(self.layer, prior)

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        items = blank_padding(embeddings, log_weight) * self.input_scale  # [B,M,d]
        query = self.first_query.expand(items.shape[0], -1)  # [B,d]
        first, _ = self.attend(items, query, log_weight)  # r0 [B,d]
        query = torch.tanh(self.second_query(first))  # q1 [B,d]
        second, attention = self.attend(items, query, log_weight)  # r1 [B,d], a [B,M]
        return self.layer(self.gate(second)), attention  # [B,D], [B,M]


class SqueezedAttention(nn.Module):
    """One attention block over linearly squeezed items, then a linear layer.

    Source: Savchenko, Demochkin and Savchenko, "Neural attention mechanism and linear squeezing of descriptors in image
    classification for visual recommender systems", Optical Memory and Neural Networks 29 (2020). The abstract names a one-level
    attention block with squeezing of the feature vectors. How many numbers are left, that the squeezing comes before the attention, and
    that it has no bias and no activation, is our reading.
    """

    def __init__(self, config: Config, *, squeezed: int = 128) -> None:
        super().__init__()
        self.input_scale = config.input_scale
        self.squeeze = nn.Linear(config.embedding_size, squeezed, bias=False)
        nn.init.orthogonal_(
            self.squeeze.weight
        )  # so that squeezed items have about the lengths and angles of the items
        self.query = nn.Parameter(torch.zeros(squeezed))  # an untrained network averages
        self.layer = nn.Linear(squeezed, config.categories)

    def start_at(self, prior: Tensor) -> None:  # [D]
        """Make the untrained network predict about the prior."""
        start_layer_at(self.layer, prior)

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        items = self.squeeze(blank_padding(embeddings, log_weight) * self.input_scale)  # [B,M,s]
        pooled, attention = weighted_sum(items, torch.matmul(items, self.query) + log_weight)  # [B,s], [B,M]
        return self.layer(pooled), attention  # [B,D], [B,M]


class MaskedAverage(nn.Module):
    """The baseline: weighted average of the items, without padding, and a linear layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.input_scale = config.input_scale
        self.layer = nn.Linear(config.embedding_size, config.categories)

    def start_at(self, prior: Tensor) -> None:  # [D]
        """Make the untrained network predict about the prior."""
        start_layer_at(self.layer, prior)

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        items = blank_padding(embeddings, log_weight) * self.input_scale  # [B,M,d]
        average, attention = weighted_sum(items, log_weight)  # [B,d], [B,M]
        return self.layer(average), attention  # [B,D], [B,M]


class GatedAverage(MaskedAverage):
    """The weighted average, context gating, and a linear layer."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.gate = ContextGate(config.embedding_size, config.gate_bias, tanh=config.tanh_gate)

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        items = blank_padding(embeddings, log_weight) * self.input_scale  # [B,M,d]
        average, attention = weighted_sum(items, log_weight)
        return self.layer(self.gate(average)), attention


class Unmasked(nn.Module):
    """A network that treats padding as items of zeros, as the code of the authors does. A bag then has `places` items.

    An item of zeros has energy 0 for any query. So one such item with the total weight of the padding has the same effect
    as all of them. This is exact for weighted sums of items, but not for a maximum over items.
    """

    def __init__(self, network: nn.Module, places: int) -> None:
        super().__init__()
        self.network = network
        self.places = places

    def start_at(self, prior: Tensor) -> None:  # [D]
        self.network.start_at(prior)  # pyright: ignore[reportCallIssue] -- all aggregators have it

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:  # attention [B,M+1]
        empty = self.places - (~torch.isneginf(log_weight)).sum(1, keepdim=True)  # [B,1]
        blank = embeddings.new_zeros(embeddings.shape[0], 1, embeddings.shape[2])
        return self.network(torch.cat([embeddings, blank], 1), torch.cat([log_weight, torch.log(empty.float())], 1))


def _constant_layer(size: int, bias: float) -> nn.Linear:
    """Return a square layer that outputs `bias` for any input until it is trained."""
    layer = nn.Linear(size, size)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer
