"""What the broker says about topics now: their ids and partitions. A topic that is deleted and created again gets another id.

aiokafka's own metadata request ends at version 5; ids come with version 10 (Kafka 2.8). Brokers without it report no ids.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    LeaderNotAvailableError,
    NoError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields
from typing_extensions import override

MARK = "topic-id="  # begins the text that we commit beside an offset; another tool may have committed any other text
SAYS = "says="  # begins it if a remark stands before the mark (`streams.kafka.remarks`), which has no space in it
NO_ID = UUID(int=0)  # how the protocol says that there is none
OPERATIONS = {
    "Read": 3,
    "Write": 4,
    "DescribeConfigs": 10,
}  # of ACLs, by their numbers in the protocol; not all of them
UNTOLD = -(2**31)  # instead of the operations


@dataclass(frozen=True)
class DescribedTopic:
    """One topic at the broker."""

    partitions: int
    id: str = ""  # "" if the broker has no ids
    leaders: tuple[int, ...] = field(default=(), compare=False)  # node id of the leader of each partition; -1: none

    @property
    def mark(self) -> str:
        """The text that a worker commits beside an offset of this topic."""
        return f"{MARK}{self.id}" if self.id else ""

    def is_another(self, other: "DescribedTopic") -> bool:
        """Whether the broker says that these are two topics, one created after the other was deleted."""
        return bool(self.id and other.id) and self.id != other.id


def marked_id(text: str | None) -> str:
    """The id of the topic that an offset belongs to, from the text beside it; "" if it does not say."""
    mark = text.rpartition(" ")[2] if text and text.startswith(SAYS) else text
    return mark.removeprefix(MARK) if mark and mark.startswith(MARK) else ""


async def topics_now(client: AIOKafkaClient, names: Iterable[str]) -> dict[str, DescribedTopic]:
    """Ask the broker about topics, without creating any.

    Args:
        client: started.
        names: of the topics.

    Returns:
        Those that exist.

    Raises:
        KafkaError: the broker does not answer, or refuses.
    """
    wanted = list(names)
    try:
        answer = await ask(client, _MetadataRequest(wanted))
    except NotImplementedError:  # aiokafka's word for a version that the broker does not know
        answer = await ask(client, MetadataRequest(wanted, allow_auto_topic_creation=False))
    found: dict[str, DescribedTopic] = {}
    for topic in answer.to_object()["topics"]:
        error: Any = for_code(topic["error_code"])
        if error is NoError:
            number = topic.get("topic_id", NO_ID)
            leaders = {one["partition"]: one["leader"] for one in topic["partitions"]}
            found[topic["topic"]] = DescribedTopic(
                len(leaders),
                "" if number == NO_ID else str(number),
                tuple(leaders.get(partition, -1) for partition in range(len(leaders))),
            )
        elif error not in (UnknownTopicOrPartitionError, LeaderNotAvailableError):
            raise error(topic["topic"])
    return found


async def allowed_operations(client: AIOKafkaClient, names: Iterable[str]) -> dict[str, frozenset[str]]:
    """What the broker permits this client on topics that exist; nothing on those that it may not even describe.

    Args:
        client: started.
        names: of the topics.

    Returns:
        Names of `OPERATIONS`, by topic. Empty if the broker does not tell.

    Raises:
        KafkaError: the broker does not answer, or refuses.
    """
    try:
        answer = await ask(client, _MetadataRequest(list(names), operations=True))
    except NotImplementedError:
        return {}
    found: dict[str, frozenset[str]] = {}
    for topic in answer.to_object()["topics"]:
        error: Any = for_code(topic["error_code"])
        bits: int = topic["authorized_operations"]
        if error is TopicAuthorizationFailedError:
            found[topic["topic"]] = frozenset()
        elif error is NoError and bits != UNTOLD:
            found[topic["topic"]] = frozenset(name for name, bit in OPERATIONS.items() if bits >> bit & 1)
    return found


def connection_broke() -> bool:
    """Whether a CancelledError comes from aiokafka, which cancels who waits for an answer on a connection that breaks.

    Otherwise somebody has cancelled the task.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


async def ask(client: AIOKafkaClient, request: Any, node: int | None = None) -> Any:
    """The answer of a broker to a request.

    Args:
        client: started.
        request: of aiokafka.
        node: id of the broker; any broker if None.

    Raises:
        KafkaError: the broker does not answer.
        NotImplementedError: the broker does not know the request.
    """
    node = client.get_random_node() if node is None else node
    if node is None:
        raise KafkaConnectionError("no broker is known")
    try:
        return await client.send(node, request)
    except asyncio.CancelledError:
        if not connection_broke():
            raise
        raise KafkaConnectionError("the connection broke") from None


class _Uuid(AbstractType[UUID]):
    @classmethod
    @override
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    @override
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_PARTITION = Schema(
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPIC = Schema(
    ("error_code", Int16),
    ("topic", CompactString("utf-8")),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(_PARTITION)),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)
_BROKER = Schema(
    ("node_id", Int32),
    ("host", CompactString("utf-8")),
    ("port", Int32),
    ("rack", CompactString("utf-8")),
    ("tags", TaggedFields),
)


class _MetadataResponse(Response):
    API_KEY = 3  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType] -- as aiokafka's own
    API_VERSION = 10  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(_BROKER)),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        ("topics", CompactArray(_TOPIC)),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestV10(RequestStruct):
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestV10]):
    API_KEY = 3

    def __init__(self, topics: list[str], *, operations: bool = False) -> None:
        self._topics = topics
        self._operations = operations

    @override
    def build(self, request_struct_class: type[_MetadataRequestV10]) -> _MetadataRequestV10:
        no_tags: dict[int, bytes] = {}
        return request_struct_class(
            [(NO_ID, name, no_tags) for name in self._topics], False, False, self._operations, no_tags
        )
