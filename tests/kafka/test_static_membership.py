"""Two profile workers on real Kafka that keep their places in their group while they restart."""

import re
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from model.bundle import Bundle
from streams.messages import parse_embedded
from tests.benchmarks.scaling.users import Shop
from tests.kafka.system import System

RECOVERED = re.compile(r"recovered partitions ([\d, ]+) from (\d+) changelog records")
SESSION = 60.0  # seconds: a restart on a busy machine is quicker


@pytest.mark.slow
async def test_a_worker_that_restarts_keeps_its_partitions_and_the_other_one_goes_on(
    system: System, tmp_path: Path
) -> None:
    shop = Shop(users=40, items=0, bundle=Bundle.load())
    bought: dict[str, set[str]] = {}

    async def buy(name: str) -> None:
        async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
            for key, value in shop.events(200, name):
                await producer.send("embedded-interactions", value, key=key)
                bought.setdefault(key.decode(), set()).add(parse_embedded(value).item_id)

    static = {"static_membership": True, "session_timeout": SESSION, "stall_timeout": 2 * SESSION}
    one, two = (System(system.broker, tmp_path / name, worker_host=name, **static) for name in ("one", "two"))
    for each in (one, two):
        each.folder.mkdir()
    with one.worker("profile"):
        with two.worker("profile"):
            await buy("before")
            await system.settled("profile")
        shared = RECOVERED.findall(one.log())
        [(partitions, _)] = RECOVERED.findall(two.log())
        await buy("meanwhile")
        with two.worker("profile"):
            await buy("after")
            await system.settled("profile")
        assert RECOVERED.findall(two.log()) == [(partitions, "0")] * 2  # its own ones, whose bags are on its disk
        assert RECOVERED.findall(one.log()) == shared  # it was not asked to give up anything
    stored = one.stored_bags() | two.stored_bags()
    assert {user: set(bag.slots) for user, bag in stored.items()} == bought
