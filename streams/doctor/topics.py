"""The topics: whether they exist and fit, how long they keep records, who may use them, and the times of their records."""

import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from model.exceptions import TastestreamError
from streams.doctor.finding import Finding, fail, ok, warn
from streams.kafka.groups import check_groups, group_uses
from streams.kafka.metadata import allowed_operations
from streams.kafka.offsets import ISOLATION
from streams.kafka.reading import read_past_damage
from streams.kafka.topics import TopicSpec, TopicState, describe_topics, topic_specs
from streams.profile.spread import partitions_of_bags
from streams.settings import Settings

READ, WRITE = frozenset({"Read"}), frozenset({"Write"})


def needed(settings: Settings, *, trend: bool) -> dict[str, frozenset[str]]:
    """What the workers do with each topic, by its name. docs/operate/deploy.md has the same table."""
    both = READ | WRITE
    return {
        settings.interactions_topic: READ,
        settings.items_topic: READ,
        settings.generations_topic: READ,
        settings.embedded_topic: both,
        settings.bags_changelog: both,
        settings.recommendations_topic: WRITE,
        settings.dlq_topic: WRITE,
        **({settings.features_topic: both} if settings.share_features else {}),
        **({settings.next_recommendations_topic: WRITE} if settings.next_bundle else {}),
        **({settings.category_trend_topic: both} if trend else {}),
    }


async def topics(settings: Settings, admin: AIOKafkaAdminClient, *, trend: bool) -> list[Finding]:
    """All that can be said of the topics. `trend`: whether the bundle uses it."""
    client = AIOKafkaClient(**settings.aiokafka())
    try:
        await client.bootstrap()
        return await _topics(settings, admin, client, trend=trend)
    except KafkaError as error:
        return [fail("topics", f"the broker refuses to describe them: {error!r}", "see the log of the broker")]
    finally:
        await client.close()


async def _topics(
    settings: Settings, admin: AIOKafkaAdminClient, client: AIOKafkaClient, *, trend: bool
) -> list[Finding]:
    specs = topic_specs(settings, trend=trend)
    existing = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    rights = await allowed_operations(client, {*(spec.name for spec in specs), *needed(settings, trend=trend)})
    denied = {spec.name for spec in specs if rights.get(spec.name) == frozenset()} - set(existing)
    states = await describe_topics(admin, specs, existing)
    findings = [
        *_presence(specs, states, denied),
        *_fit(specs, states),
        *_rights(settings, rights, trend=trend),
        *await _groups(settings, admin, existing),
    ]
    if {settings.embedded_topic, settings.bags_changelog} <= set(states):
        findings += await _spread(settings, states)
    if settings.interactions_topic in states and "Read" in rights.get(settings.interactions_topic, READ):
        findings.append(await _times(settings, states[settings.interactions_topic].partitions))
    return findings


def _presence(specs: list[TopicSpec], states: Mapping[str, TopicState], denied: set[str]) -> list[Finding]:
    missing = [spec.name for spec in specs if spec.name not in states and spec.name not in denied]
    if missing:
        return [fail("topics", f"missing: {', '.join(missing)}", "tastestream topics")]
    return [] if denied else [ok("topics", f"all {len(specs)} topics exist")]


def _fit(specs: list[TopicSpec], states: Mapping[str, TopicState]) -> list[Finding]:
    findings: list[Finding] = []
    for spec in specs:
        state = states.get(spec.name)
        if state is None:
            continue
        if state.cleanup != spec.cleanup:
            change = (
                f"--entity-type topics --entity-name {spec.name} --alter --add-config cleanup.policy={spec.cleanup}"
            )
            fact = f"topic {spec.name} has cleanup.policy={state.cleanup}, and needs {spec.cleanup}"
            findings.append(fail("topics", fact, f"kafka-configs.sh --bootstrap-server BROKER {change}"))
        if state.differences:
            values = ", ".join(map(str, state.differences))
            findings.append(warn("retention", f"topic {spec.name} has {values}", "tastestream topics --apply"))
    return findings or [ok("retention", "topics keep records for as long as the settings say")]


def _rights(settings: Settings, rights: Mapping[str, frozenset[str]], *, trend: bool) -> list[Finding]:
    findings: list[Finding] = []
    for name, operations in needed(settings, trend=trend).items():
        missing = sorted(operations - rights.get(name, operations))
        if missing:
            findings.append(_may_not(settings, missing, "topic", name, "DescribeConfigs"))
    return findings or [ok("rights", "this client may read and write what the workers need")]


def _may_not(settings: Settings, operations: list[str], kind: str, name: str, *besides: str) -> Finding:
    """What this client may not do with a topic or a group, and how to grant it, with what is needed besides."""
    user = settings.sasl_username or "ANONYMOUS"
    options = " ".join(f"--operation {one}" for one in [*operations, *besides])
    return fail(
        "rights",
        f"{user} may not {' and '.join(operations).lower()} {kind} {name}",
        f"kafka-acls.sh --bootstrap-server BROKER --add --allow-principal User:{user} --{kind} {name} {options}",
    )


async def _groups(settings: Settings, admin: AIOKafkaAdminClient, existing: Mapping[str, int]) -> list[Finding]:
    findings: list[Finding] = []
    for worker in ("embed", "profile"):
        for use in (one for one in group_uses(settings, worker) if one.joins):
            try:
                await check_groups(admin, settings, [use], existing)
            except TastestreamError as error:
                if isinstance(error.__cause__, GroupAuthorizationFailedError):
                    findings.append(_may_not(settings, ["Read"], "group", use.group))
                else:
                    fact, _, fix = str(error).partition("; ")
                    findings.append(fail("groups", fact, fix))
    return findings or [ok("groups", "the consumer groups read these topics, or nothing yet")]


async def _spread(settings: Settings, states: Mapping[str, TopicState]) -> list[Finding]:
    try:
        number = await partitions_of_bags(settings, {name: state.partitions for name, state in states.items()})
    except TastestreamError as error:
        fact, _, fix = str(error).partition(": ")
        return [fail("partitions", fact, fix)]
    return [ok("partitions", f"the bags are spread over {number} partitions")]


async def _times(settings: Settings, partitions: int) -> Finding:
    """Whether records were written in the future: then a clock is wrong, and events may become dead letters."""
    topic = settings.interactions_topic
    latest = time.time() + settings.max_future
    read_past_damage(settings.max_batch_bytes)
    consumer = AIOKafkaConsumer(**settings.aiokafka(), enable_auto_commit=False, isolation_level=ISOLATION)
    try:
        await consumer.start()
        asked = {TopicPartition(topic, number): int(latest * 1000) for number in range(partitions)}
        found = [tp for tp, at in (await consumer.offsets_for_times(asked)).items() if at is not None]
    finally:
        await consumer.stop()
    if found:
        return fail(
            "clock",
            f"records of {topic} are more than {settings.max_future:g} s ahead of this machine's clock",
            "set the clocks of this machine and of the producers, with NTP; events that are still ahead become dead letters "
            "(timestamp_in_future)",
        )
    return ok("clock", f"no record of {topic} is ahead of this machine's clock")
