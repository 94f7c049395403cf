"""A folder of classes: what is read, and one clear line for what is wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.bundle import Bundle
from offline_training.bundles.classes.folder import read_classes
from offline_training.datasets.records import DatasetError, Dropped
from tests.offline_training.silent import step


def write(folder: Path, name: str, *, count: int = 3) -> None:
    rng = np.random.default_rng(len(name))
    (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / name / f"{number}.png")


def refusal(folder: Path) -> str:
    with pytest.raises(DatasetError) as refused:
        read_classes(folder, Bundle.load().backbone(), Dropped(), step)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_pictures_of_each_class_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "shoes")
    write(tmp_path, "hats of wool")
    (tmp_path / "notes.txt").write_text("bought in May")
    (tmp_path / "shoes" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    dropped = Dropped()
    found = read_classes(tmp_path, Bundle.load().backbone(), dropped, step)
    assert found.classes == ["hats of wool", "shoes"]
    assert found.counts.tolist() == [3, 3]
    assert found.names[3] == "shoes/0.png"
    assert found.features.shape == (6, 1024)
    assert dict(dropped.counts) == {"outside_of_the_classes": 1, "no_picture": 1}


def test_a_missing_folder_an_empty_one_and_one_class_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"{tmp_path}/gone: there is no such folder"
    assert "expected a sub-folder for each of two classes or more, found none" in refusal(tmp_path)
    write(tmp_path, "shoes")
    assert "expected a sub-folder for each of two classes or more, found shoes" in refusal(tmp_path)


@pytest.mark.parametrize("count", [0, 1])
def test_a_class_without_enough_pictures_is_refused(tmp_path: Path, count: int) -> None:
    write(tmp_path, "shoes")
    write(tmp_path, "hats", count=count)
    assert f"expected 2 pictures or more of each class, better 5, found {count} of 'hats'" in refusal(tmp_path)


def test_folders_inside_a_class_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train", "shoes")
    write(tmp_path / "train", "hats")
    write(tmp_path, "test")
    assert f"found the folder train/hats: name a folder further down, such as {tmp_path}/train," in refusal(tmp_path)


@pytest.mark.parametrize("name", ["ha\nts", "\x1b[2Jhats", "\u202ehats", "hats\udcff"])
def test_a_class_whose_name_cannot_be_shown_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "shoes")
    write(tmp_path, name)
    message = refusal(tmp_path)
    assert "expected names of classes in printable characters" in message
    assert message.isprintable()


def test_broken_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "shoes")
    write(tmp_path, "hats")
    (tmp_path / "hats" / "broken.jpg").write_bytes(b"no picture")
    dropped = Dropped()
    assert read_classes(tmp_path, Bundle.load().backbone(), dropped, step).counts.tolist() == [3, 3]
    assert dict(dropped.counts) == {"not_a_picture": 1}
    assert dropped.examples["not_a_picture"].startswith("hats/broken.jpg: ")


def test_a_class_of_broken_pictures_is_refused_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path, "shoes")
    write(tmp_path, "hats", count=1)
    for number in range(4):
        (tmp_path / "hats" / f"broken{number}.jpg").write_bytes(b"no picture")
    assert "found 1 of 'hats' (left out: not_a_picture 4, the first: hats/broken0.jpg: " in refusal(tmp_path)


def test_further_copies_of_a_picture_are_left_out(tmp_path: Path) -> None:
    """A copy would name the picture that is left out of training."""
    write(tmp_path, "shoes")
    write(tmp_path, "hats")
    shutil.copy(tmp_path / "hats" / "0.png", tmp_path / "hats" / "again.png")
    dropped = Dropped()
    assert read_classes(tmp_path, Bundle.load().backbone(), dropped, step).counts.tolist() == [3, 3]
    assert dropped.examples == {"second_copy_of_a_picture": "hats/again.png, of hats/0.png"}


def test_a_picture_of_two_classes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "shoes")
    write(tmp_path, "hats")
    shutil.copy(tmp_path / "hats" / "0.png", tmp_path / "shoes" / "also.png")
    assert "expected a picture in one class, found hats/0.png again as shoes/also.png" in refusal(tmp_path)


def test_a_picture_elsewhere_on_this_machine_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "shop", "shoes")
    write(tmp_path / "shop", "hats")
    write(tmp_path, "private", count=1)
    (tmp_path / "shop" / "hats" / "link.png").symlink_to(tmp_path / "private" / "0.png")
    dropped = Dropped()
    read_classes(tmp_path / "shop", Bundle.load().backbone(), dropped, step)
    assert dict(dropped.counts) == {"unreadable_picture": 1}
