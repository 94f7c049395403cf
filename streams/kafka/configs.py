"""Configuration of topics at the broker: reading it, comparing it with what it has to be, and setting single values.

aiokafka sets the whole configuration of a topic at a time, which would reset what it does not name. This sets single values
(IncrementalAlterConfigs, KIP-339).
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String
from typing_extensions import override

from streams.exceptions import TopicsError

SET = 0  # the operation that sets a value

# What may be lower than it is for a new topic: erased values go sooner. And what may be higher.
AT_MOST = frozenset({"segment.ms", "max.compaction.lag.ms"})
AT_LEAST = frozenset({"min.compaction.lag.ms"})


class Difference(NamedTuple):
    """A value of a topic's configuration that is not what it has to be."""

    name: str
    value: str  # at the broker
    wanted: str

    @override
    def __str__(self) -> str:
        return f"{self.name}={self.value} instead of {self.wanted}"


def differences(wanted: Mapping[str, str], configs: Mapping[str, str]) -> list[Difference]:
    """What has to change for a topic to keep its records for as long as it has to, and no longer.

    Args:
        wanted: Configuration of a new topic.
        configs: Configuration of the existing one. Names that the broker does not report count as right.
    """
    return [
        Difference(name, configs[name], value)
        for name, value in wanted.items()
        if name in configs and not _fits(name, configs[name], value)
    ]


def _fits(name: str, value: str, wanted: str) -> bool:
    try:
        found, limit = int(value), int(wanted)
    except ValueError:
        return value == wanted
    if name in AT_MOST:
        return 0 <= found <= limit
    return found >= limit if name in AT_LEAST else found == limit


async def topic_configs(admin: AIOKafkaAdminClient, names: Collection[str]) -> dict[str, dict[str, str]]:
    """Configuration of existing topics, by topic. Topics that may not be described, and values without a text, are missing."""
    if not names:
        return {}
    # All of the configuration: Tansu supports no filter.
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    responses: list[Any] = await admin.describe_configs(resources)
    found: dict[str, dict[str, str]] = {}
    for resource in [resource for response in responses for resource in response.resources]:
        code, topic, entries = resource[0], resource[3], resource[4]
        if code == 0:
            found[topic] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return found


async def set_topic_configs(admin: AIOKafkaAdminClient, wanted: Mapping[str, Mapping[str, str]]) -> None:
    """Set single values of the configuration of topics, by topic and name. Raises TopicsError if the broker refuses."""
    resources = [
        (int(ConfigResourceType.TOPIC), topic, [(name, SET, value) for name, value in values.items()])
        for topic, values in wanted.items()
    ]
    answer: Any = await admin._send_request(_IncrementalAlterConfigs(resources))
    for code, message, _, topic in answer.responses:
        if code:
            reason: type[KafkaError] = for_code(code)
            values = ", ".join(f"{name}={value}" for name, value in wanted[topic].items())
            raise TopicsError(f"topic {topic}: {values} could not be set: {message or reason.__name__}")


class _AlterConfigsResponse(Response):
    API_KEY = 44  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType] -- as aiokafka's own
    API_VERSION = 0  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _IncrementalAlterConfigsV0(RequestStruct):
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _AlterConfigsResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(("name", String("utf-8")), ("config_operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _IncrementalAlterConfigs(Request[_IncrementalAlterConfigsV0]):
    API_KEY = 44

    def __init__(self, resources: list[tuple[int, str, list[tuple[str, int, str]]]]) -> None:
        self._resources = resources

    @override
    def build(self, request_struct_class: type[_IncrementalAlterConfigsV0]) -> _IncrementalAlterConfigsV0:
        return request_struct_class(self._resources, False)
