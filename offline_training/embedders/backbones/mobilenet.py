"""MobileNet v1 1.0 224 in torch, with folded batch norms, from the TensorFlow weights in a `.npz` file.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017, table 1. The
parameters are frozen by default; `backbones` unfreezes them for fine-tuning.

Differences between TensorFlow and torch that the code handles:

- weights are HWIO (depthwise: HWC1); torch wants OIHW (depthwise: C1HW);
- SAME padding at stride 2 pads one pixel, at the right and at the bottom only;
- batch norm epsilon is 1e-3;
- the activation is ReLU6, the input x / 127.5 - 1, and the head counts the background as class 0.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from offline_training.datasets.arrays import check_arrays

Weights = Mapping[str, NDArray[np.float32]]

IMAGE_SIZE = 224  # pixels
EMBEDDING_SIZE = 1024
WEIGHTS_FILE = "mobilenet_v1_1.0_224.npz"
BATCH_NORM_EPSILON = 1e-3

# (stride, output channels) of the 13 depthwise separable blocks after the first convolution (paper, table 1).
BLOCKS = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024))


class FoldedConvolution(nn.Module):
    """A convolution with its batch norm folded in, and ReLU6."""

    def __init__(self, weights: Weights, name: str, stride: int) -> None:
        super().__init__()
        depthwise = name.endswith("depthwise")
        kernel = weights[f"{name}/{'depthwise_weights' if depthwise else 'weights'}"]
        kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)  # [C,1,H,W] or [O,I,H,W]
        mean, variance, gamma, beta = (
            weights[f"{name}/BatchNorm/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)  # [O]
        self.weight = nn.Parameter(torch.from_numpy(kernel * scale[:, None, None, None]).float(), requires_grad=False)
        self.bias = nn.Parameter(torch.from_numpy(beta - mean * scale).float(), requires_grad=False)
        self.stride = stride
        self.groups = kernel.shape[0] if depthwise else 1
        self.size = kernel.shape[2]

    def forward(self, x: Tensor) -> Tensor:  # [B,I,H,W] -> [B,O,H/stride,W/stride]
        if self.size == 1:
            x = functional.conv2d(x, self.weight, self.bias)
        elif self.stride == 1:
            x = functional.conv2d(x, self.weight, self.bias, padding=1, groups=self.groups)
        else:
            x = functional.pad(x, (0, 1, 0, 1))  # left, right, top, bottom
            x = functional.conv2d(x, self.weight, self.bias, stride=self.stride, groups=self.groups)
        return functional.relu6(x)


class MobileNet(nn.Module):
    """Maps pictures to embeddings, including normalization.

    `classify` applies the head with the 1001 ImageNet classes. It serves to check that the weights are read correctly, and
    is not exported.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        layers = [FoldedConvolution(weights, "Conv2d_0", stride=2)]
        for number, (stride, _) in enumerate(BLOCKS, start=1):
            layers.append(FoldedConvolution(weights, f"Conv2d_{number}_depthwise", stride))
            layers.append(FoldedConvolution(weights, f"Conv2d_{number}_pointwise", stride=1))
        self.features = nn.Sequential(*layers)
        head = weights["Logits/Conv2d_1c_1x1/weights"][0, 0].T.copy()  # [1001,1024]
        self.head_weight = nn.Parameter(torch.from_numpy(head), requires_grad=False)
        self.head_bias = nn.Parameter(torch.from_numpy(weights["Logits/Conv2d_1c_1x1/biases"]), requires_grad=False)

    @classmethod
    def from_file(cls, path: Path) -> "MobileNet":
        """Read the TensorFlow arrays from `path` (`.npz`, 137 arrays)."""
        check_arrays(path)
        with np.load(path) as arrays:
            network = cls({name: arrays[name] for name in arrays.files})
        return network.eval()

    def forward(self, image: Tensor) -> Tensor:  # uint8 [B,H,W,3] -> float32 [B,1024]
        x = image.permute(0, 3, 1, 2).float() / 127.5 - 1.0  # [B,3,H,W] in [-1,1]
        return self.features(x).mean(dim=(2, 3))  # [B,1024]

    def classify(self, image: Tensor) -> Tensor:  # uint8 [B,H,W,3] -> float32 [B,1001], class 0 is the background
        return functional.linear(self.forward(image), self.head_weight, self.head_bias)
