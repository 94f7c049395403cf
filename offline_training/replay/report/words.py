"""The conclusions of a replay, and what its figures cannot show, in sentences. Pure."""

from collections.abc import Sequence

from offline_training.replay.answers.latency import PAUSE
from offline_training.replay.evaluation.prequential import POPULARITY, SERVED, Rules
from offline_training.replay.evaluation.results import ReplayResults
from offline_training.replay.evaluation.summaries import MetricSummary
from offline_training.replay.report.tables import counts, interval, lead, number

HOW_TO_READ: dict[str, str] = {
    "hit@k": "Share of targets at which one of the item's categories was among the best k.",
    "recall@k": "Share of the item's categories, of those that the bundle knows, that are among the best k. It cannot reach 1 for an "
    "item with more than k categories: see the ceiling.",
    "precision@k": "Share of the best k categories that the item has. The textbook definition.",
    "rounded precision@k": "Hits among the best k / scores among them above .5: what the public code of the paper's authors calls "
    "precision. It can exceed 1, and it rises when a method is less certain.",
    "NDCG@k": "Quality of the order of the best k: a right category counts less the lower its rank.",
    "MRR": "Mean of 1 / the rank of the first right category; 0 if no listed category is right.",
    "coverage@k": "Share of all categories that were among the best k at any target.",
}
"""What each figure in the tables means."""


def targets_of(rules: Rules) -> str:
    """The target types in the plural, such as carts and purchases."""
    return " and ".join(f"{kind}s" for kind in sorted(rules.targets))


def verdict(results: ReplayResults) -> list[str]:
    """Summarise the results."""
    if not results.groups:
        return [f"There are no targets: no {targets_of(results.rules)} of items with a known category."]
    summary, rules = results.groups[0], results.rules
    hit = f"hit@{rules.k}"
    low, high = summary.intervals[SERVED][hit]
    first = (
        f"At {summary.figures[SERVED][hit]:.1%} of {summary.targets:,} {targets_of(rules)}, one of the item's categories was among "
        f"the best {rules.k} of the recommendation that the user had before (95 % interval {low:.1%} to {high:.1%})."
    )
    return [first, *leads(summary, rules)]


def leads(summary: MetricSummary, rules: Rules) -> list[str]:
    """Write a sentence for each pair of methods: in which figures it is ahead, behind, or not significantly different."""
    return [
        _lead_sentence(summary, place, (f"hit@{rules.k}", f"recall@{rules.k}", "MRR"))
        for place in range(len(summary.differences))
    ]


def _lead_sentence(summary: MetricSummary, place: int, figures: Sequence[str]) -> str:
    by_outcome: dict[str, list[str]] = {}
    for figure in figures:
        value, ends = lead(summary, place, figure)
        if ends is None:
            by_outcome.setdefault("without an interval, which needs the targets of both,", []).append(
                f"{figure} {number(value, sign=True)}"
            )
            continue
        word = "ahead" if ends.low > 0 else "behind" if ends.high < 0 else "not significantly different"
        if not (value or ends.low or ends.high):
            word = "equal"
        by_outcome.setdefault(word, []).append(f"{figure} {number(value, sign=True)} {interval(ends)}")
    pair = summary.differences[place]
    one = {SERVED: "The recommendations"}.get(pair.one, pair.one)
    other = {POPULARITY: "popularity"}.get(pair.other, pair.other)
    parts = [f"{word} in {', '.join(found)}" for word, found in by_outcome.items()]
    return f"{one} against {other}: {'; '.join(parts)}."


def limits(results: ReplayResults) -> list[str]:
    """List what the figures cannot show."""
    played, rules = results.played, results.rules
    sentences = [
        "The users never saw these recommendations. The figures show how well choices were predicted, not how the recommendations "
        "would have changed them.",
        "A right category is not the right item. A category that the item does not have counts as wrong, even if the user would "
        "have liked it.",
        "Intervals are over users. They do not cover another season, another catalogue, or training with another seed.",
    ]
    if played["left_out"]:
        sentences.append(
            f"Events that could not be played: {counts(played['left_out'])}. They are in no bag and in no figure."
        )
    if played.get("left_out_before"):
        sentences.append(
            f"Records that were left out when the data set was prepared: {counts(played['left_out_before'])}."
        )
    if played["without_recommendation"]:
        sentences.append(
            f"{sum(played['without_recommendation'].values()):,} of {played['events']:,} events caused no recommendation "
            f"({counts(played['without_recommendation'])}). They changed no bag. As targets "
            "they count, with an earlier recommendation."
        )
    if results.without_known_category:
        sentences.append(
            f"{results.without_known_category:,} more {targets_of(rules)} are no targets, because the bundle knows no category of "
            "the item: no recommendation could be right there."
        )
    cold = sum(group.targets for group in results.groups if (group.kind, group.name) == ("start", "cold"))
    if cold:
        sentences.append(
            f"At {cold:,} of {results.groups[0].targets:,} targets the user had no bag yet and got the bundle's "
            "prior, which does not depend on pictures."
        )
    if results.whole_days:
        sentences.append(
            "Times are whole days: the order within a day is unknown, and no event counts for another one of the same day."
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
        sentences.append(
            f"Latency is that of events sent {pace}, with up to {results.options['lead']:,} unanswered, on the "
            f"machines of this run. Its course leaves out pauses of more than {PAUSE:.0f} s."
        )
        if not results.latency_over_time:
            sentences.append("The times of the answers were not stored, so the course of the latency is unknown.")
    if results.check is None:
        sentences.append(
            "The answers of the workers were not compared with those computed from the events: use --check."
        )
    if results.beside:
        sentences.append(
            f"{', '.join(results.beside)}: computed from the events with the same fold, without the workers, and so without a "
            "latency."
        )
    return sentences
