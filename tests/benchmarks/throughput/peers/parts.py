"""What the other peers share: the start of the process, the embeddings, and the Faust app.

They use the messages, bundle, fold and scoring of tastestream. All peers thus do the same arithmetic, and differ only in how events
reach it, which is what the benchmark compares.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import faust
import msgspec
import numpy as np

from model.bundle import Bundle
from model.embedder import Embedder
from model.preprocessing import decode_picture
from model.quantization import quantize
from streams.profile.bag import Bag
from streams.profile.scoring import Recommender, ScoringOptions
from streams.settings import Settings, read_settings
from tests.benchmarks.throughput.workload import Shop

STOP_TIMEOUT = 10.0  # seconds after the end of the parent, at most
MB = 1024**2

encode_bag = msgspec.msgpack.Encoder().encode
_bag_decoder = msgspec.msgpack.Decoder(Bag)


def decode_bag(value: bytes | None) -> Bag:
    """Decode a whole bag from one value of `encode_bag`; an empty bag for None."""
    return Bag() if value is None else _bag_decoder.decode(value)


# -- embeddings


def embeddings_file(settings: Settings) -> Path:
    """The file with the cached embeddings of a peer."""
    return settings.data_dir / "embeddings.msgpack"


def keep_embeddings(settings: Settings, bundle: Bundle, shop: Shop) -> None:
    """Write the embeddings for `Cache`."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    embeddings_file(settings).write_bytes(msgspec.msgpack.encode(shop.embeddings(bundle)))


class Cache:
    """Embeddings by URL, in memory."""

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        content = embeddings_file(settings).read_bytes()
        self._found = msgspec.msgpack.decode(content, type=dict[str, bytes])
        self._embedder: Embedder = bundle.embedder(settings.model_threads)

    def get(self, url: str) -> bytes | None:
        return self._found.get(url)

    def make(self, url: str, picture: bytes) -> bytes:
        """Decode and embed a picture, and store the embedding."""
        pixels = decode_picture(picture, self._embedder.image_size)
        embedding = self._found[url] = quantize(self._embedder.embed(np.stack([pixels]))[0])
        return embedding


def new_recommender(settings: Settings, bundle: Bundle) -> Recommender:
    return Recommender(bundle, bundle.aggregator(settings.model_threads), ScoringOptions.of(settings))


# -- processes


def started() -> tuple[str, Settings]:
    """The kind of this worker, and the settings. The process ends when its standard input is closed."""
    [_, command, kind, with_parent] = sys.argv
    if (command, with_parent) != ("worker", "--with-parent"):
        raise SystemExit(f"usage: {sys.argv[0]} worker KIND --with-parent")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return kind, read_settings()


def _end_with_parent() -> None:
    while sys.stdin.buffer.raw.read(4096):  # pyright: ignore[reportAttributeAccessIssue] -- files have it
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(STOP_TIMEOUT)
    os._exit(1)


def new_app(name: str, settings: Settings) -> faust.App:
    """A Faust app as in its user guide, with tables on RocksDB and the producer settings of tastestream."""
    return faust.App(
        name,
        broker=f"kafka://{settings.bootstrap_servers[0]}",
        store="rocksdb://",
        datadir=settings.data_dir / name,
        broker_commit_interval=settings.commit_interval,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,  # all in-sync replicas
        producer_linger=0.002,  # seconds
        producer_max_batch_size=MB // 4,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
        topic_disable_leader=True,
        web_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
    )


def topic_of(app: faust.App, name: str) -> Any:
    """A topic of bytes."""
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def bytes_table(app: faust.App, name: str, settings: Settings) -> Any:
    """A table of bytes on RocksDB with bounded memory: the default of Faust is 2 GiB per partition."""
    return app.Table(
        name,
        partitions=settings.partitions,
        key_type=bytes,
        value_type=bytes,
        options={"block_cache_size": 16 * MB, "write_buffer_size": 4 * MB},
    )


def run(app: faust.App) -> None:
    """Run an app until SIGTERM."""
    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()
