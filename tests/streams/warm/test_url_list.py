"""What a list is: its form, its column, and one entry for each line, whole or broken."""

import gzip
import sys
import tracemalloc
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from streams.exceptions import ListError
from streams.warm.lists import MAX_LINE, Entry, Format, choose_column, open_list

URLS = [f"https://shop.example/{number}.jpg" for number in range(5)]


@pytest.fixture(scope="module")
def arrow() -> Any:
    return pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")


@pytest.fixture(scope="module")
def parquet(arrow: Any) -> Any:
    return pytest.importorskip("pyarrow.parquet")


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def urls(source: str, form: Format | None = None, column: str | None = None) -> list[str]:
    """All URLs of a list in which nothing is broken."""
    entries = list(open_list(source, form, column).entries)
    assert [entry for entry in entries if entry.reason] == []
    return [entry.url for entry in entries]


def broken(source: str, column: str | None = None) -> list[tuple[int, str]]:
    return [(entry.line, entry.reason) for entry in open_list(source, column=column).entries if entry.reason]


def refusal(source: str, form: Format | None = None, column: str | None = None) -> str:
    with pytest.raises(ListError) as refused:
        open_list(source, form, column)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# Forms


def as_csv(delimiter: str = ",") -> str:
    rows = [f'{number}{delimiter}"a, b; ""c"""{delimiter}{url}' for number, url in enumerate(URLS)]
    return "\n".join([f"id{delimiter}title{delimiter}image_url", *rows]) + "\n"


def as_jsonl() -> str:
    return "".join(msgspec.json.encode({"id": 1, "image_url": url}).decode() + "\n" for url in URLS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", as_csv()),
        ("LIST.CSV", as_csv()),
        ("list.csv.gz", as_csv()),
        ("list.tsv", as_csv("\t")),
        ("semicolons.csv", as_csv(";")),
        ("crlf.csv", as_csv().replace("\n", "\r\n")),
        ("marked.csv", "\ufeff" + "\n".join(["image_url", *URLS])),
        ("list.jsonl", as_jsonl()),
        ("list.ndjson.gz", as_jsonl()),
        ("list.txt", "\n".join(URLS)),
        ("blank-lines.txt", "\n\n" + "\r\n\n".join(URLS) + "\n \n"),
        ("list.txt.gz", "\n".join(URLS)),
    ],
)
def test_each_form_is_told_by_its_name(tmp_path: Path, name: str, text: str) -> None:
    assert urls(write(tmp_path / name, text)) == URLS


def test_parquet_is_read_by_rows_and_knows_its_length(tmp_path: Path, arrow: Any, parquet: Any) -> None:
    table = arrow.table({"id": list(range(5000)), "image_url": [f"https://shop.example/{n}" for n in range(5000)]})
    parquet.write_table(table, tmp_path / "list.parquet", row_group_size=3000)
    listed = open_list(str(tmp_path / "list.parquet"))
    assert (listed.column, listed.expected(0)) == ("image_url", 5000)
    assert list(listed.entries) == [Entry(n + 1, f"https://shop.example/{n}") for n in range(5000)]


def test_parquet_has_entries_without_a_url_too(tmp_path: Path, arrow: Any, parquet: Any) -> None:
    column = arrow.array([URLS[0], None, " ", URLS[0]]).dictionary_encode()
    parquet.write_table(arrow.table({"image": [b"1"] * 4, "url": column}), tmp_path / "list.pq")
    assert open_list(str(tmp_path / "list.pq")).column == "url"  # the other holds the pictures themselves
    assert broken(str(tmp_path / "list.pq")) == [(2, "no_url"), (3, "no_url")]
    assert "column 'image' holds no text but binary" in refusal(str(tmp_path / "list.pq"), column="image")


def test_a_broken_parquet_file_is_refused(tmp_path: Path, parquet: Any) -> None:
    assert "cannot be read: " in refusal(write(tmp_path / "list.parquet", "no parquet"))
    assert "cannot be read: " in refusal(str(tmp_path / "none.parquet"))


def test_without_pyarrow_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none: ModuleType | None = None
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", none)  # pyright: ignore[reportArgumentType] -- as Python marks it
    line = refusal(write(tmp_path / "list.parquet", ""))
    assert line == "Parquet needs pyarrow: pip install 'tastestream[parquet]'"


