"""`tastestream evaluate`: the figures of a bundle again, from the bundle alone."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model.bundle import Bundle
from model.exceptions import TastestreamError
from offline_training.console import Dataset, Embeddings, MaxBag, Tasks, Variants, extra, failed, figures_table
from offline_training.datasets.records import DatasetError
from offline_training.tasks.catalogue import read_catalogue
from offline_training.tasks.evaluation import evaluate as figures_of
from offline_training.tasks.tasks import TASKS, TaskName, make_split, read_histories, task_named


def evaluate(  # noqa: PLR0917  (options all)
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.", file_okay=False)],
    dataset: Dataset,
    embeddings: Embeddings,
    task: Tasks = None,
    variants: Variants = 0,
    max_bag: MaxBag = None,
) -> None:
    """How good a bundle is on held-out users, from the bundle alone: ONNX Runtime, no torch."""
    with extra():
        from offline_training.exporting.graphs import coder, open_base  # noqa: PLC0415
    try:
        chosen: list[TaskName] = [task_named(name) for name in task] if task else list(TASKS)
        loaded = Bundle.load(bundle)
        catalogue = read_catalogue(dataset, embeddings)
        base = open_base(loaded).embedding_size
        _check(loaded, catalogue.labels, base, catalogue.embeddings.shape[1], embeddings)
        embedded = coder(loaded)(catalogue.embeddings)
        histories = read_histories(dataset, catalogue)
        measured = {
            f"test/{name}": figures_of(
                loaded,
                make_split(name, histories, catalogue, variants=variants, max_bag=max_bag),
                embedded,
            )
            for name in chosen
        }
    except TastestreamError as error:
        raise failed(error) from None
    Console().print(figures_table(f"{loaded.name} {loaded.version} on {dataset}", measured))


def _check(bundle: Bundle, labels: list[str], base: int, size: int, embeddings: Path) -> None:
    if size != base:
        raise DatasetError(
            f"{embeddings} has {size} numbers for an item, but the base of {bundle.path} gives {base}: "
            "give what it makes (tastestream train embed --bundle)"
        )
    if labels != list(bundle.categories):
        more = sorted(set(labels) - set(bundle.categories))
        less = sorted(set(bundle.categories) - set(labels))
        raise DatasetError(
            f"the data set's {len(labels)} labels are not the {len(bundle.categories)} categories of {bundle.path}: "
            f"{len(more)} that it lacks, such as {more[:1]}, and {len(less)} that the data set lacks, such as {less[:1]}: "
            "prepare the data set with the labels of the bundle"
        )
