"""`tastestream train embedder`. Torch is imported when the command runs: the command line works without the extra `train`."""

from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from offline_training.console import Seed, Work, extra, progress
from streams.console import PlainConsole

if TYPE_CHECKING:
    from offline_training.embedders.recipe import EmbedderReport

CLASSIFIERS = {
    "before": "before: linear probe, ImageNet embeddings",
    "after": "after: linear probe, fine-tuned embeddings, float",
    "after_int8": "after: linear probe, fine-tuned embeddings, int8",
    "after_int8_float_probe": "after: float probe on int8 embeddings",
    "layer": "after: classification layer of the training, float",
}
"""Row titles of the table, by the keys of `EmbedderReport.figures`."""


def embedder(  # noqa: PLR0917  (options all)
    backbone: Annotated[str, typer.Option(help="v1, v2, v3-small or v3-large.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with a folder per category (optionally inside train, val and test), or the output of `tastestream dataset`.",
            file_okay=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the ONNX files and the report.", file_okay=False)],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="File with ImageNet weights: TensorFlow arrays (.npz) for v1, a torchvision state dict (.pth) for the others.",
            dir_okay=False,
            show_default="download from torchvision",
        ),
    ] = None,
    unfreeze: Annotated[
        str,
        typer.Option(help="Blocks to train: frozen (none, only the classification layer), last (see --blocks) or all."),
    ] = "last",
    blocks: Annotated[int, typer.Option(help="Number of blocks to train with --unfreeze last.", min=1, max=1000)] = 4,
    level: Annotated[
        int | None,
        typer.Option(
            help="Levels of the category path to use as category. 1 is the broadest.",
            min=1,
            max=100,
            show_default="all",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Maximum number of epochs.", min=1, max=100_000, show_default="default recipe")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Pictures per training step.", min=1, max=100_000, show_default="default recipe")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Peak learning rate of the blocks.", min=0, max=100, show_default="default recipe"),
    ] = None,
    balanced: Annotated[
        bool, typer.Option("--balanced/--as-frequent", help="Weigh all categories the same, or by their frequency.")
    ] = False,
    views: Annotated[
        int,
        typer.Option(
            help="Views per training picture, including the picture itself. Ignored with --unfreeze all.",
            min=1,
            max=10_000,
        ),
    ] = 4,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="auto (cuda if available), cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --out.")] = False,
    work: Work = None,
) -> None:
    """Fine-tune an embedder on the picture categories of a shop, and measure the gain in accuracy.

    Example: tastestream train embedder --backbone v1 --weights data/mobilenet/mobilenet_v1_1.0_224.npz --data data/clothing
    --unfreeze last --out embedders/clothing --work .cache/train
    """
    with extra():
        from offline_training.embedders.backbones.backbones import load_backbone  # noqa: PLC0415
        from offline_training.embedders.finetuning import recipe_with  # noqa: PLC0415
        from offline_training.embedders.recipe import FinetuningOptions, make_embedder, unfreeze_of  # noqa: PLC0415
        from offline_training.embedders.training_data.labelled import read_labelled  # noqa: PLC0415

    with progress(PlainConsole(stderr=True)) as step:
        report = make_embedder(
            load_backbone(backbone, weights),
            read_labelled(data, level),
            out=out,
            work=work or Path(gettempdir()) / "tastestream-train",
            recipe=recipe_with(epochs=epochs, batch=batch, block_rate=rate, balanced=balanced),
            options=FinetuningOptions(unfreeze_of(unfreeze), blocks, views, seed, device, resume),
            step=step,
        )
    PlainConsole().print(accuracy_table(report))


def accuracy_table(report: "EmbedderReport") -> Table:
    """Return a table of accuracy and macro accuracy on validation and test, in percent, with one row per classifier."""
    table = Table(
        title=f"{report.backbone} on {report.data}: {len(report.categories)} categories, {report.trained_blocks} blocks "
        f"trained, epoch {report.best_epoch} of {len(report.epochs)}",
        caption=f"test: gain {report.gain:+.2f} points, loss by int8 {report.int8_loss:+.2f} points",
    )
    table.add_column("accuracy, %")
    for split in ("validation", "test"):
        table.add_column(split, justify="right")
        table.add_column(f"{split}, macro", justify="right")
    for kind, title in CLASSIFIERS.items():
        found = [report.figures[split][kind] for split in ("validation", "test")]
        table.add_row(title, *(f"{100 * value:.2f}" for one in found for value in (one.accuracy, one.macro)))
    return table
