"""`tastestream train embed`, `train bundle` and `train default-bundle`. Each imports torch only when it runs."""

from functools import partial
from pathlib import Path
from tempfile import gettempdir
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from offline_training.bundles.classes.cli import class_bundle
from offline_training.bundles.tables import tables_of
from offline_training.console import (
    Apart,
    Dataset,
    Items,
    MaxBag,
    Seed,
    Threads,
    Variants,
    Work,
    extra,
    interrupted_by_sigterm,
    progress,
)
from offline_training.report import sentences
from streams.console import PlainConsole

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.embedder import Embedder
    from offline_training.adapters.users import Codes, Users
    from offline_training.bundles.shop import Adapt
    from offline_training.datasets.records import Dropped
    from offline_training.progress import Step
    from offline_training.tasks.catalogue import Catalogue
    from streams.settings import Settings

BundleFolder = Annotated[
    Path, typer.Option(help="Bundle folder to write; existing files are replaced.", file_okay=False)
]


def embed(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="File to write (.npz with ids and embeddings).", dir_okay=False)],
    bundle: Annotated[
        Path | None,
        typer.Option(help="Bundle whose backbone is used.", file_okay=False, show_default="the shipped one"),
    ] = None,
    threads: Threads = 1,
) -> None:
    """Embed the pictures of a data set, once for all experiments.

    Embeddings that the file already holds are kept. Run the command again to continue after an interruption or to retry failures.

    The file holds the features that the bundle's backbone makes, rounded as they are stored. A new item network is trained on them.

    Pictures are read from local files, or fetched from URLs as the embed worker fetches them, with the same FETCH_* settings.
    """
    with extra():
        from model.bundle import Bundle  # noqa: PLC0415
        from model.embedder import SplitEmbedder  # noqa: PLC0415
        from streams.console import read  # noqa: PLC0415

    console, settings = PlainConsole(stderr=True), read()
    with progress(console) as step, interrupted_by_sigterm():
        backbone = Bundle.load(bundle).backbone(threads)
        dropped = _embed_pictures(settings, dataset, SplitEmbedder(backbone, None, backbone.version), out, step)
    console.print(f"{out}: left out: {dropped.explained()}", soft_wrap=True, markup=False, highlight=False)


