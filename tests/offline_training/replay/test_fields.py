"""Figures by field, and the trends that every recommendation is compared with."""

import random
from collections import Counter
from collections.abc import Sequence
from math import log2

import numpy as np
import pytest

from model.bundle.manifest import Field
from offline_training.replay.answers.table import Answers
from offline_training.replay.evaluation.baselines import MONTH, POPULARITY, WEEK
from offline_training.replay.evaluation.evaluate import same_by_field
from offline_training.replay.evaluation.field_summaries import ALL, NEW, FieldLead, field_summaries
from offline_training.replay.evaluation.fields import BITS, FINE, MACRO1, MACRO3, fields_for
from offline_training.replay.evaluation.prequential import SERVED, MeasuredTargets, MethodAnswers, Rules, measure
from offline_training.replay.play.event_answer import EventAnswer
from offline_training.replay.play.events import PlayedEvent
from offline_training.replay.report.words import trend_verdict
from tests.offline_training.replay.test_prequential import stream

DAY = 86_400_000
COLOUR, KIND = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11]
FIELDS = [Field("colour", COLOUR), Field("kind", KIND)]
PRIOR = np.array([0.4, 0.3, 0.1, 0.1, 0.1, 0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02], np.float32)
RULES = Rules(ks=(1, 2))


def answers_of(count: int, top: int = 2, **of: tuple[list[int], list[tuple[int, float]]]) -> Answers:
    """Make answers by place, such as p3=(categories, values): the list, and the values of the fields with their probabilities."""
    answers = Answers(count, top)
    for name, (categories, values) in of.items():
        scores = [(category, 0.9 - 0.1 * rank) for rank, category in enumerate(categories)]
        answers.add(EventAnswer(int(name[1:]), 1, False, scores, 1.0, values=values))
    return answers


def found_of(
    events: Sequence[PlayedEvent],
    answers: Answers,
    labels: dict[str, list[int]],
    rules: Rules = RULES,
    fields: Sequence[Field] = FIELDS,
) -> MeasuredTargets:
    activity = Counter(event.user for event in events)
    methods = {SERVED: MethodAnswers(answers, PRIOR)}
    return measure(events, methods, labels, activity=activity, rules=rules, fields=fields)


def column(found: MeasuredTargets, figure: str, method: str = SERVED) -> list[float]:
    place = found.by_field.figures.index(figure)
    return [round(float(value), 4) for value in found.by_field.rows[method][:, place]]


VALUES = [(1, 0.5), (0, 0.3), (2, 0.1), (6, 0.6), (5, 0.2), (8, 0.1)]
"""Of both fields, three each, best first. A tenth is left of each field."""


def test_the_values_that_a_message_names_are_ranked_in_their_field() -> None:
    events = stream(
        ("ada", "a", "view", 0), ("ada", "a", "purchase", 9), ("ada", "b", "purchase", 9), ("ada", "c", "purchase", 9)
    )
    labels = {"a": [1, 8], "b": [3, 6], "c": [0]}
    found = found_of(events, answers_of(4, p0=([1, 6], VALUES)), labels)
    assert found.by_field.derived == []
    assert column(found, "hit@1 of colour") == [1, 0, 0]
    assert column(found, "hit@3 of colour") == [1, 0, 1]
    assert column(found, "hit@3 of kind")[:2] == [1, 1]
    assert np.isnan(column(found, "hit@3 of kind")[2]), "c has no kind, so it says nothing about it"
    assert column(found, MACRO1) == [0.5, 0.5, 0]
    assert column(found, MACRO3) == [1, 0.5, 1], "the mean over the fields that the item has"
    assert found.by_field.fine == ["kind"], "the third of the fields with the most values, at least one"
    assert column(found, FINE)[:2] == [round(1 / log2(4), 4), 1]


