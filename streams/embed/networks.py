"""The networks of the bundles: from pixels to features, and from features to codes.

Bundles with the same backbone share it. The network of an early bundle makes codes at once; these are its features, too. A network
of the next bundle that fails makes nothing, and costs the served bundle nothing.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.embedder import SplitEmbedder
from model.quantization import HEADER_BYTES, quantize_all
from streams.bundles import Bundles
from streams.features.records import features_version

logger = logging.getLogger(__name__)

Given = TypeVar("Given")

Pictures = Sequence[NDArray[np.uint8]]  # uint8 [H, W, 3] each, as `model.preprocessing.decode_picture` returns them


@dataclass(frozen=True)
class PictureNetwork:
    """What makes features of pictures."""

    version: str  # identifies the features
    image_size: int  # side of the square that it takes, pixels
    row_bytes: int  # length of a row of features
    run: Callable[[Pictures], Sequence[bytes]]  # rows; one is not `is_finite` where the network made no numbers


@dataclass(frozen=True)
class Coder:
    """What makes the codes of one embedder from the features of a network."""

    embedder_version: str
    features: str  # version of the features that it takes
    code_bytes: int  # length of a code
    run: Callable[[Sequence[bytes]], Sequence[bytes]] | None  # None: the features are the codes


@dataclass(frozen=True)
class Networks:
    """The distinct networks of one or two bundles."""

    pictures: list[PictureNetwork]
    coders: list[Coder]  # the served bundle's first; one if both bundles have the same embedder

    @property
    def row_bytes(self) -> dict[str, int]:
        """Length of the features of each version."""
        return {network.version: network.row_bytes for network in self.pictures}


def open_networks(bundles: Bundles, threads: int) -> Networks:
    """Open what makes embeddings of pictures. One call of a network computes on `threads` threads."""
    pictures: dict[str, PictureNetwork] = {}
    coders: dict[str, Coder] = {}
    split: dict[str, SplitEmbedder] = {}  # by backbone version
    for bundle in bundles.all:
        if bundle.embedder_version in coders:
            continue
        version, code_bytes = features_version(bundle), HEADER_BYTES + bundle.embedding_size
        if not bundle.backbone_version:
            whole = bundle.embedder(threads)
            pictures[version] = PictureNetwork(
                version,
                whole.image_size,
                code_bytes,
                lambda given, embed=whole.embed: quantize_all(embed(_stack(given))),
            )
            coders[bundle.embedder_version] = Coder(bundle.embedder_version, version, code_bytes, None)
            continue
        embedder = _split(bundle, threads, split.get(version))
        split[version] = embedder
        backbone = embedder.backbone
        pictures[version] = PictureNetwork(
            version,
            backbone.image_size,
            HEADER_BYTES + backbone.feature_size,
            lambda given, features=backbone.features: features(_stack(given)),
        )
        coders[bundle.embedder_version] = Coder(
            bundle.embedder_version,
            version,
            code_bytes,
            lambda rows, embed=embedder.of_features: quantize_all(embed(rows)),
        )
    served = next(iter(coders.values()))
    return Networks(
        [one if one.version == served.features else replace(one, run=_tried(one.run)) for one in pictures.values()],
        [one if one is served or one.run is None else replace(one, run=_tried(one.run)) for one in coders.values()],
    )


def _tried(run: Callable[[Sequence[Given]], Sequence[bytes]]) -> Callable[[Sequence[Given]], Sequence[bytes]]:
    """A call of a network that is only tried: it returns b"" for each input where the network fails."""
    told = ""

    def call(given: Sequence[Given]) -> Sequence[bytes]:
        nonlocal told
        try:
            return run(given)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with the next bundle must cost no event
            if str(error) != told:
                told = str(error)
                logger.error("a network of NEXT_BUNDLE fails, and makes no embeddings; BUNDLE goes on: %s", error)  # noqa: TRY400
            return [b""] * len(given)

    return call


def _split(bundle: Bundle, threads: int, other: SplitEmbedder | None) -> SplitEmbedder:
    """The networks of a bundle, with the backbone of another one that has the same."""
    if other is None:
        return bundle.split_embedder(threads)
    items = bundle.items(other.backbone.feature_size, threads)
    return SplitEmbedder(other.backbone, items, bundle.embedder_version)


def _stack(pictures: Pictures) -> NDArray[np.uint8]:
    return np.stack(pictures)
