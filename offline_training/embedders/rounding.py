"""Rounds MobileNet's weights to int8 levels so that its outputs, not its weights, stay close: what post-training
quantization leaves out.

Round-to-nearest costs this network more than a twentieth of its embedding's cosine, nearly all of it in the first
depthwise layers: their filters have large weights that cancel, so the rounding errors of a few taps add up on flat
areas. Two closed-form remedies, layer by layer:

- depthwise filters have 9 taps: all 2^9 combinations of rounding up or down are tried, and the one with the least
  expected squared error of the output is taken (the objective of Nagel et al., "Up or Down? Adaptive Rounding for
  Post-Training Quantization", ICML 2020, eq. 13, solved exactly);
- the bias of every layer takes up the mean of the error that is left (Nagel et al., "Data-Free Quantization Through Weight Equalization
  and Bias Correction", ICCV 2019, section 4.2, with means measured on pictures).

The weights stay float32 but lie on the grid that the quantizer will find (largest magnitude of each output channel = 127 levels).
"""

import copy
import itertools
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from offline_training.embedders.mobilenet import FoldedConvolution, MobileNet

LEVELS = 127


def round_weights(network: MobileNet, pictures: Tensor) -> MobileNet:
    """A copy of `network` whose weights lie on int8 grids, fitted to uint8 [N,224,224,3] `pictures` of the domain."""
    rounded = copy.deepcopy(network)
    layers = cast("Iterable[FoldedConvolution]", rounded.features)
    round_layers(layers, pictures.permute(0, 3, 1, 2).float() / 127.5 - 1.0)
    return rounded


@torch.no_grad()
def round_layers(layers: Iterable[FoldedConvolution], x: Tensor) -> None:
    """Round layers that follow each other, in place, fitted to their input `x`, float32 [N,C,H,W]."""
    exact = x  # as the exact layers see it; `x` is what the rounded ones make of it
    for layer in layers:
        exact_layer = copy.deepcopy(layer)
        scale = layer.weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) / LEVELS  # [O,1,1,1]
        if layer.groups > 1:
            layer.weight.copy_(_best_rounding(layer.weight / scale, _tap_covariance(x, layer.stride)) * scale)
        else:
            layer.weight.copy_(torch.round(layer.weight / scale) * scale)
        exact = exact_layer(exact)  # [N,O,H,W]
        for _ in range(3):  # ReLU6 hides part of a shift of the bias: approach it in steps
            layer.bias.add_((exact - layer(x)).mean(dim=(0, 2, 3)))
        x = layer(x)  # [N,O,H,W]


def _tap_covariance(x: Tensor, stride: int) -> Tensor:  # [N,C,H,W] -> [C,9,9]
    """Covariance of the nine inputs under a depthwise filter, by channel."""
    x = functional.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
    taps = functional.unfold(x[:, :, :, :], 3, stride=stride * 2)  # every second place is plenty
    count, channels = x.shape[:2]
    taps = taps.view(count, channels, 9, -1).permute(1, 2, 0, 3).flatten(2)  # [C,9,samples]
    taps = taps - taps.mean(dim=2, keepdim=True)
    return taps @ taps.mT / taps.shape[2]


def _best_rounding(levels: Tensor, covariance: Tensor) -> Tensor:  # [C,1,3,3], [C,9,9] -> [C,1,3,3] of whole numbers
    """For each channel, the roundings up or down of its nine taps that minimize error' covariance error."""
    flat = levels.flatten(1)  # [C,9]
    floor = flat.floor()
    ups = torch.tensor(list(itertools.product((0.0, 1.0), repeat=9)))  # [512,9]
    errors = (floor[:, None] + ups - flat[:, None]).clamp(-1, 1)  # [C,512,9]
    cost = torch.einsum("cui,cij,cuj->cu", errors, covariance, errors) + 1e-9 * errors.square().sum(2)  # [C,512]
    cost = cost.masked_fill((floor[:, None] + ups).abs().amax(2) > LEVELS, torch.inf)
    best = floor + ups[cost.argmin(dim=1)]  # [C,9]
    return best.view_as(levels)
