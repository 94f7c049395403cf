"""The task purchases: what is known before each purchase, who is held out, the trend and the baselines."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from hypothesis import given
from hypothesis import strategies as st

from model import field_metrics
from model.bundle.manifest import Field
from offline_training.datasets.labels import LabelRule
from offline_training.datasets.parquet import parquet_module
from offline_training.datasets.prepare import prepare
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem, EventType
from offline_training.tasks.bags import PADDING
from offline_training.tasks.catalogue import Catalogue, read_catalogue
from offline_training.tasks.fields import fields_of
from offline_training.tasks.purchases import (
    DAY,
    NO_ITEM,
    Contexts,
    Taken,
    make_contexts,
    make_taken,
    popularity,
    read_taken,
    trend_of,
)
from streams.trend.trend import WHOLE_ITEM, Trend
from tests.data import DATA, needs
from tests.offline_training.datasets.sources import Given, no_step

Touch = tuple[int, int, int, int, bool]
"""User, day, item, hundredths of the type weight, whether it is a purchase."""


def taken(touches: list[Touch], users: list[str] | None = None, apart: tuple[str, ...] = ()) -> Taken:
    user, day, row, weight, bought = (np.array(values) for values in zip(*touches, strict=True))
    names = users or [f"user-{number}" for number in range(max(user) + 1)]
    in_time = np.argsort(day, kind="stable")
    return make_taken(
        names,
        user=user[in_time],
        day=day[in_time],
        row=row[in_time],
        weight=weight[in_time],
        bought=bought[in_time],
        apart=np.array([name in apart for name in names]),
    )


def named(count: int, *, held_out: bool) -> list[str]:
    """Names of users that the CRC-32 holds out, or of users that train."""
    wanted = (name for number in range(10_000) if (zlib.crc32((name := f"u{number}").encode()) % 10 == 0) == held_out)
    training = (name for name in wanted if held_out or zlib.crc32(name.encode()) // 10 % 20)
    return [next(training) for _ in range(count)]


def validating() -> str:
    return next(
        name for number in range(10_000)
        if (crc := zlib.crc32((name := f"u{number}").encode())) % 10 and crc // 10 % 20 == 0
    )  # fmt: skip


def bags(contexts: Contexts) -> dict[tuple[int, int], list[tuple[int, int, int]]]:
    """By user and day: item, age, hundredths of the weight."""
    found = zip(contexts.rows.tolist(), contexts.ages.tolist(), contexts.log_weight.tolist(), strict=True)
    items = [(row, int(age), round(100 * np.exp(weight))) for row, age, weight in found]
    keys = zip(contexts.user.tolist(), contexts.day.tolist(), strict=True)
    ends = contexts.starts.tolist()
    return {key: items[start:end] for key, start, end in zip(keys, ends, ends[1:], strict=False)}


def test_a_context_knows_strictly_earlier_days_of_its_user_and_asks_for_each_purchase_of_the_day() -> None:
    users = [*named(1, held_out=True), validating(), *named(1, held_out=False)]
    touches = [
        (user, day, row, 100, True) for user in range(3) for day, row in ((3, 0), (3, 1), (5, 2), (5, 0), (9, 3))
    ]
    split = make_contexts(taken(touches, users))
    assert bags(split.test) == {(0, 5): [(0, 2, 100), (1, 2, 100)], (0, 9): [(1, 6, 100), (2, 4, 100), (0, 4, 100)]}
    assert split.test.targets.tolist() == [2, 0, 3]
    assert split.test.of_target.tolist() == [0, 0, 1]
    assert split.test.owned().tolist() == [False, True, False]
    assert set(bags(split.train)) == {(2, 3), (2, 5), (2, 9)}, "a first purchase trains the answer to an empty bag"
    assert set(bags(split.validation)) == {(1, 5), (1, 9)}
    assert not len(split.apart.day)


def test_a_view_is_in_the_bag_with_its_weight_but_is_no_target() -> None:
    users = [*named(1, held_out=True), validating(), *named(1, held_out=False)]
    touches = [
        touch
        for user in range(3)
        for touch in ((user, 1, 0, 30, False), (user, 2, 1, 100, True), (user, 2, 0, 60, False), (user, 4, 0, 30, False),
                      (user, 4, 2, 100, True))
    ]  # fmt: skip
    split = make_contexts(taken(touches, users))
    assert bags(split.test) == {(0, 2): [(0, 1, 30)], (0, 4): [(1, 2, 100), (0, 2, 60)]}
    assert split.test.targets.tolist() == [1, 2]


def test_two_of_an_item_on_a_day_count_once_but_twice_for_users_that_are_set_apart() -> None:
    users = [*named(2, held_out=True), validating(), *named(1, held_out=False)]
    touches = [(user, day, 7, 100, True) for user in range(4) for day in (1, 2, 2)]
    split = make_contexts(taken(touches, users, apart=(users[1],)))
    assert split.test.targets.tolist() == [7]
    assert split.apart.targets.tolist() == [7, 7, 7]
    assert bags(split.apart) == {(1, 1): [], (1, 2): [(7, 1, 100)]}, "all days of a user who is set apart are measured"


def test_only_the_newest_items_of_a_bag_are_kept() -> None:
    users = [*named(1, held_out=True), validating(), *named(1, held_out=False)]
    touches = [(user, day, day, 100, True) for user in range(3) for day in range(6)]
    split = make_contexts(taken(touches, users), max_bag=2)
    assert [[row for row, _, _ in bag] for bag in bags(split.test).values()] == [[0], [0, 1], [1, 2], [2, 3], [3, 4]]


def test_padded_bags_hold_the_items_and_an_empty_bag_one_item_without_weight() -> None:
    users = [*named(1, held_out=True), validating(), *named(1, held_out=False)]
    touches = [(user, day, row, 100, True) for user in range(3) for day, row in ((1, 4), (1, 5), (3, 6), (8, 7))]
    train = make_contexts(taken(touches, users)).train
    rows, log_weight, ages = train.padded(np.array([2, 0]))
    assert rows.tolist() == [[4, 5, 6], [PADDING] * 3]
    assert ages.tolist() == [[7, 7, 5], [0, 0, 0]]
    assert log_weight.tolist() == [[0, 0, 0], [NO_ITEM, -np.inf, -np.inf]]
    assert train.padded(slice(0, 1)).rows.tolist() == [[PADDING]]


@st.composite
def histories(draw: st.DrawFn) -> list[Touch]:
    """Touches of a few users on days that are near and far apart."""
    kinds = st.sampled_from([(30, False), (60, False), (100, True)])
    found = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 4), kinds), min_size=1, max_size=40)
    )
    return [(user, day, row, *kind) for user, day, row, kind in found]


def bag_before(touches: list[Touch], user: int, day: int) -> dict[int, tuple[int, int]]:
    """The slow way: of each item the user's last day and strongest type before a day."""
    found: dict[int, tuple[int, int]] = {}
    for one, when, row, weight, _ in touches:
        if one == user and when < day:
            last, strongest = found.get(row, (when, weight))
            found[row] = max(last, when), max(strongest, weight)
    return found


