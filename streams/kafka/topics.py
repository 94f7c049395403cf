"""The topics: which there are, how each one has to be, and how it is created.

A start creates missing topics. It refuses an existing topic that cannot work, and names the difference.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Literal, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError, TopicAlreadyExistsError, for_code

from streams.exceptions import BrokerUnreachable, TopicsError
from streams.kafka.configs import Difference, differences, set_topic_configs, topic_configs
from streams.kafka.groups import GroupUse, check_groups
from streams.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

DAY = 86_400_000  # milliseconds

# Configuration of compacted topics: a replaced or erased value is gone after about two days, however little is written.
PROMPT_COMPACTION = {"segment.ms": str(DAY), "max.compaction.lag.ms": str(DAY)}


@dataclass(frozen=True)
class TopicSpec:
    """How one topic has to be."""

    name: str
    what: str
    cleanup: Literal["delete", "compact"]
    configs: dict[str, str] = field(default_factory=dict[str, str])
    copartitioned: bool = False  # must have as many partitions as the other copartitioned topics
    partitions: int | None = None  # if it is created; None: as PARTITIONS says
    optional: bool = False  # the workers run without it, if it cannot be created


@dataclass(frozen=True)
class TopicState:
    """How a topic is at the broker."""

    partitions: int
    cleanup: str
    differences: tuple[Difference, ...] = ()  # what `tastestream topics --apply` would set


# Snapshots that were replaced stay for a day, so that an answer can be computed again from the trend that it names.
TREND_HISTORY = {**PROMPT_COMPACTION, "min.compaction.lag.ms": str(DAY), "max.compaction.lag.ms": str(2 * DAY)}


def topic_specs(settings: Settings, *, trend: bool = True) -> list[TopicSpec]:
    """All topics that these settings use, in the order in which an event meets them.

    Args:
        settings: their names.
        trend: whether the bundle uses the trend.
    """
    features = TopicSpec(settings.features_topic, "features of pictures, MessagePack", "compact", PROMPT_COMPACTION)
    following = TopicSpec(
        settings.next_recommendations_topic, "recommendations of the next bundle, JSON", "compact", PROMPT_COMPACTION
    )
    counts = TopicSpec(
        settings.category_trend_topic, "what all shoppers took, MessagePack", "compact", TREND_HISTORY, partitions=1
    )
    return [
        TopicSpec(
            settings.interactions_topic,
            "events of the shop, JSON",
            "delete",
            {"retention.ms": _milliseconds(settings.interactions_retention), "segment.ms": str(DAY)},
        ),
        TopicSpec(
            settings.items_topic, "items of the shop, JSON; optional", "compact", PROMPT_COMPACTION, optional=True
        ),
        *([features] if settings.share_features else []),
        TopicSpec(
            settings.embedded_topic,
            "events with embeddings, MessagePack",
            "delete",
            {"retention.ms": str(7 * DAY), "segment.ms": str(DAY)},
            copartitioned=True,
        ),
        TopicSpec(
            settings.bags_changelog,
            "rows of the bags, for recovery",
            "compact",
            PROMPT_COMPACTION,
            copartitioned=True,
        ),
        TopicSpec(settings.recommendations_topic, "recommendations, JSON", "compact", PROMPT_COMPACTION),
        *([following] if settings.next_bundle else []),
        *([counts] if trend else []),
        TopicSpec(
            settings.dlq_topic,
            "dead letters, unchanged",
            "delete",
            {"retention.ms": _milliseconds(settings.dlq_retention)},
        ),
    ]


def generations_spec(settings: Settings) -> TopicSpec:
    """The topic that says which generation of the internal topics is in use. Only a resize needs it."""
    return TopicSpec(
        settings.generations_topic, "which internal topics are in use, JSON", "compact", PROMPT_COMPACTION, partitions=1
    )


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def check_topics(specs: list[TopicSpec], states: dict[str, TopicState]) -> None:
    """Check the configuration of existing topics. `streams.profile.spread` checks how many partitions they have.

    What only keeps values for too long is logged.

    Raises:
        TopicsError: A topic cannot work. The message names the topic and the difference.
    """
    for spec in specs:
        state = states.get(spec.name)
        if state is None:
            continue
        if spec.cleanup == "compact" and state.differences:
            logger.warning(
                "topic %s keeps replaced and erased values longer than it has to (%s); `tastestream topics --apply` sets it",
                spec.name,
                ", ".join(map(str, state.differences)),
            )
        if state.cleanup == spec.cleanup:
            continue
        if spec.cleanup == "delete":
            raise TopicsError(
                f"topic {spec.name} has cleanup.policy={state.cleanup}, which would drop events; "
                "set it to delete, or name another topic"
            )
        if spec.copartitioned:
            raise TopicsError(
                f"topic {spec.name} has cleanup.policy={state.cleanup}, which would drop users; set it to compact"
            )
        logger.warning(
            "topic %s has cleanup.policy=%s; set it to compact to keep the newest record of each key",
            spec.name,
            state.cleanup,
        )


def surplus(topic: str, count: int, number: int) -> str:
    """What it means that a topic has more partitions than the bags; "" if it has as many.

    Args:
        topic: its name.
        count: its number of partitions.
        number: number of partitions of the bags.

    Raises:
        TopicsError: it has fewer. The message names the step that loses nothing.
    """
    if count < number:
        raise TopicsError(
            f"topic {topic} has {count} partitions, but the bags are in {number}: add partitions to it, which loses nothing: "
            f"kafka-topics.sh --bootstrap-server BROKER --alter --topic {topic} --partitions {number}"
        )
    if count == number:
        return ""
    return (
        f"topic {topic} has {count} partitions, but the bags are in {number}: the workers go on with {number}, and nothing is "
        f"lost; to use more, run `tastestream topics resize --partitions {count}`"
    )


def partitions_for(spec: TopicSpec, specs: list[TopicSpec], states: dict[str, TopicState], default: int) -> int:
    """Number of partitions for a new topic: its own, or that of an existing copartitioned topic, else `default`."""
    siblings = [states[other.name].partitions for other in specs if other.copartitioned and other.name in states]
    return spec.partitions or (siblings[0] if spec.copartitioned and siblings else default)


async def ensure_topics(
    settings: Settings, groups: Iterable[GroupUse] = (), *, trend: bool = False, apply: bool = False
) -> dict[str, tuple[TopicState, bool]]:
    """Check these consumer groups and the topics that exist, then create those that are missing.

    Args:
        settings: Where the broker is, and the names of the topics.
        groups: To be checked.
        trend: Whether the bundle uses the trend.
        apply: Whether the configuration of existing topics is set where it differs. Their `differences` are what was set.

    Returns:
        The state of each topic by its name, and whether it was created.

    Raises:
        BrokerUnreachable: No broker answered within `broker_timeout`.
        TopicsError: A topic cannot work, or cannot be created, or a group belongs to another topic.
    """
    async with connected(settings) as admin:
        specs = topic_specs(settings, trend=trend)
        existing = await _partition_counts(admin)
        await check_groups(admin, settings, groups, existing)  # first: what it says explains what the topics have
        states = await describe_topics(admin, specs, existing)
        if apply:
            await _apply(admin, specs, states)
        check_topics(specs, {} if apply else states)
        created: set[str] = set()
        for spec in specs:
            if spec.name not in states:
                partitions = partitions_for(spec, specs, states, settings.partitions)
                try:
                    if await create_topic(admin, spec, partitions, settings.replication_factor):
                        created.add(spec.name)
                except TopicsError as error:
                    if not spec.optional:
                        raise
                    logger.warning("%s; going on without it", error)
                    continue
                states[spec.name] = TopicState(partitions, spec.cleanup)
        return {spec.name: (states[spec.name], spec.name in created) for spec in specs if spec.name in states}


async def partitions_of(settings: Settings, wanted: Mapping[str, str]) -> dict[str, int]:
    """Number of partitions of all topics that the broker has, by name.

    Args:
        settings: Where the broker is.
        wanted: Topics that have to be there, each with the environment variable that names it.

    Raises:
        BrokerUnreachable: No broker answered within `broker_timeout`.
        TopicsError: One of `wanted` is missing.
    """
    async with connected(settings) as admin:
        found = await _partition_counts(admin)
    for name, variable in wanted.items():
        if name not in found:
            raise TopicsError(
                f"there is no topic {name} at {settings.broker}; `tastestream topics` creates it, "
                f"{variable} or TASTESTREAM_NAMESPACE names another"
            )
    return found


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Number of partitions of all topics, by name."""
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


