"""Makes an embedder from labelled pictures and ImageNet weights, and reports the gain in accuracy.

Read `make_embedder` from top to bottom: each step is a module of this package.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np
import torch
from torch import Tensor

from model.bundle import BACKBONE, file_sha256
from offline_training.embedders import exporting, probe
from offline_training.embedders.backbones.backbones import Backbone
from offline_training.embedders.exceptions import EmbedderError
from offline_training.embedders.finetuning import Epoch, FinetuningRecipe, LabelledViews, Tuned, embed_views, fine_tune
from offline_training.embedders.probe import Accuracy, LabelledEmbeddings, LinearClassifier, Standardization
from offline_training.embedders.training_data.labelled import categories_of
from offline_training.embedders.training_data.pictures import LabelledPicture, Split
from offline_training.embedders.training_data.views import Pixels, Views, cached_activations
from offline_training.progress import Step

Unfreeze = Literal["frozen", "last", "all"]
UNFREEZE: tuple[Unfreeze, ...] = get_args(Unfreeze)

FLOAT, REPORT, CHECKPOINT = "backbone-float.onnx", "report.json", "checkpoint.pt"
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CALIBRATION_PICTURES = 160  # for the int8 ranges


@dataclass(frozen=True)
class FinetuningOptions:
    """Which part of the network is trained, and on what."""

    unfreeze: Unfreeze = "last"
    """`frozen` (only a classification layer), `last` (that layer and the last `blocks` blocks) or `all`."""
    blocks: int = 4
    views: int = 4
    """Cached views per training picture, including the picture itself. With `all` nothing is cached: each view is new."""
    seed: int = 0
    device: str = "auto"
    resume: bool = False

    def cut(self, backbone: Backbone) -> int:
        """Return the number of frozen blocks.

        Raises:
            EmbedderError: If the network has fewer blocks than `blocks`.
        """
        count = len(backbone.blocks)
        if self.unfreeze == "last" and not 1 <= self.blocks <= count:
            raise EmbedderError(f"--blocks {self.blocks}: {backbone.name} has blocks 1 to {count}")
        return {"frozen": count, "last": count - self.blocks, "all": 0}[self.unfreeze]


class EmbedderReport(msgspec.Struct, frozen=True):
    """What was trained, on what, and its accuracy on held-out pictures."""

    backbone: str
    weights: str
    data: str
    categories: dict[str, dict[str, int]]
    """Pictures by category and split."""
    unfreeze: str
    trained_blocks: int
    embedding_size: int
    options: dict[str, object]
    recipe: dict[str, object]
    epochs: list[Epoch]
    best_epoch: int
    figures: dict[str, dict[str, Accuracy]]
    """Accuracy by split (`validation`, `test`) and classifier:

    - `before`, `after`: linear probe (`embedders.probe`) of the ImageNet embeddings and of the fine-tuned embeddings, float. Each
      probe is fitted to the training pictures.
    - `after_int8`: linear probe fitted to the embeddings of the int8 file. The aggregator of a shop is fitted to them too.
    - `after_int8_float_probe`: the probe of `after` applied to the embeddings of the int8 file, a harder test.
    - `layer`: the classification layer of the training.
    """
    gain: float
    """Test accuracy of `after` minus `before`, percentage points."""
    int8_loss: float
    """Test accuracy of `after` minus `after_int8`, percentage points."""
    files: dict[str, str]
    """File name to SHA-256."""


def make_embedder(
    backbone: Backbone,
    pictures: Sequence[LabelledPicture],
    *,
    out: Path,
    work: Path,
    recipe: FinetuningRecipe,
    options: FinetuningOptions,
    step: Step,
) -> EmbedderReport:
    """Fine-tune a backbone, write the ONNX files, measure them, and write a report.

    Args:
        backbone: Network with ImageNet weights. It is changed in place.
        pictures: Result of `read_labelled`.
        out: Folder for `backbone.onnx` (int8), `backbone-float.onnx`, `report.json` and the checkpoint.
        work: Folder for cached activations. It may be deleted at any time.
        recipe: Hyperparameters.
        options: Which part of the network is trained, and on what.
        step: Opens a progress bar.

    Returns:
        The report, as in `report.json`.

    Raises:
        EmbedderError: If an option does not suit the network or this machine, or a picture cannot be read.
    """
    cut, device = options.cut(backbone), device_of(options.device)
    categories = categories_of(pictures)
    number = {category: index for index, category in enumerate(categories)}
    out.mkdir(parents=True, exist_ok=True)
    backbone.to(device)
    weights = backbone.identity(len(backbone.blocks))

    pixels = {
        split: Pixels([picture for picture in pictures if picture.split == split], backbone.image_size, options.seed)
        for split in SPLITS
    }
    parts: dict[str, LabelledViews] = {}
    for split, chosen in pixels.items():
        views: Views = chosen
        if cut > 0:
            count = options.views if split == "train" else 1
            with step(f"activations, {split}", chosen.count * count) as advance:
                views = cached_activations(chosen, count, backbone, cut, folder=work, advance=advance)
        parts[split] = LabelledViews(
            views, np.array([number[picture.category] for picture in chosen.pictures], np.int64)
        )
    labels = {split: torch.from_numpy(part.labels) for split, part in parts.items()}

    with step("embeddings before", 1) as advance:
        embeddings = {split: embed_views(backbone, cut, part.views).cpu() for split, part in parts.items()}
        _, figures_before = _probe(embeddings, labels)
        start, _ = _probe(embeddings, labels, probe.STRENGTHS[:1])
        network = Tuned(backbone, cut, start, Standardization.of(embeddings["train"])).to(device)
        advance(1)
    with step("fine-tuning, epochs", recipe.epochs) as advance:
        history = fine_tune(
            network,
            parts["train"],
            parts["validation"],
            recipe,
            seed=options.seed,
            checkpoint=out / CHECKPOINT,
            identity=(weights, options.views, *((picture.name, picture.category) for picture in pictures)),
            resume=options.resume,
            after_epoch=lambda _: advance(1),
        )
    with step("embeddings after", 1) as advance:
        embeddings = {split: embed_views(backbone, cut, part.views).cpu() for split, part in parts.items()}
        after, figures_after = _probe(embeddings, labels)
        trained = network.classifier()
        layer = LinearClassifier(trained.weight.cpu(), trained.bias.cpu())
        advance(1)
    with step("int8", 2) as advance:
        chosen = np.random.default_rng(options.seed).permutation(pixels["train"].count)[:CALIBRATION_PICTURES]
        sample = pixels["train"].rows(chosen, np.zeros_like(chosen)).numpy()
        exporting.export(backbone, out / FLOAT, out / BACKBONE, sample)
        advance(1)
        embedder = exporting.open_embedder(out / BACKBONE, backbone)
        rounded = {split: exporting.embed_pixels(embedder, pixels[split]) for split in SPLITS}
        _, figures_int8 = _probe(rounded, labels)
        advance(1)
    classifiers = {
        "before": figures_before,
        "after": figures_after,
        "after_int8": figures_int8,
        "after_int8_float_probe": _measure(after, rounded, labels),
        "layer": _measure(layer, embeddings, labels),
    }
    report = EmbedderReport(
        backbone=backbone.name,
        weights=weights,
        data=pictures[0].source,
        categories=_counts(pictures),
        unfreeze=options.unfreeze,
        trained_blocks=len(backbone.blocks) - cut,
        embedding_size=backbone.embedding_size,
        options={"seed": options.seed, "views": options.views, "device": device.type},
        recipe=asdict(recipe),
        epochs=history.epochs,
        best_epoch=history.best + 1,
        figures={
            split: {name: figures[split] for name, figures in classifiers.items()} for split in ("validation", "test")
        },
        gain=_points(figures_after, figures_before),
        int8_loss=_points(figures_after, figures_int8),
        files={name: file_sha256(out / name) for name in (BACKBONE, FLOAT)},
    )
    (out / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return report


def unfreeze_of(name: str) -> Unfreeze:
    """Return `name` as a value of `UNFREEZE`. Raises EmbedderError for any other name."""
    for known in UNFREEZE:
        if name == known:
            return known
    raise EmbedderError(f"--unfreeze {name!r}: expected one of {', '.join(UNFREEZE)}")


def device_of(name: str) -> torch.device:
    """Return the torch device. `auto` is CUDA if available, else the CPU. Raises EmbedderError if there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise EmbedderError("--device cuda: torch finds no CUDA device: use cpu or auto")
    if name not in ("cpu", "cuda"):
        raise EmbedderError(f"--device {name!r}: expected auto, cpu or cuda")
    return torch.device(name)


