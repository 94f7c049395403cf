"""The form in which a trained aggregator is exported."""

import torch
from torch import Tensor, nn

from offline_training.item_network.int8 import store_in_int8


class Served(nn.Module):
    """Returns scores instead of logits. All matrices are int8, except that of the last layer, `layer`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        store_in_int8(network, but="layer")

    def forward(self, embeddings: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        logits, attention = self.network(embeddings, log_weight)
        return torch.sigmoid(logits), attention  # scores [B,D], attention [B,M]
