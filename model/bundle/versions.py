"""Names of the files of a bundle, and the versions that follow from their hashes. Pure.

    backbone version   what makes features from a picture: `backbone.onnx`, the preprocessing, the size of the picture
    embedder version   what makes an embedding from a picture: the backbone version and `items.onnx`
    labels version     what tells the categories of an item from its embedding: the embedder version and `labels.npz`

Bundles that were trained on the same backbone have the same backbone version. So features that one of them made are input for
the item network of another. An early bundle has `embedder.onnx` for both networks, and no backbone version. An adapter and an
aggregator change no version.
"""

import hashlib

import msgspec

from model.bundle.manifest import Manifest

MANIFEST = "manifest.json"
BACKBONE = "backbone.onnx"
ITEMS = "items.onnx"
EMBEDDER = "embedder.onnx"
AGGREGATOR = "aggregator.onnx"
ADAPTER = "adapter.onnx"
LABELS = "labels.npz"
RANKING = "ranking.json"


def backbone_version(manifest: Manifest) -> str:
    """Return 12 hexadecimal digits that identify a backbone; "" for an early bundle, which has none by itself."""
    return _version(manifest, BACKBONE) if BACKBONE in manifest.files else ""


def embedder_version(manifest: Manifest) -> str:
    """Return 12 hexadecimal digits that identify an embedder. Without an item network they are those of the backbone."""
    if EMBEDDER in manifest.files:
        return _version(manifest, EMBEDDER)
    if ITEMS in manifest.files:
        return _short_hash(f"{backbone_version(manifest)} {manifest.files[ITEMS]}")
    return backbone_version(manifest)


def labels_version(manifest: Manifest) -> str:
    """Return 12 hexadecimal digits that identify what tells the categories of an item; "" for a bundle without `labels.npz`."""
    if LABELS not in manifest.files:
        return ""
    return _short_hash(f"{embedder_version(manifest)} {manifest.files[LABELS]} {len(manifest.categories)}")


def with_versions(manifest: Manifest) -> Manifest:
    """Return the manifest with the versions of its files, which bundles that are written name."""
    return msgspec.structs.replace(
        manifest, backbone_version=backbone_version(manifest), embedder_version=embedder_version(manifest)
    )


def dated_version(manifest: Manifest) -> str:
    """Return a version for a bundle that was given none: the day of the training, and eight digits for everything that answers.

    So two bundles have the same one only if they are the same. Example: 2026.11.28-5f0c1a7e.
    """
    content = msgspec.json.encode(
        (manifest.name, sorted(manifest.files.items()), manifest.categories, manifest.prior, manifest.training)
    )
    return f"{manifest.training.date[:10].replace('-', '.')}-{hashlib.sha256(content).hexdigest()[:8]}"


def _version(manifest: Manifest, name: str) -> str:
    """Identify a network that takes pictures."""
    return _short_hash(f"{manifest.files[name]} {manifest.image.preprocessing} {manifest.image.size}")


def _short_hash(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:12]