def trend_the_slow_way(touches: list[Touch], day: int, hundredths: NDArray[np.int64]) -> NDArray[np.float32]:
    """The trend of the profile worker, of the bags that all users had at the begin of a day."""
    rows: dict[int, NDArray[np.int64]] = {}
    for user in range(4):
        for row, (last, weight) in bag_before(touches, user, day).items():
            rows[last] = rows.get(last, np.zeros(hundredths.shape[1], np.int64)) + weight * hundredths[row]
    return Trend(0, rows, hundredths.shape[1]).at(day * DAY)


HUNDREDTHS = np.random.default_rng(0).integers(0, 101, (5, 3))


@given(histories(), st.integers(1, 41))
def test_the_trend_is_that_of_the_bags_at_the_begin_of_each_day(touches: list[Touch], day: int) -> None:
    if day <= max(touch[1] for touch in touches) + 1:
        found = trend_of(taken(touches), HUNDREDTHS).at(np.array([day]))[0]
        assert np.array_equal(found, trend_the_slow_way(touches, day, HUNDREDTHS))


@pytest.mark.parametrize("later", [1, 6, 7, 8, 9, 27, 28, 29, 30])
def test_an_item_that_is_touched_again_counts_on_the_later_day_only(later: int) -> None:
    touches = [(0, 0, 1, 30, False), (0, later, 1, 100, True), (1, 60, 0, 100, True)]
    found = trend_of(taken(touches), HUNDREDTHS)
    for day in range(62):
        assert np.array_equal(found.at(np.array([day]))[0], trend_the_slow_way(touches, day, HUNDREDTHS)), day


