"""What `tastestream pictures forget` does: read the topic, write tombstones, and print the result."""

from collections.abc import Sequence

from rich.console import Console

from streams.console import counting_progress, say
from streams.exceptions import TopicsError
from streams.features.producer import FeaturesProducer
from streams.kafka.bounded_topic import BoundedTopicReader
from streams.pictures.forgetting import Choice, Found, missing
from streams.settings import Settings

SENT = 500  # tombstones sent at a time


async def forget(
    settings: Settings, urls: Sequence[str], before: int | None, console: Console, *, dry_run: bool
) -> bool:
    """Write a tombstone for each record of the topic with features that are to be forgotten, and print how many.

    Args:
        settings: where the topic is.
        urls: of pictures that are to be forgotten, whatever network made their features.
        before: milliseconds since the epoch; features that were made earlier are to be forgotten.
        console: where the result is printed.
        dry_run: print how many would be written, and write none.

    Returns:
        False if the topic has nothing of one of the URLs.

    Raises:
        TastestreamError: the broker or the topic does not permit it.
    """
    choice, found = Choice(frozenset(urls), before), Found()
    async with BoundedTopicReader(settings, settings.features_topic, "TASTESTREAM_FEATURES_TOPIC") as topic:
        with counting_progress() as progress:
            reading = progress.add_task(f"reading {topic.name}", total=len(topic))
            left = list(topic.ends)
            while left := [tp for tp in left if not await topic.at_end(tp)]:
                for records in (await topic.next_records(left)).values():
                    found.add(records, choice)
                    progress.advance(reading, len(records))
    written = 0
    try:
        if not dry_run and found.count:
            with counting_progress() as progress:
                sending = progress.add_task("forgetting", total=found.count)
                async with FeaturesProducer(settings) as producer:
                    for (
                        partition,
                        keys,
                    ) in found.keys.items():  # not where the key belongs now: partitions may have been added
                        every = list(keys)
                        for start in range(0, len(every), SENT):
                            some = every[start : start + SENT]
                            await producer.send([(key, None, ()) for key in some], partition)
                            written += len(some)
                            progress.advance(sending, len(some))
    finally:
        count = found.count if dry_run else written
        verb = "would forget" if dry_run else "forgot"
        pictures = len(found.urls)
        say(
            console,
            f"{'' if count == found.count else f'stopped after {count:,}: '}{verb} the features of {pictures:,} "
            f"picture{'' if pictures == 1 else 's'} ({found.count:,} of {found.records:,} records read)",
        )
    absent = missing(urls, found)
    for url in absent:
        say(console, f"  {topic.name} has no features of {url}")
    return not absent


def check_shared(settings: Settings) -> None:
    """Raise TopicsError if workers neither share features nor follow tombstones."""
    if not settings.share_features:
        raise TopicsError(
            "TASTESTREAM_SHARE_FEATURES is off, so workers follow no tombstones; stop each embed worker and delete its folder "
            "DATA_DIR/embed/cache instead"
        )