def bundle(  # noqa: PLR0917  (options all)
    dataset: Annotated[
        Path,
        typer.Argument(
            help="Folder that `tastestream dataset` wrote; or a folder with a sub-folder of pictures for each class.",
            file_okay=False,
        ),
    ],
    out: BundleFolder,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Embeddings that `tastestream train embed` wrote (.npz). Not for a folder of classes.",
            dir_okay=False,
            show_default="none",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "shop",
    version: Annotated[
        str | None, typer.Option(help="Version of the bundle.", show_default="the date and a hash of the content")
    ] = None,
    task: Annotated[str, typer.Option(help="Task to train for: purchases, next, unseen or profile.")] = "next",
    aggregator: Annotated[
        str | None, typer.Option(help="Aggregator to train.", show_default="the best one for the task")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Bundle whose backbone is built on.", file_okay=False, show_default="the shipped one"),
    ] = None,
    adapts: Annotated[
        Path | None,
        typer.Option(
            help="Older bundle whose embeddings the new one takes where a picture is gone.",
            file_okay=False,
            show_default="none",
        ),
    ] = None,
    adapts_embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Embeddings of the pictures by the older bundle (.npz); missing ones are made. Needed only for another backbone.",
            dir_okay=False,
            show_default="beside --embeddings",
        ),
    ] = None,
    apart: Apart = None,
    items: Items = False,
    variants: Variants = 0,
    max_bag: MaxBag = None,
    seed: Seed = 0,
    threads: Threads = 1,
) -> None:
    """Train a bundle for your own shop. To serve it, set BUNDLE to its folder and start `tastestream worker`.

    For a shop with purchases, use `--task purchases`: the bundle then also follows what all users take now.

    Without --embeddings, the folder holds a sub-folder of pictures for each class; five pictures of each are enough to start.
    No events are needed: an item head is fitted on the pictures, and the aggregator on simulated users.
    """
    if embeddings is None:
        given = {
            "aggregator": aggregator,
            "adapts": adapts,
            "adapts-embeddings": adapts_embeddings,
            "max-bag": max_bag,
            "items": items or None,
        }
        unfit = [f"--{option}" for option, value in given.items() if value is not None]
        class_bundle(dataset, out, name=name, version=version, base=base, seed=seed, threads=threads, unfit=unfit)
        return
    with extra():
        import torch  # noqa: PLC0415

        from model.bundle import Bundle  # noqa: PLC0415
        from offline_training.adapters.choosing import adapt, check_enough  # noqa: PLC0415
        from offline_training.adapters.of_bags import BagUsers  # noqa: PLC0415
        from offline_training.adapters.of_purchases import PurchaseUsers  # noqa: PLC0415
        from offline_training.bundles import summary  # noqa: PLC0415
        from offline_training.bundles.item_summary import show_items  # noqa: PLC0415
        from offline_training.bundles.purchases import make_purchases_bundle  # noqa: PLC0415
        from offline_training.bundles.shop import CONVERGED, make_shop_bundle  # noqa: PLC0415
        from offline_training.tasks.catalogue import read_catalogue  # noqa: PLC0415
        from offline_training.tasks.learnt import learnt_data, second  # noqa: PLC0415
        from offline_training.tasks.purchases import read_taken, users_of  # noqa: PLC0415
        from offline_training.tasks.split import make_split, read_histories, task_named  # noqa: PLC0415
    torch.set_num_threads(threads)
    with progress(PlainConsole(stderr=True)) as step:
        _check(aggregator, adapts, adapts_embeddings)
        chosen, catalogue, date = task_named(task), read_catalogue(dataset, embeddings), second(int(time() * 1000))
        old, built_on = None if adapts is None else Bundle.load(adapts), Bundle.load(base)

        def fitting(older: Bundle, users: "Users") -> "Adapt":
            codes = _old_codes(
                older, built_on, catalogue, dataset, embeddings, filed_in=adapts_embeddings, threads=threads, step=step
            )
            check_enough(codes, users)
            return partial(adapt, old=older, old_codes=codes, users=users, step=step)

        if chosen == "purchases":
            _refuse(chosen, aggregator=aggregator, variants=variants, max_bag=max_bag)
            set_apart = users_of(apart) if apart else ()
            taken = read_taken(dataset, catalogue, apart=set_apart)
            made = make_purchases_bundle(
                base=built_on,
                catalogue=catalogue,
                taken=taken,
                name=name,
                version=version,
                command=_command(
                    task=task,
                    base=base and "BUNDLE",
                    apart=apart and "DATASET",
                    adapts=adapts and "BUNDLE",
                    seed=seed,
                    items=items,
                ),
                seed=seed,
                date=date,
                data=learnt_data(dataset, catalogue, chosen, apart=set_apart),
                out=out,
                step=step,
                ranking=items,
                adapt=None if old is None else fitting(old, PurchaseUsers.of(catalogue, taken)),
            )
            summary.show(PlainConsole(), made.manifest.metrics, f"{made.name} {made.version}")
            show_items(PlainConsole(), made.manifest.metrics, f"{made.name} {made.version}")
            if old is not None:
                PlainConsole().print(_adapted(made, old, chosen), soft_wrap=True)
            return
        _refuse(chosen, apart=apart, items=items)
        split = make_split(chosen, read_histories(dataset, catalogue), catalogue, variants=variants, max_bag=max_bag)
        made = make_shop_bundle(
            base=built_on,
            catalogue=catalogue,
            split=split,
            task=chosen,
            aggregator=aggregator,
            name=name,
            version=version,
            command=_command(
                task=task,
                aggregator=aggregator,
                variants=variants or None,
                max_bag=max_bag,
                base=base and "BUNDLE",
                adapts=adapts and "BUNDLE",
                seed=seed,
            ),
            seed=seed,
            date=date,
            data=learnt_data(dataset, catalogue, chosen, new=split.new),
            out=out,
            step=step,
            adapt=None if old is None else fitting(old, BagUsers(split, chosen)),
        )
    printer = PlainConsole()
    summary.show(printer, made.manifest.metrics, f"{made.name} {made.version}")
    said = [] if made.manifest.training.recipe[CONVERGED] else [sentences.unfinished("the aggregator")]
    for line in [*said, *([] if old is None else [_adapted(made, old, chosen)])]:
        printer.print(line, soft_wrap=True)


def _check(aggregator: str | None, adapts: Path | None, adapts_embeddings: Path | None) -> None:
    """Raise DatasetError for an aggregator that there is not, and for an option that needs another one."""
    from offline_training.aggregators import AGGREGATORS  # noqa: PLC0415
    from offline_training.datasets.records import DatasetError  # noqa: PLC0415

    if aggregator is not None and aggregator not in AGGREGATORS:
        raise DatasetError(f"--aggregator {aggregator!r}: expected {', '.join(AGGREGATORS)}")
    if adapts_embeddings is not None and adapts is None:
        raise DatasetError("--adapts-embeddings needs --adapts, the bundle that they are by")


def _refuse(task: str, **given: object) -> None:
    """Raise DatasetError if an option is given that does not go with a task."""
    from offline_training.datasets.records import DatasetError  # noqa: PLC0415

    for name, value in given.items():
        if value:
            raise DatasetError(f"--{name.replace('_', '-')} {value}: not with --task {task}")


