"""The bundles of an installation: the one that is served, and the one that is prepared."""

from dataclasses import dataclass

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams.settings import Settings


@dataclass(frozen=True)
class Bundles:
    """`BUNDLE`, and `NEXT_BUNDLE` if it is set."""

    served: Bundle
    next: Bundle | None = None

    @property
    def all(self) -> list[Bundle]:
        """The bundles, the served one first."""
        return [self.served] if self.next is None else [self.served, self.next]

    @property
    def row_bytes(self) -> dict[str, int]:
        """Length of the encoded embeddings of each embedder, by its version."""
        return {bundle.embedder_version: HEADER_BYTES + bundle.embedding_size for bundle in self.all}


def load_bundles(settings: Settings) -> Bundles:
    """Load and check the bundles of the settings.

    Raises:
        BundleError: The message names the file, what was expected, what was found, and what to do.
    """
    served = Bundle.load(settings.bundle, settings.bundle_key)
    if settings.next_bundle is None:
        return Bundles(served)
    return Bundles(served, Bundle.load(settings.next_bundle, settings.bundle_key))
