"""Only committed records are read: by the workers, by `dataset topic`, and by the end offsets that lag is measured against."""

import ast
import asyncio
import json
from pathlib import Path

from aiokafka import AIOKafkaProducer

from streams.settings.names import BAGS_CHANGELOG
from tests.kafka.system import System

ROOT = Path(__file__).parents[2]


def event(user: str, event_id: str, kind: str = "return") -> bytes:
    """An event that needs no picture."""
    fields = {"user_id": user, "item_id": "shoe", "type": kind, "timestamp": 1_700_000_000_000}
    return json.dumps({**fields, "event_id": event_id}).encode()


def producer(system: System, name: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=system.broker.bootstrap, transactional_id=name, transaction_timeout_ms=600_000
    )


async def answered(system: System) -> set[str]:
    return {one["event_id"] for one in await system.recommendations()}


async def gauge(system: System, kind: str, name: str) -> float:
    _, text = await asyncio.to_thread(system.get, kind, "/metrics")
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + "{"))


async def test_aborted_and_open_transactions_are_not_processed(system: System, tmp_path: Path) -> None:
    assert system.command("topics").returncode == 0
    system.configure(stall_timeout=12)
    async with producer(system, "shop") as shop:

        async def send(value: bytes) -> None:
            await shop.send_and_wait("user-interactions", value, key=b"u", partition=0)

        with system.workers():
            async with shop.transaction():
                await send(event("ann", "committed"))
            await shop.begin_transaction()
            await send(event("ann", "aborted"))
            await send(event("ann", "", "erase"))
            await shop.abort_transaction()
            await shop.begin_transaction()
            await send(event("ann", "open"))
            await system.produce([json.loads(event("bob", "behind"))], partition=0)
            await asyncio.sleep(16)  # longer than the stall time-out: an open transaction is no stall
            assert await answered(system) == {"committed"}
            assert await gauge(system, "embed", "tastestream_lag") == 0
            assert await gauge(system, "embed", "tastestream_held_back") == 2
            assert "2 events wait behind a transaction that is still open" in system.log()
            await shop.commit_transaction()
            await system.settled()
            assert await answered(system) == {"committed", "open", "behind"}
    assert "stalled" not in system.log()
    assert set(system.stored_bags()) == {"ann", "bob"}
    made = await asyncio.to_thread(system.command, "dataset", "topic", "--out", str(tmp_path / "set"))
    assert "erasure" not in made.stdout + made.stderr


async def test_a_foreign_open_transaction_on_the_changelog_hides_no_bag_from_recovery(system: System) -> None:
    assert system.command("topics").returncode == 0
    users = {f"user-{number}" for number in range(20)}
    async with producer(system, "stranger") as stranger:
        await stranger.begin_transaction()
        for partition in range(4):
            await stranger.send_and_wait(BAGS_CHANGELOG, b"x", key=b"", partition=partition)
        with system.workers():
            await system.produce([json.loads(event(user, f"of {user}")) for user in users])
            await system.settled()
        system.remove_data()
        with system.worker("profile"):
            pass
        assert users <= set(system.stored_bags())
        await stranger.abort_transaction()


def test_every_consumer_names_its_isolation_level() -> None:
    for path in [*(ROOT / "streams").rglob("*.py"), *(ROOT / "offline_training").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "AIOKafkaConsumer":
                assert "isolation_level" in {word.arg for word in node.keywords}, f"{path}:{node.lineno}"
