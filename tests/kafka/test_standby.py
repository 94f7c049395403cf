"""Two profile workers on real Kafka, each with a copy of the bags of the other."""

import re
from collections import defaultdict
from pathlib import Path

from aiokafka import AIOKafkaProducer

from model.bundle import Bundle
from streams.messages import parse_embedded
from tests.benchmarks.scaling.users import Shop
from tests.kafka.system import System, wait_until

COPIED = "the bags of all other partitions are here"
JOINS_AGAIN = "joining the group again for a share of the partitions"
RECOVERED = re.compile(r"recovered partitions ([\d, ]+) from (\d+) changelog records")
TIMEOUT = 60.0  # seconds


async def test_partitions_go_to_a_worker_once_it_has_their_bags_and_come_back_without_a_recovery(
    system: System, tmp_path: Path
) -> None:
    shop = Shop(users=40, items=0, bundle=Bundle.load())
    bought: dict[str, set[str]] = defaultdict(set)

    async def buy(name: str) -> None:
        async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
            for key, value in shop.events(400, name):
                await producer.send("embedded-interactions", value, key=key)
                bought[key.decode()].add(parse_embedded(value).item_id)
        await system.settled("profile")

    one, two = (System(system.broker, tmp_path / name, standby=True) for name in ("one", "two"))
    for each in (one, two):
        each.folder.mkdir()
    with one.worker("profile"):
        await buy("alone")
        with two.worker("profile"):
            wait_until(lambda: JOINS_AGAIN in two.log(), TIMEOUT)
            assert two.log().index(COPIED) < two.log().index(JOINS_AGAIN)
            wait_until(lambda: bool(RECOVERED.findall(two.log())), TIMEOUT)
            [(partitions, records)] = RECOVERED.findall(two.log())
            assert len(partitions.split(",")) == 2
            assert records == "0"  # they were on its disk already
            wait_until(lambda: one.log().count(COPIED) > 0, TIMEOUT)
            await buy("together")
        wait_until(lambda: RECOVERED.findall(one.log())[-1][0] == "0, 1, 2, 3", TIMEOUT)
        assert int(RECOVERED.findall(one.log())[-1][1]) < 400  # at most those of the last second
        await buy("alone again")
        assert {user: set(bag.slots) for user, bag in one.stored_bags().items()} == bought
