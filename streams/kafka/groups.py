"""Whether a consumer group, and the changelog of the same name, belong to the topic that the settings name.

Two installations with one group but different topics lose each other's events: the group's leader assigns partitions of
topics that the other one does not read. The broker knows what a group reads: its members say it, and its commits show it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from time import monotonic
from typing import Any, Literal, NamedTuple

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, for_code

from streams.exceptions import BrokerUnreachable, TopicsError
from streams.settings import PREFIX, Settings

PAUSE = 0.2  # seconds between two attempts
REBALANCING = frozenset(
    {"PreparingRebalance", "CompletingRebalance"}
)  # the members' topics are not known until it is over


@dataclass(frozen=True)
class GroupUse:
    """Which topic a consumer group has to read, by the settings."""

    group: str
    topic: str
    setting: str  # that names the topic
    owns: str = ""  # the changelog topic that goes with the group, if it has one
    joins: bool = False  # whether this process is going to be a member, and needs the right to


@dataclass(frozen=True)
class GroupState:
    """What the broker knows of a consumer group."""

    committed: frozenset[str]  # topics with committed offsets; not those that were deleted, where nothing can be lost
    members: tuple[frozenset[str], ...]  # topics that each live member reads; none where that is not known
    rebalancing: bool = False  # then it is not known for any member


def group_uses(settings: Settings, worker: Literal["embed", "profile"] | None = None) -> list[GroupUse]:
    """The groups to check before this worker starts; all if None.

    An embed worker writes what the profile workers read, so it checks their group too. If they belong to another topic, it
    would take events from the input that are then missing there.
    """
    embed = GroupUse(settings.embed_group, settings.interactions_topic, "INTERACTIONS_TOPIC", joins=worker == "embed")
    profile = GroupUse(
        settings.profile_group,
        settings.embedded_topic,
        "EMBEDDED_TOPIC",
        owns=settings.bags_changelog,
        joins=worker == "profile",
    )
    return [profile] if worker == "profile" else [embed, profile]


def check_group(use: GroupUse, state: GroupState) -> None:
    """Check that a group reads the topic of the settings, or nothing yet.

    Args:
        use: what the settings say.
        state: what the broker says.

    Raises:
        TopicsError: It reads another topic. The message names both, and what to do.
    """
    group = f"{use.group} with its changelog {use.owns}" if use.owns else use.group
    setting, space = PREFIX + use.setting, f"{PREFIX}NAMESPACE"
    for member in state.members:
        if member and use.topic not in member:  # a worker of ours reads its changelog too
            read = ", ".join(sorted(member - {use.owns}))
            raise TopicsError(
                f"group {group} belongs to running workers that read {read}, but {setting} is {use.topic}; "
                f"set {space} for this installation alone, or stop those workers"
            )
    others = sorted(state.committed - {use.topic})
    if others and use.topic not in state.committed:
        options = " ".join(["--delete-offsets", *(f"--topic {other}" for other in others)])
        step = f"kafka-consumer-groups.sh --bootstrap-server BROKER --group {use.group} {options}"
        raise TopicsError(
            f"group {group} belongs to {', '.join(others)}, but {setting} is {use.topic}; "
            f"set {space} for this installation alone, or move the group to this topic with `{step}`"
        )


async def check_groups(
    admin: AIOKafkaAdminClient, settings: Settings, uses: Iterable[GroupUse], topics: Mapping[str, int]
) -> None:
    """Check consumer groups at the broker.

    Args:
        admin: a connected client.
        settings: how long to wait.
        uses: the groups.
        topics: number of partitions of each topic that exists.

    Raises:
        BrokerUnreachable: The coordinator of a group did not answer within `broker_timeout`.
        TopicsError: A group belongs to another topic, or may not be used.
    """
    partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
    for use in uses:
        check_group(use, await _state(admin, settings, use, partitions))


async def _state(
    admin: AIOKafkaAdminClient, settings: Settings, use: GroupUse, partitions: list[TopicPartition]
) -> GroupState:
    """Ask until the coordinator answers and its answer tells what the group reads."""
    deadline = monotonic() + settings.broker_timeout
    patience = monotonic() + settings.session_timeout  # for a group that never settles
    while True:
        try:
            state = await _asked(admin, use.group, partitions)
        except GroupAuthorizationFailedError as error:
            if not use.joins:
                return GroupState(frozenset(), ())  # nothing is known
            raise TopicsError(
                f"group {use.group} may not be used; grant READ on it, or set {PREFIX}NAMESPACE to the prefix that the ACLs allow"
            ) from error
        except KafkaError as error:
            if not error.retriable:
                raise TopicsError(f"group {use.group} could not be described: {error!r}") from error
            if monotonic() > deadline:
                raise BrokerUnreachable(
                    f"no coordinator of group {use.group} answered within {settings.broker_timeout:g} s "
                    f"({PREFIX}BROKER_TIMEOUT): {error!r}"
                ) from error
        else:
            # Before the first commit only the members tell what a group reads, and in a rebalance the broker does not say it.
            if state.committed or not state.rebalancing or monotonic() > patience:
                return state
        await asyncio.sleep(PAUSE)


class GroupMember(NamedTuple):
    """A member of a consumer group, as the broker describes it."""

    id: str
    client: str  # the client id
    host: str
    metadata: bytes  # what it sent when it joined; empty while the group is rebalancing
    assignment: bytes  # the partitions that the leader gave it; empty as well


async def describe_group(
    admin: AIOKafkaAdminClient, group: str, coordinator: int | None = None
) -> tuple[str, list[GroupMember]]:
    """The state of a consumer group, and its members. Raises KafkaError.

    Args:
        admin: a connected client.
        group: its name.
        coordinator: id of the broker to ask; None to look for it.
    """
    responses: list[Any] = await admin.describe_consumer_groups([group], coordinator)
    [described] = responses[0].groups
    code, _, state, _, _, members = described[:6]
    if code:
        raise for_code(code)(group)
    return state, [GroupMember(*member[:5]) for member in members]


async def _asked(admin: AIOKafkaAdminClient, group: str, partitions: list[TopicPartition]) -> GroupState:
    """Ask the coordinator of a group. Raises KafkaError."""
    state, members = await describe_group(admin, group)
    # A broker can be asked for all offsets of a group at once, but Tansu's answer to that cannot be read.
    offsets = await admin.list_consumer_group_offsets(group, partitions=partitions) if partitions else {}
    return GroupState(
        committed=frozenset(tp.topic for tp, committed in offsets.items() if committed.offset >= 0),
        members=tuple(subscription(member.metadata) for member in members),
        rebalancing=state in REBALANCING,
    )


def subscription(metadata: bytes) -> frozenset[str]:
    """The topics in what a member sent when it joined: none if it sent nothing, or is no consumer."""
    try:
        return frozenset(ConsumerProtocolMemberMetadata.decode(BytesIO(metadata)).subscription or ())
    except ValueError:
        return frozenset()
