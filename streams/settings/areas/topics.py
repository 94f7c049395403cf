"""Settings of the topics, and of the namespace before all that is ours: topics, consumer groups, the folder of the data."""

from pathlib import Path
from typing import Self

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_settings import BaseSettings

from streams.settings.names import (
    BAGS_TABLE,
    EMBED_GROUP,
    GENERATIONS,
    ITEMS_GROUP,
    PROFILE_GROUP,
    RESIZE,
    SEPARATOR,
    check_namespace,
    check_topic,
    in_namespace,
    of_generation,
)

TOPICS = (
    "interactions_topic",
    "embedded_topic",
    "recommendations_topic",
    "next_recommendations_topic",
    "dlq_topic",
    "features_topic",
    "category_trend_topic",
    "items_topic",
)
"""The settings that name a topic. Their defaults follow `namespace`."""


class TopicSettings(BaseSettings):
    """Topics that tastestream creates, and what topics and groups are called."""

    _generation: int = PrivateAttr(1)  # of the internal topics
    _first_embedded_topic: str = PrivateAttr("")  # `embedded_topic` in the first generation; "" if it is that

    partitions: int = Field(
        8,
        ge=1,
        description="Number of partitions of topics that tastestream creates. "
        "Set it before the first start: it is the most workers of one kind that can share the load.",
    )
    replication_factor: int = Field(
        1,
        ge=1,
        description="Number of copies of each partition of topics that tastestream creates. "
        "Set it to 3 on a cluster of three or more brokers.",
    )
    interactions_retention: float = Field(
        90 * 86_400.0,
        gt=0,
        description="Seconds for which the topic of events keeps an event; 90 days. It is the past that a retraining can learn from, "
        "and the time until an erased user's events are gone. `tastestream topics --apply` sets it on a topic that exists.",
    )
    dlq_retention: float = Field(
        90 * 86_400.0,
        gt=0,
        description="Seconds for which the topic of dead letters keeps one; 90 days. Set it to the time that you promise to your "
        "users. `tastestream topics --apply` sets it on a topic that exists.",
    )
    namespace: str = Field(
        "",
        description="Prefix, followed by a hyphen, of the consumer groups, the changelog topic, and every topic that is not "
        "named by a setting: shop makes shop-tastestream-embed and shop-user-interactions. Set it if several installations "
        "share a cluster, or if ACLs allow one prefix. Set it before the first start: bags do not move to another namespace.",
    )
    interactions_topic: str = Field(
        "user-interactions",
        min_length=1,
        description="Name of the input topic: the shop's events. If unset, it follows NAMESPACE. "
        "Set it to read a topic that you have already.",
    )
    embedded_topic: str = Field(
        "embedded-interactions",
        min_length=1,
        description="Name of the topic between the workers: events with embeddings. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    recommendations_topic: str = Field(
        "user-recommendations",
        min_length=1,
        description="Name of the output topic: recommendations. If unset, it follows NAMESPACE. "
        "Set it to write to a topic that you have already.",
    )
    next_recommendations_topic: str = Field(
        "user-recommendations-next",
        min_length=1,
        description="Name of the topic of what NEXT_BUNDLE would recommend. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    dlq_topic: str = Field(
        "user-interactions-dlq",
        min_length=1,
        description="Name of the topic of dead letters: events that cannot be processed. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    features_topic: str = Field(
        "picture-features",
        min_length=1,
        description="Name of the topic of picture features, which all embed workers share. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    category_trend_topic: str = Field(
        "category-trend",
        min_length=1,
        description="Name of the topic of the trend: what all shoppers took, by category and day. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    items_topic: str = Field(
        "items",
        min_length=1,
        description="Name of the topic of the catalogue, which the shop may write. If unset, it follows NAMESPACE. "
        "Set it to read a topic that you have already.",
    )
    data_dir: Path = Field(
        Path("data"),
        description="Folder of the RocksDB files, with a folder for NAMESPACE in it. Put it on a local disk that outlives the "
        "process; workers of the same kind and namespace cannot share one.",
    )

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        check_namespace(value)
        return value

    @field_validator(*TOPICS)
    @classmethod
    def _topic(cls, value: str) -> str:
        check_topic(value)
        return value

    @model_validator(mode="after")
    def _topics_are_in_the_namespace(self) -> Self:
        for name in TOPICS:
            default = type(self).model_fields[name].default
            has_prefix = getattr(self, name) != default  # already: `model_validate` comes here twice
            if self.follows_namespace(name) and not has_prefix:  # the model is frozen for everybody else
                object.__setattr__(self, name, in_namespace(self.namespace, default))
        self._check_topics_differ()
        return self

    def _check_topics_differ(self) -> None:
        """Raises ValueError if two topics have one name: workers would read what they write."""
        owners = {self.bags_changelog: "the changelog topic"}
        for name in TOPICS:
            topic, owner = getattr(self, name), name.upper()
            if topic in owners:
                raise ValueError(f"{owner} is {topic}, which is {owners[topic]} too; each topic needs its own name")
            owners[topic] = owner

    def follows_namespace(self, name: str) -> bool:
        """Whether the value of this setting comes from its default and `namespace`: a topic that no source names."""
        return name in TOPICS and name not in self.model_fields_set

    @property
    def embed_group(self) -> str:
        """The consumer group of the embed workers."""
        return in_namespace(self.namespace, EMBED_GROUP)

    @property
    def items_group(self) -> str:
        """The consumer group in which the embed workers read the items of the shop."""
        return in_namespace(self.namespace, ITEMS_GROUP)

    @property
    def profile_group(self) -> str:
        """The consumer group of the profile workers."""
        return in_namespace(self.namespace, of_generation(PROFILE_GROUP, self._generation))

    @property
    def bags_changelog(self) -> str:
        """The changelog topic of the bags, as Faust names it."""
        return f"{self.profile_group}{SEPARATOR}{BAGS_TABLE}{SEPARATOR}changelog"

    @property
    def bags_folder(self) -> str:
        """Name of the folder of the bags in the folder of a worker."""
        return of_generation(BAGS_TABLE, self._generation)

    @property
    def generations_topic(self) -> str:
        """The topic that says which generation of the internal topics is in use. It exists once the bags were moved."""
        return in_namespace(self.namespace, GENERATIONS)

    @property
    def resize_id(self) -> str:
        """The transactional id of the command that moves the bags."""
        return in_namespace(self.namespace, RESIZE)

    @property
    def generation(self) -> int:
        """The generation of the internal topics that the names are of: `embedded_topic`, `profile_group`, `bags_changelog`."""
        return self._generation

    def of_generation(self, number: int) -> Self:
        """The same settings with the internal topics and the group of a generation. `streams.kafka.generations` knows which."""
        copied = self.model_copy()
        copied._generation = number
        copied._first_embedded_topic = first = self._first_embedded_topic or self.embedded_topic
        # The model is frozen for everybody else.
        object.__setattr__(copied, "embedded_topic", of_generation(first, number))
        return copied

    @property
    def state_dir(self) -> Path:
        """Folder of this namespace's files: those of another namespace belong to other topics."""
        return self.data_dir / self.namespace
