"""Types of the records that are read from Kafka and sent to it."""

from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

Record = ConsumerRecord[Any, Any]  # as read; key and value are bytes, or None

Headers = Sequence[tuple[str, bytes]]

Outgoing = tuple[bytes | None, bytes | None, Headers]  # to send: key, value, headers
