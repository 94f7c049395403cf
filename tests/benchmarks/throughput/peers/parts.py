"""What the peers that are not tastestream have in common: how they are started, where their embeddings are, the Faust app.

They share tastestream's messages, bundle, fold and scoring, so that all do the same arithmetic, and differ in how the events reach
it: that is what is compared.
"""

import os
import signal
import sys
import threading
from collections.abc import Mapping
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

STOP_TIMEOUT = 10.0  # seconds between the end of the parent and our own
MB = 1024**2

encode_bag = msgspec.msgpack.Encoder().encode
_bag_decoder = msgspec.msgpack.Decoder(Bag)


def decode_bag(value: bytes | None) -> Bag:
    """A whole bag in one value, as `encode_bag` makes it; an empty one where there is none."""
    return Bag() if value is None else _bag_decoder.decode(value)


# -- embeddings


def embeddings_file(settings: Settings) -> Path:
    """Where a peer finds the embeddings that it is to have already."""
    return settings.data_dir / "embeddings.msgpack"


def keep_embeddings(settings: Settings, bundle: Bundle, embeddings: Mapping[str, bytes]) -> None:
    """For `Cache`, in a peer's process."""
    del bundle
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    embeddings_file(settings).write_bytes(msgspec.msgpack.encode(embeddings))


class Cache:
    """Embeddings by URL, in memory; a picture that is not there is embedded from its bytes."""

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        content = embeddings_file(settings).read_bytes()
        self._found = msgspec.msgpack.decode(content, type=dict[str, bytes])
        self._embedder: Embedder = bundle.embedder(settings.model_threads)

    def get(self, url: str) -> bytes | None:
        return self._found.get(url)

    def make(self, url: str, picture: bytes) -> bytes:
        """Decode and embed a picture, and keep the embedding."""
        pixels = decode_picture(picture, self._embedder.image_size)
        embedding = self._found[url] = quantize(self._embedder.embed(np.stack([pixels]))[0])
        return embedding


def new_recommender(settings: Settings, bundle: Bundle) -> Recommender:
    options = ScoringOptions(settings.bag_size, settings.top_k, settings.type_weights, settings.half_life)
    return Recommender(bundle, bundle.aggregator(settings.model_threads), options)


# -- processes


def started() -> tuple[str, Settings]:
    """Which worker this process is to be, and the settings. The process ends when its standard input does."""
    [_, command, kind, with_parent] = sys.argv
    if (command, with_parent) != ("worker", "--with-parent"):
        raise SystemExit(f"usage: {sys.argv[0]} worker KIND --with-parent")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return kind, read_settings()


def _end_with_parent() -> None:
    while sys.stdin.buffer.raw.read(4096):  # pyright: ignore[reportAttributeAccessIssue] -- a file's has it
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(STOP_TIMEOUT)
    os._exit(1)


def new_app(name: str, settings: Settings) -> faust.App:
    """A Faust app as its user guide has it, with tables on RocksDB and the producer's settings of ours."""
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
    """A table of bytes on RocksDB, whose memory is bounded: Faust's own default is 2 GiB for each partition."""
    return app.Table(
        name,
        partitions=settings.partitions,
        key_type=bytes,
        value_type=bytes,
        options={"block_cache_size": 16 * MB, "write_buffer_size": 4 * MB},
    )


def run(app: faust.App) -> None:
    """Until SIGTERM."""
    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()
