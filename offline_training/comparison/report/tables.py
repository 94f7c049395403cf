"""The tables of a comparison, as text cells."""

from collections.abc import Sequence

from model.field_metrics import Paired
from offline_training.comparison.results import Comparison, Lead, MethodRun, best, by_method, spread
from offline_training.report import sentences
from offline_training.report.parts import Table

KS = (5, 10, 15, 20)
"""The k of the paper's tables."""

COLUMNS: dict[str, str] = {
    "recall@5": "Share of a user's labels that are among the best 5. A user with more than 5 labels cannot reach 1: see the ceiling.",
    "precision@5": "Share of the best 5 labels that the user has (the textbook's precision).",
    "recall@20": "Share of a user's labels that are among the best 20.",
    "micro F1": "Harmonic mean of precision and recall over all pairs of user and label. A label counts as predicted when its score "
    "reaches the threshold that is best on validation users.",
    "best micro F1": "Micro F1 with the threshold that is best for the held-out users themselves: an upper bound, not a result.",
    "macro F1": "Mean of the F1 of each label: rare labels weigh as much as frequent ones.",
    "MAP": "Mean average precision: the quality of the whole ranking. It is 1 when all labels of each user come first.",
    "calibration error": "Mean distance between a score and the share of right pairs at that score; 0 at best.",
}
"""The columns of the table of all methods, with their descriptions."""

OF_PURCHASES: dict[str, str] = {
    "macro hit@1": "Share of purchases whose category is the best one of its field, averaged over the fields of each purchase.",
    "macro hit@3": "Share of purchases whose category is among the best 3 of its field, averaged over the fields of each purchase.",
    "macro hit@3, not owned": "The same, of the purchases of items that are not in the bag.",
    "NDCG@5, fine fields": "Quality of the best 5 categories of the fields with most categories: 1 when the right one comes first, "
    "1 / log2(1 + rank) when it comes later, 0 below the fifth.",
    "bits": "Surprise at the category of a field: -log2 of its probability. One bit less is a probability twice as high.",
    "recall@5": "Share of the categories of a purchase that are among the best 5 of all fields together.",
    "recall@10": "Share of the categories of a purchase that are among the best 10 of all fields together.",
    "calibration error": "How far the share of hits of the best category of a field is from its probability; 0 at best.",
}
"""The columns of the table of all methods for the task purchases."""

LOW = {"bits", "calibration error"}  # the lower the better
AT_BEST = "at best"
TREND = "the 28-day trend"

MORE_COLUMNS: dict[str, str] = {
    "95 % interval": "Interval of that figure over the choice of users (bootstrap; both ends are means over seeds). ± is the effect of "
    "the seed.",
    "lead over the 28-day trend": "How much higher the macro hit@3 is than that of the 28-day trend at the same purchases.",
    "lead of the best": "How much higher the micro F1 of the best method is. Both methods are measured on the same users, so the 95 % "
    "interval of the lead is much narrower than the methods' own intervals suggest. Use it to decide which method is better.",
    "rounded precision": "Hits among the best k, divided by the scores among the best k that round to 1. The public code of the "
    "paper's authors calls this precision. It can exceed 1, and it rises when a method becomes less certain: compare it only with "
    "the paper's own figures.",
}
"""The columns of the other tables, with their descriptions."""


def described(comparison: Comparison) -> dict[str, str]:
    """Return the columns of the table of all methods, with their descriptions. With fewer than 20 labels there is no recall@20."""
    every = OF_PURCHASES if comparison.trend_leads else COLUMNS
    return {figure: text for figure, text in every.items() if figure in comparison.runs[0].figures}


def columns(comparison: Comparison) -> list[str]:
    """Return the figures that the tables show."""
    return list(described(comparison))


def figures_table(comparison: Comparison) -> Table:
    """Build a table with one row per method: means over seeds, and their spread if there are several. The last row is the ceiling."""
    shown = columns(comparison)
    rows = [[name, *(_shown(runs, figure) for figure in shown)] for name, runs in by_method(comparison).items()]
    ceilings = [comparison.ceilings.get(figure, 0 if figure in LOW else 1) for figure in shown]
    rows.append([AT_BEST, *(f"{ceiling:.4f}" for ceiling in ceilings)])
    return Table(["method", *shown], rows, best(comparison))


