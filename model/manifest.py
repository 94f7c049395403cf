"""Typed form of the `manifest.json` of a bundle. `model.bundle` reads it and checks the files against it."""

import msgspec


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of the embedder."""

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


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reproduce this bundle."""

    task: str
    command: str
    seed: int
    recipe: dict[str, float | int | str] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of `manifest.json`."""

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
