"""The Faust app that both workers are built on: Faust with its sharp edges set.

A factory, never a module-level app: each worker, and each test, makes its own.
"""

from pathlib import Path
from typing import Any

import faust
import faust.streams
from faust import auth
from yarl import URL

from streams.exceptions import StartupError
from streams.settings import Settings


def new_app(app_id: str, settings: Settings, folder: Path, **options: Any) -> faust.App:
    """A Faust app whose consumer group is `app_id` and whose files lie under `folder`.

    Raises StartupError where Faust's compiled stream is missing: the one in Python acknowledges the events that it skips.
    """
    if getattr(faust.streams, "_CStreamIterator", None) is None:
        raise StartupError(
            "faust-streaming runs without its compiled extension, which would lose events at a rebalance; "
            "install it from a wheel, and unset NO_CYTHON"
        )
    return faust.App(
        app_id,
        broker=[URL(f"kafka://{server}") for server in settings.bootstrap_servers],
        broker_credentials=_credentials(settings),
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 6,
        broker_request_timeout=max(30.0, settings.session_timeout + 1),
        broker_commit_interval=settings.commit_interval,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,  # all in-sync replicas
        producer_linger=0.002,  # seconds; the sends of a micro-batch go out together anyway
        stream_wait_empty=False,  # it waits for every slow picture, at each rebalance, and for ever at the stop
        stream_buffer_maxsize=1024,  # events, each up to a megabyte; also of a recovery's queue
        producer_request_timeout=30.0,  # the default of 20 minutes would hide an outage
        datadir=folder,
        store="memory://",
        table_standby_replicas=0,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
        web_enabled=False,  # it has no authentication; streams.health has what is needed
        key_serializer="raw",
        value_serializer="raw",
        **options,
    )


def raw_topic(app: faust.App, name: str) -> faust.TopicT:
    """A topic whose keys and values stay bytes, or None."""
    return app.topic(
        name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
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
