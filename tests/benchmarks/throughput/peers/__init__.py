"""The contestants. Each is started as `python -m MODULE worker KIND --with-parent`, once for each of its kinds, reads the
settings of tastestream from the environment, and turns the events on the interactions topic into recommendations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams.embed.disk_cache import DiskCache
from streams.settings import Settings
from tests.benchmarks.throughput.peers.parts import keep_embeddings

MODULE = "tests.benchmarks.throughput.peers"


@dataclass(frozen=True)
class Peer:
    """How one contestant is started."""

    name: str
    what: str
    module: str
    kinds: tuple[str, ...]
    prepare: Callable[[Settings, Bundle, Mapping[str, bytes]], None]
    """Called before the start with the embeddings, by URL, that it is to have already."""


def fill_cache(settings: Settings, bundle: Bundle, embeddings: Mapping[str, bytes]) -> None:
    """The embed worker's cache on disk, as `tastestream warm` leaves it."""
    cache = DiskCache(
        settings.data_dir / "embed" / "cache",
        embedder_version=bundle.embedder_version,
        length=HEADER_BYTES + bundle.embedding_size,
        max_bytes=settings.cache_disk,
        max_age=settings.cache_max_age,
    )
    for url, embedding in embeddings.items():
        cache.put(url, embedding, now=time())
    cache.close()


WORKERS = ("embed", "profile")
PEERS = {
    peer.name: peer
    for peer in (
        Peer("ours", "both workers as they ship", "streams", WORKERS, fill_cache),
        Peer("bare", "Faust, two hops, no work but a table row", f"{MODULE}.bare", WORKERS, keep_embeddings),
        Peer("naive", "Faust, two hops, the same work event by event", f"{MODULE}.naive", WORKERS, keep_embeddings),
        Peer(
            "quix", "Quix Streams, one hop, the same work event by event", f"{MODULE}.quix", ("all",), keep_embeddings
        ),
    )
}
