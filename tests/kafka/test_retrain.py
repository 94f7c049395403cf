"""`tastestream retrain` on real Kafka: events with a taste become a bundle that passes. One that learnt nonsense is refused."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from model.bundle import Bundle
from model.preprocessing import decode_picture
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.retrain.features import Origins, gather_features
from offline_training.retrain.table import FeatureTable
from streams.cli import app
from streams.demo.catalogue import CATALOGUE
from streams.features.records import Features, encode_features, features_key, features_version
from streams.settings import read_settings
from tests.kafka.system import PictureHandler, System, picture_server
from tests.offline_training.retrain.simulated import CATEGORIES, Shop, bundle_of, shop
from tests.offline_training.silent import step

if TYPE_CHECKING:
    from offline_training.retrain.training import TrainingData

USERS = 240
pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra `train`")


@pytest.fixture(scope="module")
def simulated() -> Shop:
    return shop()


@pytest.fixture(scope="module")
def current(simulated: Shop, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of a shop that had a quarter of the users."""
    return bundle_of(simulated, tmp_path_factory.mktemp("bundles") / "current", users=USERS // 4)


@pytest.fixture(scope="module")
def filled(system: System, simulated: Shop) -> System:
    """A system with the events of the shop on its topic, and the features of all pictures on theirs."""
    assert system.command("topics").returncode == 0
    asyncio.run(system.produce(simulated.events(USERS)))
    asyncio.run(send_features(system, features_version(Bundle.load()), simulated))
    return system


async def send_features(system: System, version: str, simulated: Shop) -> None:
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for item, row in simulated.features.items():
            key = features_key(version, simulated.url(item))
            await producer.send("picture-features", encode_features(Features(0, row)), key)
        await producer.flush()


def retrain(
    system: System, items: Path, current: Bundle, out: Path, *more: object, settings: Mapping[str, object] | None = None
) -> Result:
    """Run the command in this process, so that a test can change what it learns."""
    arguments = ["retrain", "--items", items, "--against", current.path, "--out", out, *more]
    with pytest.MonkeyPatch.context() as patch:
        named = {f"TASTESTREAM_{name.upper()}": str(value) for name, value in (settings or {}).items()}
        for name, value in {**system.environment, **named}.items():
            patch.setenv(name, value)
        return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [str(one) for one in arguments])


def compared(out: Path) -> dict[str, Any]:
    return json.loads((out / "comparison.json").read_text())


@pytest.mark.slow
def test_events_with_a_taste_become_a_bundle_that_passes(
    filled: System, simulated: Shop, current: Bundle, tmp_path: Path
) -> None:
    items, out = simulated.table(tmp_path / "items.csv"), tmp_path / "bundles" / "next"
    told = retrain(filled, items, current, out, "--version", 2)
    assert told.exit_code == 0, told.output
    assert f"{len(simulated.items)} from picture-features, 0 from the work folder, 0 made now" in told.output
    found = compared(out)
    assert found["passed"]
    assert found["against"] == {"name": "shop", "version": "1", "embedder_version": current.embedder_version}
    made = Bundle.load(out)
    assert (made.name, made.version, made.categories) == ("shop", "2", current.categories)
    assert made.backbone_version == current.backbone_version
    assert made.manifest.adapts is not None
    assert made.manifest.adapts.embedder_version == current.embedder_version
    hit = found["figures"]["hit@5"]
    assert hit["over_trend"]["low"] > 0, "it knows more than the trend"
    assert hit["next"] - hit["current"] == pytest.approx(hit["over_current"]["value"], abs=1e-4)
    checked = filled.command("bundle", "check", str(out))
    assert checked.returncode == 0, checked.stderr
    assert sorted(one.name for one in out.parent.iterdir()) == [".retrain", "next"]
    assert [one.name for one in (out.parent / ".retrain").iterdir()] == ["features.sqlite"], "no events are left behind"
    assert "onnx" not in told.output


