"""The Faust app that both workers are built on: Faust with its sharp edges set.

A factory, never a module-level app: each worker, and each test, makes its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
from faust import auth
from faust.types.transports import TransportT
from mode.utils.logging import get_logger
from yarl import URL

from streams.engine.consumer import Consumer
from streams.engine.in_flight import InFlightTracker
from streams.engine.producer import Producer, Transport
from streams.engine.recovery import OwnTableManager
from streams.settings import Settings

PRODUCER_BATCH = 256 * 1024  # bytes of a partition; at aiokafka's 16 KB a dozen rows fill it, and whoever sends waits
NEVER = 10 * 365 * 86_400.0  # seconds


class App(faust.App):
    """A Faust app that reads one topic into an `InFlightTracker`."""

    logger = get_logger("faust.tastestream")  # for what Faust says of itself, at every start and stop

    consumer: Consumer  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    producer: Producer  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(
        self,
        app_id: str,
        topic: str,
        *,
        max_in_flight: int,
        finish_before_revocation: bool,
        idempotence: bool,
        poll_interval: float,
        **options: Any,
    ) -> None:
        """topic: what is read. max_in_flight: records that are read and not committable yet, at most.
        finish_before_revocation: whether partitions wait for the work in hand before they move, because it writes state.
        idempotence: of the producer.
        poll_interval: seconds between two requests of the consumer for records, at least.
        """
        self.in_flight = InFlightTracker(max_in_flight)
        self.finish_before_revocation = finish_before_revocation
        self.idempotence = idempotence
        self.poll_interval = poll_interval
        self.before_send: Callable[[], None] = lambda: None  # called before each request of the producer
        super().__init__(app_id, **options)
        self.topics.add(
            self.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        )

    def _new_transport(self) -> TransportT:
        return Transport(self.conf.broker_consumer, self)

    _new_producer_transport = _new_transport


def new_app(
    app_id: str, settings: Settings, folder: Path, topic: str, *, max_in_flight: int, finish_before_revocation: bool
) -> App:
    """An app whose consumer group is `app_id` and whose files lie under `folder`; the rest as in `App`."""
    return App(
        app_id,
        topic,
        max_in_flight=max_in_flight,
        finish_before_revocation=finish_before_revocation,
        idempotence=settings.idempotence,
        poll_interval=settings.poll_interval,
        broker=[URL(f"kafka://{server}") for server in settings.bootstrap_servers],
        broker_credentials=_credentials(settings),
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 6,
        broker_max_poll_interval=NEVER,  # a spare without partitions has nothing to poll, and stays in the group
        broker_rebalance_timeout=max(30.0, 2 * settings.session_timeout),
        broker_request_timeout=max(30.0, settings.session_timeout + 1),
        broker_commit_interval=settings.commit_interval,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,  # all in-sync replicas
        producer_linger=0.002,  # seconds; the sends of a micro-batch go out together anyway
        producer_max_batch_size=PRODUCER_BATCH,
        stream_wait_empty=False,  # of Faust's own streams, which are not used here
        producer_request_timeout=300.0,  # an outage is waited for in place: a restart would take longer to resume
        datadir=folder,
        store="memory://",
        TableManager=OwnTableManager,
        table_standby_replicas=0,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
        web_enabled=False,  # it has no authentication; streams.monitoring.health has what is needed
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
