"""`tastestream evaluate`: measures a bundle on held-out users, from the bundle alone. Needs no torch."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from model.bundle import Bundle
from model.exceptions import TastestreamError
from offline_training.bundles import item_summary, summary
from offline_training.console import Apart, Dataset, Embeddings, Items, MaxBag, Paper, Tasks, Variants, failed
from offline_training.datasets.records import DatasetError
from offline_training.tasks.catalogue import Catalogue, read_catalogue
from offline_training.tasks.evaluation import beside_popularity, codes_of
from offline_training.tasks.fields import fields_of
from offline_training.tasks.item_figures import measure_items
from offline_training.tasks.purchase_figures import measured_at
from offline_training.tasks.purchases import make_contexts, read_taken, users_of
from offline_training.tasks.split import MAX_BAG, TASKS, TaskName, make_split, read_histories, task_named
from streams.console import PlainConsole


def evaluate(  # noqa: PLR0917  (options all)
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.", file_okay=False)],
    dataset: Dataset,
    embeddings: Embeddings,
    task: Tasks = None,
    variants: Variants = 0,
    max_bag: MaxBag = None,
    apart: Apart = None,
    items: Items = False,
    paper: Paper = False,
) -> None:
    """Measure a bundle on held-out users, beside what is popular. Runs its ONNX files and needs no torch (extra `evaluate`)."""
    try:
        chosen: list[TaskName] = [task_named(name) for name in task] if task else list(TASKS)
        loaded = Bundle.load(bundle)
        embedder = loaded.split_embedder()
        catalogue = read_catalogue(dataset, embeddings)
        _check(
            loaded,
            catalogue.labels,
            embeddings=embeddings,
            size=catalogue.embeddings.shape[1],
            expected_size=embedder.backbone.feature_size,
        )
        catalogue = catalogue.with_labels_in_order(loaded.categories)
        codes = codes_of(embedder, catalogue.embeddings)
        histories = read_histories(dataset, catalogue) if set(chosen) != {"purchases"} else None
        measured: dict[str, dict[str, float]] = {}
        for name in chosen:
            if name == "purchases":
                try:
                    measured |= of_purchases(
                        loaded, codes, dataset=dataset, catalogue=catalogue, max_bag=max_bag, apart=apart, items=items
                    )
                except DatasetError as error:
                    if task:
                        raise
                    PlainConsole(stderr=True).print(f"left out: {error}", soft_wrap=True, markup=False, highlight=False)
            elif histories is not None:
                split = make_split(name, histories, catalogue, variants=variants, max_bag=max_bag)
                measured |= beside_popularity(summary.group_of(name), loaded, split, codes)
    except TastestreamError as error:
        raise failed(error) from None
    summary.show(PlainConsole(), measured, f"{loaded.name} {loaded.version}", paper=paper)
    item_summary.show_items(PlainConsole(), measured, f"{loaded.name} {loaded.version}")


def of_purchases(
    bundle: Bundle,
    codes: NDArray[np.float32],
    *,
    dataset: Path,
    catalogue: Catalogue,
    max_bag: int | None = None,
    apart: Path | None = None,
    items: bool = False,
) -> dict[str, dict[str, float]]:
    """Measure a bundle on the task *purchases*, on held-out users, and on those of the data set `apart`.

    Args:
        bundle: the bundle.
        codes: float32 [N, d], of the items by the bundle's own embedder.
        dataset: folder of a prepared data set.
        catalogue: its items, with the bundle's categories as labels.
        max_bag: maximum number of items in a bag. None for the task's default.
        apart: folder of a prepared data set whose users are measured apart.
        items: measure recommended items, too.
    """
    taken = read_taken(dataset, catalogue, apart=users_of(apart) if apart else ())
    split = make_contexts(taken, max_bag=max_bag or MAX_BAG["purchases"])
    fields = bundle.manifest.fields or fields_of(catalogue.labels, catalogue.matrix)
    parts = {
        summary.group_of("purchases", part): contexts
        for part, contexts in (("test", split.test), ("apart", split.apart))
    }
    found = measured_at(parts, bundle, taken, codes, matrix=catalogue.matrix, fields=fields)
    for part, contexts in (("test", split.test), ("apart", split.apart)) if items else ():
        if len(contexts.day):
            measured = measure_items(bundle, taken, contexts, codes)
            found |= {item_summary.items_group(part, name): figures for name, figures in measured.figures().items()}
    return found


def _check(bundle: Bundle, labels: list[str], *, embeddings: Path, size: int, expected_size: int) -> None:
    """Raise DatasetError when the embeddings or the labels do not fit the bundle."""
    if size != expected_size:
        raise DatasetError(
            f"{embeddings} has embeddings of {size} numbers, but the backbone of {bundle.path} makes {expected_size} features: "
            "embed the pictures with it (tastestream train embed --bundle)"
        )
    if set(labels) != set(bundle.categories):
        unknown = sorted(set(labels) - set(bundle.categories))
        absent = sorted(set(bundle.categories) - set(labels))
        raise DatasetError(
            f"the data set's {len(labels)} labels are not the {len(bundle.categories)} categories of {bundle.path}: "
            f"{len(unknown)} are missing in the bundle, such as {unknown[:1]}, and {len(absent)} in the data set, "
            f"such as {absent[:1]}: prepare the data set with the bundle's labels"
        )
