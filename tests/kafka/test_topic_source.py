"""`tastestream dataset topic`: events sent to real Kafka between two times become a data set that can be replayed."""

import asyncio
import json
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

import pyarrow.parquet as pq

from streams.demo.catalogue import CATALOGUE, read_products
from tests.kafka.system import System, picture_server

EACH, USERS = 12, 8
PRODUCTS = list(read_products().values())


def at(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def event(user: int, number: int, pictures: str) -> dict[str, Any]:
    product = PRODUCTS[(user * 3 + number * 5) % len(PRODUCTS)]
    return {
        "user_id": f"user-{user}",
        "item_id": product.item_id,
        "type": ("view", "purchase", "cart")[number % 3],
        "timestamp": 1_700_000_000_000 + number * 60_000,
        "image_url": f"{pictures}/{product.file}",
    }


def events_of(folder: Path) -> list[tuple[str, int]]:
    """The events, as user and minute."""
    rows = pq.read_table(folder / "events.parquet").to_pylist()
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    return [(row["user"], (row["time"] - 1_700_000_000_000) // 60_000) for row in rows]


def dropped(folder: Path) -> Mapping[str, int]:
    return json.loads((folder / "dataset.json").read_text())["dropped"]


def make(system: System, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return system.command("dataset", "topic", "--out", str(out), "--min-items", "1", *options)


async def time_between() -> int:
    """A time between what was sent so far and what is sent next."""
    await asyncio.sleep(0.05)
    now = int(time.time() * 1000)
    await asyncio.sleep(0.05)
    return now


@pytest.mark.slow
async def test_a_time_range_of_the_topic_becomes_a_data_set_that_is_replayed(system: System, tmp_path: Path) -> None:
    assert system.command("topics").returncode == 0
    with picture_server(CATALOGUE) as pictures:
        await system.produce(event(user, 0, pictures) for user in range(USERS))
        first = await time_between()
        sent = [event(user, number, pictures) for number in range(1, EACH) for user in range(USERS)]
        await system.produce([*sent, sent[0], b"{", b'{"user_id": "eve"}'])
        await system.produce([{"user_id": "user-0", "type": "erase", "timestamp": sent[8 * USERS]["timestamp"]}])
        end = await time_between()
        await system.produce(event(user, EACH, pictures) for user in range(USERS))
        await system.produce([{"user_id": "user-1", "type": "erase", "timestamp": 1_750_000_000_000}])

        table = tmp_path / "items.csv"
        table.write_text("item,categories\n" + "\n".join(f"{one.item_id},{one.category}" for one in PRODUCTS))
        out = tmp_path / "set"
        done = make(system, out, "--from", at(first), "--until", at(end), "--items", str(table))
        assert done.returncode == 0, done.stderr
        kept = {(f"user-{user}", number) for user in range(2, USERS) for number in range(1, EACH)}
        kept |= {("user-0", number) for number in range(10, EACH)}
        found = events_of(out)
        assert (len(found), set(found)) == (len(kept), kept)
        assert dropped(out) == {
            "event_before_erasure": EACH - 1 + 9,
            "sent_again": 1,
            "invalid_json": 1,
            "missing_field": 1,
            "erasure": 1,
        }
        assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "events.parquet", "items.parquet"]

        everything = tmp_path / "all"
        assert make(system, everything).returncode == 0
        found = events_of(everything)
        assert {minute for _, minute in found} == set(range(EACH + 1)), "up to the end, without waiting for more"
        assert len(found) == len(kept) + 2 * (USERS - 2) + 1, "without the events before the two erasures"

        with system.workers():
            replayed = system.command(
                "replay",
                str(out),
                "--out",
                str(tmp_path / "run"),
                "--tag",
                "again-",
                "--live-topics",
                "--check",
                timeout=120,
            )
            assert replayed.returncode == 0, replayed.stdout + replayed.stderr
            assert f"played:                    {len(kept)} of {len(kept)} events" in replayed.stdout
            assert "online = offline:          identical" in replayed.stdout
            alone = system.command(
                "replay",
                str(everything),
                "--out",
                str(tmp_path / "alone"),
                "--tag",
                "alone-",
                "--live-topics",
                timeout=120,
            )
            assert alone.returncode == 0, alone.stdout + alone.stderr
            purchases = sum(
                row["type"] == "purchase" for row in pq.read_table(everything / "events.parquet").to_pylist()
            )
            assert f"no known category:         {purchases} more events of that type" in alone.stdout


def test_each_bad_argument_is_one_line(system: System, tmp_path: Path) -> None:
    assert system.command("topics").returncode == 0

    def said(*options: str) -> tuple[int, str]:
        done = make(system, tmp_path / "set", *options)
        return done.returncode, " ".join(done.stderr.split())

    assert said("--from", "noon") == (
        2, "error: --from 'noon': expected a time such as 2026-11-01 or 2026-11-01T12:00:00Z"
    )  # fmt: skip
    assert said("--from", "2026-11-02", "--until", "2026-11-01")[0] == 2
    assert said("--items", "gone.csv") == (2, "error: --items gone.csv: there is no such file")
    code, told = said("--until", "2001-01-01")
    assert code == 1
    assert "no event was sent between --from and --until" in told
    assert not list((tmp_path / "set").iterdir())
    system.environment["TASTESTREAM_INTERACTIONS_TOPIC"] = "other"
    try:
        code, told = said()
    finally:
        del system.environment["TASTESTREAM_INTERACTIONS_TOPIC"]
    assert code == 1
    assert "there is no topic other at" in told
    assert "TASTESTREAM_INTERACTIONS_TOPIC or TASTESTREAM_NAMESPACE names another" in told
