"""The page on security names a test for each thing that it says holds, and each of these tests exists."""

import re

import pytest

from tests.docs.test_claims import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
TABLES = re.findall(r"^\| what holds \| shown by \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_test_that_the_page_names_exists(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_each_row_of_what_holds_names_a_test() -> None:
    rows = [row for table in TABLES for row in table.splitlines()]
    assert len(TABLES) >= 5
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py::test_\w+`", row)] == []
