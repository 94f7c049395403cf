"""A file that claims larger arrays than it has is refused in one line, before memory is taken for them."""

import io
import pickle
import resource
import struct
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from offline_training.datasets.arrays import opened_arrays
from offline_training.datasets.formats.dvbpr import load
from offline_training.datasets.records import DatasetError
from offline_training.tasks.catalogue import read_embeddings
from tests.offline_training.datasets.test_prepare import run

HUGE = 10**10


def header(descr: str, shape: tuple[int, ...], *, fortran: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return file.getvalue()


def archive(path: Path, **members: bytes) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


IDS = header("<U1", (1,)) + "a".encode("utf-32-le")
CLAIMS = {
    "10 GB": header("<f4", (HUGE // 4, 1)),
    "10 GB in Fortran order": header("<f4", (HUGE // 4, 1), fortran=True),
    "a petabyte": header("<f8", (10**7, 10**7)),
    "more than there are integers": header("<f8", (2**40, 2**40)),
    "less than nothing": header("<f8", (-1, 4)),
    "numbers of 2 GB": header("|V2000000000", (8,)),
    "a byte more": header("<f4", (1, 4)) + bytes(15),
    "a byte less": header("<f4", (1, 4)) + bytes(17),
    "objects": header("|O", (1, 4)) + pickle.dumps(["evil"] * 4),
    "brackets": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
    "version 9": b"\x93NUMPY\x09\x00",
    "no array": b"no array",
    "nothing": b"",
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("member", ["ids", "embeddings"])
def test_embeddings_that_claim_more_than_they_have_are_refused(tmp_path: Path, claim: bytes, member: str) -> None:
    members = {"ids": IDS, "embeddings": header("<f4", (1, 4)) + bytes(16)}
    path = archive(tmp_path / "e.npz", **members | {member: claim})
    with pytest.raises(DatasetError, match=r"e\.npz: not a file of arrays") as refused:
        read_embeddings(path)
    assert len(str(refused.value)) < 400
    assert read_embeddings(archive(tmp_path / "good.npz", **members))[0] == ["a"]


def test_zeros_that_were_compressed_to_a_thousandth_are_not_unpacked(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("offline_training.datasets.arrays.LARGE", 1000)
    path = archive(tmp_path / "e.npz", ids=IDS, embeddings=header("<f4", (1, 10**6)) + bytes(4 * 10**6))
    with pytest.raises(
        DatasetError, match=r"embeddings.npy has 4000000 bytes, more than 100 times the \d+ of the file"
    ):
        read_embeddings(path)


def test_files_that_are_no_archive_are_named(tmp_path: Path) -> None:
    for name, data in (("a.npy", header("<f4", (HUGE,))), ("b.npz", b"PK no archive"), ("c.npz", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetError, match=f"{name}: not a file of arrays"), opened_arrays(tmp_path / name):
            pass


@pytest.mark.parametrize(
    ("ids", "expected"),
    [(np.array([7, 8]), ["7", "8"]), (np.array([7.0, 8.0]), ["7", "8"]), (np.array([b"007", b"8"]), ["007", "8"])],
)
def test_ids_of_embeddings_are_text_whatever_their_type(tmp_path: Path, ids: Any, expected: list[str]) -> None:
    np.savez(tmp_path / "e.npz", ids=ids, embeddings=np.zeros((2, 4), np.float32))
    assert read_embeddings(tmp_path / "e.npz")[0] == expected


BOMBS = {
    "a header of 10 GB": header("|O", (HUGE,)) + pickle.dumps([]),
    "numbers of 10 GB": header("<f8", (HUGE,)),
    "an array of 80 GB": header("|O", (6,)) + b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L10000000000L\ntU\x01bt\x52.",
    "bytes of 200 GB": header("|O", (6,)) + b"\x80\x04\x8e" + struct.pack("<Q", 200 * 10**9) + b"abc.",
    "a memo of 64 GB": header("|O", (6,)) + b"\x80\x02Nr" + struct.pack("<I", 2**32 - 2) + b".",
    "a frame of 200 GB": header("|O", (6,)) + b"\x80\x04\x95" + struct.pack("<Q", 200 * 10**9) + b"N.",
    "an integer of 5,000 digits": header("|O", (6,)) + b"I" + b"9" * 5000 + b"\n.",
    "brackets": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
    "lists in lists": header("|O", (6,)) + b"](" * 100_000 + b".",
    "a folder": b"",
}  # fmt: skip


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_an_array_of_dvbpr_that_claims_more_than_it_has_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fashion.npy"
    path.write_bytes(data) if data else path.mkdir()
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(DatasetError, match=r"fashion\.npy: "):
        load(path)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    if data:
        done = run("dvbpr", path, "--out", tmp_path / "out")
        assert done.exit_code == 1
        assert len([line for line in done.output.splitlines() if line.strip()]) == 1
        assert done.output.strip().startswith("error: ")
