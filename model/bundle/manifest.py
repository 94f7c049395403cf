"""Typed form of the `manifest.json` of a bundle, and the checksum by which a manifest covers itself.

`model.bundle.loading` reads it and checks the files against it.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from model.fingerprint import Fingerprint


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of the backbone."""

    size: int
    """Side of the square picture, pixels."""
    preprocessing: str
    """Name of the preprocessing, see `model.preprocessing.PREPROCESSING`."""
    description: str


class Embedding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Output of the embedder."""

    size: int
    """Numbers in one embedding, d."""
    network: str
    """Architecture, for people."""


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A data set, photos or weights that the bundle was made from, with licence and attribution."""

    name: str
    use: str
    licence: str
    attribution: str


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to reproduce this bundle."""

    task: str
    command: str
    seed: int
    recipe: dict[str, float | int | str] = {}
    date: str = ""
    """When it was trained, RFC 3339. Empty in a bundle of an early version."""


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bundle has learnt from. Held-out users are not in it."""

    source: str
    """The data set, as `dataset.json` names it."""
    users: int
    items: int
    """Items whose labels were learnt, with or without an event."""
    events: int
    from_time: str
    """The first event, RFC 3339."""
    to_time: str
    """The last event, RFC 3339."""
    user_ids: Fingerprint
    """Tells whether other users are among these."""
    user_items: Fingerprint
    """Tells whether other events are among these, by user, item and day (`model.fingerprint.event_name`)."""


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Categories that exclude each other, such as the colours. The scores of a field sum to 1."""

    name: str
    categories: list[int]
    """Their places in `Manifest.categories`."""


class Adapts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The embeddings that `adapter.onnx` takes, and how it was made."""

    embedder_version: str
    """The embedder that they are by: that of an older bundle."""
    embedding_size: int
    """Numbers in one of them."""
    method: str
    """How the adapter was fitted, for people."""
    pictures: int
    """Number of pictures that it was fitted on."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of `manifest.json`. A field with its default is not written, so that older versions read what has nothing new."""

    name: str
    version: str
    files: dict[str, str]
    """File name to SHA-256 in lower-case hexadecimal, for each file of the bundle."""
    image: Image
    embedding: Embedding
    categories: list[str]
    """Names of the D scores, in the order of the scores."""
    prior: list[float]
    """P(label) of each category among training users, [D]. The answer for an empty bag."""
    max_bag: int
    """Largest bag in training, items. Larger bags work, but were not measured."""
    sources: list[Provenance]
    training: Training
    metrics: dict[str, dict[str, float]]
    """Held-out figures. First key: what was measured. Second key: name of the figure."""
    data: Data | None = None
    """None where no events were learnt from, and in a bundle of an early version."""
    fields: list[Field] = []
    """Empty where no categories exclude each other, and in a bundle of an early version."""
    backbone_version: str = ""
    """`versions.backbone_version` of the files. Empty in a bundle of an early version."""
    embedder_version: str = ""
    """`versions.embedder_version` of the files. Empty in a bundle of an early version."""
    adapts: Adapts | None = None
    """None in a bundle without `adapter.onnx`."""
    checksum: str = ""
    """`content_checksum` of everything else in the manifest. Empty in a bundle of an early version, which stays usable."""


def content_checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's content without its field `checksum`, in lower-case hexadecimal.

    Independent of white space and of the order of the fields. An early manifest keeps its checksum when fields with
    defaults are added to `Manifest`, because it is computed from what the file says.

    Args:
        content: The manifest as JSON decodes it.
    """
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(msgspec.json.encode(rest, order="deterministic")).hexdigest()


def encode(manifest: Manifest) -> bytes:
    """Return the content of `manifest.json`, with its checksum, indented for readers."""
    content: dict[str, Any] = msgspec.to_builtins(manifest)
    content["checksum"] = content_checksum(content)
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
