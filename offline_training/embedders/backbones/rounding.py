"""Rounds the weights of MobileNet v1 to int8 levels so that the outputs stay close. Post-training quantization only keeps
the weights close.

Round-to-nearest lowers the cosine of an embedding with its float version by more than .05. Nearly all of that comes from the
first depthwise layers. Their filters have large weights that cancel, so the rounding errors of a few taps add up on flat
areas. Two closed-form remedies, layer by layer:

- A depthwise filter has 9 taps. All 2^9 combinations of rounding up or down are tried, and the one with the lowest expected
  squared error of the output is taken. This solves the objective of Nagel et al., "Up or Down? Adaptive Rounding for
  Post-Training Quantization", ICML 2020, eq. 13, exactly.
- The bias of each layer is corrected by the mean of the remaining error (Nagel et al., "Data-Free Quantization Through Weight
  Equalization and Bias Correction", ICCV 2019, section 4.2, with means measured on pictures).

The weights stay float32, but lie on the grid of the quantizer (127 levels for the largest magnitude of an output channel).
"""

import copy
import itertools
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from offline_training.embedders.backbones.mobilenet import FoldedConvolution, MobileNet

LEVELS = 127  # largest int8 level; the grid is symmetric


def round_weights(network: MobileNet, pictures: Tensor) -> MobileNet:
    """Return a copy of `network` with rounded weights, fitted to `pictures` of the domain, uint8 [N,224,224,3]."""
    rounded = copy.deepcopy(network)
    layers = cast("Iterable[FoldedConvolution]", rounded.features)
    round_layers(layers, pictures.permute(0, 3, 1, 2).float() / 127.5 - 1.0)
    return rounded


@torch.no_grad()
def round_layers(layers: Iterable[FoldedConvolution], x: Tensor) -> None:
    """Round consecutive layers in place, fitted to the input `x` of the first, float32 [N,C,H,W]."""
    exact = x  # output of the exact layers; `x` is the output of the rounded layers
    for layer in layers:
        exact_layer = copy.deepcopy(layer)
        scale = layer.weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) / LEVELS  # [O,1,1,1]
        if layer.groups > 1:
            layer.weight.copy_(_best_rounding(layer.weight / scale, _tap_covariance(x, layer.stride)) * scale)
        else:
            layer.weight.copy_(torch.round(layer.weight / scale) * scale)
        exact = exact_layer(exact)  # [N,O,H,W]
        for _ in range(3):  # ReLU6 hides part of a shift of the bias, so iterate
            layer.bias.add_((exact - layer(x)).mean(dim=(0, 2, 3)))
        x = layer(x)  # [N,O,H,W]


def _tap_covariance(x: Tensor, stride: int) -> Tensor:  # [N,C,H,W] -> [C,9,9]
    """Return the covariance of the nine inputs of a depthwise filter, per channel."""
    x = functional.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
    taps = functional.unfold(x[:, :, :, :], 3, stride=stride * 2)  # every second position is enough
    count, channels = x.shape[:2]
    taps = taps.view(count, channels, 9, -1).permute(1, 2, 0, 3).flatten(2)  # [C,9,samples]
    taps = taps - taps.mean(dim=2, keepdim=True)
    return taps @ taps.mT / taps.shape[2]


def _best_rounding(levels: Tensor, covariance: Tensor) -> Tensor:  # [C,1,3,3], [C,9,9] -> [C,1,3,3], integers
    """Return, for each channel, the rounding of its nine taps that minimizes error' covariance error."""
    flat = levels.flatten(1)  # [C,9]
    floor = flat.floor()
    ups = torch.tensor(list(itertools.product((0.0, 1.0), repeat=9)))  # [512,9]
    errors = (floor[:, None] + ups - flat[:, None]).clamp(-1, 1)  # [C,512,9]
    cost = torch.einsum("cui,cij,cuj->cu", errors, covariance, errors) + 1e-9 * errors.square().sum(2)  # [C,512]
    cost = cost.masked_fill((floor[:, None] + ups).abs().amax(2) > LEVELS, torch.inf)
    best = floor + ups[cost.argmin(dim=1)]  # [C,9]
    return best.view_as(levels)
