"""Settings of the way from the bytes of a picture to its embedding, and of the cache of what came out."""

from pydantic import Field
from pydantic_settings import BaseSettings


class EmbedSettings(BaseSettings):
    """Decoders, batches, and caches of the embed worker."""

    decoder_seconds: float = Field(
        5.0,
        ge=0.1,
        description="Maximum processor seconds to decode one picture, in a process of its own. "
        "A picture that needs more becomes a dead letter. Raise it on a slow machine, or together with FETCH_MAX_PIXELS.",
    )
    decoder_memory: int = Field(
        640 * 1024**2,
        ge=192 * 1024**2,  # with less, not even small pictures can be decoded
        description="Maximum memory of each of the two decoder processes, in bytes of address space. A picture that needs more "
        "becomes a dead letter. Raise it together with FETCH_MAX_PIXELS; lower both to save memory.",
    )
    embed_batch: int = Field(
        8,
        ge=1,
        description="Maximum number of pictures in one call of the model. "
        "Raise it for throughput, lower it for latency.",
    )
    embed_in_flight: int = Field(
        4096,
        ge=1,
        description="Maximum number of events that the embed worker has in flight, in equal shares for its partitions. "
        "Raise it if events wait behind slow pictures; memory grows with it.",
    )
    share_features: bool = Field(
        True,
        description="Whether the features of pictures are written to FEATURES_TOPIC, and those of other embed workers are taken "
        "from it, so that a picture is fetched once for all workers and bundles. Turn it off to save the topic's space.",
    )
    cache_memory: int = Field(
        32 * 1024**2,
        ge=0,
        description="Maximum size of the embeddings that are cached in memory, in bytes. "
        "Raise it if tastestream_pictures_total counts many embeddings from disk.",
    )
    cache_disk: int = Field(
        1024**3,
        ge=0,
        description="Maximum size of the features of pictures that are cached on disk, in bytes: about 1,100 for a picture. "
        "Raise it until the pictures of all items on sale fit.",
    )
    cache_max_age: float = Field(
        30 * 86_400.0,
        gt=0,
        description="Seconds after which the features of a picture expire and it is fetched again. "
        "Lower it if pictures change under the same URL.",
    )
    cache_failure_age: float = Field(
        30.0,
        ge=0,
        description="Seconds before a failed picture is retried. Raise it to spare a picture server that often fails.",
    )
