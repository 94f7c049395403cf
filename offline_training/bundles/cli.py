"""`tastestream train embed`, `train bundle` and `train default-bundle`. Each imports torch only when it runs."""

from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from offline_training.console import (
    Dataset,
    Embeddings,
    MaxBag,
    Threads,
    Variants,
    Work,
    extra,
    figures_table,
    interrupted_by_sigterm,
    progress,
)

SHOWN = ("recall@1", "recall@3", "precision@3", "MAP", "micro F1")
"""Figures of the default bundle that are printed; all are in its manifest."""


def embed(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="File to write, .npz with ids and embeddings.", dir_okay=False)],
    bundle: Annotated[
        Path | None, typer.Option(help="Whose embedder.", file_okay=False, show_default="the one that ships")
    ] = None,
    threads: Threads = 1,
) -> None:
    """Embed the pictures of a data set, once for all experiments; those that are in the file already are kept.

    Of an embedder with an item network, this is what that network takes: a new one is trained from there.
    A picture's address is a file, or a URL, from which it is fetched as the embed worker does it, under the same settings FETCH_*.
    Interrupt it and run it again: it goes on where it stopped, and tries again what failed.

    Example: tastestream train embed data/shop --out data/shop/embeddings.npz
    """
    with extra():
        from model.bundle import Bundle  # noqa: PLC0415
        from offline_training.exporting.graphs import open_base  # noqa: PLC0415
        from offline_training.tasks.catalogue import embed_catalogue  # noqa: PLC0415
        from streams.console import read  # noqa: PLC0415
        from streams.warm.collecting import embed_urls  # noqa: PLC0415

    console, settings = Console(stderr=True), read()
    with progress(console) as step, interrupted_by_sigterm():
        embedder = open_base(Bundle.load(bundle), threads)
        by_url = partial(embed_urls, settings, embedder)
        dropped = embed_catalogue(dataset, embedder, out, step, by_url=by_url, max_bytes=settings.fetch_max_bytes)
    console.print(f"{out}: left out: {dropped.explained()}", soft_wrap=True, markup=False, highlight=False)


def bundle(  # noqa: PLR0917  (options all)
    dataset: Dataset,
    embeddings: Embeddings,
    out: Annotated[Path, typer.Option(help="The bundle's folder; its files are replaced.", file_okay=False)],
    name: Annotated[str, typer.Option(help="Of the bundle.")] = "shop",
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1.0.0",
    task: Annotated[str, typer.Option(help="What it is trained for: profile, unseen or next.")] = "next",
    aggregator: Annotated[str | None, typer.Option(help="Instead of the task's best.", show_default="the best")] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Bundle whose embedder it builds on.", file_okay=False, show_default="the one that ships"),
    ] = None,
    variants: Variants = 0,
    max_bag: MaxBag = None,
    seed: Annotated[int, typer.Option(help="Of every chance in the training.", min=0)] = 0,
    threads: Threads = 1,
) -> None:
    """Train a shop's own bundle, which `tastestream worker` runs with `BUNDLE` set to it.

    Example: tastestream train bundle data/shop --embeddings data/shop/embeddings.npz --out bundles/shop
    """
    with extra():
        import torch  # noqa: PLC0415

        from model.bundle import Bundle  # noqa: PLC0415
        from offline_training.aggregators import AGGREGATORS  # noqa: PLC0415
        from offline_training.bundles.shop import make_shop_bundle  # noqa: PLC0415
        from offline_training.datasets.records import DatasetError  # noqa: PLC0415
        from offline_training.tasks.catalogue import read_catalogue  # noqa: PLC0415
        from offline_training.tasks.tasks import make_split, read_histories, task_named  # noqa: PLC0415
    torch.set_num_threads(threads)
    with progress(Console(stderr=True)) as step:
        if aggregator is not None and aggregator not in AGGREGATORS:
            raise DatasetError(f"--aggregator {aggregator!r}: expected {', '.join(AGGREGATORS)}")
        chosen = task_named(task)
        catalogue = read_catalogue(dataset, embeddings)
        split = make_split(chosen, read_histories(dataset, catalogue), catalogue, variants=variants, max_bag=max_bag)
        made = make_shop_bundle(
            base=Bundle.load(base),
            catalogue=catalogue,
            split=split,
            task=chosen,
            aggregator=aggregator,
            name=name,
            version=version,
            command=f"tastestream train bundle DATASET --embeddings FILE --task {task} --seed {seed}",
            seed=seed,
            out=out,
            step=step,
        )
    Console().print(figures_table(f"{made.name} {made.version} in {out}", made.manifest.metrics))


def default_bundle(  # noqa: PLR0917  (options all)
    data: Annotated[
        Path, typer.Option(help="Folder with mobilenet/, clothing/ and grocery/.", file_okay=False, exists=True)
    ],
    catalogue: Annotated[
        Path, typer.Option(help="Folder of the demo's catalogue.json and its photos.", file_okay=False, exists=True)
    ],
    out: Annotated[Path, typer.Option(help="The bundle's folder; its files are replaced.", file_okay=False)],
    seed: Annotated[int, typer.Option(help="Of every chance in the training.", min=0)] = 0,
    work: Work = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of each network.", min=1, show_default="the recipe's")
    ] = None,
) -> None:
    """Train the bundle that ships with tastestream, in under ten minutes on two cores.

    Example: tastestream train default-bundle --data data --catalogue streams/demo/catalogue --out
    model/bundles/default --work .cache/train
    """
    with extra():
        from offline_training.bundles.default import make_default_bundle  # noqa: PLC0415
    with progress(Console(stderr=True)) as step:
        bundle = make_default_bundle(
            data=data,
            catalogue=catalogue,
            out=out,
            work=work or Path(gettempdir()) / "tastestream-train",
            seed=seed,
            epochs=epochs,
            step=step,
        )
    table = Table("users / method", *SHOWN, title=f"{bundle.name} {bundle.version} in {out}")
    for group, found in bundle.manifest.metrics.items():
        table.add_row(group, *(f"{found[figure]:.3f}" for figure in SHOWN))
    Console().print(table)
