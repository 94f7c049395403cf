"""Which recommendation counts at each target, and its figures."""

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from offline_training.replay.answers.table import Answers
from offline_training.replay.evaluation.baselines import MONTH, POPULARITY, WEEK
from offline_training.replay.evaluation.prequential import (
    READ,
    SERVED,
    MeasuredTargets,
    MethodAnswers,
    Rules,
    measure,
)
from offline_training.replay.evaluation.summaries import ages, pairs_of, summaries
from offline_training.replay.play.event_answer import EventAnswer
from offline_training.replay.play.events import PlayedEvent

CATEGORIES, TOP = 8, 4
PRIOR = np.array([0.1, 0.2, 0.8, 0.3, 0.6, 0.0, 0.0, 0.7], np.float32)  # best first: 2, 7, 4, 3


def stream(*rows: tuple[str, str, str, int]) -> list[PlayedEvent]:
    return [PlayedEvent(place, place, user, item, kind, time) for place, (user, item, kind, time) in enumerate(rows)]  # type: ignore[arg-type]


def answered(count: int, **of: list[int]) -> Answers:
    """Make answers by place, such as p3=[1, 2], with categories best first. The bag size is the place plus one."""
    answers = Answers(count, TOP)
    for name, categories in of.items():
        place = int(name[1:])
        scores = [(category, 0.9 - 0.3 * rank) for rank, category in enumerate(categories)]
        answers.add(EventAnswer(place, place + 1, False, scores, 1.0))
    return answers


def measured(
    events: Sequence[PlayedEvent], answers: Answers, rules: Rules, labels: dict[str, list[int]]
) -> MeasuredTargets:
    activity = Counter(event.user for event in events)
    return measure(events, {SERVED: MethodAnswers(answers, PRIOR)}, labels, activity=activity, rules=rules)


def figure(found: MeasuredTargets, rules: Rules, name: str, method: str = "recommended") -> list[float]:
    rows: NDArray[np.float32] = found.figures[method]
    return [round(float(one), 4) for one in rows[:, rules.figures.index(name)]]


RULES = Rules(ks=(1, 2), paper=True)
LABELS = {"hat": [1], "tie": [5, 6], "box": []}


def test_the_newest_recommendation_of_an_earlier_event_counts() -> None:
    events = stream(
        ("ada", "hat", "view", 10), ("ada", "hat", "purchase", 20), ("bob", "hat", "view", 25), ("ada", "tie", "purchase", 30)
    )  # fmt: skip
    found = measured(events, answered(4, p0=[1, 5], p1=[5, 1], p2=[6], p3=[6, 5]), RULES, LABELS)
    assert found.times.tolist() == [20, 30]
    assert found.bag_sizes.tolist() == [1, 2], "those of ada's earlier events, not bob's"
    assert found.ages.tolist() == [10, 10]
    assert figure(found, RULES, "hit@1") == [1, 1]
    assert figure(found, RULES, "recall@1") == [1, 0.5]
    assert figure(found, RULES, "precision@2") == [0.5, 0.5]
    assert figure(found, RULES, "rounded precision@2") == [0.5, 0.5], "of two scores above .5"
    assert figure(found, RULES, "MRR") == [1, 1]
    assert found.activity.tolist() == [3, 3]


def test_a_method_may_answer_at_the_target_itself() -> None:
    events = stream(("ada", "hat", "view", 10), ("ada", "hat", "purchase", 20), ("bob", "tie", "purchase", 20))
    reads = MethodAnswers(answered(3, p1=[5, 1]), PRIOR, at_targets=True)
    methods = {SERVED: MethodAnswers(answered(3, p0=[1, 5], p1=[3, 4]), PRIOR), READ: reads}
    activity = Counter(event.user for event in events)
    found = measure(events, methods, {"hat": [1], "tie": [2]}, activity=activity, rules=RULES)
    assert figure(found, RULES, "hit@1", READ) == [0, 1], "the prior counts where there is no answer"
    assert figure(found, RULES, "hit@2", READ) == [1, 1]
    assert figure(found, RULES, "hit@1") == [1, 1], "the other method still answers before"


def test_events_of_the_same_time_do_not_count_for_each_other() -> None:
    events = stream(("ada", "hat", "view", 10), ("ada", "hat", "purchase", 20), ("ada", "tie", "purchase", 20))
    found = measured(events, answered(3, p0=[5], p1=[1]), RULES, LABELS)
    assert found.bag_sizes.tolist() == [1, 1]
    assert figure(found, RULES, "hit@1") == [0, 1]


