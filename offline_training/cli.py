"""Assembles the offline commands that `streams.cli` mounts: `tastestream train`, `dataset` and `evaluate`.

Each command's example stands here, in its epilog.
"""

import typer

from offline_training.bundles.cli import bundle, default_bundle, embed, split
from offline_training.bundles.evaluate import evaluate
from offline_training.bundles.kinds_cli import kinds
from offline_training.comparison.cli import compare, report
from offline_training.datasets.cli import app as dataset_app
from offline_training.embedders.cli import embedder
from offline_training.topic.cli import topic

train_app = typer.Typer(no_args_is_help=True, add_completion=False)


@train_app.callback()
def train() -> None:
    """Train models, offline, to a bundle. Needs the extra `train`."""


train_app.command(
    epilog="Example: tastestream train compare data/hm --embeddings embeddings.npz --task unseen --variants 3 --out results"
)(compare)
train_app.command(epilog="Example: tastestream train report results")(report)
train_app.command(epilog="Example: tastestream train embed data/shop --out data/shop/embeddings.npz")(embed)
train_app.command(
    epilog="Example: tastestream train bundle data/shop --embeddings data/shop/embeddings.npz --out bundles/shop"
)(bundle)
train_app.command(epilog="Example: tastestream train split bundles/old --out bundles/split --version 1.1.0")(split)
train_app.command(
    epilog="Example: tastestream train embedder --backbone v1 --weights mobilenet_v1_1.0_224.npz --data data/clothing --out my-embedder"
)(embedder)
train_app.command(
    "default-bundle",
    epilog="Example: tastestream train default-bundle --data data --catalogue streams/demo/catalogue --out my-bundle",
)(default_bundle)

train_app.command(
    epilog="Example: tastestream train kinds bundles/mine --weights mobilenet_v1_1.0_224.npz --out bundles/general --version 2.0.0"
)(kinds)

dataset_app.command(
    epilog="Example: tastestream dataset topic --from 2026-11-01T00:00 --until 2026-11-02T00:00 --items items.csv --out data/november"
)(topic)

evaluate_app = typer.Typer(add_completion=False)
evaluate_app.command(
    epilog="Example: tastestream evaluate bundles/shop data/shop --embeddings data/shop/embeddings.npz --task next"
)(evaluate)
