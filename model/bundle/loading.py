"""`Bundle`: a folder of networks, checked, and its networks as sessions.

manifest.json     name, version, checksums (its own among them), sizes, categories, prior, training, licences, metrics
backbone.onnx     `image` uint8 [B, H, W, 3] -> `features` float32 [B, f]
items.onnx        `features` float32 [B, f] -> `embedding` float32 [B, d]; without it, the features are the embedding
aggregator.onnx   `embeddings` float32 [B, M, d], `log_prior` float32 [B, M] (the log weight of each item)
                  -> `scores` float32 [B, D], `attention` float32 [B, M]

                  a bundle with `labels.npz` takes `ages` float32 [B, M] and `trend` float32 [B, 3, D] as well
labels.npz        the categories of an item, by its embedding (`model.item_labels`): what the trend counts; optional
ranking.json      how items are ranked (`model.item_search.weights`); optional

adapter.onnx      `embedding` float32 [B, e], by the embedder of an older bundle -> `adapted` float32 [B, d]; optional

An early bundle has `embedder.onnx`, `image` -> `embedding`, instead of the first two.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from model import sessions
from model.aggregator import AGES, LOG_WEIGHT, TREND, TREND_DAYS, Aggregator
from model.bundle.manifest import Manifest
from model.bundle.onnx_check import NetworkError, check_network
from model.bundle.reading import ADVICE, read_file, read_manifest, shown
from model.bundle.versions import (
    ADAPTER,
    AGGREGATOR,
    BACKBONE,
    EMBEDDER,
    ITEMS,
    LABELS,
    MANIFEST,
    RANKING,
    backbone_version,
    embedder_version,
    labels_version,
)
from model.embedder import Adapter, Backbone, Embedder, ItemCoder, SplitEmbedder, WholeEmbedder
from model.exceptions import BundleError
from model.item_labels import ItemLabels, read_item_labels
from model.item_search.weights import DEFAULT, RankingWeights, read_weights
from model.preprocessing import PREPROCESSING
from model.sessions import TensorSpec

DEFAULT_BUNDLE = Path(__file__).parents[1] / "bundles" / "default"

MAX_NAME_BYTES = 255  # of a file: the limit of file systems


class Bundle:
    """A checked bundle. Attributes repeat the manifest in the types that computation needs: `prior` is float32 [D], read-only."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.name = manifest.name
        self.version = manifest.version
        self.categories = tuple(manifest.categories)
        self.prior = np.array(manifest.prior, np.float32)
        self.prior.flags.writeable = False
        self.image_size = manifest.image.size
        self.embedding_size = manifest.embedding.size
        self.backbone_version = backbone_version(manifest)
        """"" for an early bundle."""
        self.embedder_version = embedder_version(manifest)
        self.labels_version = labels_version(manifest)
        """"" for a bundle that does not use the trend."""
        self.fields = tuple(manifest.fields)

    def __repr__(self) -> str:
        return f"Bundle(name={self.name!r}, version={self.version!r}, path={str(self.path)!r}, categories={len(self.categories)})"

    @classmethod
    def load(cls, path: Path | None = None, key: Path | None = None) -> "Bundle":
        """Check the folder of a bundle. The networks are opened to check their inputs and outputs, then closed.

        Args:
            path: Folder of the bundle. None means the one that ships with the package.
            key: Ed25519 public key (PEM) by which the bundle has to be signed. None asks for no signature.

        Raises:
            BundleError: The message names the file, what was expected, what was found, and what to do.
        """
        folder = DEFAULT_BUNDLE if path is None else Path(path)
        manifest = read_manifest(folder, key)
        _check_manifest(folder / MANIFEST, manifest)
        for name, expected in manifest.files.items():
            read_file(folder / name, expected)
        bundle = cls(folder, manifest)
        bundle.embedder()
        bundle.aggregator()
        bundle.item_labels()
        bundle.ranking()
        if manifest.adapts is not None:
            bundle.adapter(manifest.adapts.embedder_version)
        return bundle

    def embedder(self, threads: int = 1) -> Embedder:
        """Open what makes an embedding from a picture. One call computes on `threads` threads."""
        if EMBEDDER in self.manifest.files:
            network = self._open(EMBEDDER, threads, arena=True)
            self._check(EMBEDDER, network, [self._image], [_vector("embedding", self.embedding_size)])
            return WholeEmbedder(network, self.image_size, self.embedding_size, self.embedder_version)
        return self.split_embedder(threads)

    def split_embedder(self, threads: int = 1) -> SplitEmbedder:
        """Open what makes an embedding from a picture, in its two parts. One call computes on `threads` threads.

        Raises:
            BundleError: It is an early bundle, which has no parts.
        """
        backbone = self.backbone(threads)
        return SplitEmbedder(backbone, self.items(backbone.feature_size, threads), self.embedder_version)

    def backbone(self, threads: int = 1) -> Backbone:
        """Open what makes features from a picture. One call computes on `threads` threads.

        Raises:
            BundleError: It is an early bundle, whose network for pictures makes embeddings.
        """
        if not self.backbone_version:
            raise BundleError(
                f"{self.path}: expected a bundle with {BACKBONE}, found {EMBEDDER}, which makes no features: "
                "write it in the present form with `tastestream train split`"
            )
        session = self._open(BACKBONE, threads, arena=True)
        size = _numbers(session.get_outputs())
        self._check(BACKBONE, session, [self._image], [_vector("features", size)])
        return Backbone(session, self.image_size, size, self.backbone_version)

    def items(self, feature_size: int, threads: int = 1) -> ItemCoder | None:
        """Open what makes embeddings from features of so many numbers; None if the features are the embedding.

        Raises:
            BundleError: There is no such network, and the features have another size than the embedding.
        """
        if ITEMS not in self.manifest.files:
            if feature_size == self.embedding_size:
                return None
            raise BundleError(
                f"{self.path / MANIFEST}: expected {ITEMS}, from {feature_size} features to an embedding of "
                f"{self.embedding_size} numbers, found {BACKBONE} alone: {ADVICE}"
            )
        session = self._open(ITEMS, threads)
        self._check(ITEMS, session, [_vector("features", feature_size)], [_vector("embedding", self.embedding_size)])
        return ItemCoder(session, feature_size, self.embedding_size)

    def aggregator(self, threads: int = 1) -> Aggregator:
        """Open a session of the aggregator. One call computes on `threads` threads."""
        session = self._open(AGGREGATOR, threads)
        inputs = [
            TensorSpec("embeddings", "float32", ("batch", "items", self.embedding_size)),
            TensorSpec(LOG_WEIGHT, "float32", ("batch", "items")),
        ]
        if self.labels_version:
            inputs.append(TensorSpec(AGES, "float32", ("batch", "items")))
            inputs.append(TensorSpec(TREND, "float32", ("batch", len(TREND_DAYS), len(self.categories))))
        outputs = [
            TensorSpec("scores", "float32", ("batch", len(self.categories))),
            TensorSpec("attention", "float32", ("batch", "items")),
        ]
        self._check(AGGREGATOR, session, inputs, outputs)
        return Aggregator(session, self.embedding_size, len(self.categories))

    def item_labels(self) -> ItemLabels | None:
        """What tells the categories of an item from its embedding. None in a bundle that does not use the trend."""
        if LABELS not in self.manifest.files:
            return None
        path = self.path / LABELS
        content = read_file(path, self.manifest.files[LABELS])
        return read_item_labels(path, content, embedding_size=self.embedding_size, categories=len(self.categories))

    def ranking(self) -> RankingWeights:
        """How items are ranked: as it was trained, or by the defaults."""
        if RANKING not in self.manifest.files:
            return DEFAULT
        path = self.path / RANKING
        return read_weights(path, read_file(path, self.manifest.files[RANKING]))

    def adapter(self, from_embedder_version: str, threads: int = 1) -> Adapter | None:
        """Open what makes an embedding from one of an older bundle, for pictures that are gone. None if there is none for that one.

        Args:
            from_embedder_version: The embedder version of the older bundle.
            threads: Threads that compute one call.
        """
        adapts = self.manifest.adapts
        if adapts is None or adapts.embedder_version != from_embedder_version:
            return None
        session = self._open(ADAPTER, threads)
        self._check(
            ADAPTER,
            session,
            [_vector("embedding", adapts.embedding_size)],
            [_vector("adapted", self.embedding_size)],
        )
        return Adapter(session, from_embedder_version, adapts.embedding_size, self.embedding_size)

    @property
    def _image(self) -> TensorSpec:
        return TensorSpec("image", "uint8", ("batch", self.image_size, self.image_size, 3))

    def _open(self, name: str, threads: int, *, arena: bool = False) -> onnxruntime.InferenceSession:
        """Read a network once, and check these very bytes: the file may be another one a moment later."""
        path = self.path / name
        content = read_file(path, self.manifest.files[name])
        try:
            check_network(content)
        except NetworkError as error:
            raise BundleError(f"{path}: {error}: {ADVICE}") from error
        return sessions.open_session(path, threads, arena=arena, content=content)

    def _check(
        self, name: str, session: onnxruntime.InferenceSession, inputs: list[TensorSpec], outputs: list[TensorSpec]
    ) -> None:
        sessions.check_signature(self.path / name, session, inputs, outputs)


