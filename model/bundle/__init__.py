"""A model bundle: a folder with networks and a manifest that names them. `Bundle.load` checks all of it before use.

versions.py     names of the files, and the versions that follow from their hashes
manifest.py     the typed form of `manifest.json`
reading.py      reads files of strangers: bounded, and against their checksums
protobuf.py, onnx_check.py   what an ONNX file may contain
signature.py    who made a bundle
loading.py      `Bundle`: all of the above, and the networks as sessions
"""

from model.bundle.loading import DEFAULT_BUNDLE, Bundle
from model.bundle.reading import MAX_MANIFEST_BYTES, file_sha256
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

__all__ = [
    "ADAPTER",
    "AGGREGATOR",
    "BACKBONE",
    "DEFAULT_BUNDLE",
    "EMBEDDER",
    "ITEMS",
    "LABELS",
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "RANKING",
    "Bundle",
    "backbone_version",
    "embedder_version",
    "file_sha256",
    "labels_version",
]
