"""A trained network as it is exported."""

import torch
from torch import Tensor, nn

from offline_training.item_network.int8 import store_in_int8


class Served(nn.Module):
    """Scores instead of logits; all matrices but those of the last layer, `layer`, in int8."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        store_in_int8(network, but="layer")

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        logits, attention = self.network(embeddings, log_weight)
        return torch.sigmoid(logits), attention  # scores [B,D], attention [B,M]
