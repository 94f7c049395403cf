"""Plays a whole data set through both workers on real Kafka, and measures some of its users: the trend needs all of them.

    python -m tests.benchmarks.hm_stream hm --embeddings embeddings_mobilenet_v1.npz --bundle bundles/0 --measured hm150 --out runs/hm

`hm` and `hm150` are folders that `tastestream dataset hm` wrote; the bundle must have the backbone of the embeddings. The users of
`hm150` are in `hm` under these names, and `--without` names a data set of users that are left out. No picture is fetched: the
features of each item go to `picture-features` first, as another embed worker would have shared them.
"""

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from model.bundle import Bundle
from model.quantization import quantize
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.play.events import EventSelection
from offline_training.replay.play.pacing import Pace
from offline_training.replay.run import ReplayOptions, run_replay
from offline_training.retrain.features import FeatureEmbeddings
from offline_training.retrain.shared import share
from streams.features.records import features_version
from streams.settings import read_settings
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System

ADDRESS = "https://shop.example/{}.jpg"
LEAD = 256  # unanswered events


def users_of(dataset: Path) -> set[str]:
    """The users of a prepared data set."""
    return set(pq.read_table(dataset / "events.parquet", columns=["user"])["user"].to_pylist())


def with_addresses(dataset: Path, without: set[str], embedded: set[str], out: Path) -> set[str]:
    """Copy a prepared data set: without some users, and with the address of a picture for each item. Returns the items."""
    out.mkdir()
    events = pq.read_table(dataset / "events.parquet")
    events = events.filter(pa.array([user not in without for user in events["user"].to_pylist()]))
    items = pq.read_table(dataset / "items.parquet")
    items = items.filter(pa.array([item in embedded for item in items["item"].to_pylist()]))
    names: list[str] = items["item"].to_pylist()
    addresses = pa.array([ADDRESS.format(name) for name in names], items.schema.field("image").type)
    pq.write_table(events, out / "events.parquet")
    pq.write_table(items.set_column(items.schema.get_field_index("image"), "image", addresses), out / "items.parquet")
    described = json.loads((dataset / "dataset.json").read_text())
    described |= {"events": len(events), "users": len(set(events["user"].to_pylist())), "items": len(items)}
    (out / "dataset.json").write_text(json.dumps(described))
    return set(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--embeddings", type=Path, required=True, help="features of all items")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--measured", type=Path, required=True, help="data set of the users that are measured")
    parser.add_argument("--without", type=Path, help="data set of users that are left out")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    with np.load(arguments.embeddings) as stored:
        rows, names = stored["emb"], [str(name) for name in stored["ids"]]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        measured = users_of(arguments.measured)
        left_out = (users_of(arguments.without) if arguments.without else set()) - measured
        items = with_addresses(arguments.dataset, left_out, set(names), folder / "dataset")
        (folder / "measured.txt").write_text("\n".join(sorted(measured)) + "\n")
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        system = System(broker, folder, bundle=arguments.bundle.absolute())
        if (done := system.command("topics")).returncode:
            raise SystemExit(done.stderr)
        features = {ADDRESS.format(name): quantize(row) for name, row in zip(names, rows, strict=True) if name in items}
        settings = read_settings(broker=broker.bootstrap, bundle=arguments.bundle)
        asyncio.run(share(settings, features_version(bundle), features, int(time.time() * 1000)))
        options = ReplayOptions(
            dataset=folder / "dataset",
            out=arguments.out,
            selection=EventSelection(),
            rules=Rules(),
            pace=Pace(),
            lead=LEAD,
            host="127.0.0.1",
            port=0,
            tag="",
            check=True,
            measured=folder / "measured.txt",
        )
        embeddings = FeatureEmbeddings({PictureRef(url): row for url, row in features.items()})
        with system.worker("all"):
            code = run_replay(settings, options, Console(width=100), embeddings)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
