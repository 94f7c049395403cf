"""JSON and Python literals are read in any layout. A broken record is counted and affects no other."""

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_training.datasets.formats import text_files
from offline_training.datasets.records import DatasetError, Dropped

OBJECTS: list[dict[str, Any]] = [
    {"asin": f"B{number}", "title": "x" * number, "n": [number, {}]} for number in range(9)
]


def read(path: Path) -> tuple[list[dict[str, Any]], Dropped]:
    dropped = Dropped()
    return list(text_files.objects(path, dropped)), dropped


LAYOUTS = {
    "lines": "\n".join(map(json.dumps, OBJECTS)),
    "lines with CRLF": "\r\n".join(map(json.dumps, OBJECTS)) + "\r\n",
    "array": json.dumps(OBJECTS),
    "array, one object per line": "[" + ",\n".join(map(json.dumps, OBJECTS)) + "]\n",
    "indented array": json.dumps(OBJECTS, indent=2),
    "concatenated": "".join(map(json.dumps, OBJECTS)),
    "byte order mark": "\ufeff" + "\n".join(map(json.dumps, OBJECTS)),
    "Python literals": "\n".join(map(repr, OBJECTS)) + "\n",
    "Python literals without an end of line": "\n\n".join(map(repr, OBJECTS)),
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("chunk", [7, 100, text_files.CHUNK])
def test_objects_are_read_whatever_their_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, packed: bool, chunk: int
) -> None:
    monkeypatch.setattr(text_files, "CHUNK", chunk)
    monkeypatch.setattr(text_files, "CUT", min(chunk, text_files.CUT))
    path = tmp_path / "objects"
    data = text.encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    found, dropped = read(path)
    assert found == OBJECTS
    assert not dropped.counts


BROKEN = {
    "cut off": '{"asin": "B1", "title',
    "no JSON": "<html>not today</html>",
    "a quote too many": '{"asin": "B1"" }',
    "a number": "42",
    "control character": '{"asin": "B\x011"}',
    "nested without an end": '{"a":' * 100_000,
    "5,000 digits": '{"price": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_counted_and_affects_no_other(tmp_path: Path, broken: str) -> None:
    lines = [json.dumps(one) for one in OBJECTS]
    path = tmp_path / "objects.json"
    path.write_text("\n".join([*lines[:4], broken, *lines[4:]]))
    found, dropped = read(path)
    assert found == OBJECTS
    assert dropped.counts == {"broken_line": 1}
    assert "objects.json: " in dropped.examples["broken_line"]


def test_a_broken_python_literal_is_counted_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "meta.txt"
    evil = f"{{'asin': __import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()}}"
    path.write_text("\n".join([repr(OBJECTS[0]), evil, "{'asin': ", repr(OBJECTS[1])]))
    found, dropped = read(path)
    assert found == OBJECTS[:2]
    assert dropped.counts == {"broken_line": 2}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_a_truncated_gzip_yields_the_objects_before_the_cut(tmp_path: Path, share: float, seed: int) -> None:
    chance = random.Random(seed)
    many = [{"n": number, "noise": chance.getrandbits(64)} for number in range(20_000)]
    packed = gzip.compress("\n".join(map(json.dumps, many)).encode())
    path = tmp_path / "objects.json.gz"
    path.write_bytes(packed[: int(len(packed) * share)])
    found, dropped = read(path)
    assert found == many[: len(found)]
    assert len(found) > share * len(many) * 0.9 - 700  # zlib buffers a few blocks
    assert dropped.counts["truncated_file"] == 1


def test_a_damaged_gzip_yields_the_objects_before_the_damage(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b'{"a": 1}\n' * 50_000, compresslevel=0))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "objects.json.gz"
    path.write_bytes(bytes(packed))
    found, dropped = read(path)
    assert len(found) > 20_000
    assert dropped.counts["truncated_file"] + dropped.counts["broken_line"] >= 1


@given(st.text(max_size=300), st.integers(0, 8))
def test_noise_on_a_line_of_its_own_affects_no_object(
    tmp_path_factory: pytest.TempPathFactory, noise: str, place: int
) -> None:
    path = tmp_path_factory.mktemp("noise") / "objects"
    lines = [json.dumps(one) for one in OBJECTS]
    noise = noise.replace("\n", " ").replace("\r", " ").replace("{", "(")
    path.write_text("\n".join([*lines[:place], noise, *lines[place:]]), errors="replace")
    assert read(path)[0] == OBJECTS


def test_a_file_without_objects_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "reviews.json"
    path.write_text("user;item\n1;2\n")
    with pytest.raises(
        DatasetError, match=r"reviews\.json: expected JSON objects or Python literals, found 'user;item"
    ):
        read(path)
    with pytest.raises(DatasetError, match="there is no such file"):
        read(tmp_path / "nowhere.json")


def test_progress_counts_the_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "objects.json.gz"
    path.write_bytes(gzip.compress(LAYOUTS["lines"].encode() * 1000))
    told: list[int] = []
    list(text_files.objects(path, Dropped(), told.append))
    assert sum(told) == path.stat().st_size


def test_a_file_is_read_lazily(tmp_path: Path) -> None:
    path = tmp_path / "objects.json"
    path.write_text("\n".join(json.dumps({"n": number, "x": "y" * 1000}) for number in range(10_000)))
    told: list[int] = []
    found: Iterator[dict[str, Any]] = text_files.objects(path, Dropped(), told.append)
    assert next(found)["n"] == 0
    assert sum(told) < path.stat().st_size / 4


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_row_at_the_cut_of_a_gzip_is_left_out(tmp_path: Path, share: float) -> None:
    """A row cut to `A1,B1,5.0,13933` has all its columns, but a time in 1970."""
    many = [[f"A{number}", f"B{number}", "5.0", str(1_393_372_800 + number * number)] for number in range(20_000)]
    packed = gzip.compress("\n".join(map(",".join, many)).encode())
    path, whole = tmp_path / "ratings.csv.gz", tmp_path / "whole.csv"
    path.write_bytes(packed[: int(len(packed) * share)])
    whole.write_text("A,B,5.0,1")
    dropped = Dropped()
    found = list(text_files.rows(path, dropped))
    assert len(found) > 1000
    assert found == many[: len(found)]
    assert list(text_files.rows(whole, dropped)) == [["A", "B", "5.0", "1"]]
    assert dropped.counts == {"truncated_file": 1}
