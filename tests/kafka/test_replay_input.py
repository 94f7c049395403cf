"""A very bad data set is replayed through real Kafka: everything usable is played, and the rest is counted with its reason."""

import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from streams.demo.catalogue import CATALOGUE, read_products
from tests.kafka.system import System
from tests.offline_training.datasets.zips import damage, encrypt, write_zip

PRODUCTS = list(read_products().values())
USERS, EACH = 6, 20
ENCRYPTED, DAMAGED, PICTURELESS, UNKNOWN = "secret", "damaged", "bare", "nowhere"
BAD = (ENCRYPTED, DAMAGED, PICTURELESS, UNKNOWN)
START = 1_500_000_000  # seconds


def write(folder: Path) -> None:
    """Write reviews of 2018 in a truncated gzip file, metadata, and pictures in an archive."""
    items = [one.item_id for one in PRODUCTS]
    reviews = [
        {"reviewerID": f"user-{user}", "asin": items[(user * 3 + number) % len(items)], "overall": 5, "unixReviewTime": START + number}
        for number in range(EACH)
        for user in range(USERS)
    ]  # fmt: skip
    reviews += [{"reviewerID": "user-0", "asin": item, "overall": 4, "unixReviewTime": START + 5} for item in BAD]
    lines = [*map(json.dumps, reviews), '{"reviewerID": "user-1", "asin": ', json.dumps({"reviewerID": "user-2"})]
    packed = gzip.compress("\n".join(lines).encode()) + gzip.compress(b'\n{"reviewerID": "user-3"' * 1000)[:-40]
    (folder / "reviews.json.gz").write_bytes(packed)
    metadata = [{"asin": one.item_id, "category": ["Shop", one.category], "image": []} for one in PRODUCTS]
    metadata += [{"asin": name, "category": ["Shop", PRODUCTS[0].category]} for name in BAD if name != UNKNOWN]
    (folder / "meta.json").write_text("\n".join(map(json.dumps, metadata)))
    members = {f"in/{one.item_id}.jpg": (CATALOGUE / one.file).read_bytes() for one in PRODUCTS}
    members |= {f"in/{name}.jpg": members[f"in/{PRODUCTS[0].item_id}.jpg"] for name in (ENCRYPTED, DAMAGED)}
    archive = write_zip(folder / "pictures.zip", members)
    encrypt(archive, f"in/{ENCRYPTED}.jpg")
    damage(archive, f"in/{DAMAGED}.jpg")


def test_usable_events_are_played_and_the_rest_is_counted_with_its_reason(system: System, tmp_path: Path) -> None:
    write(tmp_path)
    prepared = system.command(
        "dataset", "amazon", "--reviews", f"{tmp_path}/reviews.json.gz", "--metadata", f"{tmp_path}/meta.json",
        "--pictures", f"{tmp_path}/pictures.zip", "--out", f"{tmp_path}/set", "--levels", "1-2", "--min-items", "1",
    )  # fmt: skip
    assert prepared.returncode == 0, prepared.stderr
    summary = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert summary["events"] == USERS * EACH + 2
    dropped = summary["dropped"]
    assert dropped["truncated_file"] == dropped["item_without_picture"] == dropped["item_not_described"] == 1
    assert dropped["event_of_item_left_out"] == 2
    assert dropped["broken_line"] >= 1
    assert dropped["event_without_user_or_item"] == 1
    assert summary["noted"] == {"event_put_in_time_order": 2}

    with system.workers():
        played = system.command("replay", f"{tmp_path}/set", "--out", f"{tmp_path}/run", "--check", timeout=120)
    assert played.returncode == 0, played.stdout + played.stderr
    assert f"played:                    {summary['events']} of {summary['events']} events" in played.stdout
    assert "without recommendation:    http_status 2" in played.stdout
    [told] = [line for line in played.stdout.splitlines() if line.startswith("left out of the data set:")]
    for reason, count in dropped.items():
        assert f"{reason} {count:,}" in told
    assert "online = offline:          identical" in played.stdout
    assert "secret.jpg: it is encrypted" in played.stderr
