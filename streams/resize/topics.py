"""Creates and deletes the topics of generations, and removes what is left of partitions that are gone."""

from typing import Any

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from streams.exceptions import TopicsError
from streams.kafka.generations import Layout
from streams.kafka.producing import make_producer, sending_failed, start_producer, stop_producer
from streams.kafka.topics import connected, create_topic, ensure_topics, generations_spec
from streams.settings import Settings
from streams.settings.names import check_topic
from streams.trend.snapshots import partition_key


def check_names(settings: Settings) -> None:
    """Raise TopicsError if Kafka does not accept the names of a generation."""
    for name in (settings.embedded_topic, settings.bags_changelog):
        try:
            check_topic(name)
        except ValueError as error:
            raise TopicsError(f"topic {name} cannot be: {error}; shorten EMBEDDED_TOPIC") from error


async def create_generations_topic(settings: Settings) -> None:
    """Create the topic that says which generation is in use, if there is none. Raises TopicsError and BrokerUnreachable."""
    async with connected(settings) as admin:
        if settings.generations_topic not in await admin.list_topics():
            await create_topic(admin, generations_spec(settings), 1, settings.replication_factor)


async def create_generation(settings: Settings, partitions: int) -> None:
    """Create the topics of a generation where they are missing.

    Args:
        settings: with its names.
        partitions: number of partitions.

    Raises:
        TopicsError: they cannot be created, or have another number of partitions.
        BrokerUnreachable: no broker answers.
    """
    states = await ensure_topics(settings.model_copy(update={"partitions": partitions}))
    for name in (settings.embedded_topic, settings.bags_changelog):
        state, _ = states[name]
        if state.partitions != partitions:
            raise TopicsError(
                f"topic {name} exists, and has {state.partitions} partitions instead of {partitions}: nobody has used it yet, so "
                "delete it, and run the command again"
            )


async def delete_unused(settings: Settings, layout: Layout) -> list[str]:
    """Delete the topics of the generations that are not in use. Returns their names. Raises TopicsError and BrokerUnreachable."""
    unused = [settings.of_generation(number) for number in range(1, layout.last + 1) if number not in layout.in_use]
    names = [name for one in unused for name in (one.embedded_topic, one.bags_changelog)]
    async with connected(settings) as admin:
        existing = set(await admin.list_topics())
        gone = [name for name in names if name in existing]
        if gone:
            response: Any = await admin.delete_topics(gone)
            for name, code in response.topic_error_codes:
                if code not in (0, UnknownTopicOrPartitionError.errno):
                    reason: Any = for_code(code)
                    raise TopicsError(f"topic {name} could not be deleted: {reason.__name__}")
        return gone


async def forget_trend(settings: Settings, partitions: int, before: int) -> None:
    """Remove what partitions that are gone added to the trend.

    Args:
        settings: where the topic is.
        partitions: of the bags.
        before: number of partitions before.

    Raises:
        DeliveryError: the broker refuses.
        BrokerUnreachable: it does not answer.
    """
    async with connected(settings) as admin:
        if partitions >= before or settings.category_trend_topic not in await admin.list_topics():
            return
    producer = make_producer(settings)
    await start_producer(producer, settings)
    try:
        for partition in range(partitions, before):
            await producer.send_and_wait(settings.category_trend_topic, None, key=partition_key(partition), partition=0)
    except KafkaError as error:
        raise sending_failed(settings, error, "records") from error
    finally:
        await stop_producer(producer)