@given(histories())
def test_bags_equal_those_of_the_slow_way(touches: list[Touch]) -> None:
    found = taken([*touches, (0, 50, 0, 100, True)], apart=tuple(f"user-{number}" for number in range(4)))
    every = bags(_all(found))
    bought = {(user, day) for user, day, _, _, purchase in touches if purchase}
    assert set(every) == bought | {(0, 50)}
    for (user, day), bag in every.items():
        before = bag_before(touches, user, day)
        assert {row: (day - age, weight) for row, age, weight in bag} == before
        assert [age for _, age, _ in bag] == sorted((age for _, age, _ in bag), reverse=True), "oldest first"


def _all(found: Taken) -> Contexts:
    """The contexts of users that are all set apart, beside users for the other parts."""
    others = [*named(1, held_out=True), validating(), *named(1, held_out=False)]
    more = [(number, day) for number in range(3) for day in (0, 1)]
    users = [*found.users, *others]
    both = make_taken(
        users,
        user=np.concatenate([found.user, [len(found.users) + number for number, _ in more]]),
        day=np.concatenate([found.day, [day for _, day in more]]),
        row=np.concatenate([found.row, np.zeros(len(more), int)]),
        weight=np.concatenate([found.weight, np.full(len(more), 100)]),
        bought=np.concatenate([found.bought, np.ones(len(more), bool)]),
        apart=np.array([name not in others for name in users]),
    )
    return make_contexts(both).apart


def test_popularity_is_the_share_of_each_label_in_the_window_lightly_smoothed() -> None:
    touches = [
        (0, 0, 0, 100, True),
        (0, 1, 0, 100, True),
        (1, 1, 1, 100, True),
        (1, 9, 1, 30, False),
        (1, 20, 0, 100, True),
    ]
    matrix = np.array([[True, False, True], [False, True, False]])
    fields = [Field("colour", [0, 1])]
    ever = popularity(taken(touches), matrix, fields, None)
    # before day 2: label 0 twice, label 1 once, and 5 purchases spread over both; label 2 is of no field: 2.5 of 5
    assert ever.at(np.array([0]))[0] == pytest.approx([0.5, 0.5, 0.5])
    assert ever.at(np.array([2]))[0] == pytest.approx([4.5 / 8, 3.5 / 8, 4.5 / 8])
    assert ever.at(np.array([10]))[0] == pytest.approx([4.5 / 8, 3.5 / 8, 4.5 / 8]), "a view is no purchase"
    week = popularity(taken(touches), matrix, fields, 7)
    assert week.at(np.array([8]))[0] == pytest.approx(
        [(1 + 50 * 4.5 / 8) / 52, (1 + 50 * 3.5 / 8) / 52, (1 + 50 * 4.5 / 8) / 52]
    )
    assert week.at(np.array([9]))[0] == pytest.approx([4.5 / 8, 3.5 / 8, 4.5 / 8]), "nothing in the week: as ever"


