"""What the pages name exists: repository paths, links, log lines, and the reasons and headers of dead letters."""

import ast
import difflib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from streams.dead_letter import MAX_BYTES, PREFIX, REASONS, dead_letter
from streams.dead_letters.notes import NOTE
from streams.exceptions import EventError
from tests.records import unreadable

ROOT = Path(__file__).parents[2]
ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in ROOT_PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
TOP = ("deploy/", "streams/", "model/", "offline_training/", "tests/", "docs/", ".github/", ".ci/")
RAISERS = ("MessageError", "EventError", "FetchError", "PictureError", "Refusal", "_error", "_refusal")


@pytest.mark.parametrize("name", NAMES)
def test_a_path_of_the_repository_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    named = {word for word in re.findall(r"`([\w./-]+)`", text) if word.startswith(TOP)}
    missing = sorted(path for path in named if not (ROOT / path).exists())
    assert not missing, f"{name} names paths that do not exist: {', '.join(missing)}"


@pytest.mark.parametrize("name", ROOT_PAGES)
def test_a_link_leads_to_a_page_and_a_heading(name: str) -> None:
    """MkDocs checks those between the pages under docs/."""
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        page = ROOT / path if path else ROOT / name
        assert page.exists(), f"{name} links to {path}, which does not exist"
        if anchor:
            assert anchor in anchors(page), f"{name} links to {target}, but {path or name} has no such heading"


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def log_lines() -> list[tuple[str, str]]:
    """The log lines that pages show, with the page: the lines of `log` blocks, and inline code with a `…` in it."""
    shown: list[tuple[str, str]] = []
    for page in PAGES:
        text, name = page.read_text(), str(page.relative_to(ROOT))
        blocks = re.findall(r"^```log\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        inline = [line for line in re.findall(r"`([^`\n]+)`", text) if "…" in line]
        shown.extend((name, line) for line in [*(line for block in blocks for line in block.splitlines()), *inline])
    return shown


@pytest.mark.parametrize(("name", "line"), log_lines())
def test_a_log_line_is_in_the_code(name: str, line: str) -> None:
    pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
    if any(pattern.search(text) for text in texts()):
        return
    near = difflib.get_close_matches(line, texts(), n=1, cutoff=0.3)
    raise AssertionError(f"{name} shows a log line that the code does not write:\n  {line}\nThe nearest: {near}")


def test_the_page_on_dead_letters_explains_each_reason_and_no_other() -> None:
    page = (ROOT / "docs/operate/dead-letters.md").read_text()
    explained = set(re.findall(r"^\| `(\w+)` \|", page.partition("## Reasons")[2], re.MULTILINE))
    assert explained == reasons() == REASONS


def test_the_page_on_dead_letters_explains_each_header() -> None:
    page = (ROOT / "docs/operate/dead-letters.md").read_text()
    record: Any = ConsumerRecord(
        "user-interactions", 0, 1, 0, 0, b"ada", b"x" * (MAX_BYTES + 1), None, 3, MAX_BYTES + 1, []
    )
    unread = unreadable("user-interactions", 0, 0, 1)
    error, now = EventError("timeout", "too slow"), datetime.now(UTC)
    added = {NOTE} | {
        name for one in (record, unread) for name, _ in dead_letter(one, error, worker="embed", at=now).headers
    }
    assert set(re.findall(rf"`({PREFIX}[\w-]+)`", page.partition("## Headers")[2].partition("## Reasons")[0])) == added


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def modules() -> Iterator[ast.Module]:
    """The code that the workers run."""
    for package in ("streams", "model"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ast.parse(path.read_text())


@cache
def texts() -> list[str]:
    """The texts in the code, with `…` for what is filled in."""
    found: list[str] = []
    for module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[-.\d]*[sdrfg]", "…", node.value))
    return found


def reasons() -> set[str]:
    """The reasons in the code: the first argument of what makes an error of an event."""
    found: set[str] = set()
    for module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAISERS and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(first.value)
    return found
