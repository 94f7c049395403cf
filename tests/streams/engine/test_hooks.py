"""The hooks of Faust, mode and aiokafka that we override or call still exist, with the signatures that our code expects.

A failure means that the installed version differs from the one the code was written for. Read the new version of the hook,
adapt our code, then update the signature here.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.protocol.api import Request
from faust.agents.agent import Agent
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from mode import Service
from mode.services import ServiceTask

import streams

THEIRS = ("faust", "mode", "aiokafka")
ORDINARY = {"__init__", "__repr__", "__module__", "__doc__", "__qualname__", "__annotations__", "__orig_bases__"}

SIGNATURES = {
    "aiokafka.abc.ConsumerRebalanceListener.on_partitions_assigned": "(self, assigned)",
    "aiokafka.abc.ConsumerRebalanceListener.on_partitions_revoked": "(self, revoked)",
    "aiokafka.protocol.api.Request.build": "(self, request_struct_class)",
    "aiokafka.consumer.fetcher.PartitionRecords._unpack_records": "(self)",
    "faust.app.base.App._new_producer_transport": "(self)",
    "faust.app.base.App._new_transport": "(self)",
    "faust.assignor.partition_assignor.PartitionAssignor._perform_assignment": "(self, cluster, member_metadata)",
    "faust.assignor.partition_assignor.PartitionAssignor._protocol_assignments": (
        "(self, assignments, cl_distribution, tp_distribution, topic_groups)"
    ),
    "faust.assignor.partition_assignor.PartitionAssignor._update_member_urls": "(self, clients_metadata)",
    "faust.assignor.partition_assignor.PartitionAssignor.metadata": "(self, topics)",
    "faust.assignor.partition_assignor.PartitionAssignor.on_assignment": "(self, assignment)",
    "faust.channels.Channel.__anext__": "(self)",
    "faust.stores.base.SerializedStore._clear": "(self)",
    "faust.stores.base.SerializedStore._contains": "(self, key)",
    "faust.stores.base.SerializedStore._del": "(self, key)",
    "faust.stores.base.SerializedStore._get": "(self, key)",
    "faust.stores.base.SerializedStore._iteritems": "(self)",
    "faust.stores.base.SerializedStore._iterkeys": "(self)",
    "faust.stores.base.SerializedStore._itervalues": "(self)",
    "faust.stores.base.SerializedStore._set": "(self, key, value)",
    "faust.stores.base.SerializedStore._size": "(self)",
    "faust.stores.base.SerializedStore.apply_changelog_batch": "(self, batch, to_key, to_value)",
    "faust.types.stores.StoreT.reset_state": "(self)",
    "faust.types.stores.StoreT.backup_partition": "(self, tp, flush, purge, keep)",
    "faust.stores.base.Store.on_rebalance": "(self, assigned, revoked, newly_assigned, generation_id)",
    "faust.stores.base.Store.persisted_offset": "(self, tp)",
    "faust.types.stores.StoreT.restore_backup": "(self, tp, latest, backup_id)",
    "faust.stores.base.Store.set_persisted_offset": "(self, tp, offset)",
    "faust.tables.base.Collection._new_store": "(self)",
    "faust.tables.manager.TableManager.recovery": "property",
    "faust.tables.recovery.Recovery._publish_stats": "(self)",
    "faust.tables.recovery.Recovery._restart_recovery": "(self)",
    "faust.tables.recovery.Recovery._slurp_changelogs": "(self)",
    "faust.tables.recovery.Recovery.on_rebalance": "(self, assigned, revoked, newly_assigned, generation_id)",
    "faust.topics.Topic._clone_args": "(self)",
    "faust.transport.consumer.Consumer._drain_messages": "(self, fetcher)",
    "faust.transport.consumer.Consumer.force_commit": "(self, topics, start_new_transaction)",
    "faust.transport.consumer.Consumer.on_partitions_assigned": "(self, assigned, generation_id)",
    "faust.transport.consumer.Consumer.on_partitions_revoked": "(self, revoked)",
    "faust.transport.consumer.Consumer.on_task_error": "(self, exc)",
    "faust.transport.drivers.aiokafka.AIOKafkaConsumerThread._create_worker_consumer": "(self, transport)",
    "faust.transport.drivers.aiokafka.AIOKafkaConsumerThread.on_start": "(self)",
    "faust.transport.drivers.aiokafka.Consumer._new_consumer_thread": "(self)",
    "faust.transport.drivers.aiokafka.Consumer.verify_event_path": "(self, now, tp)",
    "faust.transport.drivers.aiokafka.Producer._new_producer": "(self, transactional_id)",
    "faust.transport.drivers.aiokafka.Producer._settings_extra": "(self)",
    "mode.services.ServiceCallbacks.on_stop": "(self)",
}
"""Of each hook that we override: its parameters in the version that our code was written for."""

CALLED: dict[str, tuple[Any, str]] = {
    "AIOKafkaClient.force_metadata_update": (AIOKafkaClient.force_metadata_update, "(self)"),
    "AIOKafkaClient.get_random_node": (AIOKafkaClient.get_random_node, "(self)"),
    "AIOKafkaClient.send": (AIOKafkaClient.send, "(self, node_id, request, group)"),
    "AIOKafkaProducer.create_batch": (AIOKafkaProducer.create_batch, "(self)"),
    "AIOKafkaProducer.send_batch": (AIOKafkaProducer.send_batch, "(self, batch, topic, partition)"),
    "PartitionRecords.__init__": (
        PartitionRecords.__init__,
        "(self, tp, records, aborted_transactions, fetch_offset, key_deserializer, value_deserializer, check_crcs, isolation_level)",
    ),
    "PartitionRecords._consume_aborted_up_to": (PartitionRecords._consume_aborted_up_to, "(self, batch_offset)"),
    "PartitionRecords._contains_abort_marker": (PartitionRecords._contains_abort_marker, "(self, next_batch)"),
    "PartitionRecords._consumer_record": (PartitionRecords._consumer_record, "(self, tp, record)"),
    "AIOKafkaConsumer.getmany": (AIOKafkaConsumer.getmany, "(self, partitions, timeout_ms, max_records)"),
    "AIOKafkaConsumerThread._ensure_consumer": (AIOKafkaConsumerThread._ensure_consumer, "(self)"),
    "Agent._execute_actor": (Agent._execute_actor, "(self, coro, aref)"),
    "GroupCoordinator._do_commit_offsets": (GroupCoordinator._do_commit_offsets, "(self, assignment, offsets)"),
    "GroupCoordinator.check_errors": (GroupCoordinator.check_errors, "(self)"),
    "GroupCoordinator.fetch_committed_offsets": (GroupCoordinator.fetch_committed_offsets, "(self, partitions)"),
    "GroupCoordinator.request_rejoin": (GroupCoordinator.request_rejoin, "(self)"),
    "PartitionAssignor._get_copartitioned_groups": (
        PartitionAssignor._get_copartitioned_groups,
        "(topics, cluster, subscriptions)",
    ),
    "RoundRobinPartitionAssignor.metadata": (RoundRobinPartitionAssignor.metadata, "(topics)"),
    "Request.prepare": (Request.prepare, "(self, versions)"),
    "Service.crash": (Service.crash, "(self, reason)"),
}
"""Methods that we call, or rely on, although they are private or we replace them on an instance."""


def our_classes() -> Iterator[type]:
    """Every class of `streams` that extends one of theirs."""
    seen: set[type] = set()
    for module in pkgutil.walk_packages(streams.__path__, "streams."):
        if module.name.endswith("__main__"):
            continue
        for found in vars(importlib.import_module(module.name)).values():
            if isinstance(found, type) and found.__module__ == module.name and found not in seen:
                seen.add(found)
                if any(is_theirs(base) for base in found.__mro__):
                    yield found


def is_theirs(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in THEIRS


def hook_of(cls: type, name: str) -> tuple[str, Any] | None:
    """The nearest definition in their base classes: its full name and itself."""
    for base in cls.__mro__[1:]:
        if is_theirs(base) and name in vars(base):
            return f"{base.__module__}.{base.__qualname__}.{name}", vars(base)[name]
    return None


def parameters(hook: Any) -> str:
    """The names of the parameters, or "property"."""
    if isinstance(hook, property):
        return "property"
    function = hook.fun if isinstance(hook, ServiceTask) else hook
    return f"({', '.join(inspect.signature(function).parameters)})"


def is_marked(member: Any) -> bool:
    """Whether a member carries `typing.override`."""
    return any(getattr(one, "__override__", False) for one in (member, getattr(member, "fget", None)))


def overridden() -> Iterator[tuple[type, str, Any]]:
    """Every method or property of ours that stands in front of one of theirs, or is marked to."""
    for cls in our_classes():
        for name, member in vars(cls).items():
            is_method = isinstance(member, property | ServiceTask) or inspect.isfunction(member)
            if is_method and name not in ORDINARY and (hook_of(cls, name) or is_marked(member)):
                yield cls, name, member


OVERRIDDEN = [pytest.param(*found, id=f"{found[0].__name__}.{found[1]}") for found in overridden()]


@pytest.mark.parametrize(("cls", "name", "member"), OVERRIDDEN)
def test_each_hook_that_we_override_is_marked_and_unchanged(cls: type, name: str, member: Any) -> None:
    installed = ", ".join(
        f"{package} {version(package)}" for package in ("faust-streaming", "mode-streaming", "aiokafka")
    )
    ours = f"{cls.__module__}.{cls.__qualname__}.{name}"
    assert is_marked(member), f"{ours} overrides a hook: mark it with typing.override"
    found = hook_of(cls, name)
    assert found is not None, f"{ours} overrides a hook that no longer exists in {installed}"
    hook, theirs = found
    expected = SIGNATURES.get(hook)
    assert expected is not None, f"{ours} overrides {hook}, whose signature {parameters(theirs)} is not recorded here"
    assert parameters(theirs) == expected, (
        f"{hook} has the parameters {parameters(theirs)} in {installed}; {ours} was written for {expected}"
    )


def test_every_recorded_signature_belongs_to_a_hook_that_we_override() -> None:
    hooks = {found[0] for cls, name, _ in overridden() if (found := hook_of(cls, name))}
    assert set(SIGNATURES) == hooks


@pytest.mark.parametrize("name", CALLED)
def test_each_method_that_we_rely_on_is_unchanged(name: str) -> None:
    method, expected = CALLED[name]
    assert parameters(method) == expected
