"""A list has a format, a column, and one entry for each line, whole or broken."""

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
from streams.warm.url_list import MAX_LINE, Entry, Format, choose_column, open_url_list

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


def urls(source: str, file_format: Format | None = None, column: str | None = None) -> list[str]:
    """All URLs of a list without broken lines."""
    entries = list(open_url_list(source, file_format, column).entries)
    assert [entry for entry in entries if entry.reason] == []
    return [entry.url for entry in entries]


def broken(source: str, column: str | None = None) -> list[tuple[int, str]]:
    return [(entry.line, entry.reason) for entry in open_url_list(source, column=column).entries if entry.reason]


def refusal(source: str, file_format: Format | None = None, column: str | None = None) -> str:
    with pytest.raises(ListError) as refused:
        open_url_list(source, file_format, column)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# Formats


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
def test_the_suffix_tells_the_format(tmp_path: Path, name: str, text: str) -> None:
    assert urls(write(tmp_path / name, text)) == URLS


def test_parquet_is_read_by_rows_and_its_length_is_known(tmp_path: Path, arrow: Any, parquet: Any) -> None:
    table = arrow.table({"id": list(range(5000)), "image_url": [f"https://shop.example/{n}" for n in range(5000)]})
    parquet.write_table(table, tmp_path / "list.parquet", row_group_size=3000)
    url_list = open_url_list(str(tmp_path / "list.parquet"))
    assert (url_list.column, url_list.expected_total(0)) == ("image_url", 5000)
    assert list(url_list.entries) == [Entry(n + 1, f"https://shop.example/{n}") for n in range(5000)]


def test_parquet_rows_without_a_url_are_entries(tmp_path: Path, arrow: Any, parquet: Any) -> None:
    column = arrow.array([URLS[0], None, " ", URLS[0]]).dictionary_encode()
    parquet.write_table(arrow.table({"image": [b"1"] * 4, "url": column}), tmp_path / "list.pq")
    assert open_url_list(str(tmp_path / "list.pq")).column == "url"  # the other column holds the pictures themselves
    assert broken(str(tmp_path / "list.pq")) == [(2, "no_url"), (3, "no_url")]
    line = refusal(str(tmp_path / "list.pq"), column="image")
    assert line.startswith("--column image: ")
    assert line.endswith("is not text but binary")


def test_a_broken_parquet_file_is_refused(tmp_path: Path, parquet: Any) -> None:
    assert "cannot be read: " in refusal(write(tmp_path / "list.parquet", "no parquet"))
    assert "cannot be read: " in refusal(str(tmp_path / "none.parquet"))


def test_without_pyarrow_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none: ModuleType | None = None
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", none)  # pyright: ignore[reportArgumentType] -- as Python marks it
    line = refusal(write(tmp_path / "list.parquet", ""))
    assert line == "Parquet needs pyarrow: pip install 'tastestream[parquet]'"


def test_a_given_format_overrides_the_suffix(tmp_path: Path) -> None:
    assert urls(write(tmp_path / "list.txt", as_csv()), Format.csv) == URLS
    assert urls(write(tmp_path / "catalogue", as_jsonl()), Format.jsonl) == URLS


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    line = refusal(write(tmp_path / "catalogue", as_csv()))
    assert "the suffix does not tell the format; use --format csv|parquet|jsonl|txt" in line


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert "is a folder; give a file that lists URLs" in refusal(str(tmp_path))
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
def test_a_missing_column_is_refused_and_the_message_names_the_columns(
    tmp_path: Path, name: str, text: str, column: str | None
) -> None:
    line = refusal(write(tmp_path / name, text), column=column)
    assert "choose one with --column, it has: sku, title" in line
    assert (f"has no column {column!r}" if column else "has no column with a common name for URLs") in line


def test_a_csv_without_a_header_gets_a_hint(tmp_path: Path) -> None:
    assert "For one URL a line, use --format txt" in refusal(write(tmp_path / "list.csv", "\n".join(URLS)))


def test_a_column_is_refused_for_a_list_without_columns(tmp_path: Path) -> None:
    assert "and has no columns" in refusal(write(tmp_path / "list.txt", "\n".join(URLS)), column="url")


def test_the_first_objects_may_lack_the_column(tmp_path: Path) -> None:
    source = write(tmp_path / "list.jsonl", 'broken\n{"id": 1}\n' + as_jsonl())
    assert broken(source) == [(1, "broken_line"), (2, "no_url")]
    assert [entry.url for entry in open_url_list(source).entries if entry.url] == URLS


@pytest.mark.parametrize(("name", "text"), [("list.csv", ""), ("list.csv", "\n1,2\n"), ("list.jsonl", "[1]\n")])
def test_a_list_without_any_column_is_refused(tmp_path: Path, name: str, text: str) -> None:
    assert str(tmp_path / name) in refusal(write(tmp_path / name, text))


