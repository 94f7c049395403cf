"""The networks that an embedder may be made of, behind one interface: pictures to pooled features, block by block.

MobileNet v1 comes from TensorFlow's ImageNet arrays (`offline_training.embedders.mobilenet`), v2 and v3 from torchvision. All stay in
evaluation mode, in training too: v1 has its batch norms folded, v2 and v3 keep the statistics that ImageNet gave them
(batches of a fine-tuning are small and of one domain, theirs would be noise).
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

from offline_training.embedders.exceptions import EmbedderError
from offline_training.embedders.mobilenet import EMBEDDING_SIZE, IMAGE_SIZE, WEIGHTS_FILE, MobileNet

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]: what torchvision's weights were trained with."""


class Backbone(nn.Module):
    """uint8 pictures [B,H,W,3] to embeddings float32 [B,d]; normalization and pooling included.

    Attributes:
        blocks: from the pixels to the last feature map; fine-tuning of the last N blocks trains the last N of them.
        image_size: side of the square pictures, pixels.
        embedding_size: d.
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
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))  # of bytes
        self.register_buffer("deviation", 255 * torch.tensor(deviation).view(1, 3, 1, 1))
        self.eval()

    def forward(self, image: Tensor) -> Tensor:  # uint8 [B,H,W,3] -> float32 [B,d]
        return self.after(self.before(image, len(self.blocks)), len(self.blocks))

    def before(self, image: Tensor, cut: int) -> Tensor:
        """uint8 [B,H,W,3] -> float32 [B,C,h,w], what the first `cut` blocks make of the pictures.

        0 only normalizes; all of them are followed by the pooling, [B,d,1,1].
        """
        x = (image.permute(0, 3, 1, 2).float() - self.mean) / self.deviation  # [B,3,H,W]
        x = self.blocks[:cut](x)
        return x.mean(dim=(2, 3), keepdim=True) if cut == len(self.blocks) else x

    def after(self, x: Tensor, cut: int) -> Tensor:
        """float32 [B,C,h,w] of `before` -> float32 [B,d], what the other blocks and the pooling make of it."""
        return self.blocks[cut:](x).mean(dim=(2, 3))

    def unfreeze(self, cut: int) -> list[nn.Parameter]:
        """Let the blocks from `cut` on learn, and no other; their parameters."""
        self.requires_grad_(False)
        return list(self.blocks[cut:].requires_grad_(True).parameters())

    def identity(self, cut: int) -> str:
        """Changes with the weights of the first `cut` blocks and with what happens before them."""
        digest = hashlib.sha256(f"{self.name} {self.image_size} {cut}".encode())
        for tensor in (self.mean, self.deviation, *self.blocks[:cut].state_dict().values()):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Torchvision:
    """How torchvision makes a network, and its weights: those of the first training recipe, which all its releases have."""

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
    """A network with the weights of ImageNet.

    Args:
        name: one of `BACKBONES`.
        weights: v1: TensorFlow's arrays (`.npz`); others: a state dict of torchvision's network (`.pth`), or None, and
            torchvision downloads it (or finds it in torch's cache).

    Raises:
        EmbedderError: when the name is none of them, or the weights are missing or of another network.
    """
    if name not in BACKBONES:
        raise EmbedderError(f"--backbone {name!r}: expected one of {', '.join(BACKBONES)}")
    if weights is not None and not weights.is_file():
        raise EmbedderError(f"--weights {weights}: there is no such file")
    if name == "v1":
        return make_v1(_read_arrays(weights))
    made = make_torchvision(name)
    _load(made, _read_state(weights) if weights else _download(name, _TORCHVISION[name].weights), weights)
    return made


def make_v1(network: MobileNet) -> Backbone:
    """MobileNet v1: the first convolution, then 13 blocks of a depthwise and a pointwise one."""
    layers = list(network.features)
    blocks = [nn.Sequential(layers[0]), *(nn.Sequential(*layers[i : i + 2]) for i in range(1, len(layers), 2))]
    half = (0.5, 0.5, 0.5)  # bytes to [-1, 1]
    return Backbone("v1", nn.Sequential(*blocks), mean=half, deviation=half, embedding_size=EMBEDDING_SIZE)


def make_torchvision(name: str) -> Backbone:
    """v2, v3-small or v3-large with random weights, without what torchvision has after the pooling."""
    known = _TORCHVISION[name]
    return Backbone(
        name,
        cast("nn.Sequential", known.make().features),
        mean=IMAGENET_MEAN,
        deviation=IMAGENET_DEVIATION,
        embedding_size=known.embedding_size,
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
        reason = str(error).splitlines()[0] if str(error) else "it ends early"
        raise EmbedderError(f"{path}: expected a state dict written by torch.save: {reason}") from error


def _download(name: str, weights: WeightsEnum) -> object:
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no internet; a file of another checksum
        raise EmbedderError(
            f"--backbone {name} without --weights: {weights.url} could not be downloaded ({error}): "
            "download it elsewhere and give it as --weights FILE"
        ) from error


def _load(backbone: Backbone, state: object, path: Path | None) -> None:
    """Take the `features.` of torchvision's state dict; its classifier may be of any size."""
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
    except RuntimeError as error:  # missing, unexpected or misshapen tensors, all of them in one message
        reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise EmbedderError(f"{place}: these are not the weights of {backbone.name}: {reason[:200]}") from error