@pytest.mark.parametrize(("delay", "bags"), [(0, [3]), (1, [3]), (5, [2]), (6, [1]), (10, [1]), (11, [0])])
def test_a_recommendation_is_at_least_as_old_as_the_delay(delay: int, bags: list[int]) -> None:
    events = stream(
        ("ada", "hat", "view", 10), ("ada", "hat", "view", 15), ("ada", "hat", "view", 19), ("ada", "hat", "purchase", 20)
    )  # fmt: skip
    found = measured(events, answered(4, p0=[1], p1=[1], p2=[1]), Rules(delay=delay, ks=(1, 2)), LABELS)
    assert found.bag_sizes.tolist() == bags


def test_without_a_recommendation_the_prior_counts() -> None:
    events = stream(("ada", "hat", "purchase", 10), ("bob", "cap", "purchase", 20), ("bob", "hat", "view", 20))
    answers = answered(3)
    answers.add(EventAnswer(0, reason="http_status"))
    found = measured(events, answers, RULES, {**LABELS, "cap": [7]})
    assert found.bag_sizes.tolist() == [0, 0]
    assert found.ages.tolist() == [-1, -1]
    assert figure(found, RULES, "MRR") == [0, 0.5]
    assert ages(found) == {}


def test_a_category_that_is_not_listed_is_never_a_hit() -> None:
    found = measured(
        stream(("ada", "hat", "view", 1), ("ada", "zero", "purchase", 2)), answered(2, p0=[6]), RULES, {"zero": [0]}
    )
    assert figure(found, RULES, "MRR") == [0]


def test_each_method_is_measured_at_the_same_targets_with_its_own_answers() -> None:
    events = stream(("ada", "hat", "view", 10), ("ada", "hat", "view", 11), ("ada", "hat", "purchase", 20))
    served, other = answered(3, p0=[1], p1=[5]), answered(3, p0=[1])
    methods = {"other": MethodAnswers(other, PRIOR), SERVED: MethodAnswers(served, PRIOR)}
    found = measure(events, methods, LABELS, activity={"ada": 3}, rules=RULES)
    assert list(found.figures) == list(found.by_field.rows) == [SERVED, POPULARITY, WEEK, MONTH, "other"]
    assert (figure(found, RULES, "hit@1"), figure(found, RULES, "hit@1", "other")) == ([0], [1])
    assert (found.origins.tolist(), found.places.tolist(), found.names) == ([1], [2], ["ada"])
    assert pairs_of(found) == [(SERVED, MONTH), (SERVED, WEEK), (SERVED, POPULARITY), (SERVED, "other")]
    asked = measure(
        events[2:], {**methods, SERVED: MethodAnswers(answered(3), 1 - PRIOR)}, LABELS, activity={"ada": 3}, rules=RULES
    )
    assert (figure(asked, RULES, "MRR"), figure(asked, RULES, "MRR", "other")) == ([0.25], [0]), (
        "each with its own prior"
    )


def test_popularity_counts_earlier_targets_only() -> None:
    events = stream(
        ("ada", "tie", "purchase", 10), ("ada", "tie", "view", 11), ("bob", "tie", "purchase", 20),
        ("cid", "hat", "purchase", 20), ("dan", "hat", "purchase", 30), ("eve", "hat", "purchase", 31)
    )  # fmt: skip
    found = measured(events, answered(6), RULES, LABELS)
    assert figure(found, RULES, "recall@1", "popularity") == [0, 0.5, 0, 0, 1]
    assert figure(found, RULES, "recall@2", "popularity") == [0, 1, 0, 0, 1]
    assert figure(found, RULES, "MRR", "popularity") == [0, 1, 0.25, 0.3333, 1], (
        "1 is named behind 0 when neither was bought, and comes first when it ties with 5 and 6"
    )


def test_targets_have_the_given_types_and_a_known_category() -> None:
    events = stream(("ada", "hat", "view", 10), ("ada", "box", "purchase", 20), ("ada", "hat", "cart", 30))
    rules = Rules(targets=frozenset({"view", "purchase"}), ks=(1,))
    found = measured(events, answered(3, p0=[1]), rules, LABELS)
    assert found.times.tolist() == [10]
    assert found.without_known_category == 1


