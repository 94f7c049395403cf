"""The committed reference pages are what the code generates."""

import difflib

import pytest

from tests.docs import reference

PAGES = reference.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_current(name: str) -> None:
    path = reference.FOLDER / name
    committed = path.read_text() if path.exists() else ""
    lines = difflib.unified_diff(
        committed.splitlines(), PAGES[name].splitlines(), "committed", "code", lineterm="", n=0
    )
    changes = "\n".join(lines)[:2000]
    assert not changes, f"docs/reference/{name} is not current; run `make reference` and commit the result:\n{changes}"


def test_the_folder_has_no_other_page() -> None:
    assert sorted(path.name for path in reference.FOLDER.iterdir()) == sorted(PAGES)


def test_each_setting_has_a_row_and_each_command_a_section() -> None:
    assert PAGES["settings.md"].count("\n| `") == len(reference.Settings.model_fields)
    for name in reference.COMMANDS:
        assert f"\n## tastestream {name}\n" in PAGES["cli.md"]
