"""What to take away from a replay, and what it cannot say, in sentences. Pure."""

from collections.abc import Sequence

from offline_training.replay.latency import PAUSE
from offline_training.replay.prequential import POPULARITY, SERVED, Rules
from offline_training.replay.report.results import Results
from offline_training.replay.report.tables import counts, interval, lead, number
from offline_training.replay.summaries import MetricSummary

HOW_TO_READ: dict[str, str] = {
    "hit@k": "The share of targets at which one of the item's categories was among the best k.",
    "recall@k": "Of the item's categories that the bundle knows, the share among the best k. An item with more than k cannot reach 1: "
    "see the ceiling.",
    "precision@k": "Of the best k categories, the share that the item has. The textbook's precision.",
    "rounded precision@k": "Hits among the best k / scores among them above .5: what the public code of the paper's authors calls "
    "precision. It can exceed 1 and grows when a method grows less sure.",
    "NDCG@k": "How good the order of the best k is: a right category counts less the later it comes.",
    "MRR": "The mean of 1 / the rank of the first right category, 0 where none of those that a recommendation names is right.",
    "coverage@k": "The share of all categories that were among the best k at any target.",
}
"""The figures of the tables, and what each is."""


def targets_of(rules: Rules) -> str:
    """purchases; carts and purchases."""
    return " and ".join(f"{kind}s" for kind in sorted(rules.targets))


def verdict(results: Results) -> list[str]:
    """What to take away."""
    if not results.groups:
        return [f"There were no {targets_of(results.rules)} to measure at."]
    summary, rules = results.groups[0], results.rules
    hit = f"hit@{rules.k}"
    low, high = summary.intervals[SERVED][hit]
    first = (
        f"Before {summary.figures[SERVED][hit]:.1%} of {summary.targets:,} {targets_of(rules)} one of the item's categories was among "
        f"the first {rules.k} of the recommendation that was there (95 % interval {low:.1%} to {high:.1%})."
    )
    return [first, *leads(summary, rules)]


def leads(summary: MetricSummary, rules: Rules) -> list[str]:
    """A sentence for each pair: by which figures it is ahead, behind, or not to be told apart."""
    return [
        _lead(summary, place, (f"hit@{rules.k}", f"recall@{rules.k}", "MRR"))
        for place in range(len(summary.differences))
    ]


def _lead(summary: MetricSummary, place: int, figures: Sequence[str]) -> str:
    said: dict[str, list[str]] = {}
    for figure in figures:
        value, ends = lead(summary, place, figure)
        if ends is None:
            said.setdefault("without an interval, which takes the targets of both,", []).append(
                f"{figure} {number(value, sign=True)}"
            )
            continue
        word = "ahead" if ends.low > 0 else "behind" if ends.high < 0 else "not to be told apart"
        if not (value or ends.low or ends.high):
            word = "the same"
        said.setdefault(word, []).append(f"{figure} {number(value, sign=True)} {interval(ends)}")
    pair = summary.differences[place]
    one = {SERVED: "What was recommended"}.get(pair.one, pair.one)
    other = {POPULARITY: "what was popular so far"}.get(pair.other, pair.other)
    parts = [f"{word} by {', '.join(found)}" for word, found in said.items()]
    return f"{one} against {other}: {'; '.join(parts)}."


def unsaid(results: Results) -> list[str]:
    """What a reader could take the figures for, and they are not."""
    played, rules = results.played, results.rules
    said = [
        "The users never saw these recommendations. The figures say what was known before they chose, not what they would have chosen "
        "with it before their eyes.",
        "A right category is no right item, and a category counts as wrong when the item does not have it, even if the user would have "
        "liked it.",
        "Intervals are over the choice of users. They say nothing of another season, of another catalogue, or of a training with "
        "another seed.",
    ]
    if played["left_out"]:
        said.append(
            f"Events that could not be played: {counts(played['left_out'])}. They are in no bag and in no figure."
        )
    if played.get("left_out_before"):
        said.append(
            f"What the data set was made from held more: {counts(played['left_out_before'])} were left out of it."
        )
    if played["without_recommendation"]:
        said.append(
            f"{sum(played['without_recommendation'].values()):,} of {played['events']:,} events caused no recommendation "
            f"({counts(played['without_recommendation'])}). They changed no bag; as targets they count, with the recommendation before."
        )
    if results.without_known_category:
        said.append(
            f"Other {targets_of(rules)} are no targets, since the bundle knows none of the item's categories: "
            f"{results.without_known_category:,}. Nothing could have been right there."
        )
    cold = sum(group.targets for group in results.groups if (group.kind, group.name) == ("start", "cold"))
    if cold:
        said.append(
            f"At {cold:,} of {results.groups[0].targets:,} targets the user had no bag yet, and was answered by the bundle's "
            "prior: that part is no work of the pictures."
        )
    if results.whole_days:
        said.append(
            "Times are whole days: what was bought first on a day is not known, and no event of a day answers for another one of it."
        )
    if results.latency:
        speed, rate = results.options["speed"], results.options["rate"]
        pace = (
            f"at {speed:g} times the clock"
            if speed
            else f"at {rate:g} events a second"
            if rate
            else "as fast as answers came"
        )
        said.append(
            f"Latency is that of a stream produced {pace}, with up to {results.options['lead']:,} events on their way, on the "
            f"machines that it ran on. Pauses of more than {PAUSE:.0f} s are left out of its course."
        )
        if not results.latency_over_time:
            said.append("When each answer came was not kept, so that the course of the latency is not known.")
    if results.check is None:
        said.append("Nobody looked whether the workers said what the events alone say: --check does.")
    if results.beside:
        said.append(
            f"{', '.join(results.beside)}: computed from the events, by the same fold and without the workers, so that there is "
            "no latency to tell."
        )
    return said
