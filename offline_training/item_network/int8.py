"""Linear layers with int8 matrices, for smaller files. Arithmetic stays in float32."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Int8Linear(nn.Module):
    """A linear layer whose matrix is stored as int8 [out, in] with one float32 scale per output.

    In the exported graph the matrix is a Cast and a Mul of constants. ONNX Runtime computes both once, while loading.
    """

    levels: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()  # [out,in]
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127  # [out,1]
        self.register_buffer("levels", torch.round(weight / scale).to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())  # pyright: ignore[reportUnnecessaryComparison]

    def forward(self, x: Tensor) -> Tensor:  # [B,in] -> [B,out]
        return functional.linear(x, self.levels.float() * self.scale, self.bias)


def store_in_int8(network: nn.Module, but: str = "") -> None:
    """Replace every linear layer of a network by an `Int8Linear`, at any depth, except layers with the name `but`."""
    for name, part in network.named_children():
        if isinstance(part, nn.Linear):
            if name != but:
                setattr(network, name, Int8Linear(part))
        else:
            store_in_int8(part, but)