@asynccontextmanager
async def connected(settings: Settings) -> AsyncGenerator[AIOKafkaAdminClient]:
    """An admin client, while the block runs. Logs each failed attempt to connect it, and the end of the wait.

    Raises:
        BrokerUnreachable: No broker answered within `broker_timeout`, or it went away while the block ran.
        TopicsError: The broker refused something that the block asked for.
    """
    admin = await until_answered(settings, partial(_started, settings), (KafkaConnectionError, NodeNotReadyError))
    try:
        yield admin
    except KafkaError as error:
        if error.retriable:
            raise BrokerUnreachable(
                f"the broker at {settings.broker} went away (TASTESTREAM_BROKER): {error!r}"
            ) from error
        raise TopicsError(f"the broker at {settings.broker} refuses: {error!r}") from error
    finally:
        await admin.close()


async def _started(settings: Settings) -> AIOKafkaAdminClient:
    """A client that a broker has answered. Raises KafkaConnectionError or NodeNotReadyError if none has."""
    admin = AIOKafkaAdminClient(**settings.aiokafka(), request_timeout_ms=10_000)
    try:
        await admin.start()
    except (KafkaConnectionError, NodeNotReadyError):
        await admin.close()
        raise
    if admin._client.get_random_node() is None:  # a broker that starts answers, but lists none, not even itself
        await admin.close()
        raise NodeNotReadyError("a broker answers, but none is ready yet")
    return admin


