"""A model bundle: a folder with two networks and a manifest. `Bundle.load` checks all of it before use.

manifest.py     the typed form of `manifest.json`
protobuf.py, onnx_check.py   what an ONNX file may contain
signature.py    who made a bundle
loading.py      `Bundle`: all of the above, and the networks as sessions
"""

from model.bundle.loading import (
    AGGREGATOR,
    DEFAULT_BUNDLE,
    EMBEDDER,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Bundle,
    embedder_version,
    file_sha256,
)

__all__ = [
    "AGGREGATOR",
    "DEFAULT_BUNDLE",
    "EMBEDDER",
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "Bundle",
    "embedder_version",
    "file_sha256",
]
