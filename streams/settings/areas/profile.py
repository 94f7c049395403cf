"""Settings of the profile worker: its batches, its copies of the bags, and its memory."""

from pydantic import Field
from pydantic_settings import BaseSettings


class ProfileSettings(BaseSettings):
    """How the profile worker keeps the bags, and how it goes through the events."""

    profile_batch: int = Field(
        256,
        ge=1,
        description="Maximum number of events that the profile worker folds and scores in one micro-batch. "
        "Raise it for throughput, lower it for latency under load.",
    )
    trend_interval: float = Field(
        10.0,
        gt=0,
        description="Seconds between two snapshots of a partition on CATEGORY_TREND_TOPIC, at least; the first event of a new day "
        "brings one at once. Raise it to save space on the topic. Used with a bundle that has labels.npz.",
    )
    standby: bool = Field(
        False,
        description="Whether a profile worker keeps a copy of the bags of all partitions, so that it takes over those of another "
        "worker without reading them first. Costs the disk space and the writes of all bags. Set it if you run two workers or more.",
    )
    recent_items: int = Field(
        30_000,
        ge=0,
        description="Number of items, of the bags that changed last, that are kept in memory, as far as RECENT_MEMORY permits. "
        "Raise it if more shoppers than that are active at a time.",
    )
    recent_memory: int = Field(
        64 * 1024**2,
        ge=0,
        description="Maximum size of the bags that RECENT_ITEMS keeps in memory, in bytes; an item takes one to two kilobytes, "
        "more with long ids and URLs. Raise it together with RECENT_ITEMS.",
    )
    rocksdb_memory: int = Field(
        64 * 1024**2,
        ge=1024**2,
        description="Maximum size of RocksDB's cache and write buffers, in bytes, for all partitions together. "
        "Raise it if bags are read from disk often.",
    )
