"""Codes of the next bundle: from features, and from the codes of other embedders where a picture is gone."""

from collections.abc import Sequence

from model.bundle import Bundle
from model.embedder import Adapter
from model.quantization import HEADER_BYTES, is_finite, quantize_all
from streams.bundles import Bundles
from streams.embed.networks import open_networks


class Coder:
    """Makes codes of one bundle. A code that cannot be stored is None."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Open the networks of a bundle. One call computes on `threads` threads."""
        self._bundle = bundle
        self._adapters: dict[str, Adapter] = {}  # by the version of the embedder that they adapt codes of
        networks = open_networks(Bundles(bundle), threads)
        [self.network] = networks.pictures  # that makes features
        [self._coder] = networks.coders
        self.version = bundle.embedder_version

    @property
    def features_version(self) -> str:
        """What identifies the features."""
        return self.network.version

    def fits(self, features: bytes) -> bool:
        """Whether these can be features of the bundle's backbone."""
        return len(features) == self.network.row_bytes and is_finite(features)

    def of_features(self, features: Sequence[bytes]) -> list[bytes | None]:
        """Codes from features that fit. Those of an early bundle are its codes."""
        run = self._coder.run
        return [code if is_finite(code) else None for code in (run(features) if run else features)]

    def adapts(self, version: str) -> bool:
        """Whether the bundle can make codes from those of this embedder."""
        return self._adapter(version) is not None

    def adapted(self, version: str, code: bytes) -> bytes | None:
        """A code from that of another embedder; None if the bundle has no adapter for it, or the code has a wrong length."""
        adapter = self._adapter(version)
        if adapter is None or len(code) != HEADER_BYTES + adapter.from_size:
            return None
        [made] = quantize_all(adapter.embed([code]))
        return made if is_finite(made) else None

    def _adapter(self, version: str) -> Adapter | None:
        if version not in self._adapters:
            found = self._bundle.adapter(version)
            if found is None:
                return None
            self._adapters[version] = found
        return self._adapters[version]
