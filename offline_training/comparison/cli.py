"""`tastestream train compare` and `train report`. Each imports torch and matplotlib only when it runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from offline_training.comparison.report.tables import columns
from offline_training.comparison.results import Comparison, by_method, read, spread, write
from offline_training.console import Dataset, Embeddings, MaxBag, Tasks, Threads, Variants, extra, progress
from streams.console import PlainConsole


def compare(  # noqa: PLR0917  (options all)
    dataset: Dataset,
    embeddings: Embeddings,
    out: Annotated[Path, typer.Option(help="Folder for TASK.json, report.html and report.md.", file_okay=False)],
    task: Tasks = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method to run, named as in the report. Repeat for several methods.", show_default="all"),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Number of runs of each method, each with its own seed.", min=1, max=1000)
    ] = 3,
    variants: Variants = 0,
    max_bag: MaxBag = None,
    threads: Threads = 1,
) -> None:
    """Compare methods on held-out users, and write a report.

    The methods are the paper's (average, NAN, NAN + CG), simple baselines, and the ones that beat them.
    """
    with extra():
        import torch  # noqa: PLC0415

        from offline_training.comparison.compare import compare as run_methods  # noqa: PLC0415
        from offline_training.comparison.methods import METHODS  # noqa: PLC0415
        from offline_training.comparison.report.page import write_report  # noqa: PLC0415
        from offline_training.datasets.records import DatasetError  # noqa: PLC0415
        from offline_training.tasks.catalogue import read_catalogue  # noqa: PLC0415
        from offline_training.tasks.split import TASKS, TaskName, make_split, read_histories, task_named  # noqa: PLC0415
    torch.set_num_threads(threads)
    console = PlainConsole(stderr=True)
    with progress(console) as step:
        asked: list[TaskName] = [task_named(name) for name in dict.fromkeys(task or TASKS)]
        for name in set(method or ()) - set(METHODS):
            raise DatasetError(f"--method {name!r}: expected {', '.join(METHODS)}")
        for other in set(TASKS) - set(asked):
            if (earlier := out / f"{other}.json").exists():
                read(earlier)  # the report includes it: refuse it now, not after the training
        catalogue = read_catalogue(dataset, embeddings)
        histories = read_histories(dataset, catalogue)
        if catalogue.missing:
            console.print(f"{catalogue.missing:,} items have no embedding and are left out")
        for one in asked:
            split = make_split(one, histories, catalogue, variants=variants, max_bag=max_bag)
            comparison = run_methods(
                one,
                catalogue,
                split,
                methods=method or list(METHODS),
                seeds=range(seeds),
                step=step,
            )
            write(comparison, out)
            console.print(_comparison_table(comparison))
        console.print(f"Report: {write_report(out, step)}", soft_wrap=True, markup=False)


def report(
    results: Annotated[Path, typer.Argument(help="Folder that `train compare --out` wrote.", file_okay=False)],
) -> None:
    """Write the report of a comparison again (report.html and report.md), from its TASK.json files."""
    with extra():
        from offline_training.comparison.report.page import write_report  # noqa: PLC0415

    console = PlainConsole(stderr=True)
    with progress(console) as step:
        console.print(f"Report: {write_report(results, step)}", soft_wrap=True, markup=False)


def _comparison_table(comparison: Comparison) -> Table:
    """Build a table with one row per method: means over seeds."""
    users = ", ".join(f"{part} {count:,}" for part, count in comparison.users.items())
    table = Table(title=f"{comparison.task}: {comparison.labels} labels; users: {users}")
    table.add_column("method", no_wrap=True)
    shown = columns(comparison)
    for column in shown:
        table.add_column(column, justify="right")
    for name, runs in by_method(comparison).items():
        table.add_row(name, *(f"{spread(runs, column)[0]:.4f}" for column in shown))
    return table
