"""What `manifest.json` of a bundle says, as typed values. `model.bundle` reads it and holds the files against it."""

import msgspec


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the embedder takes."""

    size: int
    """Side of the square, pixels."""
    preprocessing: str
    """Name of the procedure, `model.preprocessing.PREPROCESSING`."""
    description: str


class Embedding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the embedder gives."""

    size: int
    network: str


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A data set, photos or weights that went into the bundle, and what must be said of them."""

    name: str
    use: str
    licence: str
    attribution: str


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to make this bundle again."""

    task: str
    command: str
    seed: int
    recipe: dict[str, float | int | str] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `manifest.json`."""

    name: str
    version: str
    files: dict[str, str]
    """SHA-256, lower-case hexadecimal, of each file of the bundle by its name."""
    image: Image
    embedding: Embedding
    categories: list[str]
    """Names of the D scores, in their order."""
    prior: list[float]
    """P(label) of each category among training users, what an empty bag is answered with."""
    max_bag: int
    """The largest bag that the aggregator was trained with; larger ones run, but nobody measured them."""
    sources: list[Source]
    training: Training
    metrics: dict[str, dict[str, float]]
    """Held-out figures: first key what was measured, second the figure's name."""
