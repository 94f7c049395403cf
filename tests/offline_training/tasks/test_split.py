"""The tasks: who is held out, what is in the bag, and what its targets are."""

import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from offline_training.datasets.labels import LabelRule
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.prepare import prepare
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem, EventType
from offline_training.tasks.bags import PADDING
from offline_training.tasks.catalogue import Catalogue, read_catalogue
from offline_training.tasks.split import (
    FEW_USERS,
    HELD_OUT,
    Histories,
    TaskName,
    held_out_user,
    later_bags,
    make_folds,
    make_split,
    read_histories,
)
from streams.settings import DEFAULT_TYPE_WEIGHTS, Settings
from tests.offline_training.datasets.sources import Given, no_step

ITEMS, LABELS = 40, 5


def catalogue(names: list[str] | None = None) -> Catalogue:
    """Item n has label n modulo 5."""
    names = names or [f"item-{number}" for number in range(ITEMS)]
    matrix = np.eye(LABELS, dtype=bool)[np.arange(len(names)) % LABELS]
    return Catalogue(names, [f"label {n}" for n in range(LABELS)], np.ones((len(names), 3), np.float32), matrix, 0)


def histories(count: int, length: int) -> Histories:
    chance = np.random.default_rng(0)
    rows = [chance.permutation(ITEMS)[:length].astype(np.int32) for _ in range(count)]
    return Histories([f"user-{number}" for number in range(count)], rows)


def held_out(name: str) -> bool:
    return zlib.crc32(name.encode()) % 10 == 0


def test_profile_targets_are_the_labels_of_the_newest_items() -> None:
    known = histories(300, 12)
    split = make_split("profile", known, catalogue())
    assert len(split.test.rows) == sum(held_out(user) for user in known.users)
    assert sum(len(part.rows) for part in split[:3]) == 300
    by_bag = {tuple(history[-8:]): history for history in known.rows}
    for part in split[:3]:
        for rows, targets in zip(part.rows, part.targets, strict=True):
            history = by_bag[tuple(rows)]
            assert set(np.flatnonzero(targets)) == {row % LABELS for row in history[-8:]}


def test_next_targets_are_the_labels_of_what_comes_afterwards() -> None:
    known = histories(300, 9)
    split = make_split("next", known, catalogue())
    later = {tuple(history[:4]): history[4:] for history in known.rows}
    rows, targets = split.test.rows, split.test.targets
    assert (rows[:, 4:] == PADDING).all()
    for bag, wanted in zip(rows, targets, strict=True):
        assert set(np.flatnonzero(wanted)) == {row % LABELS for row in later[tuple(bag[:4])]}


