"""The end of `tastestream evaluate` and `train bundle`: a short table of figures beside baselines and ceilings, and one sentence."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from model.field_metrics import Paired
from offline_training.report import sentences
from offline_training.tasks.purchase_figures import BASELINES, KS, TREND
from offline_training.tasks.split import TaskName

Measured = Mapping[str, Mapping[str, float]]
"""Figures by name, by group: those of a bundle under `PART/TASK`, those of a baseline under `PART/TASK, BASELINE`."""

POPULARITY = "popularity"
CEILING = "ceiling"
SHOWN = (
    "recall@5",
    "precision@5",
    "recall@10",
    "recall@20",
    "NDCG@5",
    "micro F1",
    "macro F1",
    "MAP",
    "MRR",
    "calibration error",
)
OF_PURCHASES = (
    "macro hit@1", "macro hit@3", "macro hit@3, not owned", "NDCG@5, fine fields", "bits", *(f"recall@{k}" for k in KS), "MRR",
    "calibration error",
)  # fmt: skip
WIDTH = 26  # characters of the first column: a table is at most 80 wide
LOW = {"bits", "calibration error"}  # the lower the better
WORDS = {
    "popular so far": "what is popular so far",
    "last 7 days": "the 7-day trend",
    "last 28 days": "the 28-day trend",
}


def group_of(task: TaskName, part: str = "test") -> str:
    """Return the name of a bundle's figures on the bags of a part."""
    return f"{part}/{task}"


def table(measured: Measured, group: str, title: str, *, paper: bool = False) -> Table:
    """Build a table of the figures of a bundle, beside each its baselines and its ceiling. At most 80 columns wide.

    Args:
        measured: the figures.
        group: name of the bundle's figures.
        title: the table's title.
        paper: show rounded precision as well, which the public code of the paper calls precision.
    """
    own = measured[group]
    names = [name for name in (POPULARITY, *BASELINES) if f"{group}, {name}" in measured]
    ceiling = measured.get(f"{group}, {CEILING}", {})
    found = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    found.add_column("", no_wrap=True)
    for name in ("bundle", *names, "at best"):
        found.add_column(name, justify="right", min_width=7)
    for figure in _shown(own, paper):
        others = [measured[f"{group}, {name}"].get(figure) for name in names]
        best = ceiling.get(figure, None if figure.startswith("rounded") else 0 if figure in LOW else 1)
        name = (
            figure if len(figure) <= WIDTH else f"{figure[: WIDTH - 8]}…{figure[-7:]}"
        )  # the end says what is measured
        found.add_row(name, *("" if value is None else f"{value:.3f}" for value in (own[figure], *others, best)))
    return found


def show(console: Console, measured: Measured, name: str, *, paper: bool = False) -> None:
    """Print a table and a sentence for each group of a bundle's figures that has a baseline.

    Args:
        console: where to print.
        measured: the figures.
        name: name of the bundle.
        paper: as in `table`.
    """
    for group in measured:
        if f"{group}, {CEILING}" in measured:
            part, _, task = group.partition("/")
            users = "users that are set apart" if part == "apart" else "held-out users"
            title = f"{name}, {task}: {counts(measured[group])} {users}"
            console.print(table(measured, group, title, paper=paper))
            console.print(verdict(measured, group), soft_wrap=True, markup=False, highlight=False)


def _shown(own: Mapping[str, float], paper: bool) -> list[str]:
    if "purchases" in own:
        fields = [figure for figure in own if figure.endswith(": hit@3")]
        return [*OF_PURCHASES[:2], *fields, *(figure for figure in OF_PURCHASES[2:] if figure in own)]
    rounded = [figure for figure in own if figure.startswith("rounded precision")]
    return [*(figure for figure in SHOWN if figure in own), *(rounded if paper else [])]


def counts(own: Mapping[str, float]) -> str:
    """Say how much was measured."""
    return f"{own['purchases']:,.0f} purchases of {own['users']:,.0f}" if "purchases" in own else f"{own['users']:,.0f}"


def verdict(measured: Measured, group: str) -> str:
    """Say in one sentence whether the bundle is ahead of what every shop knows. Empty without a lead."""
    own, purchases = measured[group], "purchases" in measured[group]
    figure, other = ("macro hit@3", TREND) if purchases else ("micro F1", POPULARITY)
    ends = [own.get(f"{figure} - {other}{end}") for end in ("", " low", " high")]
    if None in ends:
        return ""
    lead = Paired(*(value for value in ends if value is not None))
    return sentences.lead("The bundle", WORDS.get(other, other), figure, lead) + "."
