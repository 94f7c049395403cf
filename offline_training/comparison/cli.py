"""`tastestream train compare` and `train report`. Each imports torch and matplotlib only when it runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from offline_training.comparison.report.tables import figures_table, verdict
from offline_training.comparison.results import Comparison, read, write
from offline_training.console import (
    Apart,
    Dataset,
    Embeddings,
    MaxBag,
    Paper,
    Tasks,
    Threads,
    Variants,
    extra,
    progress,
)
from streams.console import PlainConsole

SHORT = {
    "micro F1": ("recall@5", "recall@20", "micro F1", "MAP", "calibration error"),
    "macro hit@3": ("macro hit@1", "macro hit@3", "macro hit@3, not owned", "NDCG@5, fine fields", "bits"),
}
"""Figures that the terminal shows, by the one that counts."""


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
    apart: Apart = None,
    paper: Paper = False,
    threads: Threads = 1,
) -> None:
    """Compare methods on held-out users, and write a report.

    The methods are the paper's (average, NAN, NAN + CG), simple baselines, and the ones that beat them.
    """
    with extra():
        import torch  # noqa: PLC0415

        from offline_training.comparison.compare import compare as run_methods  # noqa: PLC0415
        from offline_training.comparison.methods import METHODS, methods_of  # noqa: PLC0415
        from offline_training.comparison.purchase_task import purchase_task  # noqa: PLC0415
        from offline_training.comparison.report.page import write_report  # noqa: PLC0415
        from offline_training.datasets.records import DatasetError  # noqa: PLC0415
        from offline_training.tasks.catalogue import read_catalogue  # noqa: PLC0415
        from offline_training.tasks.purchases import read_taken, users_of  # noqa: PLC0415
        from offline_training.tasks.split import (  # noqa: PLC0415
            MAX_BAG,
            TASKS,
            TaskName,
            make_folds,
            read_histories,
            task_named,
        )
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
            of_purchases = None
            if one == "purchases":
                try:
                    taken = read_taken(dataset, catalogue, apart=users_of(apart) if apart else ())
                    split, of_purchases = purchase_task(taken, catalogue, max_bag=max_bag or MAX_BAG[one])
                    folds = [split]
                except DatasetError as error:
                    if task:
                        raise
                    console.print(f"left out: {error}", soft_wrap=True, markup=False, highlight=False)
                    continue
            else:
                folds = make_folds(one, histories, catalogue, variants=variants, max_bag=max_bag)
            possible = methods_of(one)
            chosen = [name for name in method or possible if name in possible]
            if not chosen:
                raise DatasetError(f"--method {', '.join(method or ())}: only the task purchases has it, found {one}")
            comparison = run_methods(
                one, catalogue, folds, methods=chosen, seeds=range(seeds), step=step, asked=of_purchases
            )
            write(comparison, out)
            console.print(comparison_table(comparison))
            for sentence in verdict(comparison):
                console.print(sentence, soft_wrap=True, markup=False, highlight=False)
        console.print(f"Report: {write_report(out, step, paper=paper)}", soft_wrap=True, markup=False)


def report(
    results: Annotated[Path, typer.Argument(help="Folder that `train compare --out` wrote.", file_okay=False)],
    paper: Paper = False,
) -> None:
    """Write the report of a comparison again (report.html and report.md), from its TASK.json files."""
    with extra():
        from offline_training.comparison.report.page import write_report  # noqa: PLC0415

    console = PlainConsole(stderr=True)
    with progress(console) as step:
        console.print(f"Report: {write_report(results, step, paper=paper)}", soft_wrap=True, markup=False)


def comparison_table(comparison: Comparison) -> Table:
    """Build a table with one row per method, at most 80 columns wide: means over seeds. The report has all figures."""
    users = ", ".join(f"{part} {count:,}" for part, count in comparison.users.items())
    whole = figures_table(comparison)
    shown = [0, *(place for place, column in enumerate(whole.header) if column in SHORT[comparison.figure])]
    table = Table(
        title=f"{comparison.task}: {comparison.labels} labels; users: {users}", title_justify="left", box=SIMPLE_HEAD
    )
    for place in shown:
        title = whole.header[place]
        width = max(map(len, title.split()))
        table.add_column(title, justify="right" if place else "left", no_wrap=not place, min_width=max(width, 6))
    for row in whole.rows:
        table.add_row(*(row[place].partition(" ± ")[0] for place in shown))
    return table
