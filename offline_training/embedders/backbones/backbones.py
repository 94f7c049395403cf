"""The networks that an embedder can use, behind one interface: pictures to pooled features, block by block.

MobileNet v1 comes from TensorFlow's ImageNet arrays (`offline_training.embedders.backbones.mobilenet`), v2 and v3 from torchvision. All
stay in evaluation mode, even in training. The batch norms of v1 are folded. v2 and v3 keep the batch norm statistics of
ImageNet, because the batches of fine-tuning are small and of one domain, and their statistics would be noise.
"""

import hashlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import (
    MobileNet_V2_Weights,
    MobileNet_V3_Large_Weights,
    MobileNet_V3_Small_Weights,
    WeightsEnum,
)

from offline_training.embedders.backbones.mobilenet import EMBEDDING_SIZE, IMAGE_SIZE, WEIGHTS_FILE, MobileNet
from offline_training.embedders.exceptions import EmbedderError

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue in [0, 1], for the weights of torchvision."""


class Backbone(nn.Module):
    """Maps pictures uint8 [B,H,W,3] to embeddings float32 [B,d], including normalization and pooling.

    Attributes:
        blocks: The network from pixels to the last feature map. Fine-tuning of N blocks trains the last N of them.
        image_size: Side of the square pictures, pixels.
        embedding_size: Numbers in one embedding, d.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        name: str,
        blocks: nn.Sequential,
        *,
        mean: tuple[float, float, float],
        deviation: tuple[float, float, float],
        embedding_size: int,
        image_size: int = IMAGE_SIZE,
    ) -> None:
        super().__init__()
        self.name = name
        self.blocks = blocks
        self.image_size = image_size
        self.embedding_size = embedding_size
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))  # scale of bytes
        self.register_buffer("deviation", 255 * torch.tensor(deviation).view(1, 3, 1, 1))
        self.eval()

    def forward(self, image: Tensor) -> Tensor:  # uint8 [B,H,W,3] -> float32 [B,d]
        return self.after(self.before(image, len(self.blocks)), len(self.blocks))

    def before(self, image: Tensor, cut: int) -> Tensor:
        """Apply the first `cut` blocks to pictures: uint8 [B,H,W,3] -> float32 [B,C,h,w].

        With `cut` 0, only normalize. With all blocks, also pool: [B,d,1,1].
        """
        x = (image.permute(0, 3, 1, 2).float() - self.mean) / self.deviation  # [B,3,H,W]
        x = self.blocks[:cut](x)
        return x.mean(dim=(2, 3), keepdim=True) if cut == len(self.blocks) else x

    def after(self, x: Tensor, cut: int) -> Tensor:
        """Apply the blocks from `cut` on, and the pooling, to the result of `before`: float32 [B,C,h,w] -> float32 [B,d]."""
        return self.blocks[cut:](x).mean(dim=(2, 3))

    def unfreeze(self, cut: int) -> list[nn.Parameter]:
        """Make the blocks from `cut` on trainable, and no others. Return their parameters."""
        self.requires_grad_(False)
        return list(self.blocks[cut:].requires_grad_(True).parameters())

    def identity(self, cut: int) -> str:
        """Return a hash of the first `cut` blocks, their weights, and the normalization."""
        digest = hashlib.sha256(f"{self.name} {self.image_size} {cut}".encode())
        for tensor in (self.mean, self.deviation, *self.blocks[:cut].state_dict().values()):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Torchvision:
    """A network of torchvision. The weights are the V1 weights, which all releases of torchvision have."""

    make: Callable[[], nn.Module]
    weights: WeightsEnum
    embedding_size: int


_TORCHVISION = {
    "v2": _Torchvision(torchvision.models.mobilenet_v2, MobileNet_V2_Weights.IMAGENET1K_V1, 1280),
    "v3-small": _Torchvision(torchvision.models.mobilenet_v3_small, MobileNet_V3_Small_Weights.IMAGENET1K_V1, 576),
    "v3-large": _Torchvision(torchvision.models.mobilenet_v3_large, MobileNet_V3_Large_Weights.IMAGENET1K_V1, 960),
}

