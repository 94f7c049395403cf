"""The features that the work folder keeps."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError
from offline_training.retrain.table import FILE, FeatureTable

HAT, TIE = PictureRef("https://shop.example/hat.jpg"), PictureRef("https://shop.example/tie.jpg")


def test_features_are_kept_for_the_next_run(tmp_path: Path) -> None:
    with FeatureTable(tmp_path, "backbone") as table:
        table.add(HAT, b"hat")
        table.add(HAT, b"newer hat")
    with FeatureTable(tmp_path, "backbone") as table:
        assert table.find([HAT, TIE]) == {HAT: b"newer hat"}
        assert table.fetched() == {HAT.text: b"newer hat"}
        table.remove([HAT.text])
        assert table.find([HAT, TIE]) == {}


def test_a_run_that_is_killed_loses_at_most_the_last_features(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from offline_training.retrain.table import FeatureTable\n"
        "from offline_training.datasets.picture_ref import PictureRef\n"
        "with FeatureTable(Path(sys.argv[1]), 'backbone') as table:\n"
        "    for number in range(1000): table.add(PictureRef(f'https://shop.example/{number}.jpg'), b'row')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    with FeatureTable(tmp_path, "backbone") as table:
        assert len(table.fetched()) == 960


def test_features_of_another_backbone_are_removed(tmp_path: Path) -> None:
    with FeatureTable(tmp_path, "old") as table:
        table.add(HAT, b"hat")
    with FeatureTable(tmp_path, "new") as table:
        assert table.find([HAT]) == {}
    with FeatureTable(tmp_path, "old") as table:
        assert table.find([HAT]) == {}


def test_a_file_that_was_changed_has_no_features_any_more(tmp_path: Path) -> None:
    photo = tmp_path / "hat.jpg"
    photo.write_bytes(b"one")
    local = PictureRef(str(photo))
    with FeatureTable(tmp_path, "backbone") as table:
        table.add(local, b"hat")
        assert table.find([local]) == {local: b"hat"}
        assert table.fetched() == {}, "nobody else has the file"
        photo.write_bytes(b"another")
        assert table.find([local]) == {}
        photo.unlink()
        assert table.find([local]) == {}


def test_a_second_run_in_the_same_folder_says_so(tmp_path: Path) -> None:
    with FeatureTable(tmp_path, "backbone"), pytest.raises(DatasetError, match="in use by another retrain: wait"):
        FeatureTable(tmp_path, "backbone")
    with FeatureTable(tmp_path, "backbone"):
        pass


def test_a_damaged_file_and_one_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(DatasetError, match="file is not a database: "):
        FeatureTable(tmp_path, "backbone")
    with pytest.raises(DatasetError, match="unable to open database file: make room, or choose another --work"):
        FeatureTable(tmp_path / "gone", "backbone")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # a limit of the size of files cannot be lifted again
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            with FeatureTable(tmp_path, "backbone") as table:
                for number in range(10_000):
                    table.add(PictureRef(f"https://shop.example/{number}.jpg"), bytes(1000))
        except DatasetError as error:
            os._exit(7 if "make room, or choose another --work" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