def test_next_draws_training_bags_with_the_history_in_another_order() -> None:
    known = histories(300, 9)
    split = make_split("next", known, catalogue())
    assert split.drawn is not None
    first, again, other = (split.drawn(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.rows, other.rows)
    assert first.rows.shape == split.train.rows.shape
    learnt = [set(history) for user, history in zip(known.users, known.rows, strict=True) if not held_out(user)]
    seen = {tuple(bag[:4]) for bag in split.train.rows}
    for bag, targets in zip(first.rows, first.targets, strict=True):
        owners = [history for history in learnt if set(bag[:4]) < history]
        assert any(
            {row % LABELS for row in history - set(bag[:4])} == set(np.flatnonzero(targets)) for history in owners
        )
    assert sum(tuple(bag[:4]) in seen for bag in first.rows) < 10
    assert make_split("profile", known, catalogue()).drawn is None


def test_unseen_products_are_in_no_training_bag() -> None:
    names = [f"{number // 2:03}-{'ab'[number % 2]}" for number in range(ITEMS)]  # two variants of each product
    split = make_split("unseen", histories(300, 30), catalogue(names), variants=2)
    assert 0 < split.new.sum() < ITEMS
    assert (split.new[0::2] == split.new[1::2]).all()
    for part, new in ((split.train, False), (split.validation, False), (split.test, True)):
        assert (split.new[part.rows[part.rows != PADDING]] == new).all()


def test_unseen_draws_training_bags_of_products_that_are_not_held_out() -> None:
    known = histories(400, 30)
    split = make_split("unseen", known, catalogue())
    assert split.drawn is not None
    drawn = split.drawn(np.random.default_rng(0))
    assert drawn.rows.shape == split.train.rows.shape
    assert not split.new[drawn.rows[drawn.rows != PADDING]].any()
    owned = [set(history) for history in known.rows]
    assert drawn.sizes.min() >= 2
    assert np.median(drawn.sizes) <= 4 < np.median(split.train.sizes)  # a tenth of thirty
    for bag, targets, size in zip(drawn.rows, drawn.targets, drawn.sizes, strict=True):
        assert any(set(bag[:size]) <= items for items in owned)
        assert set(np.flatnonzero(targets)) == {row % LABELS for row in bag[:size]}


def test_more_users_do_not_change_who_is_held_out() -> None:
    few, many = histories(200, 12), histories(400, 12)
    small, large = (make_split("profile", known, catalogue()) for known in (few, many))
    assert {tuple(rows) for rows in small.test.rows} <= {tuple(rows) for rows in large.test.rows}


def test_a_part_without_users_is_refused_with_what_is_needed() -> None:
    with pytest.raises(
        DatasetError,
        match="task next: no user for train: 0 of 20 users have 4 items or more, and about one in 10 is held out",
    ):
        make_split("next", histories(20, 3), catalogue())


def dataset(folder: Path, events: list[DatasetEvent], count: int = 4) -> Path:
    items = [
        DatasetItem(str(number), PictureRef(f"https://shop.example/{number}.jpg"), ((f"kind {number % 2}",),))
        for number in range(count)
    ]
    rule = LabelRule(1, 1, 1, 10)
    prepare(Given(events, items), "given", folder, rule=rule, pictures=None, step=no_step)
    return folder


def embeddings(folder: Path, ids: list[str]) -> Path:
    path = folder / "embeddings.npz"
    np.savez(path, ids=np.array(ids), embeddings=np.arange(len(ids) * 2, dtype=np.float16).reshape(-1, 2))
    return path


def test_histories_are_in_time_order_with_each_item_once_and_without_returns(tmp_path: Path) -> None:
    events = [
        DatasetEvent("ada", "2", "purchase", 30),
        DatasetEvent("ada", "1", "view", 10),
        DatasetEvent("bob", "3", "purchase", 5),
        DatasetEvent("ada", "0", "purchase", 20),
        DatasetEvent("ada", "1", "purchase", 40),
        DatasetEvent("ada", "3", "return", 50),
    ]
    folder = dataset(tmp_path / "set", events)
    known = read_catalogue(folder, embeddings(tmp_path, ["0", "1", "2", "3"]))
    found = read_histories(folder, known)
    assert found.users == ["ada", "bob"]
    assert [[known.items[row] for row in rows] for rows in found.rows] == [["1", "0", "2"], ["3"]]


def test_an_item_weighs_as_much_as_its_heaviest_event_before_the_asked_items(
    tmp_path: Path,
) -> None:
    user = next(name for name in map(str, range(100)) if held_out(name))
    others = [str(number) for number in range(100, 400)]
    did: list[tuple[str, EventType]] = [
        ("0", "view"),
        ("1", "view"),
        ("0", "cart"),
        ("2", "view"),
        ("1", "purchase"),
        ("3", "purchase"),
    ]
    events = [DatasetEvent(name, item, kind, time) for name in [user, *others] for time, (item, kind) in enumerate(did)]
    folder = dataset(tmp_path / "set", events)
    known = read_catalogue(folder, embeddings(tmp_path, ["0", "1", "2", "3"]))
    found = read_histories(folder, known)
    bags = make_split("next", found, known).test
    assert [known.items[row] for row in bags.rows[0, :2]] == ["0", "1"]
    assert np.exp(bags.log_weight[0, :2]) == pytest.approx(
        [0.6, 0.3]
    )  # item 1 is bought after item 2, which is asked for, is viewed
    whole = make_split("profile", found, known)
    assert np.exp(whole.test.log_weight[0, :4]) == pytest.approx([0.6, 1.0, 0.3, 1.0])
    drawn = make_split("next", found, known).drawn
    assert drawn is not None
    shuffled = drawn(np.random.default_rng(0))
    weights = {"0": 0.6, "1": 1.0, "2": 0.3, "3": 1.0}
    for rows, log_weight in zip(shuffled.rows, shuffled.log_weight, strict=True):
        assert np.exp(log_weight[:2]) == pytest.approx([weights[known.items[row]] for row in rows[:2]])


def test_training_and_serving_use_the_same_type_weights() -> None:
    assert Settings.model_fields["type_weights"].get_default() == DEFAULT_TYPE_WEIGHTS


def test_items_without_an_embedding_are_left_out_and_counted(tmp_path: Path) -> None:
    events = [DatasetEvent("ada", str(number), "purchase", number) for number in range(4)]
    folder = dataset(tmp_path / "set", events)
    known = read_catalogue(folder, embeddings(tmp_path, ["3", "another", "1"]))
    assert known.missing == 2
    assert dict(zip(known.items, known.embeddings.tolist(), strict=True)) == {"1": [4, 5], "3": [0, 1]}
    assert known.labels == ["kind 0", "kind 1"]
    assert known.matrix.tolist() == [[False, True], [False, True]]
    assert [rows.tolist() for rows in read_histories(folder, known).rows] == [[0, 1]]


def test_embeddings_of_another_catalogue_are_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", [DatasetEvent("ada", "1", "purchase", 1)])
    with pytest.raises(
        DatasetError, match=r"none of its 2 ids, the first 'x', is an item of .*, which has 1, the first '1'"
    ):
        read_catalogue(folder, embeddings(tmp_path, ["x", "y"]))


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"ids": np.array(["1"])}, "expected the arrays ids and embeddings, found ids"),
        (
            {"ids": np.array(["1"]), "emb": np.ones(3)},
            r"expected ids \[n\] and embeddings \[n, d\], found \(1,\) and \(3,\)",
        ),
        (None, "not a file of arrays"),
    ],
)
def test_a_file_that_holds_no_embeddings_is_named(
    tmp_path: Path, arrays: dict[str, np.ndarray] | None, complaint: str
) -> None:
    folder = dataset(tmp_path / "set", [DatasetEvent("ada", "1", "purchase", 1)])
    path = tmp_path / "embeddings.npz"
    if arrays is None:
        path.write_bytes(b"PK no archive at all")
    else:
        np.savez(path, **arrays)  # pyright: ignore[reportArgumentType] -- its second argument is another
    with pytest.raises(DatasetError, match=complaint):
        read_catalogue(folder, path)


