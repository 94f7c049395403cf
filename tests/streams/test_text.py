"""How text of strangers is shown on a line of output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.text import UNSAFE, visible


@given(st.text())
def test_any_text_is_one_printable_line(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(text).encode().decode() == visible(text)


@pytest.mark.parametrize("text", ["", "Zoë 🙂", "a[/]b", "a b", "\\n"])
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\u202etxt", "\\u202etxt"), ("\x9b", "\\x9b"), ("\ud800", "\\ud800")],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.characters())
def test_no_character_that_ids_may_hold_reorders_or_breaks_a_line(character: str) -> None:
    if not UNSAFE.search(character):
        assert len(f"a{character}b".splitlines()) == 1
