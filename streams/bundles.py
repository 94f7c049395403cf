"""The bundles of an installation: the one that is served, and the one that is prepared."""

import os
from dataclasses import dataclass
from pathlib import Path

from model.bundle import Bundle
from model.exceptions import BundleError
from model.quantization import HEADER_BYTES
from streams.settings import Settings

SHOWN_CATEGORIES = 5  # in a log line


@dataclass(frozen=True)
class Bundles:
    """`BUNDLE`, and `NEXT_BUNDLE` if it is set."""

    served: Bundle
    next: Bundle | None = None

    @property
    def all(self) -> list[Bundle]:
        """The bundles, the served one first."""
        return [self.served] if self.next is None else [self.served, self.next]

    def __str__(self) -> str:
        return ", ".join(
            f"{what} {bundle.name} {bundle.version}"
            for what, bundle in zip(("bundle", "next bundle"), self.all, strict=False)
        )

    @property
    def row_bytes(self) -> dict[str, int]:
        """Length of the encoded embeddings of each embedder, by its version."""
        return {bundle.embedder_version: HEADER_BYTES + bundle.embedding_size for bundle in self.all}


def category_changes(bundles: Bundles) -> str:
    """How the next bundle's categories differ from those of the served one, on one line; empty if they do not."""
    if bundles.next is None:
        return ""
    served, following = set(bundles.served.categories), set(bundles.next.categories)
    changes = [
        f"{len(names)} {what} ({', '.join(sorted(names)[:SHOWN_CATEGORIES])}{', ...' if len(names) > SHOWN_CATEGORIES else ''})"
        for what, names in (("more", following - served), ("gone", served - following))
        if names
    ]
    return f"NEXT_BUNDLE has other categories than BUNDLE: {', '.join(changes)}" if changes else ""


def load_bundles(settings: Settings) -> Bundles:
    """Load and check the bundles of the settings.

    Raises:
        BundleError: The message names the file, what was expected, what was found, and what to do.
    """
    served = _load("BUNDLE", settings.bundle, settings.bundle_key)
    if settings.next_bundle is None:
        return Bundles(served)
    return Bundles(served, _load("NEXT_BUNDLE", settings.next_bundle, settings.bundle_key))


def load_bundle(path: Path | None, key: Path | None) -> Bundle:
    """Load the bundle that a path leads to now. Somebody may switch a link in it at any time: all files are of one folder.

    Raises:
        BundleError: See `Bundle.load`.
    """
    return Bundle.load(path and Path(os.path.realpath(path)), key)


def _load(setting: str, path: Path | None, key: Path | None) -> Bundle:
    try:
        return load_bundle(path, key)
    except BundleError as error:
        raise BundleError(f"{setting}: {error}") from error
