"""Reads all that `category-trend` has now, for commands. Workers follow it (`follower.py`)."""

from streams.kafka.bounded_topic import BoundedTopicReader
from streams.settings import Settings
from streams.trend.history import History


async def read_history(settings: Settings, labels: str, categories: int) -> History:
    """Read the versions of the trend that the topic still has.

    Args:
        settings: where the broker and the topic are.
        labels: the labels version of the bundle whose trend it is.
        categories: D.

    Raises:
        BrokerUnreachable: the broker does not answer.
        TopicsError: there is no such topic, or it may not be read.
    """
    history = History(labels, categories)
    async with BoundedTopicReader(settings, settings.category_trend_topic, "TASTESTREAM_CATEGORY_TREND_TOPIC") as topic:
        async for partition, records in topic.everything():
            for record in records if partition == 0 else ():
                history.add(record)
    return history