async def until_answered(
    settings: Settings, attempt: Callable[[], Awaitable[T]], errors: tuple[type[Exception], ...]
) -> T:
    """Attempt something until a broker answers. Logs each failed attempt, and the end of the wait.

    Args:
        settings: Where the broker is.
        attempt: What to do.
        errors: Those after which it is attempted again.

    Raises:
        BrokerUnreachable: No broker answered within `broker_timeout`.
    """
    started = monotonic()
    deadline = started + settings.broker_timeout
    pause = 0.5
    waited = False
    while True:
        try:
            answer = await attempt()
        except errors as error:
            left = deadline - monotonic()
            if left <= 0:
                raise BrokerUnreachable(
                    f"no broker at {settings.broker} within {settings.broker_timeout:g} s (TASTESTREAM_BROKER, "
                    f"TASTESTREAM_BROKER_TIMEOUT): {str(error) or repr(error)}"
                ) from error
            waited = True
            logger.warning("no broker at %s yet; trying for another %.0f s", settings.broker, left)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, 2.0)
        else:
            if waited:
                logger.info("the broker answers after %.0f s", monotonic() - started)
            return answer


async def describe_topics(
    admin: AIOKafkaAdminClient, specs: list[TopicSpec], topics: dict[str, int]
) -> dict[str, TopicState]:
    """The state of those of our topics that exist. topics: number of partitions of all topics at the broker."""
    present = [spec for spec in specs if spec.name in topics]
    configs = await topic_configs(admin, [spec.name for spec in present])
    states: dict[str, TopicState] = {}
    for spec in present:
        found = configs.get(spec.name, {})
        # Some Kafka-compatible brokers do not report the policy. They are assumed to have what was asked for.
        cleanup = found.get("cleanup.policy") or spec.cleanup
        states[spec.name] = TopicState(topics[spec.name], cleanup, tuple(differences(spec.configs, found)))
    return states


async def _apply(admin: AIOKafkaAdminClient, specs: list[TopicSpec], states: Mapping[str, TopicState]) -> None:
    """Set what differs. Clean-up policies stay: a change could drop events."""
    wanted = {
        spec.name: {one.name: one.wanted for one in states[spec.name].differences}
        for spec in specs
        if spec.name in states and states[spec.name].differences
    }
    if wanted:
        await set_topic_configs(admin, wanted)


async def create_topic(admin: AIOKafkaAdminClient, spec: TopicSpec, partitions: int, replication_factor: int) -> bool:
    """Create a topic. Returns False if another worker was faster."""
    configs = {"cleanup.policy": spec.cleanup, **spec.configs}
    response: Any = await admin.create_topics(
        [NewTopic(spec.name, partitions, replication_factor, topic_configs=configs)], timeout_ms=30_000
    )
    for error in response.topic_errors:
        code, message = error[1], error[2] if len(error) > 2 else None
        if code == TopicAlreadyExistsError.errno:
            return False
        if code:
            reason: type[KafkaError] = for_code(code)
            raise TopicsError(
                f"topic {spec.name} with {partitions} partitions and replication factor {replication_factor} could not be "
                f"created: {message or reason.description or reason.__name__}"
            )
    return True
