"""The charts of a comparison, as SVG. The same data always give the same bytes."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from offline_training.comparison.results import Comparison, MethodRun, best, by_method, mean_by_place, spread
from offline_training.report.drawing import FAINT, FIRST, MUTED, SECOND, chart
from offline_training.report.parts import Chart

ACROSS = 3  # panels in a row
WIDTH, HEIGHT = 3.2, 2.4  # size of a panel, inches


def intervals(comparison: Comparison) -> Chart:
    """Draw the figure that counts of each method, best on top: its interval, the mean over seeds, and each seed."""
    shown = comparison.figure
    methods = sorted(by_method(comparison).items(), key=lambda one: spread(one[1], shown)[0])
    chosen = best(comparison)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, (name, runs) in enumerate(methods):
            colour = SECOND if name == chosen else FIRST if runs[0].train_loss else MUTED
            low, mean, high = (spread(runs, f"{shown}{end}")[0] for end in (" low", "", " high"))
            axes.plot([low, high], [place, place], color=colour, linewidth=2.2)
            axes.plot([run.figures[shown] for run in runs], [place] * len(runs), "|", color=colour, markersize=9)
            axes.plot([mean], [place], "o", color=colour, markersize=5)
            axes.annotate(f"{mean:.3f}", (high, place), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(methods)), [name for name, _ in methods])
        axes.set_ylim(-0.6, len(methods) - 0.4)
        axes.margins(x=0.1)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{shown} on held-out users")

    name = shown.lower().replace(" ", "-").replace("@", "-at-")
    size = (6.0, 0.8 + 0.27 * len(methods))
    return _chart(comparison, name, f"{shown[0].upper()}{shown[1:]} of each method with its interval", size, draw)


def reach(comparison: Comparison) -> Chart:
    """Draw recall and precision over k, one panel per method, with all other methods behind it."""
    methods = by_method(comparison)
    recalls = {name: mean_by_place([run.recall_at for run in runs]) for name, runs in methods.items()}
    precisions = {name: mean_by_place([run.precision_at for run in runs]) for name, runs in methods.items()}
    ks = range(1, len(comparison.recall_ceiling_at) + 1)

    def panel(axes: Axes, name: str, _: Sequence[MethodRun]) -> None:
        for other in methods:
            axes.plot(ks, recalls[other], color=FAINT, linewidth=0.7)
            axes.plot(ks, precisions[other], color=FAINT, linewidth=0.7)
        axes.plot(ks, comparison.recall_ceiling_at, ":", color=MUTED, linewidth=1.2, label="recall, ceiling")
        axes.plot(ks, recalls[name], color=FIRST, label="recall")
        axes.plot(ks, precisions[name], color=SECOND, label="precision")
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    return _panels(comparison, "recall-precision", "Recall and precision over k", methods, panel, x="k")


def learning(comparison: Comparison) -> Chart | None:
    """Draw the loss by epoch, one panel per trained method and one line per seed. None if no method is trained."""
    methods = {name: runs for name, runs in by_method(comparison).items() if runs[0].train_loss}

    def panel(axes: Axes, _: str, runs: Sequence[MethodRun]) -> None:
        for number, run in enumerate(runs):
            epochs = range(1, len(run.train_loss) + 1)
            lowest = min(run.validation_loss)
            axes.plot(epochs, run.train_loss, color=FIRST, linewidth=1.2, label=None if number else "training")
            axes.plot(epochs, run.validation_loss, color=SECOND, linewidth=1.2, label=None if number else "validation")
            axes.plot(
                [run.validation_loss.index(lowest) + 1],
                [lowest],
                "o",
                color=SECOND,
                markersize=4,
                label=None if number else "epoch kept",
            )
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    if not methods:
        return None
    return _panels(comparison, "learning", "Loss by epoch", methods, panel, x="epoch", y="loss")


def calibration(comparison: Comparison) -> Chart:
    """Draw the share of right pairs by score, one panel per method and one line per seed."""

    def panel(axes: Axes, _: str, runs: Sequence[MethodRun]) -> None:
        axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1.2, label="perfect calibration")
        for number, run in enumerate(runs):
            axes.plot(
                [one.mean_score for one in run.reliability],
                [one.share_relevant for one in run.reliability],
                "o-",
                color=FIRST,
                markersize=3.5,
                linewidth=1.2,
                label=None if number else "share of right pairs",
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)

    methods = by_method(comparison)
    return _panels(comparison, "calibration", "Share of right pairs by score", methods, panel, x="score")


def _panels(
    comparison: Comparison,
    name: str,
    alt: str,
    methods: dict[str, list[MethodRun]],
    panel: Callable[[Axes, str, Sequence[MethodRun]], None],
    *,
    x: str,
    y: str = "",
) -> Chart:
    """Draw one panel per method, side by side.

    Args:
        comparison: the comparison.
        name: file name of the chart, without task and suffix.
        alt: what the chart shows, without the task.
        methods: the runs by method.
        panel: draws one method.
        x: label of the x axes.
        y: label of the y axes.
    """
    across = min(ACROSS, len(methods))
    down = -(-len(methods) // across)

    def draw(figure: Figure) -> None:
        places = [axes for row in figure.subplots(down, across, squeeze=False) for axes in row]
        for axes, (method, runs) in zip(places, methods.items(), strict=False):
            panel(axes, method, runs)
            axes.set_title(method)
            axes.set_xlabel(x)
            axes.set_ylabel(y)
        for axes in places[len(methods) :]:
            axes.set_visible(False)
        handles, labels = places[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))

    return _chart(comparison, name, alt, (max(WIDTH * across, 4.5), HEIGHT * down + 0.4), draw)


def _chart(
    comparison: Comparison, name: str, alt: str, size: tuple[float, float], draw: Callable[[Figure], None]
) -> Chart:
    """Name a chart after its task, and draw it. The size is in inches."""
    return chart(f"{comparison.task}-{name}", f"{alt}, {comparison.task}", size, draw)
