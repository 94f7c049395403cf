"""`tastestream train embedder`. Imports torch only inside the command, so that the command line works without the extra `train`."""

from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from offline_training.console import Work, extra, progress

if TYPE_CHECKING:
    from offline_training.embedders.recipe import Report

KINDS = {
    "before": "before: linear probe of ImageNet's embeddings",
    "after": "after: linear probe of the fine-tuned, float",
    "after_int8": "after: linear probe of the fine-tuned, int8",
    "after_int8_float_probe": "after: the float's probe on int8",
    "layer": "the layer that was trained along, float",
}


def embedder(  # noqa: PLR0917  (options all)
    backbone: Annotated[str, typer.Option(help="v1, v2, v3-small or v3-large.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of classes, with or without train, validation and test; or what `tastestream dataset` prepared.",
            file_okay=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the ONNX files and the report.", file_okay=False)],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="ImageNet's weights: TensorFlow's .npz for v1, a state dict of torchvision for the others.",
            dir_okay=False,
            show_default="torchvision downloads them",
        ),
    ] = None,
    unfreeze: Annotated[
        str, typer.Option(help="What learns beside the classification layer: frozen (nothing), last or all (blocks).")
    ] = "last",
    blocks: Annotated[int, typer.Option(help="How many blocks `last` means.", min=1)] = 4,
    level: Annotated[
        int | None,
        typer.Option(help="Levels of a category path that count; 1 is the broadest.", min=1, show_default="all"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most.", min=1, show_default="the recipe's")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures of a step.", min=1, show_default="the recipe's")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate of the blocks.", min=0, show_default="the recipe's")
    ] = None,
    balanced: Annotated[
        bool, typer.Option("--balanced/--as-frequent", help="Whether rare categories count as much as frequent ones.")
    ] = False,
    views: Annotated[int, typer.Option(help="Views kept of each training picture, itself among them.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Of every chance in the training.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    work: Work = None,
) -> None:
    """Fine-tune an embedder on the categories of a shop's pictures, and measure what that gains.

    Example: tastestream train embedder --backbone v1 --weights data/mobilenet/mobilenet_v1_1.0_224.npz --data data/clothing
    --unfreeze last --out embedders/clothing --work .cache/train
    """
    with extra():
        from offline_training.embedders.backbones import load_backbone  # noqa: PLC0415
        from offline_training.embedders.finetuning import recipe_of  # noqa: PLC0415
        from offline_training.embedders.labelled import read_labelled  # noqa: PLC0415
        from offline_training.embedders.recipe import FinetuningOptions, make_embedder, unfreeze_of  # noqa: PLC0415

    with progress(Console(stderr=True)) as step:
        report = make_embedder(
            load_backbone(backbone, weights),
            read_labelled(data, level),
            out=out,
            work=work or Path(gettempdir()) / "tastestream-train",
            recipe=recipe_of(epochs=epochs, batch=batch, block_rate=rate, balanced=balanced),
            options=FinetuningOptions(unfreeze_of(unfreeze), blocks, views, seed, device, resume),
            step=step,
        )
    Console().print(figures_table(report))


def figures_table(report: "Report") -> Table:
    """Accuracy and macro accuracy on validation and test, in percent, a row for each kind of classifier."""
    table = Table(
        title=f"{report.backbone} on {report.data}: {len(report.categories)} categories, {report.trained_blocks} blocks "
        f"trained, epoch {report.best_epoch} of {len(report.epochs)}",
        caption=f"test: gain {report.gain:+.2f} points, lost by int8 {report.int8_loss:+.2f} points",
    )
    table.add_column("accuracy, %")
    for split in ("validation", "test"):
        table.add_column(split, justify="right")
        table.add_column(f"{split}, macro", justify="right")
    for kind, title in KINDS.items():
        found = [report.figures[split][kind] for split in ("validation", "test")]
        table.add_row(title, *(f"{100 * value:.2f}" for one in found for value in (one.accuracy, one.macro)))
    return table
