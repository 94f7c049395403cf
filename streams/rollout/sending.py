"""Sends prepared interactions, each to the partition where the row is, and waits until the broker has them."""

from time import time

from aiokafka.errors import KafkaError

from streams.features.records import Features, encode_features, features_key
from streams.kafka.bulk_sending import BulkSender
from streams.kafka.producing import sending_failed
from streams.messages import EmbeddedInteraction, encode_embedded
from streams.settings import Settings


class Sender(BulkSender):
    """Sends at most `rate` interactions a second."""

    def __init__(self, settings: Settings, *, rate: float | None) -> None:
        """Does not connect yet. `rate`: None for no limit."""
        super().__init__(
            settings,
            settings.embedded_topic,
            rate=rate,
            no_partition=", where bags are: restart a profile worker, which says what to do",
        )

    async def send(self, event: EmbeddedInteraction, partition: int, how: str) -> None:
        """Start to send an interaction. `how`: what to count it as."""
        await self.send_record(event.user_id.encode(), encode_embedded(event), partition, how)

    async def send_features(self, version: str, url: str, row: bytes) -> None:
        """Send the features of a picture, and wait until the broker has them."""
        value = encode_features(Features(int(time() * 1000), row))
        try:
            await self._producer.send_and_wait(self._settings.features_topic, value, key=features_key(version, url))
        except KafkaError as error:
            raise sending_failed(self._settings, error, "records") from error
