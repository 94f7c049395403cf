"""A trained network as it is exported."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from offline_training.aggregators.paper import ContextGate, NeuralAggregationNetwork


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


def _store_in_int8(network: NeuralAggregationNetwork) -> None:
    if isinstance(network.second_query, nn.Linear):
        network.second_query = Int8Linear(network.second_query)
    if isinstance(network.gate, ContextGate) and isinstance(network.gate.transform, nn.Linear):
        network.gate.transform = Int8Linear(network.gate.transform)
