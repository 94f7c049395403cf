"""The label head of an item network as whole numbers: what `labels.npz` of a bundle holds, and the same as a torch module.

The trend counts the labels of items by `model.item_labels`, and the aggregator of the same bundle reads them by `ItemLabelShares`. Both
take the same int8 matrix, so that what is counted is what is compared with it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline_training.item_network.network import LabelHead

_LEVELS = 127
_FAINT = -60.0  # logit below the largest of an item that still counts: a share of 1e-26


class LabelArrays(NamedTuple):
    """K outputs of a linear layer over codes of d numbers: one for each of D categories in their order, then "none" of each field.

    For the attributes, see `model.item_labels`.
    """

    weights: NDArray[np.int8]
    scales: NDArray[np.float64]
    biases: NDArray[np.float64]
    category: NDArray[np.int32]
    group: NDArray[np.int32]

    def write(self, path: Path) -> None:
        """Write `labels.npz`."""
        np.savez(path, allow_pickle=False, **self._asdict())


@torch.no_grad()
def label_arrays(head: LabelHead) -> LabelArrays:
    """Round a label head to int8. Labels that exclude no other get an output of their own, without a group."""
    weight = head.layer.weight.double().numpy().copy()  # [D+groups,d]
    bias = head.layer.bias.double().numpy().copy()
    group = np.full(len(bias), -1, np.int32)
    kept = list(range(head.labels))
    for number, labels in enumerate(head.groups):
        none = head.labels + number
        if labels.exclusive and len(labels.columns) > 1:
            group[[*labels.columns, none]] = number
            kept.append(none)
        elif labels.exclusive:  # a softmax of one label and none is a sigmoid of their difference
            weight[labels.columns] -= weight[none]
            bias[labels.columns] -= bias[none]
    weight, bias, group = weight[kept], bias[kept], group[kept]
    scales = np.maximum(np.abs(weight).max(axis=1), 1e-12) / _LEVELS
    category = np.full(len(bias), -1, np.int32)
    category[: head.labels] = np.arange(head.labels)
    return LabelArrays(np.rint(weight / scales[:, None]).astype(np.int8), scales, bias, category, group)


class ItemLabelShares(nn.Module):
    """Maps codes to how much an item belongs to each category, as `model.item_labels.ItemLabels` does, without rounding the result."""

    def __init__(self, arrays: LabelArrays) -> None:
        super().__init__()
        groups = [number for number in np.unique(arrays.group).tolist() if number >= 0]
        member = (
            np.stack([arrays.group == number for number in groups], 1) if groups else np.zeros((len(arrays.group), 0))
        )
        self.categories = int((arrays.category >= 0).sum())
        self.register_buffer("levels", torch.from_numpy(arrays.weights))
        self.register_buffer("scale", torch.from_numpy(arrays.scales).float()[:, None])
        self.register_buffer("bias", torch.from_numpy(arrays.biases).float())
        self.register_buffer("member", torch.from_numpy(member.astype(np.float32)))  # [K,groups]
        self.levels: Tensor
        self.scale: Tensor
        self.bias: Tensor
        self.member: Tensor
        self.grouped, self.alone = bool(groups), bool((arrays.group < 0).any())

    def forward(self, codes: Tensor) -> Tensor:  # [..., d] -> [..., D]
        logits = nn.functional.linear(codes, self.levels.float() * self.scale, self.bias)
        own = logits[..., : self.categories]
        if not self.grouped:
            return torch.sigmoid(own)
        strength = torch.exp((logits - logits.amax(-1, keepdim=True)).clamp(min=_FAINT))
        total = torch.matmul(torch.matmul(strength, self.member), self.member.T[:, : self.categories])
        if not self.alone:
            return strength[..., : self.categories] / total
        in_group = self.member[: self.categories].sum(1) > 0
        return torch.where(
            in_group, strength[..., : self.categories] / (total + (~in_group).float()), torch.sigmoid(own)
        )