def test_a_given_form_beats_the_name(tmp_path: Path) -> None:
    assert urls(write(tmp_path / "list.txt", as_csv()), Format.csv) == URLS
    assert urls(write(tmp_path / "catalogue", as_jsonl()), Format.jsonl) == URLS


def test_a_name_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    line = refusal(write(tmp_path / "catalogue", as_csv()))
    assert "its name does not tell what it is; --format csv|parquet|jsonl|txt does" in line


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert "is a folder; URLS is a file that lists URLs" in refusal(str(tmp_path))
    assert "cannot be read: No such file or directory" in refusal(str(tmp_path / "none.csv"))


# Columns


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["id", "image_url"], "image_url"),
        (["url", "Image URL"], "Image URL"),
        (["link", "image-link"], "image-link"),
        (["image", "url"], "url"),
        (["photo", "id"], "photo"),
        (["url", "URL"], "url"),
    ],
)
def test_the_likeliest_column_is_found(columns: list[str], found: str) -> None:
    assert choose_column("list", columns, None) == found


def test_a_wanted_column_is_taken(tmp_path: Path) -> None:
    source = write(tmp_path / "list.csv", "image_url,large\n" + "".join(f"x,{url}\n" for url in URLS))
    assert urls(source, column="large") == URLS


@pytest.mark.parametrize(
    ("name", "text"), [("list.csv", "sku,title\n1,shoe\n"), ("list.jsonl", '{"sku": 1}\n{"title": "shoe"}\n')]
)
@pytest.mark.parametrize("column", [None, "picture"])
def test_a_missing_column_is_refused_with_those_that_there_are(
    tmp_path: Path, name: str, text: str, column: str | None
) -> None:
    line = refusal(write(tmp_path / name, text), column=column)
    assert "it has: sku, title (--column)" in line
    assert (f"has no column {column!r}" if column else "has no column that is called like") in line


def test_a_list_without_a_header_is_told_what_it_is(tmp_path: Path) -> None:
    assert "one URL a line is --format txt" in refusal(write(tmp_path / "list.csv", "\n".join(URLS)))


def test_a_column_of_a_list_without_columns_is_refused(tmp_path: Path) -> None:
    assert "has no columns" in refusal(write(tmp_path / "list.txt", "\n".join(URLS)), column="url")


def test_the_first_objects_need_not_have_the_column(tmp_path: Path) -> None:
    source = write(tmp_path / "list.jsonl", 'broken\n{"id": 1}\n' + as_jsonl())
    assert broken(source) == [(1, "broken_line"), (2, "no_url")]
    assert [entry.url for entry in open_list(source).entries if entry.url] == URLS


@pytest.mark.parametrize(("name", "text"), [("list.csv", ""), ("list.csv", "\n1,2\n"), ("list.jsonl", "[1]\n")])
def test_a_list_without_any_column_is_refused(tmp_path: Path, name: str, text: str) -> None:
    assert str(tmp_path / name) in refusal(write(tmp_path / name, text))


# Broken lines


def test_broken_lines_of_csv_are_entries_and_the_others_are_read(tmp_path: Path) -> None:
    text = f'id,url\n1,{URLS[0]}\n2\n3,\n"4"x,{URLS[1]}\n\n"5,{URLS[2]}\n6,{URLS[3]}\n'
    source = write(tmp_path / "list.csv", text)
    found = list(open_list(source).entries)
    assert [entry.url for entry in found if not entry.reason] == [URLS[0]]
    assert [(entry.line, entry.reason) for entry in found if entry.reason] == [
        (3, "broken_line"),
        (4, "no_url"),
        (5, "broken_line"),
        (8, "broken_line"),  # the quote that line 7 opens is never closed
    ]


def test_broken_lines_of_json_are_entries_and_the_others_are_read(tmp_path: Path) -> None:
    lines = [
        f'{{"url": "{URLS[0]}"}}',
        '{"url": 1}',
        '{"url": null}',
        "{}",
        "[]",
        '{"url": "a',
        '"\\ud800"',
        as_jsonl(),
    ]
    assert broken(write(tmp_path / "list.jsonl", "\n".join(lines)), "url") == [
        (2, "no_url"),
        (3, "no_url"),
        (4, "no_url"),
        (5, "broken_line"),
        (6, "broken_line"),
        (7, "broken_line"),
        *((number, "no_url") for number in range(8, 13)),
    ]


