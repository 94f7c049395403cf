"""The manifest of a bundle. The networks are not there, so every bundle is refused in the end."""

import atexit
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from model.bundle import MANIFEST, Bundle
from model.bundle.manifest import Manifest, content_checksum, encode
from model.exceptions import BundleError


@cache
def _folder() -> Path:
    made = tempfile.TemporaryDirectory(prefix="fuzz-manifest-")
    atexit.register(made.cleanup)
    return Path(made.name)


def seeds() -> list[bytes]:
    """A small manifest with and without its checksum, and with one thing wrong."""
    whole: dict[str, Any] = {
        "name": "shop", "version": "1", "files": {"backbone.onnx": "0" * 64, "items.onnx": "0" * 64, "aggregator.onnx": "0" * 64},
        "image": {"size": 96, "preprocessing": "fit-white-1", "description": ""}, "embedding": {"size": 8, "network": "n"},
        "categories": ["a", "b"], "prior": [0.5, 0.25], "max_bag": 64, "sources": [], "metrics": {"held out": {"recall": 1}},
        "training": {"task": "t", "command": "c", "seed": 0, "recipe": {"epochs": 3}},
    }  # fmt: skip
    changes: list[dict[str, Any]] = [
        {}, {"checksum": content_checksum(whole)}, {"checksum": ""},
        {"files": {"../x": ""}}, {"prior": [1e999, -1]}, {"categories": ["a", "a"]},
        {"files": {"a\0b": "", **whole["files"]}}, {"files": {"embedder.onnx": "0" * 64, **whole["files"]}},
        {"files": {"embedder.onnx": "0" * 64, "aggregator.onnx": "0" * 64}}, {"backbone_version": "\n", "embedder_version": "0"},
        {"files": {"adapter.onnx": "0" * 64, **whole["files"]}},
        {
            "files": {"adapter.onnx": "0" * 64, **whole["files"]},
            "adapts": {"embedder_version": "0", "embedding_size": 8, "method": "m", "pictures": 1},
        },
        {"image": {"size": 0, "preprocessing": "other", "description": "\n"}}, {"embedding": {"size": -1, "network": "n"}},
    ]  # fmt: skip
    return [*(json.dumps({**whole, **change}).encode() for change in changes), b"{}", b"[" * 2000, b"\xff"]


def check(data: bytes) -> str:
    """Load a bundle with this manifest; write it again, and its checksum is right."""
    path = _folder() / MANIFEST
    path.write_bytes(data)
    try:
        Bundle.load(_folder())
    except BundleError as error:
        text = str(error)
        assert text.isprintable()
        assert len(text) < 1000 + len(str(path))
        assert str(path.parent) in text
        outcome = text.removeprefix(str(path)).partition(",")[0][:40]
    else:
        raise AssertionError("a bundle without networks was loaded")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "no manifest"
    written = encode(manifest)
    content = json.loads(written)
    assert content["checksum"] == content_checksum(content)
    return outcome