def test_bits_are_of_the_named_probability_and_the_rest_is_spread_by_the_prior() -> None:
    events = stream(("ada", "a", "view", 0), ("ada", "a", "purchase", 9), ("ada", "b", "purchase", 9))
    labels = {"a": [1, 6], "b": [3, 11]}
    found = found_of(events, answers_of(3, p0=([1, 6], VALUES)), labels)
    named = -(log2(0.5) + log2(0.6)) / 2
    # Of the colours, 3 and 4 are left, alike in the prior. Of the kinds 7, 9, 10 and 11, whose priors are .1, .05, .03, .02.
    spread = -(log2(0.1 * 0.5) + log2(0.1 * 0.02 / 0.2)) / 2
    assert column(found, BITS) == pytest.approx([named, spread], abs=1e-3)


def test_a_list_without_values_of_fields_is_derived_from_and_tells_no_bits() -> None:
    events = stream(("ada", "a", "view", 0), ("ada", "a", "purchase", 9), ("ada", "b", "purchase", 9))
    found = found_of(events, answers_of(3, top=3, p0=([6, 1, 5], [])), {"a": [1, 5], "b": [0, 7]})
    assert found.by_field.derived == [SERVED, POPULARITY, WEEK, MONTH]
    assert column(found, "hit@1 of colour") == [1, 0]
    assert column(found, "hit@3 of kind") == [1, 0], "a value that the list does not have counts as wrong"
    assert np.isnan(column(found, BITS)).all()
    assert np.isnan(column(found, BITS, MONTH)).all(), "a baseline says as much as a recommendation"
    [summary] = field_summaries(found)
    assert BITS not in summary.figures[SERVED] and BITS not in summary.counts


def test_the_list_continues_the_values_of_a_field() -> None:
    events = stream(("ada", "a", "view", 0), ("ada", "a", "purchase", 9))
    answers = answers_of(2, top=5, p0=([6, 5, 8, 7, 1], VALUES))
    found = found_of(events, answers, {"a": [7]})
    assert column(found, "hit@3 of kind") == [0]
    assert column(found, FINE) == [round(1 / log2(5), 4)], "fourth of its field, by the list"


def test_without_a_message_the_prior_says_as_much_as_one() -> None:
    events = stream(("ada", "a", "view", 0), ("bob", "a", "purchase", 9))
    found = found_of(events, answers_of(2, p0=([1, 6], VALUES)), {"a": [1, 11]})
    assert column(found, "hit@3 of colour") == [1]
    assert column(found, "hit@3 of kind") == [0]
    assert column(found, BITS) == pytest.approx([-(log2(0.3) + log2(0.02)) / 2], abs=1e-3)


def test_without_fields_all_categories_are_one() -> None:
    labels = {"a": [1, 8], "b": [1]}
    assert fields_for([], [f"label {n}" for n in range(12)], labels) == [], "an item has two of them"
    events = stream(("ada", "a", "view", 0), ("ada", "a", "purchase", 9))
    found = found_of(events, answers_of(2, p0=([2, 8], [])), labels, fields=[])
    assert column(found, MACRO1) == [0]
    assert column(found, MACRO3) == [1]


def test_fields_are_those_of_the_bundle_or_of_the_labels() -> None:
    names = ["colour > red", "colour > blue", "kind > hat", "kind > tie", "new"]
    assert fields_for(FIELDS, names, {"a": [number for field in FIELDS for number in field.categories[:1]]}) == FIELDS
    assert fields_for(FIELDS[:1], names, {"a": FIELDS[0].categories[:1]}) == FIELDS[:1]
    assert fields_for([Field("kind", [4])], names, {"a": [0, 2], "b": [1, 3]}) != [Field("kind", [4])], (
        "no item has one"
    )
    assert fields_for([], names, {"a": [0, 2], "b": [1, 4]}) == [Field("colour", [0, 1]), Field("kind", [2, 3])]
    assert fields_for([], names, {"a": [0, 1], "b": [2]}) == [Field("kind", [2, 3])], "a value excludes the others"