def _old_codes(
    old: "Bundle",
    built_on: "Bundle",
    catalogue: "Catalogue",
    dataset: Path,
    embeddings: Path,
    *,
    filed_in: Path | None,
    threads: int,
    step: "Step",
) -> "Codes":
    """The embeddings of the items by an older bundle, NaN where there is none. Embeds the pictures again if its backbone is another.

    Args:
        old: the older bundle.
        built_on: the bundle whose backbone made `embeddings`.
        catalogue: the items.
        dataset: their data set.
        embeddings: file of their features.
        filed_in: file of their embeddings by the older bundle; None: beside `embeddings`, if one is needed.
        threads: of the older embedder.
        step: opens progress bars.
    """
    from offline_training.adapters.old_codes import filed_by, old_codes  # noqa: PLC0415
    from offline_training.tasks.catalogue import read_catalogue  # noqa: PLC0415
    from streams.console import read  # noqa: PLC0415

    path, filed = embeddings, catalogue
    if filed_in is not None or old.backbone_version != built_on.backbone_version:
        embedder = filed_by(old, threads)
        path = filed_in or embeddings.with_name(f"{embeddings.stem}-{embedder.version}.npz")
        _embed_pictures(read(), dataset, embedder, path, step)
        filed = read_catalogue(dataset, path)
    return old_codes(old, catalogue, filed, path)


def _command(*, items: bool = False, **options: str | int | None) -> str:
    """The command line to note in the manifest. Paths are left out: they are of no use elsewhere, and nobody's business."""
    given = [f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value is not None]
    return " ".join(["tastestream train bundle DATASET --embeddings FILE", *given, *(["--items"] if items else [])])


def _adapted(made: "Bundle", old: "Bundle", task: str) -> str:
    """Say what the adapter is and what it costs, or that none is needed."""
    if made.manifest.adapts is None:
        return f"no adapter: {old.path} has the same embedder, {made.embedder_version}"
    adapts, measured = made.manifest.adapts, made.manifest.metrics
    figure = "macro hit@3" if task == "purchases" else "micro F1"
    costs = [f"{measured[f'test/{task}, native codes'][figure]:.3f} native"]
    for kind in ("adapted", "untouched"):
        of_kind = measured.get(f"test/{task}, {kind} codes")
        if of_kind is not None:
            difference, low, high = (of_kind[f"{figure} - native{end}"] for end in ("", " low", " high"))
            costs.append(f"{of_kind[figure]:.3f} {kind} ({difference:+.3f} [{low:+.3f}, {high:+.3f}])")
    return (
        f"adapts embedder {adapts.embedder_version} ({old.name} {old.version}): {adapts.method}, "
        f"fitted on {adapts.pictures:,} pictures; {figure} by codes: {', '.join(costs)}"
    )


def _embed_pictures(settings: "Settings", dataset: Path, embedder: "Embedder", out: Path, step: "Step") -> "Dropped":
    """Embed the pictures of a data set, in files and by URL."""
    from offline_training.tasks.catalogue import embed_catalogue  # noqa: PLC0415
    from streams.warm.embed_urls import embed_urls  # noqa: PLC0415

    by_url = partial(embed_urls, settings, embedder)
    return embed_catalogue(dataset, embedder, out, step, by_url=by_url, max_bytes=settings.fetch_max_bytes)


def split(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle with `embedder.onnx`.", file_okay=False)],
    out: BundleFolder,
    version: Annotated[str, typer.Option(help="Version of the new bundle; not that of the old one.")],
) -> None:
    """Write a bundle with one network for pictures as a bundle with a backbone and an item network. Trains nothing.

    The embeddings change a little. So the new bundle has another embedder version, and its manifest has no figures:
    measure them with `tastestream evaluate`.
    """
    with extra():
        from model.bundle import Bundle  # noqa: PLC0415
        from offline_training.exporting.graphs import split_bundle  # noqa: PLC0415
    with progress(PlainConsole(stderr=True)):
        made = split_bundle(Bundle.load(bundle), out, version=version, metrics={})
    PlainConsole().print(f"{out}: backbone {made.backbone_version}, embedder {made.embedder_version}")


def default_bundle(  # noqa: PLR0917  (options all)
    data: Annotated[
        Path, typer.Option(help="Folder with mobilenet/, clothing/ and grocery/.", file_okay=False, exists=True)
    ],
    catalogue: Annotated[
        Path,
        typer.Option(help="Folder with the demo's catalogue.json and its photos.", file_okay=False, exists=True),
    ],
    out: BundleFolder,
    seed: Seed = 0,
    work: Work = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Number of epochs of each network.", min=1, max=100_000, show_default="as the recipe says"),
    ] = None,
) -> None:
    """Train the bundle that ships with tastestream. Takes less than ten minutes on two cores."""
    with extra():
        from offline_training.bundles.default import RECIPE, make_default_bundle  # noqa: PLC0415
    with progress(PlainConsole(stderr=True)) as step:
        bundle = make_default_bundle(
            data=data,
            catalogue=catalogue,
            out=out,
            work=work or Path(gettempdir()) / "tastestream-train",
            seed=seed,
            step=step,
            recipe=RECIPE if epochs is None else RECIPE.with_epochs(epochs),
        )
    for table in tables_of(bundle):
        PlainConsole().print(table)