def _vector(name: str, size: int) -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", size))


def _numbers(outputs: Sequence[onnxruntime.NodeArg]) -> int:
    """How many numbers a backbone makes of a picture; 1 where its output is no vector, which the check then refuses."""
    shape = outputs[0].shape if outputs else []
    return shape[1] if len(shape) == 2 and isinstance(shape[1], int) else 1


def _check_manifest(path: Path, manifest: Manifest) -> None:
    """Check what the types of the manifest cannot express."""
    _check_files(path, manifest.files)
    for name in manifest.files:
        if Path(name).name != name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
            raise BundleError(f"{path}: expected names of files in this folder, found '{shown(name)}': {ADVICE}")
    categories, distinct = len(manifest.categories), len(set(manifest.categories))
    if not categories or distinct != categories:
        raise BundleError(f"{path}: expected distinct categories, found {distinct} names for {categories}: {ADVICE}")
    if len(manifest.prior) != categories or not all(math.isfinite(p) and 0 <= p <= 1 for p in manifest.prior):
        raise BundleError(
            f"{path}: expected a prior of {categories} probabilities, one for each category, found {len(manifest.prior)} numbers "
            f"from {min(manifest.prior, default=0)} to {max(manifest.prior, default=0)}: {ADVICE}"
        )
    if manifest.image.preprocessing != PREPROCESSING:
        raise BundleError(
            f"{path}: expected image.preprocessing {PREPROCESSING!r}, the only one that this version supports, "
            f"found '{shown(manifest.image.preprocessing)}': "
            "install the tastestream version that made the bundle, or train the bundle again"
        )
    for field, named, version in (
        ("backbone_version", manifest.backbone_version, backbone_version(manifest)),
        ("embedder_version", manifest.embedder_version, embedder_version(manifest)),
    ):
        if named not in {"", version}:
            raise BundleError(f"{path}: expected {field} {version or 'empty'}, found '{shown(named)}': {ADVICE}")

    _check_adapter(path, manifest)
    places = [place for field in manifest.fields for place in field.categories]
    names = {field.name for field in manifest.fields}
    if len(set(places)) < len(places) or not set(places) <= set(range(categories)) or len(names) < len(manifest.fields):
        raise BundleError(
            f"{path}: expected fields of different names, each category in one of them at most, found {len(names)} names for "
            f"{len(manifest.fields)} fields with {len(set(places))} of {categories} categories: {ADVICE}"
        )