def test_fields_are_labels_of_one_parent_that_exclude_each_other() -> None:
    labels = ["colour > red", "hat", "colour > blue", "size > L", "shoe", "style > old", "style > soft"]
    matrix = np.array([[1, 0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0, 1]], bool)
    assert [(field.name, field.categories) for field in fields_of(labels, matrix)] == [
        ("colour", [0, 2]),
        ("category", [1, 4]),
    ]


def prepared(folder: Path, events: list[DatasetEvent]) -> Catalogue:
    items = [DatasetItem(f"i{number}", None, (("colour", "red" if number % 2 else "blue"),)) for number in range(4)]
    rule = LabelRule(2, 2, 1, 10)
    prepare(
        Given(events, items), "shop", folder, rule=rule, pictures=None, step=no_step, pictureless=True, untouched=True
    )
    names = np.array([item.item for item in items if item.item != "i3"])
    np.savez(folder / "embeddings.npz", ids=names, embeddings=np.ones((3, 2), np.float32))
    return read_catalogue(folder, folder / "embeddings.npz")


def event(user: str, item: str, kind: EventType, day: int) -> DatasetEvent:
    return DatasetEvent(user, item, kind, day * DAY + 5)


def test_events_are_read_by_user_and_day_without_returns_and_items_without_an_embedding(tmp_path: Path) -> None:
    events = [
        event("b", "i1", "view", 3), event("a", "i0", "purchase", 5), event("b", "i3", "purchase", 5),
        event("b", "i0", "return", 6), event("b", "i2", "purchase", 7),
    ]  # fmt: skip
    catalogue = prepared(tmp_path, events)
    found = read_taken(tmp_path, catalogue, apart=["b"])
    shown = [
        (found.users[user], day, catalogue.items[row])
        for user, day, row in zip(found.user, found.day, found.row, strict=True)
    ]
    assert sorted(shown) == [("a", 5, "i0"), ("b", 3, "i1"), ("b", 7, "i2")]
    assert sorted(found.weight.tolist()) == [30, 100, 100]
    assert [name for name, apart in zip(found.users, found.apart, strict=True) if apart] == ["b"]


def test_data_without_a_purchase_and_unknown_users_are_refused(tmp_path: Path) -> None:
    catalogue = prepared(tmp_path, [event("a", "i0", "view", 1), event("a", "i1", "view", 2)])
    with pytest.raises(DatasetError, match="none of its 2 events is a purchase"):
        read_taken(tmp_path, catalogue)
    catalogue = prepared(tmp_path, [event("a", "i0", "purchase", 1), event("a", "i1", "purchase", 2)])
    with pytest.raises(DatasetError, match="none of the 1 users that are set apart, such as 'z'"):
        read_taken(tmp_path, catalogue, apart=["z"])
    with pytest.raises(DatasetError, match=r"no purchase for .* among 1 users"):
        make_contexts(read_taken(tmp_path, catalogue))


