"""A replay does not play to topics that others produce to, unless it is told to. On real Kafka, without workers: it stops before."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.others import NEWEST, refuse_others
from streams.settings import read_settings
from tests.kafka.system import System
from tests.offline_training.replay.made import shop

EVENT: dict[str, Any] = {"user_id": "ada", "item_id": "hat", "type": "view", "timestamp": 1_600_000_000_000}
LIMIT = 180.0  # seconds that a command may take on a busy machine


async def test_it_plays_behind_replays_and_stops_behind_others(system: System, tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop", users=2, each=3)
    system.configure(broker_timeout=LIMIT)
    assert system.command("topics", timeout=LIMIT).returncode == 0
    await system.produce([{**EVENT, "event_id": f"replay-other-{number}"} for number in range(4 * NEWEST)])
    await comes_while_it_looks(system)

    # an event of a shop, in front of the newest records of a replay
    arguments = ("replay", str(folder), "--out", str(tmp_path / "run"))
    done = await asyncio.to_thread(system.command, *arguments, timeout=LIMIT)
    [line] = [one for one in done.stderr.splitlines() if one.startswith("error: ")]
    assert done.returncode == 1
    assert "user-interactions has events of others, such as event 01HV in partition" in line
    assert line.endswith(
        "set TASTESTREAM_NAMESPACE for workers and replay to use topics of its own, or add --live-topics"
    )
    assert await events_of(system, "user-0") == 0

    await plays(system, system.begin(*arguments, "--live-topics"))


async def test_a_topic_with_events_of_replays_alone_is_no_obstacle(system: System, tmp_path: Path) -> None:
    system.configure(namespace="own", broker_timeout=LIMIT)
    folder = shop(tmp_path / "shop", users=2, each=3)
    await plays(system, system.begin("replay", str(folder), "--out", str(tmp_path / "run")))
    await plays(
        system, system.begin("replay", str(folder), "--out", str(tmp_path / "other"), "--tag", "b-"), "b-user-0"
    )


async def comes_while_it_looks(system: System) -> None:
    """Produce an event of a shop after the newest records were read."""
    settings = read_settings(broker=system.broker.bootstrap, broker_timeout=LIMIT)
    partitions = await system.partitions("user-interactions")
    async with AIOKafkaConsumer(bootstrap_servers=system.broker.bootstrap, enable_auto_commit=False) as consumer:
        looking = asyncio.create_task(refuse_others(consumer, partitions, settings, watch=LIMIT))
        ends = await system.ends("user-interactions")
        while not consumer.assignment() or any([await consumer.position(one) < ends[one] for one in partitions]):  # noqa: ASYNC110
            await asyncio.sleep(0)  # a consumer sends no notice
        assert not looking.done(), "events of replays are none of others"
        await system.produce([{**EVENT, "event_id": "01HV"}])
        with pytest.raises(ReplayError, match="such as event 01HV in partition"):
            await looking


async def plays(system: System, process: subprocess.Popen[str], user: str = "user-0") -> None:
    """Wait until an event of the user is on the topic, and end the process."""
    try:
        async with asyncio.timeout(LIMIT):
            while not await events_of(system, user):
                assert process.poll() is None, process.stdout and process.stdout.read()
    finally:
        process.kill()
        process.communicate()


async def events_of(system: System, user: str) -> int:
    try:
        records = await system.read(system.named("user-interactions"))
    except AssertionError:  # there is no such topic yet
        return 0
    return sum(f'"user_id":"{user}"'.encode() in (one.value or b"") for one in records)