def _check_adapter(path: Path, manifest: Manifest) -> None:
    adapts = manifest.adapts
    if (ADAPTER in manifest.files) != (adapts is not None):
        found = f"{ADAPTER} alone" if adapts is None else f"adapts alone, for '{shown(adapts.embedder_version)}'"
        raise BundleError(
            f"{path}: expected the field adapts and a checksum of {ADAPTER}, or neither, found {found}: {ADVICE}"
        )
    if adapts is not None and adapts.embedder_version in {"", embedder_version(manifest)}:
        raise BundleError(
            f"{path}: expected adapts.embedder_version of another embedder than {embedder_version(manifest)}, "
            f"found '{adapts.embedder_version}': {ADVICE}"
        )


def _check_files(path: Path, files: dict[str, str]) -> None:
    """Check that the networks are all there, in the present form or the early one."""
    whole = EMBEDDER in files
    if whole and not files.keys().isdisjoint({BACKBONE, ITEMS}):
        raise BundleError(
            f"{path}: expected {EMBEDDER} alone, or {BACKBONE} and {ITEMS}, found {shown(', '.join(files))}: {ADVICE}"
        )
    for name in (EMBEDDER if whole else BACKBONE, AGGREGATOR):
        if name not in files:
            raise BundleError(
                f"{path}: expected a checksum of {name}, found {shown(', '.join(files)) or 'none'}: {ADVICE}"
            )
