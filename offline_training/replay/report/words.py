"""The conclusions of a replay, and what its figures cannot show, in sentences. Pure."""

from collections.abc import Sequence

from model.metrics import Interval
from offline_training.replay.answers.latency import PAUSE
from offline_training.replay.evaluation.baselines import MONTH, POPULARITY, WEEK
from offline_training.replay.evaluation.field_summaries import FieldLead
from offline_training.replay.evaluation.fields import MACRO3
from offline_training.replay.evaluation.prequential import SERVED, Rules
from offline_training.replay.evaluation.results import ReplayResults
from offline_training.replay.evaluation.summaries import MetricSummary
from offline_training.replay.report.tables import counts, interval, lead, number

HOW_TO_READ: dict[str, str] = {
    "hit@k": "Share of targets at which one of the item's categories was among the best k.",
    "recall@k": "Share of the item's categories, of those that the bundle knows, that are among the best k. It cannot reach 1 for an "
    "item with more than k categories: see the ceiling.",
    "precision@k": "Share of the best k categories that the item has. The textbook definition.",
    "NDCG@k": "Quality of the order of the best k: a right category counts less the lower its rank.",
    "MRR": "Mean of 1 / the rank of the first right category; 0 if no listed category is right.",
    "coverage@k": "Share of all categories that were among the best k at any target.",
}
"""What each figure in the tables means."""

HOW_TO_READ_PAPER = {
    "rounded precision@k": "Hits among the best k / scores among them above .5: what the public code of the paper's authors calls "
    "precision. It can exceed 1, and it rises when a method is less certain.",
}
"""What the figure of `--paper` means."""

HOW_TO_READ_FIELDS: dict[str, str] = {
    "fields": "Categories that exclude each other, such as the colours or the departments. An item has one value of each.",
    "hit@1 of F, hit@3 of F": "Share of targets at which the item's value of the field F was the best, or among the best three, of "
    "that field. A value that the recommendation does not name counts as wrong.",
    "macro hit@1, macro hit@3": "The same for all fields of the item, averaged over them. It says more than hit@k: a list of the most "
    "frequent values of one field has a high hit@k.",
    "NDCG@5 of fine fields": "Quality of the order of the best five of a field, averaged over the fine fields: the third of the fields "
    "with the most values, at least one.",
    "bits": "Surprise at the item's value: -log2 of its probability, averaged over the fields of the item. Fewer are better. A "
    "recommendation names the best three values of a field with their probabilities; what is left is spread over the others in "
    "proportion to the bundle's prior.",
    "28-day trend, 7-day trend": "The categories of the items that all users in the stream took in the last days before the day of the "
    "target. It says as much as a recommendation: as many categories, and as many values of each field. The 28-day trend is the "
    "baseline that every shop has.",
}
"""What each figure by field means."""


def trend_verdict(lead: FieldLead | None, who: str = "The recommendations are") -> str:
    """Say whether a method is ahead of the 28-day trend, and whether that is more than chance.

    Args:
        lead: in macro hit@3; None: not measured.
        who: the method, with its verb.
    """
    if lead is None:
        return f"{who} not compared with the {MONTH}: no target has a value of a field."
    found = lead.paired
    difference, *ends = found.distance
    word = "is" if found.more_than_chance else "is not"
    return (
        f"{who} {found.side} the {MONTH} by {number(difference)} {interval(Interval(*ends))} in {MACRO3}, "
        f"which {word} more than chance."
    )


def by_trend(results: ReplayResults) -> str:
    """The verdict on a run in one sentence."""
    return trend_verdict(results.fields[0].verdict(SERVED) if results.fields else None)


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
    pairs = zip(summary.differences, leads(summary, rules), strict=True)
    # The other baselines are in the tables: the verdict is about the one that every shop has, and about other bundles.
    told = [sentence for pair, sentence in pairs if pair.other not in {WEEK, POPULARITY}]
    return [by_trend(results), *seen_warning(results), first, *told]


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
    other = {WEEK: f"the {WEEK}", MONTH: f"the {MONTH}"}.get(pair.other, pair.other)
    parts = [f"{word} in {', '.join(found)}" for word, found in by_outcome.items()]
    return f"{one} against {other}: {'; '.join(parts)}."


def _learnt_sentence(results: ReplayResults, method: str) -> str:
    one = results.learnt[method]
    bundle = results.bundle if method == SERVED else results.beside[method]
    if one is None:
        return f"The manifest of {bundle} does not say what it learnt from: it may know these users and events, and be too good here."
    parts = [
        f"{known:,} of {compared:,} {what} that were compared"
        for what, known, compared in (
            ("users", one.known_users, one.compared_users),
            ("events", one.known_events, one.compared_events),
        )
    ]
    if one.known_users or one.known_events:
        return f"{bundle} has learnt from {' and '.join(parts)}: its figures are too high for users and events that it has not seen."
    return f"{bundle} has learnt from none of these users and events: {' and '.join(parts)}."


def seen_warning(results: ReplayResults) -> list[str]:
    """Name the bundles that have learnt from the users or events that were played."""
    return [
        _learnt_sentence(results, method)
        for method, one in results.learnt.items()
        if one is not None and (one.known_users or one.known_events)
    ]


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
    sentences += [_learnt_sentence(results, method) for method in results.learnt]
    if results.derived:
        sentences.append(
            f"{', '.join(results.derived)}: figures by field are derived from the list of the best categories, because the messages "
            "name no values of fields. A value that the list does not have counts as wrong: figures can be too low. Bits are unknown."
        )
    if results.selection["users"] < 1:
        sentences.append(
            "Popularity and the trends are those of the users that were played, not of all users of the data set."
        )
    if results.beside:
        sentences.append(
            f"{', '.join(results.beside)}: computed from the events with the same fold, without the workers, and so without a "
            "latency."
        )
    return sentences