# Broken lines


def test_broken_csv_lines_are_entries_and_the_others_are_read(tmp_path: Path) -> None:
    text = f'id,url\n1,{URLS[0]}\n2\n3,\n"4"x,{URLS[1]}\n\n"5,{URLS[2]}\n6,{URLS[3]}\n'
    source = write(tmp_path / "list.csv", text)
    found = list(open_url_list(source).entries)
    assert [entry.url for entry in found if not entry.reason] == [URLS[0]]
    assert [(entry.line, entry.reason) for entry in found if entry.reason] == [
        (3, "broken_line"),
        (4, "no_url"),
        (5, "broken_line"),
        (8, "broken_line"),  # the quote that line 7 opens is never closed
    ]


def test_broken_json_lines_are_entries_and_the_others_are_read(tmp_path: Path) -> None:
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


def test_another_encoding_does_not_harm_the_urls(tmp_path: Path) -> None:
    text = "title,url\n" + "".join(f"Stövchen,{url}\n" for url in URLS)
    assert urls(write(tmp_path / "list.csv", text, "latin-1")) == URLS


@pytest.mark.parametrize("form", ["txt", "csv", "jsonl"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_file_gives_its_whole_lines_and_then_an_error(tmp_path: Path, form: str, share: float) -> None:
    some = [f"https://shop.example/{n * n}.jpg" for n in range(20_000)]
    text = {"txt": "\n".join(some), "csv": "\n".join(["url", *some])}.get(
        form, "\n".join(msgspec.json.encode({"url": url}).decode() for url in some)
    )
    packed = gzip.compress(text.encode())
    packed = packed[: int(len(packed) * share)]
    whole = zlib.decompressobj(wbits=31).decompress(packed).decode().splitlines()[:-1]  # the last line is cut
    assert len(whole) > 100
    source = tmp_path / f"list.{form}.gz"
    source.write_bytes(packed)
    entries = open_url_list(str(source)).entries
    expected = some[: len(whole) - (form == "csv")]
    assert [next(entries).url for _ in expected] == expected
    with pytest.raises(
        ListError, match=rf"list.{form}.gz cannot be read after line {len(whole)}: Compressed file ended"
    ):
        next(entries)


def test_a_file_truncated_before_its_first_line_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(as_csv().encode())
    for length in (5, 15):
        (tmp_path / "list.csv.gz").write_bytes(packed[:length])
        assert "list.csv.gz cannot be read: Compressed file ended" in refusal(str(tmp_path / "list.csv.gz"))


def test_a_damaged_file_gives_the_lines_before_the_damage(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress("\n".join(URLS * 20_000).encode(), compresslevel=0))
    packed[-6] ^= 0xFF  # in the checksum, so the last line is whole, but cannot be trusted
    (tmp_path / "list.txt.gz").write_bytes(packed)
    entries = open_url_list(str(tmp_path / "list.txt.gz")).entries
    assert sum(next(entries).url in URLS for _ in range(5 * 20_000 - 1)) == 5 * 20_000 - 1
    with pytest.raises(ListError, match="cannot be read after line 99999: CRC check failed"):
        next(entries)


# Size


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.txt", "list.txt.gz"])
def test_a_list_is_never_held_in_memory_as_a_whole(tmp_path: Path, name: str) -> None:
    url = "https://shop.example/" + 100 * "x" + ".jpg"
    line = f'{{"url": "{url}"}}\n' if "jsonl" in name else url + "\n"
    source = write(tmp_path / name, ("url\n" if "csv" in name else "") + 30_000 * line)  # 4 MB
    tracemalloc.start()
    try:
        assert sum(entry.url == url for entry in open_url_list(source).entries) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.txt"])
def test_an_endless_line_is_cut(tmp_path: Path, name: str) -> None:
    whole = '{"url": "https://shop.example/"}\n' if "jsonl" in name else "https://shop.example/\n"
    source = write(tmp_path / name, ("url\n" if "csv" in name else whole) + 20 * MAX_LINE * "x" + "\n" + whole)
    tracemalloc.start()
    try:
        found = list(open_url_list(source).entries)
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE
    finally:
        tracemalloc.stop()
    assert found[-1].url == "https://shop.example/"
    assert all(len(entry.url) <= MAX_LINE for entry in found)


def test_the_total_is_estimated_from_the_bytes_read(tmp_path: Path) -> None:
    url_list = open_url_list(
        write(tmp_path / "list.txt", "".join(f"https://shop.example/{n:09}\n" for n in range(50_000)))
    )
    for read, _ in enumerate(url_list.entries, 1):
        if read == 25_000:
            guess = url_list.expected_total(read)
            assert guess is not None
            assert 45_000 < guess < 55_000
