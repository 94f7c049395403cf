"""Writes the reports of a run, or of a comparison, to its folder; and shows the figures on the terminal."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from offline_training.datasets.picture_files import PictureFiles
from offline_training.replay.evaluation import results as results_file
from offline_training.replay.evaluation import targets as targets_file
from offline_training.replay.evaluation.comparing import RunComparison
from offline_training.replay.evaluation.prequential import MeasuredTargets
from offline_training.replay.evaluation.results import ReplayResults
from offline_training.replay.evaluation.samples import SampleUser
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.events import PreparedDataset
from offline_training.replay.report import markdown, side_by_side
from offline_training.replay.report.item_tables import item_verdict
from offline_training.replay.report.tables import facts
from offline_training.replay.report.words import by_trend, seen_warning
from offline_training.report.thumbnails import thumbnail
from streams.console import say

HTML = "report.html"
NO_PAGE = f"{'no page:':<27}it needs Jinja and Matplotlib: pip install 'tastestream[train]'"


def can_draw() -> bool:
    """Whether the packages that a page needs are installed."""
    return all(find_spec(name) is not None for name in ("jinja2", "matplotlib"))


def write_results(
    results: ReplayResults, targets: MeasuredTargets, dataset: PreparedDataset, out: Path, *, max_bytes: int
) -> None:
    """Write the results, the targets and the reports of a run.

    Args:
        results: the results.
        targets: the figures of each target.
        dataset: has the pictures of the sample users.
        out: folder of the run.
        max_bytes: maximum size of a picture, bytes.

    Raises:
        ReplayError: a file cannot be written.
    """
    results_file.write(results, out)
    targets_file.write(targets, results.rules.figures, out / targets_file.TARGETS)
    results_file.write_text(markdown.markdown(results), out / markdown.REPORT)
    if can_draw():
        from offline_training.replay.report.page import page  # noqa: PLC0415  (needs the extra `train`)

        results_file.write_text(page(results, sample_pictures(results.samples, dataset, max_bytes)), out / HTML)


def show_results(results: ReplayResults, out: Path, console: Console) -> None:
    """Print the figures over all targets, the facts about the run, and the files that were written."""
    if results.groups:
        for table in markdown.terminal(results):
            console.print(table)
        for sentence in (by_trend(results), *item_verdict(results.items), *seen_warning(results)):
            say(console, sentence)
    for name, text in facts(results):
        say(console, f"{name + ':':<27}{text}")
    _show_files([results_file.RESULTS, targets_file.TARGETS, markdown.REPORT], HTML, out, console)


def write_comparison(comparison: RunComparison, out: Path, console: Console) -> None:
    """Write the reports of a comparison, and print their names. Raises ReplayError when the folder cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReplayError(f"--out {out}: {error.strerror}: choose another folder") from error
    results_file.write_json(comparison, out / side_by_side.JSON)
    results_file.write_text(side_by_side.markdown(comparison), out / side_by_side.MARKDOWN)
    if can_draw():
        from offline_training.replay.report.page import compare_page  # noqa: PLC0415  (needs the extra `train`)

        results_file.write_text(compare_page(comparison), out / side_by_side.HTML)
    _show_files([side_by_side.JSON, side_by_side.MARKDOWN], side_by_side.HTML, out, console)


def show_comparison(comparison: RunComparison, console: Console) -> None:
    """Print a comparison."""
    for table in side_by_side.terminal(comparison):
        console.print(table)
    for sentence in side_by_side.verdict(comparison):
        say(console, sentence)


def sample_pictures(samples: Sequence[SampleUser], dataset: PreparedDataset, max_bytes: int) -> dict[str, bytes]:
    """Thumbnails of the local pictures of the sample users, as JPEGs by item."""
    points = [point for user in samples for point in user.moments]
    shown = {item for point in points for item in (*(name for name, _ in point.attention), *point.bought)}
    with PictureFiles(dataset.folders, max_bytes) as files:
        found = {item: thumbnail(files, dataset.items[item].local_picture) for item in sorted(shown)}
    return {item: picture for item, picture in found.items() if picture is not None}


def _show_files(names: list[str], page: str, out: Path, console: Console) -> None:
    names = [*names, page] if can_draw() else names
    say(console, f"{'written:':<27}{', '.join(str(out / name) for name in names)}")
    if not can_draw():
        say(console, NO_PAGE)