BACKBONES = ("v1", *_TORCHVISION)


def load_backbone(name: str, weights: Path | None) -> Backbone:
    """Load a network with weights from ImageNet.

    Args:
        name: One of `BACKBONES`.
        weights: For v1, TensorFlow's arrays (`.npz`). For the others, a state dict of the torchvision network (`.pth`). None
            means that torchvision downloads it, or takes it from torch's cache.

    Raises:
        EmbedderError: If the name is unknown, or the weights are missing or belong to another network.
    """
    if name not in BACKBONES:
        raise EmbedderError(f"--backbone {name!r}: expected one of {', '.join(BACKBONES)}")
    if weights is not None and not weights.is_file():
        raise EmbedderError(f"--weights {weights}: there is no such file")
    if name == "v1":
        return make_v1(_read_arrays(weights))
    backbone = make_torchvision(name)
    _load(backbone, _read_state(weights) if weights else _download(name, _TORCHVISION[name].weights), weights)
    return backbone


def make_v1(network: MobileNet) -> Backbone:
    """Return MobileNet v1 in 14 blocks: the first convolution, then 13 pairs of a depthwise and a pointwise convolution."""
    layers = list(network.features)
    blocks = [nn.Sequential(layers[0]), *(nn.Sequential(*layers[i : i + 2]) for i in range(1, len(layers), 2))]
    half = (0.5, 0.5, 0.5)  # bytes to [-1, 1]
    return Backbone("v1", nn.Sequential(*blocks), mean=half, deviation=half, embedding_size=EMBEDDING_SIZE)


def make_torchvision(name: str) -> Backbone:
    """Return v2, v3-small or v3-large with random weights, without the layers that torchvision has after the pooling."""
    source = _TORCHVISION[name]
    return Backbone(
        name,
        cast("nn.Sequential", source.make().features),
        mean=IMAGENET_MEAN,
        deviation=IMAGENET_DEVIATION,
        embedding_size=source.embedding_size,
    )


def _read_arrays(path: Path | None) -> MobileNet:
    if path is None:
        raise EmbedderError(f"--backbone v1 needs --weights FILE: TensorFlow's ImageNet arrays, {WEIGHTS_FILE}")
    try:
        return MobileNet.from_file(path)
    except (KeyError, ValueError, OSError, AttributeError, zipfile.BadZipFile) as error:
        raise EmbedderError(f"{path}: expected the arrays of MobileNet v1 ({WEIGHTS_FILE}): {error}") from error


def _read_state(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else "the file ends early"
        raise EmbedderError(f"{path}: expected a state dict written by torch.save: {reason}") from error


def _download(name: str, weights: WeightsEnum) -> object:
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no internet, or a wrong checksum
        raise EmbedderError(
            f"--backbone {name} without --weights: {weights.url} could not be downloaded ({error}): "
            "download it elsewhere and pass it as --weights FILE"
        ) from error


def _load(backbone: Backbone, state: object, path: Path | None) -> None:
    """Load the `features.*` tensors of a torchvision state dict. Ignore its classifier, which may have any size."""
    prefix, place = "features.", path or "the downloaded weights"
    names = (
        [key for key in cast("Mapping[object, object]", state) if isinstance(key, str)]
        if isinstance(state, dict)
        else []
    )
    if not any(key.startswith(prefix) for key in names):
        raise EmbedderError(f"{place}: expected a state dict with features.*, found {', '.join(names[:3]) or 'none'}")
    tensors = cast("Mapping[str, Tensor]", state)
    try:
        backbone.blocks.load_state_dict(
            {key.removeprefix(prefix): tensors[key] for key in names if key.startswith(prefix)}
        )
    except RuntimeError as error:  # lists all missing, unexpected and misshapen tensors
        reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise EmbedderError(f"{place}: these are not the weights of {backbone.name}: {reason[:200]}") from error