def intervals_table(comparison: Comparison) -> Table:
    """Build a table with one row per method: the figure that counts, its interval, and a lead.

    The lead is that of the best method over this one; in the task purchases, that of this one over the 28-day trend.
    """
    figure, leads = comparison.figure, comparison.trend_leads or comparison.leads
    rows = [
        [
            name,
            _shown(runs, figure),
            " to ".join(f"{spread(runs, f'{figure} {end}')[0]:.4f}" for end in ("low", "high")),
            f"{lead.difference:+.4f}" if (lead := leads.get(name)) else "",
            f"{lead.low:.4f} to {lead.high:.4f}" if lead else "",
        ]
        for name, runs in by_method(comparison).items()
    ]
    of = "lead over the 28-day trend" if comparison.trend_leads else "lead of the best"
    return Table(["method", figure, "95 % interval", of, "95 % interval of the lead"], rows, best(comparison))


def fields_table(comparison: Comparison, figure: str) -> Table:
    """Build a table of one figure of each field, such as `hit@3`, with one row per method."""
    end = f": {figure}"
    shown = [name for name in comparison.runs[0].figures if name.endswith(end)]
    rows = [[name, *(_shown(runs, field) for field in shown)] for name, runs in by_method(comparison).items()]
    return Table(["method", *shown], rows, best(comparison))


def paper_table(comparison: Comparison, precision: str) -> Table:
    """Build a table in the paper's form: one row per k, one column per method, recall / precision in each cell.

    Args:
        comparison: the comparison.
        precision: `precision` or `rounded precision`.
    """
    methods = by_method(comparison)
    rows = [
        [
            str(k),
            *(
                f"{spread(runs, f'recall@{k}')[0]:.4f} / {spread(runs, f'{precision}@{k}')[0]:.4f}"
                for runs in methods.values()
            ),
        ]
        for k in KS
        if k <= comparison.labels
    ]
    return Table(["k", *methods], rows)


def cost_table(comparison: Comparison) -> Table:
    """Build a table with one row per network: time of its calls, bytes of state, and mean training time."""
    methods = by_method(comparison)
    rows = [
        [
            name,
            f"{cost.batch_ms:.2f}",
            f"{cost.one_ms:.3f}",
            f"{cost.state_bytes:,}",
            f"{sum(run.seconds for run in methods[name]) / len(methods[name]):.1f}",
        ]
        for name, cost in comparison.costs.items()
    ]
    header = ["method", "64 users, ms", "one user, ms", "bytes per item", "training, s"]
    return Table(header, rows, best(comparison))


def verdict(comparison: Comparison) -> list[str]:
    """Summarize the comparison in a few sentences."""
    name, methods = best(comparison), by_method(comparison)
    if name is None:
        return ["This comparison has no trained method, only baselines.", *remarks(comparison)]
    found, figure = methods[name], comparison.figure
    reached, low, high = (spread(found, f"{figure}{end}")[0] for end in ("", " low", " high"))
    first = next(iter(comparison.ceilings), None)  # None with fewer labels than the smallest k
    of_most = (
        f", and its {first} is {spread(found, first)[0]:.3f} of at most {comparison.ceilings[first]:.3f}"
        if first
        else ""
    )
    sentences_of = [
        f"{name} is the best trained method by {figure} on validation users. On held-out users its {figure} is {reached:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f}){of_most}."
    ]
    if lead := comparison.trend_leads.get(name):
        return [*sentences_of, f"{sentences.lead(name, TREND, figure, _paired(lead))}.", *remarks(comparison)]
    baselines = [other for other in comparison.leads if not methods[other][0].train_loss or other == "average"]
    leads = [f"{sentences.lead(name, other, 'micro F1', _paired(comparison.leads[other]))}." for other in baselines]
    return [*sentences_of, *leads, *remarks(comparison)]


def remarks(comparison: Comparison) -> list[str]:
    """Say what a reader of the figures must know: that they are over folds, and which trainings were too short."""
    short = [name for name, runs in by_method(comparison).items() if not all(run.converged for run in runs)]
    found: list[str] = []
    if comparison.folds > 1:
        found.append(
            f"There are few users. So each method was trained {comparison.folds} times, each time without another part of the "
            f"users, and the figures are over the {comparison.users['test']:,} held-out users of all parts."
        )
    if short:
        found.append(sentences.unfinished(", ".join(short)))
    return found


def _paired(lead: Lead) -> Paired:
    return Paired(lead.difference, lead.low, lead.high)


def _shown(runs: Sequence[MethodRun], figure: str) -> str:
    """Format a mean over seeds, with ± half the distance between the lowest and the highest if there are several."""
    mean, half = spread(runs, figure)
    return f"{mean:.4f}" + (f" ± {half:.4f}" if len(runs) > 1 else "")