def _probe(
    embeddings: dict[str, Tensor], labels: dict[str, Tensor], strengths: Sequence[float] = probe.STRENGTHS
) -> tuple[LinearClassifier, dict[str, Accuracy]]:
    """Fit a probe to the training embeddings. Return it with its accuracy on the held-out splits."""
    sets = {split: LabelledEmbeddings(embeddings[split], labels[split]) for split in SPLITS}
    categories = int(labels["train"].max()) + 1
    found = probe.fit(sets["train"], sets["validation"], categories, strengths)
    return found, _measure(found, embeddings, labels)


def _measure(
    classifier: LinearClassifier, embeddings: dict[str, Tensor], labels: dict[str, Tensor]
) -> dict[str, Accuracy]:
    return {
        split: probe.measure(classifier.logits(embeddings[split]), labels[split])
        for split in SPLITS
        if split != "train"
    }


def _points(high: dict[str, Accuracy], low: dict[str, Accuracy]) -> float:
    return round(100 * (high["test"].accuracy - low["test"].accuracy), 2)


def _counts(pictures: Sequence[LabelledPicture]) -> dict[str, dict[str, int]]:
    counts = Counter((picture.category, picture.split) for picture in pictures)
    return {category: {split: counts[category, split] for split in SPLITS} for category in categories_of(pictures)}
