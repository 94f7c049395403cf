"""The test broker is a real Kafka: it keeps messages over a stop and a kill, and it never outlives its test."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.kafka.broker import KafkaBroker
from tests.kafka.distribution import KafkaUnavailable
from tests.kafka.system import PATIENCE, next_line, wait_until


async def test_a_message_survives_stop_kill_and_start(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path, brief=True) as broker:
        await create_topic(broker, "things")
        await produce(broker, "things", b"before the stop")
        broker.stop()
        assert not broker.running
        broker.start()
        assert await consume(broker, "things", 1) == [b"before the stop"]
        await produce(broker, "things", b"before the kill")
        broker.kill()
        broker.start()
        assert await consume(broker, "things", 2) == [b"before the stop", b"before the kill"]
        assert broker.console(
            "consumer", "--topic", "things", "--from-beginning", "--max-messages", "2"
        ).splitlines() == ["before the stop", "before the kill"]
    assert not broker.running


def test_a_broker_that_dies_says_why(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path, brief=True)
    broker.start()
    broker.stop()
    with (tmp_path / "server.properties").open("a") as properties:
        properties.write("log.cleaner.threads=many\n")
    with pytest.raises(KafkaUnavailable, match=r"log\.cleaner\.threads"):
        broker.start()
    assert not broker.running


def test_no_broker_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    script = f"""
import pathlib, sys, time
from tests.kafka.broker import KafkaBroker
broker = KafkaBroker(pathlib.Path({str(tmp_path)!r}), brief=True)
broker.start()
print(broker._broker.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            broker = os.pidfd_open(int(next_line(parent.stdout)))
        finally:
            parent.send_signal(signal.SIGKILL)
    try:
        wait_until(lambda: not _lives(broker), message=lambda: "the broker is still running")
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(broker, signal.SIGKILL)
        os.close(broker)


def _lives(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return False
    return True


async def create_topic(broker: KafkaBroker, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def produce(broker: KafkaBroker, topic: str, value: bytes) -> None:
    producer: Any = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def consume(broker: KafkaBroker, topic: str, count: int) -> list[bytes]:
    consumer: Any = AIOKafkaConsumer(topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()
