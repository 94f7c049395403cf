"""`tastestream train compare` and `train report`. Each imports torch and matplotlib only when it runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from offline_training.comparison.results import Comparison, by_method, read, spread, write
from offline_training.comparison.tables import columns
from offline_training.console import Dataset, Embeddings, MaxBag, Tasks, Threads, Variants, extra, progress


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

        from offline_training.comparison import comparison  # noqa: PLC0415
        from offline_training.comparison.page import write_report  # noqa: PLC0415
        from offline_training.datasets.records import DatasetError  # noqa: PLC0415
        from offline_training.tasks.catalogue import read_catalogue  # noqa: PLC0415
        from offline_training.tasks.tasks import TASKS, TaskName, make_split, read_histories, task_named  # noqa: PLC0415
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


def report(
    results: Annotated[Path, typer.Argument(help="What `train compare --out` wrote.", file_okay=False)],
) -> None:
    """Write report.html and report.md of a comparison again, from its TASK.json files.

    Example: tastestream train report results
    """
    with extra():
        from offline_training.comparison.page import write_report  # noqa: PLC0415

    console = Console(stderr=True)
    with progress(console) as step:
        console.print(f"{write_report(results, step)}: the report", soft_wrap=True, markup=False)


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