@pytest.mark.slow
def test_a_bundle_that_learnt_nonsense_is_refused(
    filled: System, simulated: Shop, current: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offline_training.retrain import run as loop  # noqa: PLC0415 -- it imports torch, which takes seconds

    train = loop.train

    def of_shuffled_labels(base: Bundle, data: "TrainingData", **options: Any) -> Bundle:
        chance = np.random.default_rng(0)
        matrix = chance.permutation(data.catalogue.matrix)
        targets = chance.permutation(data.split.train.targets)
        split = data.split._replace(train=data.split.train._replace(targets=targets), drawn=None)
        return train(base, replace(data, catalogue=replace(data.catalogue, matrix=matrix), split=split), **options)

    monkeypatch.setattr(loop, "train", of_shuffled_labels)
    out = tmp_path / "next"
    told = retrain(filled, simulated.table(tmp_path / "items.csv"), current, out, "--train", "aggregator")
    assert told.exit_code == loop.WORSE == 3, told.output
    found = compared(out)
    assert not found["passed"]
    assert found["figures"]["hit@5"]["over_current"]["high"] < 0
    assert "may be worse than" in told.output
    assert Bundle.load(out).version == json.loads((out / "manifest.json").read_text())["version"]


KNOWN = dict(zip(CATEGORIES, Bundle.load().categories, strict=False))
"""Categories of the shipped bundle, by those of the simulated shop."""


@pytest.mark.slow
def test_each_failure_is_one_line_and_leaves_nothing(filled: System, simulated: Shop, tmp_path: Path) -> None:
    shipped, out = Bundle.load(), tmp_path / "next"
    items = simulated.table(tmp_path / "items.csv", KNOWN)
    others = simulated.table(tmp_path / "others.csv")
    one = simulated.table(tmp_path / "one.csv", {CATEGORIES[0]: KNOWN[CATEGORIES[0]]})
    taken = tmp_path / "taken"
    taken.mkdir()

    def said(*options: object, table: Path = items, to: Path = out, **settings: object) -> tuple[int, str]:
        told = retrain(filled, table, shipped, to, *options, settings=settings)
        lines = [line for line in told.output.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, told.output
        assert "Traceback" not in told.output
        assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".retrain") == [
            "items.csv", "one.csv", "others.csv", "taken"
        ]  # fmt: skip
        assert not list(tmp_path.glob(".retrain/data-*"))
        return told.exit_code, lines[0]

    def fails(code: int, part: str, found: tuple[int, str]) -> None:
        assert (found[0], part in found[1]) == (code, True), found

    killed = tmp_path / ".retrain" / "data-killed"
    killed.mkdir(parents=True)
    (killed / "events.parquet").write_bytes(b"of a run that was killed")
    fails(1, "no event was sent between --from and --until", said("--until", "2001-01-01"))
    fails(1, "no event was sent between --from and --until", said("--days", 0))
    fails(2, "--days and --from exclude each other", said("--days", 3, "--from", "2026-11-01"))
    fails(2, "--targets 'sale': expected event types", said("--targets", "sale"))
    fails(2, "gone.csv: there is no such file", said(table=tmp_path / "gone.csv"))
    fails(1, f"--out {taken}: it exists already: remove it", said(to=taken))
    fails(
        1,
        "--out /proc/none/next: No such file or directory",
        said("--work", tmp_path / ".retrain", to=Path("/proc/none/next")),
    )
    fails(1, f"none of its categories is one of the 96 of {shipped.name}", said(table=others))
    fails(
        1,
        "users have a purchase of an item with a known category in the last 7 days, expected 500",
        said("--min-users", 500),
    )
    fails(1, "the last 90 days are held out, so nothing is left to learn from", said("--hold-out", 90))
    fails(1, "expected items of two or more categories, found 20 items of", said("--min-users", 2, table=one))
    skipped = said("--missing", "skip", share_features=False)
    fails(
        1,
        "none of the 200 pictures has features: 0 from picture-features, 0 from the work folder, 0 made now, 200",
        skipped,
    )
    absent = said("--missing", "skip", features_topic="gone")
    fails(1, "none of the 200 pictures has features: 0 from gone", absent)
    fails(1, "there is no topic gone at", said(interactions_topic="gone"))
    fails(69, "no broker", said(broker="kafka://127.0.0.1:1", broker_timeout=1))

    arguments = ["retrain", "--items", str(items), "--against", str(shipped.path), "--out", str(out)]
    full = subprocess.run(
        ["bash", "-c", 'ulimit -f 40; exec "$@"', "bash", sys.executable, "-m", "streams", *arguments],
        env=filled.environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert full.returncode == 1
    assert full.stderr.count("\n") == 1, full.stderr
    assert "make room" in full.stderr
    assert not list(tmp_path.glob(".retrain/data-*")) and not out.exists()


async def count_of(system: System) -> int:
    return sum(record.value is not None for record in await system.read("picture-features"))


class Counting(PictureHandler):
    """Serves a folder and counts the pictures that were asked for."""

    asked = 0

    def do_GET(self) -> None:  # noqa: N802 -- the name is the base's
        type(self).asked += 1
        super().do_GET()


def test_a_picture_is_fetched_once_and_its_features_are_shared(filled: System, tmp_path: Path) -> None:
    settings = read_settings(broker=filled.broker.bootstrap, fetch_allow_networks="127.0.0.0/8")
    backbone = Bundle.load().backbone()
    first, second, third = sorted(CATALOGUE.glob("*.jpg"))[:3]
    local = PictureRef(str(third))
    before = asyncio.run(count_of(filled))

    def gathered(work: Path, *, fetch: bool = True, share: bool = True) -> tuple[dict[PictureRef, bytes], Origins]:
        work.mkdir(exist_ok=True)
        used = settings.model_copy(update={"share_features": share})
        with FeatureTable(work, backbone.version) as table:
            return gather_features(
                used,
                backbone,
                [*remote, local, lost],
                PictureFolders([CATALOGUE]),
                table,
                fetch=fetch,
                now=7,
                step=step,
            )

    with picture_server(CATALOGUE, Counting) as url:
        remote = [PictureRef(f"{url}/{path.name}") for path in (first, second)]
        lost = PictureRef(f"{url}/lost.jpg")
        alone, origins = gathered(tmp_path / "work", share=False)
        assert (origins.shared, origins.kept, origins.made, dict(origins.failed)) == (0, 0, 3, {"http_status": 1})
        assert Counting.asked == 3
        assert asyncio.run(count_of(filled)) == before

        kept, origins = gathered(tmp_path / "work")
        assert (origins.shared, origins.kept, origins.made) == (0, 3, 0), "a run that was interrupted goes on"
        assert kept == alone
        assert Counting.asked == 4, "what failed is tried again"
        assert asyncio.run(count_of(filled)) == before + 2, "those of the file stay here"

        shared, origins = gathered(tmp_path / "work")
        assert (origins.shared, origins.kept, origins.made, origins.note) == (2, 1, 0, "")
        assert shared == alone
        elsewhere, origins = gathered(tmp_path / "elsewhere", fetch=False)
        assert (origins.shared, origins.kept, origins.made, dict(origins.failed)) == (2, 0, 0, {"not fetched": 2})
        assert set(elsewhere) == set(remote)
        assert Counting.asked == 5
    [direct] = backbone.features(decode_picture(first.read_bytes(), backbone.image_size)[None])
    assert alone[remote[0]] == direct, "the features that a worker makes"
