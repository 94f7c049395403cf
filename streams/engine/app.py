"""The Faust app that both workers build on, configured so that no event is lost.

A factory, never a module-level app: each worker, and each test, makes its own.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import faust
from faust import auth
from faust.types import StreamT
from faust.types.transports import TransportT
from mode import CrashingSupervisor
from mode.utils.logging import get_logger
from typing_extensions import override
from yarl import URL

from streams.bundles import Bundles
from streams.engine.assignor import TablesAssignor
from streams.engine.batches import MicroBatches
from streams.engine.consumer import Consumer
from streams.engine.in_flight import InFlightTracker, Pending
from streams.engine.producer import Producer, Transport
from streams.engine.recovery import OwnTableManager
from streams.kafka.reading import read_past_damage
from streams.kafka.remarks import silent
from streams.runtime.crash_journal import CrashJournal
from streams.settings import Settings

PRODUCER_BATCH = 256 * 1024  # bytes per partition. At aiokafka's 16 KB a dozen rows fill a batch, and senders wait.
METADATA_AGE = 10.0  # seconds. At aiokafka's five minutes, new partitions and topics are unread for that long.
HEARTBEAT = 0.15  # seconds. A worker learns from the answer that partitions move, and nobody gets them before all have learned it.
NEVER = 10 * 365 * 86_400.0  # seconds

Batches = StreamT[list[Pending]]
"""What an agent iterates over."""


class App(faust.App):
    """A Faust app with one agent that reads micro-batches of one topic."""

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    consumer: Consumer  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    producer: Producer  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(
        self,
        app_id: str,
        *,
        max_in_flight: int,
        intake_memory: int,
        finish_before_revocation: bool,
        idempotence: bool,
        poll_interval: float,
        kafka: Mapping[str, Any],
        **options: Any,
    ) -> None:
        """Make an app whose consumer group is `app_id`.

        Args:
            app_id: the consumer group.
            max_in_flight: maximum number of records that are read and not committable yet.
            intake_memory: maximum size of the records that are read and not finished, bytes; and of those that are fetched and
                not read.
            finish_before_revocation: whether a rebalance waits for the current work, because it writes state.
            idempotence: whether the producer is idempotent.
            poll_interval: minimum seconds between two fetch requests to a broker.
            kafka: connection arguments of an aiokafka client.
            **options: Faust's own settings.
        """
        self.in_flight = InFlightTracker(max_in_flight, intake_memory)
        self.beside = InFlightTracker(0)  # records of another topic that the worker reads; the embed worker sets it
        self.crash_journal: CrashJournal | None = None  # the runner sets it before the start
        self.bundles: Callable[[], Bundles] | None = (
            None  # those that the worker has; its group learns them when it joins
        )
        self.topics_generation = 1  # of the internal topics that the worker uses; its group learns it when it joins
        # The partitions that this worker could take over at once; None if it does not know those of others.
        self.warm: Callable[[], Collection[int] | None] = lambda: None
        self.finish_before_revocation = finish_before_revocation
        self.idempotence = idempotence
        self.poll_interval = poll_interval
        self.intake_memory = intake_memory
        self.kafka = kafka
        self.reads = ""  # the topic; `read` sets it
        self.partitions: int | None = None  # number of partitions that the tables are spread over; None without tables
        self.before_send: Callable[[], None] = lambda: None  # called before each request of the producer
        # Called once the group has this worker, before it reads.
        self.before_reading: Callable[[], Awaitable[None]] = _nothing
        self.remark: Callable[[], str] = silent  # the text beside the next commit, in front of the mark of the topic
        super().__init__(app_id, **options)

    def read(self, topic: str, agent: Callable[[Batches], Awaitable[None]], *, name: str, limit: int) -> None:
        """Run `agent` over micro-batches of `topic`.

        An exception that leaves the agent crashes the app: Faust would otherwise restart the agent past its batch.

        Args:
            topic: the topic's name.
            agent: `async for batch in batches`; called once, when the app starts.
            name: of the agent, in Faust's log lines.
            limit: maximum number of records in a batch.
        """
        self.reads = topic
        batches = MicroBatches(
            self,
            topics=[topic],
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            tracker=self.in_flight,
            limit=limit,
        )
        self.agent(batches, name=name)(agent)

    @override
    def _new_transport(self) -> TransportT:
        return Transport(self.conf.broker_consumer, self)

    @override
    def _new_producer_transport(self) -> TransportT:
        return Transport(self.conf.broker_producer, self)


async def _nothing() -> None:
    pass


def new_app(
    app_id: str, settings: Settings, folder: Path, *, max_in_flight: int, finish_before_revocation: bool
) -> App:
    """Make an app whose files lie under `folder`. For the other arguments see `App`."""
    read_past_damage(settings.max_batch_bytes)
    return App(
        app_id,
        max_in_flight=max_in_flight,
        intake_memory=settings.intake_memory,
        finish_before_revocation=finish_before_revocation,
        idempotence=settings.idempotence,
        poll_interval=settings.poll_interval,
        kafka=settings.aiokafka(),
        broker=[URL(f"kafka://{server}") for server in settings.bootstrap_servers],
        broker_credentials=_credentials(settings),
        broker_client_id=settings.client_id,
        consumer_group_instance_id=settings.group_instance_id,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=min(HEARTBEAT, settings.session_timeout / 6),
        broker_max_poll_interval=NEVER,  # a spare worker without partitions polls nothing, and stays in the group
        broker_rebalance_timeout=max(30.0, 2 * settings.session_timeout),
        broker_request_timeout=max(30.0, settings.session_timeout + 1),
        broker_commit_interval=settings.commit_interval,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=int(METADATA_AGE * 1000),
        producer_acks=-1,  # all in-sync replicas
        producer_linger=0.002,  # seconds; the sends of a micro-batch go out together anyway
        producer_max_batch_size=PRODUCER_BATCH,
        producer_request_timeout=300.0,  # wait for an outage in place: a restart would take longer to resume
        agent_supervisor=CrashingSupervisor,  # never restarts an agent
        stream_wait_empty=False,  # Faust has no events to wait for
        datadir=folder,
        store="memory://",
        TableManager=OwnTableManager,
        PartitionAssignor=TablesAssignor,
        table_standby_replicas=0,
        topic_disable_leader=True,
        topic_allow_declare=False,  # `streams.kafka.topics` creates them; a client may not have the right to
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
        web_enabled=False,  # Faust's server has no authentication; streams.monitoring.health has what is needed
        key_serializer="raw",
        value_serializer="raw",
    )


def _credentials(settings: Settings) -> auth.Credentials | None:
    context = settings.ssl_context
    if settings.security_protocol.startswith("SASL"):
        return auth.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password.get_secret_value(),
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return auth.SSLCredentials(context=context) if context else None