@needs("hm")
def test_the_baselines_of_hm_are_those_of_its_protocol() -> None:
    """`hm_purchases.py` beside the data prints these figures, for the users of the replay and for held-out users."""
    data, fields, found = _hm()
    columns = [field.categories for field in fields]
    split = make_contexts(found)

    def macro_hit(contexts: Contexts, days: int | None) -> tuple[float, float, float]:
        scores = popularity(found, data, fields, days).at(contexts.day)[contexts.of_target]
        labels = data[contexts.targets]
        ranked = field_metrics.ranks(scores, labels, columns)
        best, three = (field_metrics.macro(field_metrics.hits_at(k, ranked)).mean() for k in (1, 3))
        return float(best), float(three), float(field_metrics.macro(field_metrics.bits(scores, labels, columns)).mean())

    assert (len(split.apart.targets), len(split.test.targets)) == (3713, 4094)
    assert macro_hit(split.apart, 28) == pytest.approx(
        (0.24704705474972097, 0.48351352391212343, 3.999904370337759), abs=1e-9
    )
    assert macro_hit(split.test, 28) == pytest.approx(
        (0.2649870891199665, 0.5041873124432967, 3.789964749690406), abs=1e-9
    )
    assert macro_hit(split.test, None) == pytest.approx(
        (0.2636611068462558, 0.5002442598925255, 3.810813682716346), abs=1e-9
    )
    # popular so far among the users of the replay alone
    mine = found.apart[found.user]
    alone = replace(found, user=found.user[mine], day=found.day[mine], row=found.row[mine])
    counts = _before_each_day(alone, data)
    little = 1e-3 * popularity(found, data, fields, None).values[-1]
    scores = (counts + little)[split.apart.day - found.days[0]][split.apart.of_target]
    ranked = field_metrics.ranks(scores, data[split.apart.targets], columns)
    assert field_metrics.macro(field_metrics.hits_at(3, ranked)).mean() == pytest.approx(0.46031318533338456, abs=1e-9)


def _before_each_day(found: Taken, matrix: NDArray[np.bool_]) -> NDArray[np.float64]:
    counts = np.zeros((len(found.days) + 1, matrix.shape[1]))
    np.add.at(counts, found.day - found.days[0] + 1, matrix[found.row])
    return counts.cumsum(0)


def _hm() -> tuple[NDArray[np.bool_], list[Field], Taken]:
    """The labels of the articles in seven fields, and all purchases, those of the replay's users in a form of their own."""
    folder = DATA / "hm"
    names = ["product_type", "product_group", "colour_group", "index", "section", "garment_group", "department"]
    ids = np.load(folder / "embeddings_mobilenet_v1.npz")["ids"].astype(str).tolist()
    articles = parquet_module().read_table(folder / "articles.parquet").to_pydict()
    place = {str(item): number for number, item in enumerate(articles["article_id"])}
    row_of = {item: number for number, item in enumerate(ids)}
    labels, columns = [], []
    for name in names:
        values = [articles[f"{name}_name"][place[item]] for item in ids]
        number = {value: len(labels) + order for order, value in enumerate(sorted(set(values)))}
        labels += [f"{name} > {value}" for value in number]
        columns.append([number[value] for value in values])
    matrix = np.zeros((len(ids), len(labels)), bool)
    matrix[np.arange(len(ids)), np.array(columns)] = True
    others, mine = (
        parquet_module().read_table(folder / name, columns=["t_dat", "customer_id", "article_id"]).to_pydict()
        for name in ("purchases.parquet", "replay_users.parquet")
    )
    apart = set(map(str, mine["customer_id"]))
    every = {name: [*map(str, others[name]), *map(str, mine[name])] for name in others}
    assert not apart & set(map(str, others["customer_id"]))
    users, user = np.unique(every["customer_id"], return_inverse=True)
    day = np.array([text[:10] for text in every["t_dat"]], "datetime64[D]").astype(int)
    row = np.array([row_of.get(item, PADDING) for item in every["article_id"]])
    in_time = np.argsort(day, kind="stable")
    in_time = in_time[row[in_time] != PADDING]
    found = make_taken(
        users.tolist(),
        user=user[in_time],
        day=day[in_time],
        row=row[in_time],
        weight=np.full(len(in_time), 100),
        bought=np.ones(len(in_time), bool),
        apart=np.array([name in apart for name in users]),
    )
    return matrix, fields_of(labels, matrix), found


def test_a_whole_item_counts_one() -> None:
    found = trend_of(taken([(0, 4, 0, 100, True)]), np.array([[100, 0]]))
    assert found.at(np.array([4, 5])).tolist() == [[[0, 0]] * 3, [[1, 0]] * 3]
    assert WHOLE_ITEM == 100 * 100
