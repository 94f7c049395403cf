"""`tastestream replay compare`: side-by-side results of several runs."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from offline_training.replay.evaluation.comparing import compare_runs, read_runs
from offline_training.replay.report.written import show_comparison, write_comparison


def run_compare(paths: Sequence[Path], out: Path | None, console: Console) -> None:
    """Compare finished runs, print the comparison, and write it to `out` if given.

    Raises:
        TastestreamError: a run cannot be read, the runs are not comparable, or the folder cannot be written.
    """
    comparison = compare_runs(read_runs(paths))
    show_comparison(comparison, console)
    if out is not None:
        write_comparison(comparison, out, console)
