"""The implementations that are compared.

Each is started as `python -m MODULE worker KIND --with-parent`, once for each of its kinds. It reads the settings of tastestream
from the environment, and turns the events of the interactions topic into recommendations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import time

from model.bundle import Bundle
from streams.embed.disk_cache import DiskCache
from streams.embed.opening import CACHE
from streams.features.records import features_version
from streams.settings import Settings
from tests.benchmarks.throughput.peers.parts import keep_embeddings
from tests.benchmarks.throughput.workload import Shop

MODULE = "tests.benchmarks.throughput.peers"


@dataclass(frozen=True)
class Peer:
    """How to start one implementation."""

    name: str
    what: str
    module: str
    kinds: tuple[str, ...]
    prepare: Callable[[Settings, Bundle, Shop], None]
    """Called before the start: the pictures of the shop are cached then."""


def fill_cache(settings: Settings, bundle: Bundle, shop: Shop) -> None:
    """Write the disk cache of the embed worker, as `tastestream warm` does."""
    features, version = shop.features(bundle), features_version(bundle)
    cache = DiskCache(
        settings.data_dir / "embed" / CACHE,
        row_bytes={version: len(next(iter(features.values())))},
        max_bytes=settings.cache_disk,
        max_age=settings.cache_max_age,
    )
    for url, row in features.items():
        cache.put(version, url, row, now=time())
    cache.close()


WORKERS = ("embed", "profile")
PEERS = {
    peer.name: peer
    for peer in (
        Peer("ours", "both workers of tastestream", "streams", WORKERS, fill_cache),
        Peer("bare", "Faust, two hops, no work except a table row", f"{MODULE}.bare", WORKERS, keep_embeddings),
        Peer(
            "naive", "Faust, two hops, the same work, one event at a time", f"{MODULE}.naive", WORKERS, keep_embeddings
        ),
        Peer(
            "quix",
            "Quix Streams, one hop, the same work, one event at a time",
            f"{MODULE}.quix",
            ("all",),
            keep_embeddings,
        ),
    )
}