def test_a_folder_without_a_data_set_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"dataset\.json: there is no such file: prepare the data set with `tastestream dataset`"
    ):
        read_catalogue(tmp_path, tmp_path / "embeddings.npz")


def test_histories_end_before_a_time_and_continue_after_it(tmp_path: Path) -> None:
    events = [
        DatasetEvent("ada", "0", "view", 10),
        DatasetEvent("ada", "1", "purchase", 20),
        DatasetEvent("ada", "2", "purchase", 30),
        DatasetEvent("ada", "0", "purchase", 40),
        DatasetEvent("ada", "3", "purchase", 50),
        DatasetEvent("bob", "3", "purchase", 10),
        DatasetEvent("cid", "3", "purchase", 40),
        DatasetEvent("dan", "2", "purchase", 10),
        DatasetEvent("dan", "2", "purchase", 50),
    ]
    folder = dataset(tmp_path / "set", events)
    known = read_catalogue(folder, embeddings(tmp_path, ["0", "1", "2", "3"]))
    before = read_histories(folder, known, until=30)
    assert before.users == ["ada", "bob", "dan"]
    assert [[known.items[row] for row in rows] for rows in before.rows] == [["0", "1"], ["3"], ["2"]]

    bags = later_bags(before, read_histories(folder, known), known, 4)
    assert bags.rows.tolist() == [[0, 1, PADDING, PADDING]], (
        "of ada: the others took nothing new, or had nothing before"
    )
    assert [known.labels[column] for column in np.flatnonzero(bags.targets[0])] == ["kind 0", "kind 1"]
    assert np.exp(bags.log_weight[0, :2]).tolist() == pytest.approx([DEFAULT_TYPE_WEIGHTS["view"], 1]), (
        "the purchase came later"
    )

    nothing = later_bags(before, before, known, 4)
    assert nothing.rows.shape == (0, 4)
    assert nothing.targets.shape == (0, 2)
    with pytest.raises(
        DatasetError, match=r"none of its 9 events is left: 0 of items without .*, 9 too late to learn from"
    ):
        read_histories(folder, known, until=10)


