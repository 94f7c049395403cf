"""Hostile files are decoded or refused with a reason, in limited time and memory, and crash no process.

One child process decodes all files. The tests then look at its outcomes, memory and exit code.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from model.containers.contents import MAX_PARTS
from model.containers.jpeg import MAX_SCANS
from model.exceptions import PictureError
from model.preprocessing import decode_picture
from tests.model import costly_pictures
from tests.model.hostile_pictures import FORMATS, PARTS, REASONS, hostile_pictures

ROOT = Path(__file__).parents[2]
MUTATIONS = 1000  # of each format
TIMEOUT = 240.0  # seconds for all files on a busy machine; an idle one needs about five


class Decoded(NamedTuple):
    outcomes: dict[str, str | None]
    fuzzed: dict[str, dict[str, int]]
    grown_mb: float
    longest_s: float
    code: int
    remarks: str


@pytest.fixture(scope="module")
def decoded() -> Decoded:
    command = [sys.executable, "-m", "tests.model.hostile_pictures", str(MUTATIONS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return Decoded(**json.loads(done.stdout), code=done.returncode, remarks=done.stderr)


def test_the_corpus_is_large_and_covers_each_reason() -> None:
    files = hostile_pictures()
    assert len(files) >= 200
    assert {file.reason for file in files.values()} == REASONS | {None}
    assert PARTS > MAX_PARTS


def test_each_file_has_the_expected_outcome(decoded: Decoded) -> None:
    assert decoded.outcomes == {name: file.reason for name, file in hostile_pictures().items()}


@pytest.mark.parametrize("file_format", FORMATS)
def test_each_mutation_is_decoded_or_refused_with_a_reason(decoded: Decoded, file_format: str) -> None:
    outcomes = decoded.fuzzed[file_format]
    assert sum(outcomes.values()) == MUTATIONS
    assert outcomes.keys() <= REASONS | {"None"}
    assert outcomes.keys() >= {
        "None",
        "not_a_picture",
        "truncated_picture",
    }  # the mutations reach every kind of outcome


def test_the_process_exits_with_0_and_prints_no_error(decoded: Decoded) -> None:
    assert (decoded.code, decoded.remarks) == (0, "")


def test_memory_does_not_grow_with_the_files(decoded: Decoded) -> None:
    assert decoded.grown_mb < 100


def test_no_file_takes_two_seconds(decoded: Decoded) -> None:
    assert decoded.longest_s < 2  # CPU seconds


def test_each_message_is_one_line_of_limited_length() -> None:
    for name, (data, reason) in hostile_pictures().items():
        if reason is not None:
            with pytest.raises(PictureError) as caught:
                decode_picture(data, 32)
            assert "\n" not in str(caught.value), name
            assert 20 < len(str(caught.value)) < 400, name


def test_a_picture_without_pixels_is_refused_before_decoding() -> None:
    with pytest.raises(PictureError, match="of 0 x 8 pixels: send a picture that is not empty"):
        decode_picture(hostile_pictures()["PNG without width"].data, 32)


def test_the_maximum_number_of_scans_is_decoded_and_one_more_is_refused() -> None:
    decode_picture(costly_pictures.many_scans(MAX_SCANS, side=256), 32)
    with pytest.raises(PictureError, match="scans"):
        decode_picture(costly_pictures.many_scans(MAX_SCANS + 1, side=256), 32)


@pytest.mark.parametrize(
    "name", ["JPEG of 50 scans", "PNG RGBA of 16 bits, interlaced", "GIF canvas of 25 MP, frame of one", "AVIF flat"]
)
def test_the_costliest_files_take_less_than_10_seconds_and_512_megabytes(name: str) -> None:
    if name.startswith("AVIF") and "AVIF" not in FORMATS:
        pytest.skip("this Pillow has no AVIF")
    figures = costly_pictures.measured_apart(costly_pictures.COSTLY[name](), timeout=TIMEOUT)
    assert figures["outcome"] == "(224, 224, 3)"
    assert figures["cpu_s"] < 10
    assert figures["peak_mb"] < 512
