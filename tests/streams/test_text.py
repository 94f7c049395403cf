"""How text of strangers is shown on a line of output."""

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from streams.console import PlainConsole, print_error
from streams.logs.formats import TextLines
from streams.text import UNSAFE, visible, visible_json


def _fail(message: str) -> None:
    raise ValueError(message)


HOSTILE = [
    "[/]",
    "[bold]b[/bold]",
    "[fe80::1]:9092",
    ":smile:",
    "a\nb",
    "a\rb",
    "\x1b[2J",
    "\x9b2J",
    "\u202etxt",
    "\u2028",
    "\\[/]",
]


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


@given(st.text())
def test_json_stays_the_same_document_without_control_characters(text: str) -> None:
    document = visible_json(json.dumps([text], ensure_ascii=False))
    assert json.loads(document) == [text]
    assert not UNSAFE.search(document)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_printed_line_and_the_cells_and_title_of_a_table_are_text_and_not_markup(text: str) -> None:
    printed_to = io.StringIO()
    console = PlainConsole(file=printed_to, width=200)
    table = Table(text, title=text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    printed = printed_to.getvalue()
    assert printed.count(visible(text)) == 4
    assert not UNSAFE.search(printed.replace("\n", ""))


@pytest.mark.parametrize("text", [text for text in HOSTILE if not any(map(str.isspace, text))])
def test_an_error_is_one_line_of_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_error(f"user {text} is wrong")
    assert capsys.readouterr().err == f"error: user {visible(text)} is wrong\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_record_of_the_log_is_one_line_and_a_traceback_cannot_pretend_to_be_another_record(text: str) -> None:
    with pytest.raises(ValueError, match="forged") as raised:
        _fail(f"x\nERROR forged {text}")
    error = (raised.type, raised.value, raised.tb)
    record = logging.LogRecord("n", logging.INFO, "", 0, "user %s", (text,), error)
    first, *traceback = TextLines("embed").format(record).split("\n")
    assert first.endswith(f" INFO    embed n: user {visible(text)}")
    assert traceback
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)
