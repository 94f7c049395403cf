"""Which bundles the running workers have. A worker says it when it joins its consumer group, and the broker tells it to whoever asks.

The consumer protocol has a field for data of the application's own. A worker with tables sends a JSON object of Faust's in it, and
one without sends nothing. We add a field to the object. Faust passes over fields that it does not know, so a worker of an earlier
version can lead the group.

A worker joins again only when something else makes it: each time, all workers of the group pause. So the name and the version of
a bundle are those at its last join; the worker says beside its commits what it has loaded since (`streams.kafka.remarks`). Its
embedder version is always right, because a running worker never changes it.
"""

import asyncio
from dataclasses import dataclass
from io import BytesIO
from time import monotonic

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.exceptions import BrokerUnreachable, TopicsError
from streams.kafka.groups import PAUSE, REBALANCING, describe_group
from streams.kafka.topics import connected
from streams.settings import PREFIX, Settings

# In the JSON object; no attribute of Faust's `ClientMetadata` may have these names.
FIELD, GENERATION = "bundles", "topics"


class BundleName(msgspec.Struct, frozen=True):
    """A bundle, as a worker names it."""

    name: str
    version: str
    embedder_version: str

    @classmethod
    def of(cls, bundle: Bundle) -> "BundleName":
        """The name of a loaded bundle."""
        return cls(bundle.name, bundle.version, bundle.embedder_version)

    def __str__(self) -> str:
        return f"{self.name} {self.version} (embedder {self.embedder_version})"


class MemberBundles(msgspec.Struct, frozen=True):
    """What a worker has as `BUNDLE` and as `NEXT_BUNDLE`."""

    served: BundleName
    next: BundleName | None = None

    @classmethod
    def of(cls, bundles: Bundles) -> "MemberBundles":
        """The names of loaded bundles."""
        return cls(BundleName.of(bundles.served), BundleName.of(bundles.next) if bundles.next else None)


@dataclass(frozen=True)
class Member:
    """A member of the consumer group of a kind of worker."""

    group: str
    host: str  # from which the member is connected to the broker
    id: str
    bundles: MemberBundles | None  # None if it does not say: a worker of an earlier version, or no worker
    generation: int | None = None  # of the internal topics that it uses; None if it does not say


class _UserData(msgspec.Struct):
    bundles: MemberBundles | None = None
    topics: int | None = None


def with_bundles(user_data: bytes, bundles: Bundles) -> bytes:
    """Add the names of the bundles to the JSON object, if any, that a member sends when it joins."""
    return with_field(user_data, FIELD, MemberBundles.of(bundles))


def with_field(user_data: bytes, name: str, value: object) -> bytes:
    """Add a field to the JSON object, if any, that a member sends when it joins, or that it is sent with its partitions."""
    content = msgspec.json.decode(user_data or b"{}", type=dict[str, msgspec.Raw])
    return msgspec.json.encode(content | {name: msgspec.Raw(msgspec.json.encode(value))})


def with_generation(user_data: bytes, generation: int) -> bytes:
    """Add the generation of the internal topics to the JSON object, if any, that a member sends when it joins."""
    return with_field(user_data, GENERATION, generation)


def bundles_of(metadata: bytes) -> MemberBundles | None:
    """The bundles in what a member sent when it joined; None if it does not say."""
    return _said(metadata).bundles


def generation_of(metadata: bytes) -> int | None:
    """The generation of the internal topics in what a member sent when it joined; None if it does not say."""
    return _said(metadata).topics


def _said(metadata: bytes) -> _UserData:
    try:
        sent = ConsumerProtocolMemberMetadata.decode(BytesIO(metadata))
        return msgspec.json.decode(sent.user_data or b"{}", type=_UserData)
    except (ValueError, RecursionError):  # errors of msgspec and of decoding text are ValueErrors
        return _UserData()


async def fleet(settings: Settings) -> list[Member]:
    """Ask the broker for the members of the groups of both kinds of workers. Waits for a rebalance to end.

    Raises:
        BrokerUnreachable: No broker answered within `broker_timeout`, or a group was rebalancing all the time.
        TopicsError: A group may not be described.
    """
    async with connected(settings) as admin:
        return [
            member
            for group in (settings.embed_group, settings.profile_group)
            for member in await members(admin, group, settings.broker_timeout)
        ]


async def members(admin: AIOKafkaAdminClient, group: str, patience: float) -> list[Member]:
    """The members of a group, once it is steady. `patience`: seconds. Raises as `fleet` does."""
    deadline = monotonic() + patience
    while True:
        try:
            state, found = await describe_group(admin, group)
        except GroupAuthorizationFailedError as error:
            raise TopicsError(f"group {group} may not be described; grant DESCRIBE on it") from error
        except KafkaError as error:
            if not error.retriable:
                raise TopicsError(f"group {group} could not be described: {error!r}") from error
            problem = repr(error)
        else:
            if state not in REBALANCING:
                return [
                    Member(
                        group,
                        one.host.removeprefix("/"),
                        one.id,
                        bundles_of(one.metadata),
                        generation_of(one.metadata),
                    )
                    for one in found
                ]
            problem = "it is rebalancing, and its members are not known until it is steady"
        if monotonic() > deadline:
            raise BrokerUnreachable(
                f"group {group} could not be described within {patience:g} s ({PREFIX}BROKER_TIMEOUT): {problem}"
            )
        await asyncio.sleep(PAUSE)
