"""Which picture is in which split and category: as the folders say, else drawn the same on every machine."""

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

from model.exceptions import TastestreamError
from offline_training.datasets.formats.folders import ClassFolder
from offline_training.datasets.formats.tables import Tables
from offline_training.datasets.labels import LabelRule
from offline_training.datasets.prepare import prepare
from offline_training.embedders.training_data.labelled import categories_of, read_labelled
from tests.data import DATA, needs
from tests.offline_training.datasets.sources import no_step


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not read")
    return folder


def numbered(folder: str, count: int) -> list[str]:
    return [f"{folder}/{number}.jpg" for number in range(count)]


SPLIT = ("train/hat/1.jpg", "train/shoe/1.jpg", "val/hat/2.jpg", "test/shoe/2.jpg")


def test_folders_name_the_splits_and_folders_beside_them_are_left_out(tmp_path: Path) -> None:
    pictures = read_labelled(files(tmp_path, *SPLIT, "icons/hat/9.jpg", "train/notes.txt"))
    assert [(picture.name, picture.category, picture.split) for picture in pictures] == [
        ("test/shoe/2.jpg", "shoe", "test"),
        ("train/hat/1.jpg", "hat", "train"),
        ("train/shoe/1.jpg", "shoe", "train"),
        ("val/hat/2.jpg", "hat", "validation"),
    ]
    assert all(picture.path.is_file() for picture in pictures)


def test_without_splits_each_category_gives_the_same_share_of_its_pictures(tmp_path: Path) -> None:
    pictures = read_labelled(files(tmp_path, *numbered("hat", 40), *numbered("shoe", 20), *numbered("rare", 1)))
    assert Counter((picture.category, picture.split) for picture in pictures) == {
        ("hat", "train"): 28,
        ("hat", "validation"): 6,
        ("hat", "test"): 6,
        ("shoe", "train"): 14,
        ("shoe", "validation"): 3,
        ("shoe", "test"): 3,
        ("rare", "train"): 1,
    }
    again = read_labelled(files(tmp_path, "shoe/new.jpg"))
    assert {p.name: p.split for p in pictures if p.category == "hat"} == {
        p.name: p.split for p in again if p.category == "hat"
    }


@pytest.mark.parametrize(
    ("level", "expected"), [(None, ["food > apple > red", "food > pear", "toys"]), (1, ["food", "toys"])]
)
def test_the_level_decides_how_much_of_a_path_is_the_category(
    tmp_path: Path, level: int | None, expected: list[str]
) -> None:
    folders = ("food/apple/red", "food/pear", "toys")
    files(tmp_path, *(f"{split}/{folder}/1.jpg" for split in ("train", "val", "test") for folder in folders))
    assert categories_of(read_labelled(tmp_path, level)) == expected


def test_a_prepared_data_set_is_read_like_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    folder = files(
        tmp_path / "photos", *(f"{split}/a/{name}/1.jpg" for split in ("train", "val", "test") for name in "bc")
    )
    rule = LabelRule(min_items=1)

    class Quiet:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    prepare(ClassFolder(folder), "photos", tmp_path / "out", rule=rule, pictures=None, step=lambda _: Quiet())
    direct, prepared = read_labelled(folder), read_labelled(tmp_path / "out")
    assert [(p.name, p.path, p.category, p.split) for p in direct] == [
        (p.name, p.path, p.category, p.split) for p in prepared
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "expected pictures in folders of categories, found none"),
        (SPLIT[:3], "expected pictures for test, found none"),
        (("a/1.jpg", "b/1.jpg"), "expected pictures for validation, found none"),
        (("train/a/1.jpg", "val/a/1.jpg", "test/a/1.jpg"), "expected two categories or more, found a"),
        ((*SPLIT, "test/bag/1.jpg"), "no training picture of bag"),
    ],
    ids=["nothing", "no test", "too few to split", "one category", "unknown category"],
)
def test_what_cannot_be_trained_on_is_said(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    with pytest.raises(TastestreamError, match=expected):
        read_labelled(files(tmp_path, *names))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(TastestreamError, match="there is no such folder"):
        read_labelled(tmp_path / "none")


@needs("grocery")
@pytest.mark.parametrize(("level", "categories"), [(None, 81), (1, 43)])
def test_the_grocery_data_set_has_its_published_splits_and_classes(level: int | None, categories: int) -> None:
    pictures = read_labelled(DATA / "grocery", level)
    assert Counter(picture.split for picture in pictures) == {"train": 2640, "validation": 296, "test": 2485}
    assert len(categories_of(pictures)) == categories


@needs("clothing")
def test_the_clothing_data_set_has_its_published_splits_and_classes() -> None:
    pictures = read_labelled(DATA / "clothing")
    assert Counter(picture.split for picture in pictures) == {"train": 3068, "validation": 341, "test": 372}
    assert len(categories_of(pictures)) == 10


def test_pictures_in_an_archive_are_to_be_unpacked_first(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item,image,categories\n1,a.zip!/1.jpg,hat\n2,a.zip!/2.jpg,shoe\n")
    source = Tables(None, tmp_path / "items.csv", tmp_path)
    prepare(source, "x", tmp_path / "set", rule=LabelRule(1, 1, 1), pictures=None, step=no_step)
    with pytest.raises(TastestreamError, match=r"1 has its picture at .*a.zip!/1.jpg: .*unpack the archive first"):
        read_labelled(tmp_path / "set")
