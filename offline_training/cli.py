"""The `train` command's subcommands. Imports torch only inside them, so that the command line works without the `train` extra."""

from collections.abc import Mapping
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
    Tasks,
    Threads,
    Variants,
    Work,
    extra,
    interrupted_by_sigterm,
    progress,
)
from offline_training.embedders.cli import embedder
from offline_training.report.results import Comparison, by_method, read, spread, write
from offline_training.report.tables import columns

SHOWN = ("recall@1", "recall@3", "precision@3", "MAP", "micro F1")
"""Figures of the default bundle that are printed; all are in its manifest."""

app = typer.Typer(
    help="Offline training: from pictures to a model bundle (needs the extra `train`).", no_args_is_help=True
)


@app.callback()
def train() -> None:
    """Offline training: from pictures to a model bundle (needs the extra `train`)."""


@app.command()
def compare(  # noqa: PLR0917  (options all)
    dataset: Dataset,
    embeddings: Embeddings,
    out: Annotated[Path, typer.Option(help="Folder for TASK.json, report.html and report.md.", file_okay=False)],
    task: Tasks = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Of the table; may be given several times.", show_default="all")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each method.", min=1)] = 3,
    variants: Variants = 0,
    max_bag: MaxBag = None,
    threads: Threads = 1,
) -> None:
    """Methods side by side on held-out users: average, NAN, NAN + CG, and what is ahead of them. Ends with the report.

    Example: tastestream train compare data/hm --embeddings embeddings.npz --task unseen --variants 3 --out results
    """
    with extra():
        import torch  # noqa: PLC0415

        from offline_training import comparison  # noqa: PLC0415
        from offline_training.catalogue import read_catalogue  # noqa: PLC0415
        from offline_training.datasets.records import DatasetError  # noqa: PLC0415
        from offline_training.report.page import write_report  # noqa: PLC0415
        from offline_training.tasks import TASKS, TaskName, make_split, read_histories, task_named  # noqa: PLC0415
    torch.set_num_threads(threads)
    console = Console(stderr=True)
    with progress(console) as step:
        asked: list[TaskName] = [task_named(name) for name in dict.fromkeys(task or TASKS)]
        for name in set(method or ()) - set(comparison.METHODS):
            raise DatasetError(f"--method {name!r}: expected {', '.join(comparison.METHODS)}")
        for other in set(TASKS) - set(asked):
            if (before := out / f"{other}.json").exists():
                read(before)  # what the report cannot show is said now, not after the training
        catalogue = read_catalogue(dataset, embeddings)
        histories = read_histories(dataset, catalogue)
        if catalogue.missing:
            console.print(f"{catalogue.missing:,} items have no embedding and are left out")
        for one in asked:
            split = make_split(one, histories, catalogue, variants=variants, max_bag=max_bag)
            found = comparison.compare(
                one,
                catalogue,
                split,
                methods=method or list(comparison.METHODS),
                seeds=range(seeds),
                step=step,
            )
            write(found, out)
            console.print(_comparison_table(found))
        console.print(f"{write_report(out, step)}: the report", soft_wrap=True, markup=False)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="What `train compare --out` wrote.", file_okay=False)],
) -> None:
    """Write report.html and report.md of a comparison again, from its TASK.json files.

    Example: tastestream train report results
    """
    with extra():
        from offline_training.report.page import write_report  # noqa: PLC0415

    console = Console(stderr=True)
    with progress(console) as step:
        console.print(f"{write_report(results, step)}: the report", soft_wrap=True, markup=False)


@app.command()
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
        from offline_training.catalogue import embed_catalogue  # noqa: PLC0415
        from offline_training.graphs import open_base  # noqa: PLC0415
        from streams.console import read  # noqa: PLC0415
        from streams.warm.collecting import embed_urls  # noqa: PLC0415

    console, settings = Console(stderr=True), read()
    with progress(console) as step, interrupted_by_sigterm():
        embedder = open_base(Bundle.load(bundle), threads)
        by_url = partial(embed_urls, settings, embedder)
        dropped = embed_catalogue(dataset, embedder, out, step, by_url=by_url, max_bytes=settings.fetch_max_bytes)
    console.print(f"{out}: left out: {dropped.explained()}", soft_wrap=True, markup=False, highlight=False)


@app.command()
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
        from offline_training.catalogue import read_catalogue  # noqa: PLC0415
        from offline_training.datasets.records import DatasetError  # noqa: PLC0415
        from offline_training.shop_bundle import make_shop_bundle  # noqa: PLC0415
        from offline_training.tasks import make_split, read_histories, task_named  # noqa: PLC0415
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


app.command()(embedder)


@app.command("default-bundle")
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
        from offline_training.default_bundle import make_default_bundle  # noqa: PLC0415
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


def figures_table(title: str, measured: Mapping[str, Mapping[str, float]]) -> Table:
    """A column for each group of figures, a row for each figure."""
    table = Table("", *measured, title=title)
    for figure in dict.fromkeys(name for found in measured.values() for name in found):
        table.add_row(figure, *(f"{found[figure]:,.4g}" if figure in found else "" for found in measured.values()))
    return table


def _comparison_table(comparison: Comparison) -> Table:
    """A row for each method, means over seeds."""
    users = ", ".join(f"{part} {count:,}" for part, count in comparison.users.items())
    table = Table(title=f"{comparison.task}: {comparison.labels} labels; users: {users}")
    table.add_column("method", no_wrap=True)
    shown = columns(comparison)
    for column in shown:
        table.add_column(column, justify="right")
    for name, runs in by_method(comparison).items():
        table.add_row(name, *(f"{spread(runs, column)[0]:.4f}" for column in shown))
    return table