def test_another_encoding_does_no_harm_to_urls(tmp_path: Path) -> None:
    text = "title,url\n" + "".join(f"Stövchen,{url}\n" for url in URLS)
    assert urls(write(tmp_path / "list.csv", text, "latin-1")) == URLS


@pytest.mark.parametrize("form", ["txt", "csv", "jsonl"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_file_that_ends_early_gives_each_whole_line_it_has_and_then_says_so(
    tmp_path: Path, form: str, share: float
) -> None:
    some = [f"https://shop.example/{n * n}.jpg" for n in range(20_000)]
    text = {"txt": "\n".join(some), "csv": "\n".join(["url", *some])}.get(
        form, "\n".join(msgspec.json.encode({"url": url}).decode() for url in some)
    )
    packed = gzip.compress(text.encode())
    packed = packed[: int(len(packed) * share)]
    whole = zlib.decompressobj(wbits=31).decompress(packed).decode().splitlines()[:-1]  # the last one is cut
    assert len(whole) > 100
    source = tmp_path / f"list.{form}.gz"
    source.write_bytes(packed)
    entries = open_list(str(source)).entries
    expected = some[: len(whole) - (form == "csv")]
    assert [next(entries).url for _ in expected] == expected
    with pytest.raises(
        ListError, match=rf"list.{form}.gz cannot be read on after line {len(whole)}: Compressed file ended"
    ):
        next(entries)


def test_a_file_that_ends_before_its_first_line_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(as_csv().encode())
    for length in (5, 15):
        (tmp_path / "list.csv.gz").write_bytes(packed[:length])
        assert "list.csv.gz cannot be read: Compressed file ended" in refusal(str(tmp_path / "list.csv.gz"))


def test_a_damaged_file_gives_the_lines_before_the_damage(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress("\n".join(URLS * 20_000).encode(), compresslevel=0))
    packed[-6] ^= 0xFF  # of the checksum: the last line is whole, though nobody can say so
    (tmp_path / "list.txt.gz").write_bytes(packed)
    entries = open_list(str(tmp_path / "list.txt.gz")).entries
    assert sum(next(entries).url in URLS for _ in range(5 * 20_000 - 1)) == 5 * 20_000 - 1
    with pytest.raises(ListError, match="cannot be read on after line 99999: CRC check failed"):
        next(entries)


# Size


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.txt", "list.txt.gz"])
def test_a_list_is_never_in_memory_as_a_whole(tmp_path: Path, name: str) -> None:
    url = "https://shop.example/" + 100 * "x" + ".jpg"
    line = f'{{"url": "{url}"}}\n' if "jsonl" in name else url + "\n"
    source = write(tmp_path / name, ("url\n" if "csv" in name else "") + 100_000 * line)  # 13 MB
    tracemalloc.start()
    try:
        assert sum(entry.url == url for entry in open_list(source).entries) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.txt"])
def test_a_line_without_an_end_is_cut(tmp_path: Path, name: str) -> None:
    whole = '{"url": "https://shop.example/"}\n' if "jsonl" in name else "https://shop.example/\n"
    source = write(tmp_path / name, ("url\n" if "csv" in name else whole) + 20 * MAX_LINE * "x" + "\n" + whole)
    tracemalloc.start()
    try:
        found = list(open_list(source).entries)
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE
    finally:
        tracemalloc.stop()
    assert found[-1].url == "https://shop.example/"
    assert all(len(entry.url) <= MAX_LINE for entry in found)


def test_how_many_there_are_is_told_by_the_bytes(tmp_path: Path) -> None:
    listed = open_list(write(tmp_path / "list.txt", "".join(f"https://shop.example/{n:09}\n" for n in range(50_000))))
    for read, _ in enumerate(listed.entries, 1):
        if read == 25_000:
            guess = listed.expected(read)
            assert guess is not None
            assert 45_000 < guess < 55_000