def test_labels_that_no_item_has_become_empty_columns() -> None:
    wider = catalogue().with_labels_in_order(["new", "label 3", "label 0"])
    assert wider.labels == ["new", "label 3", "label 0"]
    assert wider.matrix.sum(axis=0).tolist() == [0, ITEMS // LABELS, ITEMS // LABELS]
    assert wider.matrix[3].tolist() == [False, True, False]


@pytest.mark.parametrize("task", ["profile", "next"])
def test_each_of_few_users_is_held_out_in_one_fold(task: TaskName) -> None:
    known = histories(300, 8)
    folds = make_folds(task, known, catalogue())
    assert len(folds) == 5
    assert sum(len(split.test.rows) for split in folds) == 300
    for split in folds:
        assert len(split.train.rows) + len(split.validation.rows) + len(split.test.rows) == 300
        assert len(split.validation.rows) > 10
    tested = [tuple(row) for split in folds for row in split.test.rows.tolist()]
    assert len(set(tested)) == 300
    trained = {tuple(row) for row in folds[0].train.rows.tolist()}
    assert not trained & {tuple(row) for row in folds[0].test.rows.tolist()}


def test_each_product_of_a_small_shop_is_unseen_in_one_fold() -> None:
    folds = make_folds("unseen", histories(300, 20), catalogue())
    assert (np.sum([split.new for split in folds], axis=0) == 1).all()


def test_a_bundle_holds_out_the_users_that_its_manifest_leaves_out() -> None:
    known = histories(300, 8)
    split = make_split("next", known, catalogue())
    assert len(split.test.rows) == sum(held_out_user(user) for user in known.users)
    many = histories(FEW_USERS, 4)
    [whole] = make_folds("profile", many, catalogue())
    assert len(whole.test.rows) == sum(zlib.crc32(user.encode()) % HELD_OUT == 0 for user in many.users)


@pytest.mark.parametrize(("users", "able"), [(12, 12), (3, 3), (1, 1)])
def test_a_shop_of_a_dozen_users_is_refused_with_how_many_are_needed(users: int, able: int) -> None:
    known = Histories([f"guest-{number}" for number in range(users)], histories(users, 8).rows)
    with pytest.raises(
        DatasetError, match=rf"{able} of {users} users have 2 items or more, .* expected 50 such users or more"
    ):
        make_split("profile", known, catalogue())


def test_missing_embeddings_are_made_by_train_embed(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", [DatasetEvent("ada", "1", "purchase", 1)])
    missing = tmp_path / "features.npz"
    with pytest.raises(
        DatasetError,
        match=rf"features.npz: there is no such file: make it with `tastestream train embed .* --out {missing}`",
    ):
        read_catalogue(folder, missing)