@pytest.mark.parametrize("delay", [0, 3])
def test_a_naive_search_through_all_events_gives_the_same_figures(delay: int) -> None:
    chance = random.Random(0)
    times = sorted(chance.randrange(100) for _ in range(1500))
    kinds = ("view", "purchase", "purchase")
    events = stream(
        *((f"user-{chance.randrange(12)}", f"item-{chance.randrange(20)}", chance.choice(kinds), t) for t in times)
    )
    labels = {f"item-{n}": chance.sample(range(CATEGORIES), chance.randrange(3)) for n in range(20)}
    answers = Answers(len(events), TOP)
    for event in events:
        scores = sorted(((category, chance.random()) for category in range(CATEGORIES)), key=lambda pair: -pair[1])[
            :TOP
        ]
        answers.add(
            EventAnswer(event.place, 1, False, scores, 1.0)
            if chance.random() < 0.8
            else EventAnswer(event.place, reason="x")
        )
    rules = Rules(delay=delay, ks=(1, 3))
    found = measured(events, answers, rules, labels)

    hits, recalls, popular = [], [], []
    for event in events:
        wanted = set(labels[event.item])
        if event.type != "purchase" or not wanted:
            continue
        before = [one for one in events if one.time < event.time and one.time <= event.time - delay]
        known = [one for one in before if one.user == event.user and answers.recommended[one.place]]
        best = answers.scores(known[-1].place)[0].tolist() if known else [2, 7, 4, 3]
        hits.append(float(bool(wanted & set(best[:1]))))
        recalls.append(round(len(wanted & set(best[:3])) / len(wanted), 4))
        counts = Counter(label for one in before if one.type == "purchase" for label in labels[one.item])
        most = sorted(range(CATEGORIES), key=lambda label: (-counts[label], label)) if counts else [2, 7, 4, 3]
        popular.append(round(len(wanted & set(most[:3])) / len(wanted), 4))
    assert len(hits) > 600, "more than a batch of rows"
    assert figure(found, rules, "hit@1") == hits
    assert figure(found, rules, "recall@3") == recalls
    assert figure(found, rules, "recall@3", "popularity") == popular


def test_the_means_of_groups_add_up_to_the_mean_of_all_targets() -> None:
    day = 86_400_000
    rows = [(f"user-{n % 6}", ("hat", "tie")[n % 2], "purchase", n * 9 * day) for n in range(60)]
    events = stream(*rows)
    answers = answered(60, **{f"p{n}": [1, 5] if n % 3 else [5, 1] for n in range(60)})
    found = measured(events, answers, RULES, LABELS)
    all_targets, *others = summaries(found, RULES, pairs_of(found))
    assert (all_targets.targets, all_targets.users) == (60, 6)
    for kind in ("start", "bag size", "events of the user", "month"):
        parts = [one for one in others if one.kind == kind]
        counted = sum(one.targets for one in parts)
        assert counted == (54 if kind == "bag size" else 60), kind
        if counted == 60:
            total = sum(one.targets * one.figures[SERVED]["hit@1"] for one in parts)
            assert total / 60 == pytest.approx(all_targets.figures[SERVED]["hit@1"])
    assert all_targets.ceiling == {"recall@1": pytest.approx(0.75), "recall@2": 1.0}
    low, high = all_targets.intervals[SERVED]["hit@1"]
    assert low <= all_targets.figures[SERVED]["hit@1"] <= high
    [*_, difference] = all_targets.differences
    low, high = difference.intervals["hit@1"]
    assert (difference.one, difference.other) == (SERVED, POPULARITY)
    assert low <= all_targets.figures[SERVED]["hit@1"] - all_targets.figures[POPULARITY]["hit@1"] <= high
    assert {one.name for one in others if one.kind == "start"} == {"warm", "cold"}
    assert "1970-01" in {one.name for one in others if one.kind == "month"}


def test_a_stream_without_a_target_has_no_figures() -> None:
    found = measured(stream(("ada", "hat", "view", 10)), answered(1), RULES, LABELS)
    assert summaries(found, RULES, pairs_of(found)) == []


def test_events_before_the_measured_time_count_for_bags_and_popularity_only() -> None:
    events = stream(
        ("ada", "tie", "purchase", 10), ("bob", "box", "purchase", 15), ("ada", "hat", "purchase", 20), ("bob", "box", "purchase", 25)
    )  # fmt: skip
    rules = Rules(ks=(1, 2), since=20)
    found = measured(events, answered(4, p0=[1]), rules, LABELS)
    assert found.times.tolist() == [20], "the time itself is measured"
    assert found.names == ["ada"]
    assert found.without_known_category == 1, "and earlier ones are not counted"
    assert found.origins.tolist() == [0]
    assert figure(found, rules, "hit@1") == [1], "by the recommendation of an earlier event"
    everything = measured(events, answered(4, p0=[1]), Rules(ks=(1, 2)), LABELS)
    assert figure(found, rules, "MRR", "popularity") == figure(everything, rules, "MRR", "popularity")[1:]
