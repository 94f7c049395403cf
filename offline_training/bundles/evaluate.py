"""`tastestream evaluate`: measures a bundle on held-out users, from the bundle alone. Needs no torch."""

from pathlib import Path
from typing import Annotated

import typer

from model.bundle import Bundle
from model.exceptions import TastestreamError
from offline_training.console import Dataset, Embeddings, MaxBag, Tasks, Variants, failed, figures_table
from offline_training.datasets.records import DatasetError
from offline_training.tasks.catalogue import read_catalogue
from offline_training.tasks.evaluation import codes_of
from offline_training.tasks.evaluation import evaluate as figures_of
from offline_training.tasks.split import TASKS, TaskName, make_split, read_histories, task_named
from streams.console import PlainConsole


def evaluate(  # noqa: PLR0917  (options all)
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.", file_okay=False)],
    dataset: Dataset,
    embeddings: Embeddings,
    task: Tasks = None,
    variants: Variants = 0,
    max_bag: MaxBag = None,
) -> None:
    """Measure a bundle on held-out users. Runs its ONNX files and needs no torch (extra `evaluate`)."""
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
        histories = read_histories(dataset, catalogue)
        measured = {
            f"test/{name}": figures_of(
                loaded,
                make_split(name, histories, catalogue, variants=variants, max_bag=max_bag),
                codes,
            )
            for name in chosen
        }
    except TastestreamError as error:
        raise failed(error) from None
    PlainConsole().print(figures_table(f"{loaded.name} {loaded.version} on {dataset}", measured))


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
