"""DVBPR's array, as Python 2 pickled it, is read without running code from it."""

import codecs
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline_training.datasets.formats.dvbpr import Dvbpr, load
from offline_training.datasets.records import DatasetError, DatasetEvent, Dropped
from streams.times import EARLIEST

JPEG = b"\xff\xd8\xff\xe0 a picture with bytes above 127 \xe9\xff\xd9"


def python_2(value: Any) -> bytes:
    """Pickle with protocol 2 as numpy did under Python 2, where `bytes` are `str`."""
    out = io.BytesIO()

    def write(value: Any) -> None:
        if isinstance(value, bytes):
            out.write(b"T" + len(value).to_bytes(4, "little") + value)  # BINSTRING
        elif isinstance(value, bool | int):
            out.write(b"J" + int(value).to_bytes(4, "little", signed=True))
        elif isinstance(value, list):
            out.write(b"](")
            for one in value:
                write(one)
            out.write(b"e")
        elif isinstance(value, dict):
            out.write(b"}(")
            for name, one in value.items():
                write(name)
                write(one)
            out.write(b"u")
        elif value is None:
            out.write(b"N")
        else:
            raise TypeError(type(value))

    out.write(b"\x80\x02")
    # numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), 'b'), and its state: version, shape, dtype, order, objects
    out.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01bt\x52")
    out.write(b"(K\x01K" + bytes([len(value)]) + b"\x85cnumpy\ndtype\n(U\x02O8K\x00K\x01t\x52")
    out.write(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89")
    write(value)
    out.write(b"tb.")
    return out.getvalue()


def npy(pickled: bytes) -> bytes:
    """Make a .npy file of six objects."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (6,)})
    return file.getvalue() + pickled


def parts() -> list[Any]:
    items = {
        0: {b"asin": b"B1", b"imgs": JPEG, b"categories": [[b"Clothing", b"Women", b"Tops"]]},
        1: {b"asin": b"B2", b"imgs": JPEG + b"2", b"categories": [[b"Clothing", b"Men", b"Shoes"]]},
        2: {b"asin": b"B3", b"imgs": b"", b"categories": []},
    }
    train = {0: [{b"reviewerID": b"ann", b"productid": 0, b"asin": b"B1"}, {b"reviewerID": b"ann", b"productid": 1}]}
    validation = {0: [{b"reviewerID": b"ann", b"asin": b"B3"}]}
    test = {1: [{b"productid": 1, b"unixReviewTime": 1393372800}, {b"productid": 9}]}
    return [train, validation, test, items, 2, 3]


@pytest.mark.parametrize("writer", ["Python 2", "Python 3"])
def test_users_and_items_of_the_array(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "fashion.npy"
    if writer == "Python 2":
        path.write_bytes(npy(python_2(parts())))
    else:
        array = np.empty(6, object)
        array[:] = parts()
        np.save(path, array, allow_pickle=True)
    source, dropped = Dvbpr(path, tmp_path / "images"), Dropped()
    assert list(source.interactions(dropped)) == [
        DatasetEvent("ann", "B1", "purchase", EARLIEST),
        DatasetEvent("ann", "B2", "purchase", EARLIEST + 1000),
        DatasetEvent("ann", "B3", "purchase", EARLIEST + 2000),
        DatasetEvent("1", "B2", "purchase", 1393372800000),
    ]
    items = list(source.items(dropped))
    assert [(item.item, item.paths) for item in items] == [
        ("B1", (("Clothing", "Women", "Tops"),)),
        ("B2", (("Clothing", "Men", "Shoes"),)),
        ("B3", ()),
    ]
    assert Path(str(items[0].picture)).read_bytes() == JPEG
    assert items[2].picture is None
    assert dropped.counts == {"event_without_user_or_item": 1}
    assert dropped.notes == {"event_without_time_placed_by_its_order": 3}


@pytest.mark.parametrize("time", [float("inf"), -5, b"--5", 10**30])
def test_a_review_whose_time_cannot_be_right_is_left_out(tmp_path: Path, time: Any) -> None:
    array = np.empty(6, object)
    reviews = [{"productid": 0, "unixReviewTime": time}, {"productid": 0, "unixReviewTime": b"20191208"}]
    array[:] = [{0: reviews}, {}, {}, parts()[3], 1, 1]
    np.save(tmp_path / "fashion.npy", array, allow_pickle=True)
    dropped = Dropped()
    assert [one.time for one in Dvbpr(tmp_path / "fashion.npy", tmp_path).interactions(dropped)] == [1575763200000]
    assert sum(dropped.counts.values()) == 1


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


CALLS = {
    "os.system": b"\x80\x02cos\nsystem\n(U\x04truet\x52.",
    "builtins.eval": b"\x80\x02c__builtin__\neval\n(U\x011t\x52.",
    "numpy's own loader": b"\x80\x02cnumpy\nload\n(U\x01xt\x52.",
    "a name that numpy imports": b"\x80\x02cnumpy.lib.format\npickle.loads\n(U\x01xt\x52.",
}


@pytest.mark.parametrize("pickled", CALLS.values(), ids=CALLS)
def test_a_pickle_that_calls_a_function_is_refused(tmp_path: Path, pickled: bytes) -> None:
    (tmp_path / "evil.npy").write_bytes(npy(pickled))
    with pytest.raises(DatasetError, match=r"refused to read the file: it calls .*, which no data set needs"):
        load(tmp_path / "evil.npy")


def test_code_in_an_item_does_not_run(tmp_path: Path) -> None:
    array = np.empty(6, object)
    array[:] = [{}, {}, {}, {0: Evil(tmp_path / "ran")}, 0, 0]
    np.save(tmp_path / "evil.npy", array, allow_pickle=True)
    with pytest.raises(DatasetError, match="refused to read the file"):
        load(tmp_path / "evil.npy")
    assert not (tmp_path / "ran").exists()


FLOATS = io.BytesIO()
np.save(FLOATS, np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04 a zip", "cannot be unpickled"),
        (b"", "cannot be unpickled"),
        (FLOATS.getvalue(), "expected an array of 6 objects, found float64"),
        (npy(python_2(parts())[:200]), "cannot be unpickled"),
        (npy(python_2([1, 2, 3])), "found 3 parts"),
        (npy(pickle.dumps(7)), "found 0 parts"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "fashion.npy"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=rf"fashion\.npy: .*{message}"):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no such file"):
        load(tmp_path / "fashion.npy")


class Pickled:
    """Is pickled as a call and a state."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def forged_type(**claims: Any) -> Pickled:
    """Eight bytes, which the state says are something else."""
    state = {
        "version": 3,
        "order": "|",
        "parts": None,
        "names": None,
        "fields": None,
        "size": 8,
        "alignment": 1,
        "flags": 0,
    }
    return Pickled(np.dtype, ("V8", False, True), tuple((state | claims).values()))


def forged_array(claimed: Any, shape: tuple[int, ...] = (1,)) -> Pickled:
    reconstruct = np.zeros(0).__reduce__()[0]
    return Pickled(reconstruct, (np.ndarray, (0,), b"b"), (1, shape, claimed, False, b"A" * 8))


SCALAR = np.float64(0).__reduce__()[0]
POINTER = {"names": ("a",), "fields": {"a": (np.dtype("O"), 0)}}
FORGED: dict[str, Any] = {
    "a type with a pointer": forged_type(**POINTER),
    "a type of parts that are pointers": forged_type(parts=(np.dtype("O"), (1,))),
    "an array of pointers": forged_array(forged_type(**POINTER)),
    "a number that is a pointer": Pickled(SCALAR, (forged_type(**POINTER), b"A" * 8)),
    "an array of fewer values than its shape": forged_array(np.dtype("i1")),
    "an array of a negative length": forged_array(np.dtype("V8"), (-1,)),
    "an array of no values and many rows": forged_array(np.dtype("V8"), (2**62, 0)),
    "an array of objects, given as bytes": forged_array(np.dtype("O")),
    "a number of too few bytes": Pickled(SCALAR, (np.dtype("f8"), b"A")),
    "a codec that reads files": Pickled(codecs.encode, ("x", "/etc/passwd")),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_type_that_claims_to_have_pointers_is_refused(tmp_path: Path, forged: Any) -> None:
    (tmp_path / "evil.npy").write_bytes(npy(pickle.dumps([{}, {}, {}, {0: forged}, 0, 0], protocol=2)))
    with pytest.raises(DatasetError, match="expected DVBPR's array, which cannot be unpickled"):
        load(tmp_path / "evil.npy")


def test_numbers_and_arrays_of_numpy_are_read(tmp_path: Path) -> None:
    inside = {
        "number": np.int64(7), "big-endian": np.array([1.5, -2], ">f4"), "text": np.array(["é", "b"]),
        "bytes": np.array([b"a", b"bc"]), "objects": np.array([None, "x"], object), "truth": np.array([True, False]),
        "table": np.arange(24).reshape(2, 3, 4), "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "empty": np.zeros(0), "table of objects": np.array([["a", None], [1, "b"]], object),
    }  # fmt: skip
    array = np.empty(6, object)
    array[:] = [{}, {}, {}, inside, 0, 0]
    np.save(tmp_path / "numbers.npy", array, allow_pickle=True)
    found = load(tmp_path / "numbers.npy")[3]
    assert {name: np.asarray(value).tolist() for name, value in found.items()} == {
        name: np.asarray(value).tolist() for name, value in inside.items()
    }