def test_targets_of_other_users_count_for_the_trend_alone() -> None:
    events = stream(*((f"u{n}", "b", "purchase", n) for n in range(50)), ("eve", "b", "purchase", 2 * DAY))
    methods = {SERVED: MethodAnswers(answers_of(51, p0=([1, 6], VALUES)), PRIOR)}
    labels, activity = {"b": [4, 11]}, Counter(event.user for event in events)
    every = measure(events, methods, labels, activity=activity, rules=RULES, fields=FIELDS)
    found = measure(events, methods, labels, activity=activity, rules=RULES, fields=FIELDS, at={"eve"})
    assert found.names == ["eve"]
    assert column(found, MACRO1, MONTH) == column(every, MACRO1, MONTH)[-1:] == [1]


@pytest.mark.parametrize("delay", [0, 3 * DAY])
def test_the_trends_are_those_of_a_naive_search_through_all_earlier_days(delay: int) -> None:
    chance = random.Random(1)
    times = sorted(chance.randrange(100 * DAY) for _ in range(1200))
    events = stream(*((f"user-{chance.randrange(9)}", f"item-{chance.randrange(30)}", "purchase", t) for t in times))
    labels = {f"item-{n}": [chance.choice(COLOUR), chance.choice(KIND)] for n in range(30)}
    found = found_of(events, answers_of(len(events), p0=([1, 6], VALUES)), labels, Rules(ks=(1, 2), delay=delay))
    drift: dict[str, list[float]] = {WEEK: [], MONTH: []}
    taken = np.zeros((len(events), 12))
    for event in events:
        taken[event.place, labels[event.item]] = 1
    days = np.array([event.time // DAY for event in events])
    prior = np.concatenate([PRIOR[COLOUR] / PRIOR[COLOUR].sum(), PRIOR[KIND] / PRIOR[KIND].sum()])
    for event in events:
        today = (event.time - delay) // DAY
        ever = taken[days < today].sum(0) + 5 * prior
        ever = np.concatenate([ever[COLOUR] / ever[COLOUR].sum(), ever[KIND] / ever[KIND].sum()])
        for name, length in ((WEEK, 7), (MONTH, 28)):
            recent = taken[(days < today) & (days >= today - length)].sum(0) + 50 * ever
            hits = [
                wanted in sorted(field, key=lambda value: (-recent[value], value))[:3]
                for wanted, field in zip(labels[event.item], (COLOUR, KIND), strict=True)
            ]
            drift[name].append(float(np.mean(hits)))
    for name in (WEEK, MONTH):
        assert column(found, MACRO3, name) == drift[name], name
    assert drift[WEEK] != drift[MONTH]


def test_a_day_does_not_see_itself() -> None:
    noon = DAY // 2
    events = stream(
        ("ada", "a", "purchase", 0), ("bob", "b", "purchase", noon),
        *((f"u{n}", "b", "purchase", 40 * DAY) for n in range(200)), ("eve", "b", "purchase", 41 * DAY),
    )  # fmt: skip
    found = found_of(events, answers_of(len(events), p0=([1, 6], VALUES)), {"a": [0, 5], "b": [4, 11]})
    for name in (WEEK, MONTH):
        hits = column(found, "hit@1 of colour", name)
        assert hits[1] == 0, "the purchase of the same day is not known"
        assert hits[2:-1] == [0.0] * 200, "however many others bought it on that day"
        assert hits[-1] == 1


def test_an_item_is_owned_after_a_purchase_of_an_earlier_time_and_until_its_return() -> None:
    events = stream(
        ("ada", "a", "view", 1), ("ada", "a", "purchase", 2), ("ada", "a", "purchase", 2), ("ada", "a", "purchase", 3),
        ("bob", "a", "purchase", 3), ("ada", "a", "return", 4), ("ada", "a", "purchase", 5), ("ada", "b", "purchase", 6),
    )  # fmt: skip
    found = found_of(events, answers_of(len(events), p0=([1, 6], VALUES)), {"a": [1, 6], "b": [0, 5]})
    assert found.owned.tolist() == [False, False, True, False, False, False]
    everything, new = field_summaries(found)
    assert (everything.name, everything.targets, new.name, new.targets) == (ALL, 6, NEW, 5)
    assert everything.figures[SERVED][MACRO1] == pytest.approx(np.mean(column(found, MACRO1)))
    assert new.figures[SERVED][MACRO1] == pytest.approx(np.mean(np.array(column(found, MACRO1))[~found.owned]))


def test_a_lead_over_the_trend_is_paired_and_its_interval_is_over_users() -> None:
    chance = random.Random(2)
    rows = [(f"user-{n % 30}", f"item-{chance.randrange(6)}", "purchase", n * DAY // 4) for n in range(600)]
    labels = {f"item-{n}": [n % 5, 5 + n] for n in range(6)}
    events = stream(*rows)
    right = {}
    for place in range(570):  # what the same user buys next
        colour, kind = labels[rows[place + 30][1]]
        right[f"p{place}"] = ([0], [(colour, 0.9), (0, 0.05), (kind, 0.9), (5, 0.05)])
    found = found_of(events, answers_of(600, **right), labels)
    [summary, _] = field_summaries(found)
    lead = summary.leads[SERVED][MACRO3]
    means = {name: summary.figures[name][MACRO3] for name in (SERVED, MONTH)}
    assert lead.difference == pytest.approx(means[SERVED] - means[MONTH])
    assert 0 < lead.low < lead.difference < lead.high
    assert summary.leads[SERVED][BITS].high < 0, "fewer bits"
    assert set(summary.leads) == {SERVED, POPULARITY, WEEK}
    assert "ahead of the 28-day trend by" in trend_verdict(lead)


@pytest.mark.parametrize(
    ("lead", "said"),
    [
        (
            FieldLead(0.05, 0.038, 0.062),
            "are ahead of the 28-day trend by .050 [.038, .062] in macro hit@3, which is more",
        ),
        (
            FieldLead(0.004, -0.01, 0.02),
            "are ahead of the 28-day trend by .004 [-.010, .020] in macro hit@3, which is not more",
        ),
        (
            FieldLead(-0.05, -0.07, -0.03),
            "are behind the 28-day trend by .050 [.030, .070] in macro hit@3, which is more",
        ),
        (
            FieldLead(-0.01, -0.03, 0.01),
            "are behind the 28-day trend by .010 [-.010, .030] in macro hit@3, which is not more",
        ),
    ],
)
def test_the_verdict_is_one_sentence(lead: FieldLead, said: str) -> None:
    assert trend_verdict(lead) == f"The recommendations {said} than chance."


def test_without_a_target_there_is_no_verdict() -> None:
    assert trend_verdict(None) == (
        "The recommendations are not compared with the 28-day trend: no target has a value of a field."
    )


def test_a_field_of_which_a_message_tells_nothing_has_no_bits() -> None:
    """A bundle can have fields that the items of a data set know nothing of."""
    events = stream(("ada", "a", "view", 0), ("ada", "b", "purchase", 9))
    labels = {"b": [4, 11]}
    of_other = found_of(events, answers_of(2, p0=([4, 11], [(9, 0.5)])), labels, fields=FIELDS[:1])
    assert np.isnan(column(of_other, BITS)).all()


def test_figures_are_the_same_although_rounded_scores_leave_another_rest() -> None:
    events = stream(("ada", "a", "view", 0), ("ada", "b", "purchase", 9))

    def with_share(share: float) -> MeasuredTargets:
        answers = answers_of(2, p0=([1, 0], [(1, share), (0, 0.3), (2, 0.1)]))
        return found_of(events, answers, {"b": [4]}, fields=FIELDS[:1])

    one, other, third = (with_share(share) for share in (0.599998, 0.599996, 0.5))
    assert column(one, BITS)[0] > column(other, BITS)[0] + 0.5
    assert same_by_field(one.by_field, other.by_field, SERVED)
    assert not same_by_field(one.by_field, third.by_field, SERVED)
