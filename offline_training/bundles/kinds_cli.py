"""`tastestream train kinds`. Imports onnx and torch only when it runs."""

from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

import typer

from offline_training.bundles.tables import tables_of
from offline_training.console import Work, extra, progress
from streams.console import PlainConsole

SHOWN_MISTAKES = 12  # of each data set


def kinds(  # noqa: PLR0917  (options all)
    bundle: Annotated[Path, typer.Argument(help="Bundle whose backbone is MobileNet v1.", file_okay=False)],
    weights: Annotated[Path, typer.Option(help="MobileNet's arrays (mobilenet_v1_1.0_224.npz).", dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Bundle folder to write; existing files are replaced.", file_okay=False)],
    version: Annotated[str, typer.Option(help="Version of the new bundle; not that of the old one.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with clothing/ and grocery/, to measure on.", file_okay=False, show_default="none"),
    ] = None,
    catalogue: Annotated[
        Path, typer.Option(help="Folder with the demo's catalogue.json, to measure on.", file_okay=False)
    ] = Path("streams/demo/catalogue"),
    work: Work = None,
) -> None:
    """Add the kinds of products (footwear, lighting, cookware) to a bundle. Trains nothing.

    The kinds combine classes of MobileNet's own last layer. They are a field of the new bundle, beside its categories.
    The embeddings become longer, so the new bundle has another embedder version.

    With --data the shipped bundle's categories and the kinds are measured on photos that its training has not seen.
    """
    with extra():
        from model.bundle import Bundle  # noqa: PLC0415
        from offline_training.bundles.kinds.graphs import add_kinds  # noqa: PLC0415
        from offline_training.bundles.kinds.measuring import mistakes  # noqa: PLC0415
        from offline_training.bundles.kinds.table import kind_head  # noqa: PLC0415
        from offline_training.bundles.photos import (  # noqa: PLC0415
            EMBEDDING_THREADS,
            PhotoEmbeddings,
            embed_held_out,
            measure_shipped,
            named_kinds,
            read_sources,
        )
    cache = work or Path(gettempdir()) / "tastestream-train"
    with progress(PlainConsole(stderr=True)) as step:
        head, old = kind_head(weights), Bundle.load(bundle)
        parts: list[PhotoEmbeddings] = []
        if data is not None:
            parts = embed_held_out(
                read_sources(data, catalogue), old.backbone(EMBEDDING_THREADS), cache=cache, step=step
            )
        made = add_kinds(
            old,
            head,
            out,
            version=version,
            measure=lambda made: old.manifest.metrics | measure_shipped(made, parts) if parts else {},
            note=f"tastestream train kinds BUNDLE --weights FILE --out BUNDLE --version {version}",
        )
    console = PlainConsole()
    for table in tables_of(made):
        console.print(table)
    for source, photos in named_kinds(made, parts).items():
        for photo in mistakes(photos, SHOWN_MISTAKES):
            console.print(f"{photo.picture.name}: {', '.join(photo.kinds)}", soft_wrap=True, markup=False)
        console.print(f"{source}: no near kind among the first three of the photos above", soft_wrap=True)
    console.print(f"{out}: backbone {made.backbone_version}, embedder {made.embedder_version}", soft_wrap=True)
